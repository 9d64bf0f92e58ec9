"""Seconds of one training step, ensemble and masked autoencoder:  python benchmarks/training_step.py [MODE]

Prints a table for this machine: the time to compile, then the median of ten steps on fresh batches, for every length
bucket of the masked autoencoder: as train.py takes it, on a CPU in pieces by threads, and in one program. MODE is a
mode of the two configs; `demo` if none is given.
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
from maeref_jax.pipeline import methods
from maeref_jax.samples import sampling
from maeref_jax.samples.training_volumes import annotated_phantoms
from maeref_jax.training import loop
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.parallel import split_batch
from maeref_jax.training.state import initial_state, update

STEPS = 10


def measure(settings, batches):
    """Two times (seconds to compile, median seconds a step) on the batches, all of one shape: as train.py takes a step,
    and in one program.
    """
    method = methods.METHODS[settings["method"]].method(settings)
    optimizer = build_optimizer({**settings["optimizer"], "steps": STEPS}, method.members)
    start = jax.device_get(jax.jit(partial(initial_state, method, optimizer))(jax.random.key(0), batches[0]))
    devices, update_at_once = jax.local_device_count(), jax.jit(partial(update, method, optimizer))
    wishes, steps = np.zeros((devices, 3), np.int32), loop.stepper(method, optimizer, batches[0])

    def taken(state, batch):
        return steps.take(state, split_batch(batch, devices), jax.random.key(1), wishes)

    def at_once(state, batch):
        return update_at_once(state, batch, jax.random.key(1))

    found = []
    for step in (taken, at_once):
        state, times = jax.tree.map(np.copy, start), []
        for batch in batches:
            began = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, batch))
            times.append(time.perf_counter() - began)
        found.append((times[0], statistics.median(times[1:])))
    return found


def main(mode):
    volumes = annotated_phantoms((0, 1), (24, 192, 192), (20.0, 10.0, 10.0))
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, mode {mode or 'full'}")
    print(f"{'':52}{'compile s':>12}{'step s':>10}{'crops/s':>10}")
    settings = command_line.load_config(f"configs/ensemble.py:{mode}").to_dict()
    members, size = [volumes] * settings["members"], tuple(settings["window"])
    intensities = sampling.intensity_range(volumes)
    samples = range(settings["batch"])
    batches = [sampling.image_batch(members, 0, step, samples, size, 0.0, intensities) for step in range(STEPS + 1)]
    rows(f"ensemble, {len(members)} members", measure(settings, batches), settings["batch"] * len(members))
    settings = command_line.load_config(f"configs/mae.py:{mode}").to_dict()
    for ratio in (0.75, 0.5, 0.15):
        crops = range(settings["batch"]), tuple(settings["window"]), settings["token"], 0.0, (ratio, ratio)
        batches = [sampling.label_batch(volumes, 0, step, *crops) for step in range(STEPS + 1)]
        length = len(batches[0]["shared"]["slots"])
        rows(f"masked autoencoder, {length} tokens kept", measure(settings, batches), settings["batch"])


def rows(name, found, crops):
    for how, (compiling, step) in zip(("", ", in one program"), found, strict=True):
        print(f"{name + how:52}{compiling:12.1f}{step:10.3f}{crops / step:10.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo")
