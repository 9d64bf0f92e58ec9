"""How to map the members of an ensemble over one step:  python benchmarks/member_mapping.py [CONFIG] [KEY=VALUE …]

Prints, for this machine, the time to compile, the median of five training steps and of five predictions, and the memory
the compiler sets aside for a step, for every member_mapping and for unrolled chunks of two. All give the same numbers.
CONFIG is configs/ensemble.py:smoke if none is given; KEY=VALUE change its settings, e.g. members=6 batch=4.
"""

import statistics
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from maeref_jax.commands import command_line
from maeref_jax.segmenters import ensemble
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.state import initial_state, update

REPEATS = 5
CHOICES = (("unroll", 0), ("vmap", 0), ("scan", 0), ("unroll", 2))


def random_batch(settings):
    """A batch of noise, as sampling.image_batch makes them."""
    rng = np.random.default_rng(0)
    shape = (settings["batch"], settings["members"], *settings["window"])
    return {
        "image": rng.uniform(0, 255, shape).astype(np.float32),
        "labels": rng.integers(0, len(settings["classes"]["names"]), shape).astype(np.int16),
        "index": np.arange(settings["batch"], dtype=np.int32),
        "shared": {
            "intensity_range": np.array([0, 255], np.float32),
            "members": np.arange(settings["members"], dtype=np.int32),
        },
    }


def measure(settings, batch):
    """(seconds to compile a step, seconds a step, seconds a prediction, bytes of temporary memory of a step)."""
    method, segmenter = ensemble.method(settings), ensemble.segmenter(settings)
    optimizer = build_optimizer({**settings["optimizer"], "steps": REPEATS}, method.members)
    state = jax.jit(partial(initial_state, method, optimizer))(jax.random.key(0), batch)
    began = time.perf_counter()
    step = jax.jit(partial(update, method, optimizer)).lower(state, batch, jax.random.key(1)).compile()
    compiling = time.perf_counter() - began
    seconds = median_seconds(lambda: step(state, batch, jax.random.key(1)))
    predict = jax.jit(segmenter.predict)
    predicting = median_seconds(lambda: predict(state.params, state.state, batch["image"][:, 0]))
    memory = step.memory_analysis()
    return compiling, seconds, predicting, memory.temp_size_in_bytes if memory else None


def median_seconds(function):
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main(arguments):
    config = arguments.pop(0) if arguments and "=" not in arguments[0] else "configs/ensemble.py:smoke"
    settings = command_line.load_config(config, [f"--config.{argument}" for argument in arguments]).to_dict()
    batch = random_batch(settings)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {config} {' '.join(arguments)}")
    print(f"{settings['members']} members, {settings['batch']} crops of {settings['window']} each")
    print(f"{'mapping':22}{'compile s':>12}{'step s':>10}{'predict s':>12}{'memory MiB':>12}")
    for mapping, chunk in CHOICES:
        if chunk >= settings["members"]:
            continue
        found = measure({**settings, "member_mapping": mapping, "member_chunk": chunk}, batch)
        name = f"{mapping}, chunks of {chunk}" if chunk else mapping
        memory = "unknown" if found[3] is None else f"{found[3] / 2**20:.1f}"
        print(f"{name:22}{found[0]:12.1f}{found[1]:10.3f}{found[2]:12.3f}{memory:>12}", flush=True)


if __name__ == "__main__":
    command_line.run(main)
