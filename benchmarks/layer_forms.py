"""The forms that layers take on CPUs beside flax's own: milliseconds forward and backward, and their ratio.

    python benchmarks/layer_forms.py [--rounds 9]

Attention has a benchmark of its own (attention.py), so have convolutions layer by layer (convolution_layers.py).
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import measuring

from maeref_jax.models.blocks import Dense
from maeref_jax.models.convolution import Conv
from maeref_jax.models.group_norm import EPSILON, GroupNorm
from maeref_jax.models.unet import max_pooled

FORMS = {
    "dense, 8 x 616 x 128 → 256": ((8, 616, 128), nn.Dense(256), Dense(256)),
    "dense, 8 x 512 x 80 → 128": ((8, 512, 80), nn.Dense(128), Dense(128)),
    "group norm, 8 x 64² x 16": ((8, 64, 64, 16), nn.GroupNorm(8, epsilon=EPSILON), GroupNorm(8)),
    "group norm, 1 x 128² x 64": ((1, 128, 128, 64), nn.GroupNorm(8, epsilon=EPSILON), GroupNorm(8)),
    "pooling, 1 x 128² x 64": (
        (1, 128, 128, 64),
        partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2)),
        partial(max_pooled, stride=(2, 2)),
    ),
    "convolution, 2 x 64², 32 → 16": ((2, 64, 64, 32), nn.Conv(16, (3, 3)), Conv(16, (3, 3))),
    "convolution, 1 x 64², 128 → 128": ((1, 64, 64, 128), nn.Conv(128, (3, 3)), Conv(128, (3, 3))),
}


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--rounds", type=int, default=9)
    given = flags.parse_args()
    rows = []
    for name, (shape, flax_own, ours) in FORMS.items():
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        seconds = measuring.alternating({"flax": prepared(flax_own, x), "ours": prepared(ours, x)}, given.rounds)
        rows.append((name, 1e3 * seconds["flax"], 1e3 * seconds["ours"], seconds["ours"] / seconds["flax"]))
    measuring.report("layer_forms", ("forward and backward", "flax's own ms", "library ms", "ratio"), rows)


def prepared(layer, x):
    """A call that computes the gradients of a module, or of a function of x, and waits for them."""
    module = isinstance(layer, nn.Module)
    params = layer.init(jax.random.key(0), x) if module else {}
    run = jax.jit(jax.grad(lambda p, x: ((layer.apply(p, x) if module else layer(x)) ** 2).sum(), (0, 1)))
    x = jax.device_put(x)
    return lambda: jax.block_until_ready(run(params, x))


if __name__ == "__main__":
    main()
