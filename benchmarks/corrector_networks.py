"""A corrector with another network in place of its U-Net: which one learns most in the same time?

    python benchmarks/corrector_networks.py automaton --config configs/corrector.py:rendered \\
        --workdir runs/networks/automaton --config.steps=600 --config.evaluate_every=150

    unet         the network of refiners/corrector.py
    automaton    a neural cellular automaton: one small rule, repeated; every pixel sees its neighbours' state
    transformer  that of the masked autoencoder, all tokens visible, with probabilities as their content

Data, loss, steps and all that comes after training are the corrector's own: the validation of every evaluation, the
verdict on hidden tokens and what `--hide_by error` would gain are printed, and kept in the workdir, which is no model
that any other command can read. The last line tells the parameters and how long it all took. Predictions that lie in
WORKDIR/predictions are taken: copy those of another corrector of the same seed and ensemble.
"""

import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).parent.parent))

from maeref_jax.commands.main import start
from maeref_jax.models.blocks import Transformer, sine_cosine_positions
from maeref_jax.models.unet import without_statistics
from maeref_jax.refiners import corrector
from maeref_jax.refiners.masked_training import real_classes
from maeref_jax.training import checkpoint


class Automaton(nn.Module):
    """(b, y, x, channels) -> logits (b, y, x, classes). `steps` times every pixel's state changes by what a dense layer
    makes of the state, its gradients (Sobel) and curvature (Laplace), and of what is seen (Mordvintsev et al. 2020).
    """

    classes: int
    channels: int = 24
    width: int = 64
    steps: int = 20

    @nn.compact
    def __call__(self, seen):
        given = nn.Dense(self.channels, name="seen")(seen)
        inner = nn.Dense(self.width, name="inner")
        change = nn.Dense(self.channels, kernel_init=nn.initializers.normal(1e-2), name="change")
        state = given
        for _ in range(self.steps):
            state = state + change(nn.relu(inner(jnp.concatenate([state, *_differences(state), given], -1))))
        return nn.Dense(self.classes, name="head")(state)


def _differences(state):
    """The gradients along y and x and the curvature of (b, y, x, c), 0 outside."""
    padded = jnp.pad(state, ((0, 0), (1, 1), (1, 1), (0, 0)))
    near = [[padded[:, i : i + state.shape[1], j : j + state.shape[2]] for j in range(3)] for i in range(3)]
    along_x = sum(weight * (row[2] - row[0]) for weight, row in zip((1, 2, 1), near, strict=True)) / 8
    along_y = sum(weight * (low - high) for weight, low, high in zip((1, 2, 1), near[2], near[0], strict=True)) / 8
    return along_y, along_x, (sum(map(sum, near)) - state) / 8 - state


class Tokens(nn.Module):
    """(b, y, x, channels) -> logits (b, y, x, classes): a transformer whose tokens are squares of `token` pixels."""

    classes: int
    token: int
    width: int = 192
    depth: int = 6
    heads: int = 6

    @nn.compact
    def __call__(self, seen):
        b, y, x, channels = seen.shape
        side, rows, columns = self.token, y // self.token, x // self.token
        tokens = seen.reshape(b, rows, side, columns, side, channels).swapaxes(2, 3)
        tokens = nn.Dense(self.width, name="embed")(tokens.reshape(b, rows * columns, -1))
        tokens += jnp.asarray(sine_cosine_positions((rows, columns), self.width))
        place = jnp.stack(jnp.divmod(jnp.arange(rows * columns), columns), -1)
        places, valid = (jnp.broadcast_to(one, (b, *one.shape)) for one in (place, jnp.ones(len(place), bool)))
        tokens = Transformer(self.depth, self.heads, 2.0, name="body")(tokens, valid, places)
        found = nn.Dense(side * side * self.classes, name="head")(tokens)
        return found.reshape(b, rows, columns, side, side, self.classes).swapaxes(2, 3).reshape(b, y, x, self.classes)


NETWORKS = {
    "unet": lambda settings: without_statistics(real_classes(settings), settings["model"]),
    "automaton": lambda settings: Automaton(real_classes(settings)),
    "transformer": lambda settings: Tokens(real_classes(settings), settings["token"]),
}


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in NETWORKS:
        sys.exit(f"expected one of {', '.join(NETWORKS)}, then flags of train.py; found {sys.argv[1:2]}")
    name = sys.argv.pop(1)
    corrector.network = NETWORKS[name]
    began = time.time()
    try:
        start("train")
    except SystemExit as ended:
        if ended.code:
            raise
    workdir = sys.argv[sys.argv.index("--workdir") + 1]
    params = jax.tree.leaves(checkpoint.load_best(workdir).params)
    print(f"{name}: {sum(leaf.size for leaf in params):,} parameters, {time.time() - began:.0f} s in all")


if __name__ == "__main__":
    main()
