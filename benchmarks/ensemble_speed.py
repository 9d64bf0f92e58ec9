"""Six U-Nets: seconds of a joint training step and of a prediction, beside a PyTorch loop over six.

    python benchmarks/ensemble_speed.py [--config configs/ensemble.py] [--batch 1] [--rounds 5] [--dtype float32]
        [--window 64 512]

A step is that of train.py, a prediction that of refine.py: on a CPU two calls beside each other, and the time of one.
The opponent (pytorch_models.py, where torch is installed) trains the members one after another in channels_last, on a
GPU with torch.compile; calls alternate in one run. Every member mapping of the library is timed (--mappings). Shares
are of the floating-point operations a second of a large matrix product; the operations are those of the convolutions.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import measuring
from mae_speed import WITH_TORCH

from maeref_jax.commands import command_line
from maeref_jax.pipeline.programs import calls_beside
from maeref_jax.segmenters import ensemble
from maeref_jax.training import loop
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.parallel import split_batch
from maeref_jax.training.state import initial_state
from maeref_jax.volumes import threads

BESIDE = calls_beside()


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", default="configs/ensemble.py")
    flags.add_argument("--batch", type=int, default=1, help="crops of a member")
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--dtype", default="float32")
    flags.add_argument("--window", type=int, nargs="+", help="of another shape than the config's, as strips of a plane")
    flags.add_argument("--mappings", nargs="+", default=["auto"], choices=ensemble.MAPPINGS)
    given = flags.parse_args()
    settings = command_line.load_config(given.config).to_dict()
    settings["model"]["compute_dtype"] = given.dtype
    settings["window"] = tuple(given.window or settings["window"])
    settings["augmentation"] = {**settings["augmentation"], "symmetries": False}
    settings["augmentation"] |= dict.fromkeys(("contrast", "brightness", "gamma", "noise"), 0.0)
    batch = random_batch(settings, given.batch)
    peak = measuring.best_flops(dtype=given.dtype)
    steps, predictions = {}, {}
    for mapping in given.mappings:
        steps[mapping], predictions[mapping] = ours({**settings, "member_mapping": mapping}, batch)
    if WITH_TORCH:
        import pytorch_calls

        images, labels = batch["image"] / 255, batch["labels"]
        steps["PyTorch"], predict = pytorch_calls.ensemble(settings, images, labels, given.dtype)
        predictions["PyTorch"] = lambda: [predict() for _ in range(BESIDE)]
    voxels = given.batch * int(np.prod(settings["window"]))
    work = voxels * operations(settings) * settings["members"]
    print(f"\npeak of a matrix product: {peak / 1e9:.0f} GFLOP/s; {work / voxels / 1e6:.2f} MFLOP a voxel, forward")
    for name, calls, times in (("ensemble_step", steps, 3), ("ensemble_inference", predictions, 1)):
        in_one = 1 if calls is steps else BESIDE
        seconds = {key: found / in_one for key, found in measuring.alternating(calls, given.rounds).items()}
        opponent = seconds.get("PyTorch", float("nan"))
        rows = [
            (key, found, found / opponent, voxels / found / 1e6, times * work / found / peak)
            for key, found in seconds.items()
        ]
        crops = f"{given.batch} crops of {' x '.join(map(str, settings['window']))}"
        what = f"{settings['members']} members, {crops}, {given.dtype}"
        measuring.report(name, (what, "seconds", "ratio", "Mvoxel/s", "share of peak"), rows)


def random_batch(settings, crops):
    rng, shape = np.random.default_rng(0), (crops, settings["members"], *settings["window"])
    return {
        "image": rng.uniform(0, 255, shape).astype(np.float32),
        "labels": rng.integers(0, len(settings["classes"]["names"]), shape).astype(np.int16),
        "index": np.arange(crops, dtype=np.int32),
        "shared": {
            "intensity_range": np.array([0, 255], np.float32),
            "members": np.arange(settings["members"], dtype=np.int32),
        },
    }


def ours(settings, batch):
    """(training step of all members, prediction of all): calls that wait for their result."""
    method, segmenter = ensemble.method(settings), ensemble.segmenter(settings)
    optimizer = build_optimizer({**settings["optimizer"], "steps": 1000}, method.members)
    key = jax.random.key(0)
    state = [jax.device_get(jax.jit(partial(initial_state, method, optimizer))(key, batch))]
    params, rest = jax.tree.map(np.copy, (state[0].params, state[0].state))
    steps = loop.stepper(method, optimizer, batch)
    more = split_batch(batch, 1), key, np.zeros((1, 3), np.int32)
    predict = jax.jit(lambda *given: segmenter.predict(*given).mean(0))
    image = batch["image"][:, 0]
    variables = jax.device_put((params, rest))

    def train():
        state[0], _ = steps.take(state[0], *more)
        jax.block_until_ready(state[0])

    def one(_):
        return jax.block_until_ready(predict(*variables, image))

    return train, lambda: list(threads.in_order(one, range(BESIDE)))


def operations(settings):
    """Floating-point operations a voxel of one U-Net's convolutions of 3 along every axis, forward."""
    widths, strides = settings["model"]["widths"], settings["model"]["strides"]
    kernel, share, total = 3 ** len(settings["window"]), 1.0, 0.0
    for level, width in enumerate(widths):
        before = widths[level - 1] if level else 1
        total += share * 2 * kernel * width * (before + width)
        if level < len(widths) - 1:
            # On the way up: from twice the width to the width, and the width again; and the stride's convolution.
            total += share * (2 * kernel * width * 3 * width + 2 * widths[level + 1] * width)
            share /= np.prod(strides[level])
    return total


if __name__ == "__main__":
    main()
