"""The 3 x 3 convolutions of a U-Net layer by layer: milliseconds forward, of the input's gradient and of the kernel's,
by the compiler and by the library (models/convolution.py).

    python benchmarks/convolution_layers.py [--config configs/ensemble.py] [--batch 1] [--rounds 7]

Beside it, where torch is installed, PyTorch's in channels_last, alternating in one run; ratios below 1 are faster than
it. The last row is the sum over the layers of one member.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import measuring
from convolution import plain
from mae_speed import WITH_TORCH

from maeref_jax.commands import command_line
from maeref_jax.models.convolution import of_planes

DIRECTIONS = ("forward", "input's gradient", "kernel's gradient", "the library's")


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", default="configs/ensemble.py")
    flags.add_argument("--batch", type=int, default=1)
    flags.add_argument("--rounds", type=int, default=7)
    given = flags.parse_args()
    rows, total = [], np.zeros((len(DIRECTIONS), 2))
    for side, inputs, outputs in layers(command_line.load_config(given.config).to_dict()):
        arrays = random_arrays(given.batch, side, inputs, outputs)
        ours, theirs = compiled(*arrays), in_pytorch(*arrays) if WITH_TORCH else {}
        calls = {("", name): call for name, call in ours.items()} | {("PyTorch", n): call for n, call in theirs.items()}
        seconds = measuring.alternating(calls, given.rounds)
        seconds["PyTorch", DIRECTIONS[3]] = seconds.get(("PyTorch", DIRECTIONS[2]), np.nan)
        times = np.array([[1e3 * seconds.get((who, name), np.nan) for who in ("", "PyTorch")] for name in DIRECTIONS])
        total += times
        rows.append((f"{side}², {inputs} → {outputs}", *numbers(times)))
    rows.append(("all", *numbers(total)))
    names = ("forward", "of input", "of kernel", "library's")
    header = [cell for name in names for cell in (f"{name} ms", "ratio")]
    measuring.report("convolution_layers", (f"batch {given.batch}", *header), rows)


def numbers(times):
    return [cell for ours, theirs in times for cell in (float(ours), float(ours / theirs))]


def layers(settings):
    """(side, channels in, channels out) of every convolution of a config's U-Net of planes."""
    side, widths, strides = settings["window"][0], settings["model"]["widths"], settings["model"]["strides"]
    found, before = [], 1
    for level, width in enumerate(widths):
        found += [(side, before, width), (side, width, width)]
        if level < len(widths) - 1:
            found += [(side, 2 * width, width), (side, width, width)]  # of the way up
            side //= strides[level][0]
        before = width
    return found


def random_arrays(batch, side, inputs, outputs):
    rng = np.random.default_rng(0)
    shapes = ((batch, side, side, inputs), (3, 3, inputs, outputs), (batch, side, side, outputs))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def compiled(x, kernel, wanted):
    """{direction: a call that waits for its result}."""
    x, kernel, wanted = map(jnp.asarray, (x, kernel, wanted))
    forms = (
        lambda x, kernel, _: plain(x, kernel),
        lambda x, kernel, wanted: jax.vjp(lambda x: plain(x, kernel), x)[1](wanted),
        lambda x, kernel, wanted: jax.vjp(lambda kernel: plain(x, kernel), kernel)[1](wanted),
        lambda x, kernel, wanted: jax.vjp(lambda kernel: of_planes(x, kernel), kernel)[1](wanted),
    )
    return {name: prepared(jax.jit(form), x, kernel, wanted) for name, form in zip(DIRECTIONS, forms, strict=True)}


def prepared(run, *arrays):
    return lambda: jax.block_until_ready(run(*arrays))


def in_pytorch(x, kernel, wanted):
    import torch

    x, wanted = (torch.tensor(a).permute(0, 3, 1, 2) for a in (x, wanted))  # a view: channels_last in memory
    kernel = torch.tensor(kernel).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)

    def backward(*which):
        settings = (None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [*which, False])
        return lambda: torch.ops.aten.convolution_backward(wanted, x, kernel, *settings)

    def forward():
        with torch.inference_mode():
            return torch.nn.functional.conv2d(x, kernel, padding=1)

    return dict(zip(DIRECTIONS, (forward, backward(True, False), backward(False, True)), strict=False))


if __name__ == "__main__":
    main()
