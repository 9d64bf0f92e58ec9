"""How long one waits for the first step of a training:  python benchmarks/first_step.py [CONFIG …]

For every config a process of its own does what train.py does until its second step, in an empty workdir, and then once
more in the same one, which has kept what was compiled. Prints seconds of imports, of data made ready, of first weights
drawn while the step is compiled, of the first step and of the second one; and of all but the last in processor time,
too, which a busy machine changes less. Label maps of phantoms stand for what an ensemble would have predicted.
"""

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

began = time.perf_counter()
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
CONFIGS = ("ensemble:demo", "ensemble_3d:small", "mae:demo", "inpainter:demo")
PARTS = ("imports", "data", "weights", "first step", "second step")


def first_steps(config, workdir, labels):
    """Seconds of each of PARTS, and of the processor for all but the last."""
    from functools import partial

    import jax
    import numpy as np

    from maeref_jax.commands import command_line
    from maeref_jax.experiments import experiment
    from maeref_jax.training import loop
    from maeref_jax.training import workdir as folder
    from maeref_jax.training.compiling import RUNS_ONCE, jitted
    from maeref_jax.training.optimizer import build_optimizer
    from maeref_jax.training.parallel import own_share, split_batch
    from maeref_jax.training.state import initial_state

    laps, processor = [began, time.perf_counter()], None
    folder.keep_compiled(workdir)
    own = () if "ensemble" in config else ("train", "validation")
    overrides = [f"--config.data.{split}.labels=('{labels}',)" for split in own]
    overrides += [f"--config.data.phantom.{split}=()" for split in own]
    settings = command_line.load_config(config, overrides).to_dict()
    ready = experiment.prepare(settings, workdir, own_share(settings["batch"]))
    optimizer = build_optimizer({**settings["optimizer"], "steps": settings["steps"]}, ready.method.members)
    batch = ready.batches(0)
    laps.append(time.perf_counter())
    devices, key = jax.local_device_count(), jax.random.key(0)
    fresh = jitted(partial(initial_state, ready.method, optimizer), RUNS_ONCE)
    more = split_batch(batch, devices), key, np.zeros((devices, 3), np.int32)
    steps = loop.stepper(ready.method, optimizer, batch)
    with ThreadPoolExecutor() as beside:
        for one in steps.prepare(fresh.eval_shape(key, batch), *more):
            beside.submit(one)
        state = jax.device_get(fresh(key, batch))
    laps.append(time.perf_counter())
    for _ in range(2):
        state, report = steps.take(state, *more)
        jax.block_until_ready((state, report))
        laps.append(time.perf_counter())
        processor = processor or time.process_time()
    return np.diff(laps).tolist(), processor


def main():
    configs = sys.argv[1:] or CONFIGS
    print(f"{'config':22}{'start':8}" + "".join(f"{part:>14}" for part in (*PARTS, "until step 1", "processor")))
    for config in configs:
        with tempfile.TemporaryDirectory() as folder:
            for start in ("first", "again"):
                command = [sys.executable, __file__, "--child", config, f"{folder}/run", f"{folder}/labels.tif"]
                if start == "first":
                    write_labels(f"{folder}/labels.tif")
                done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
                if done.returncode:
                    sys.exit(done.stderr)
                seconds, processor = json.loads(done.stdout.splitlines()[-1])
                told = (*seconds, sum(seconds[:-1]), processor)
                print(f"{config:22}{start:8}" + "".join(f"{value:14.2f}" for value in told), flush=True)


def write_labels(path):
    from maeref_jax.phantoms.phantom import phantom
    from maeref_jax.volumes.volume import write_tiff

    made = phantom(10, (24, 96, 96), (12.0, 6.0, 6.0))
    write_tiff(path, made.labels, made.voxel_size_nm)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(first_steps(sys.argv[2], Path(sys.argv[3]), sys.argv[4])))
    else:
        main()
