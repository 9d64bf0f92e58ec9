"""Convolutions of 3 x 3 on this machine, in several forms: is there a faster one than the compiler's own?

    python benchmarks/convolution.py [--batch 8] [--rounds 9] [--forms plain 'by twos']

Layers of U-Nets: sides and channels below. Milliseconds of the plain form, forward, and forward with both gradients;
then every other form by the time of the first. All forms give the same to 1e-4, which is checked.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import measuring

LAYERS = (
    *((64, 1, 16), (64, 16, 16), (64, 32, 16), (32, 16, 32), (32, 32, 32), (32, 64, 32)),
    *((16, 32, 64), (16, 64, 64), (128, 1, 64), (128, 64, 64), (64, 64, 128)),
)
WIDEST = 16  # numbers that the widest vector of a CPU holds


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--batch", type=int, default=8)
    flags.add_argument("--rounds", type=int, default=9)
    flags.add_argument("--forms", nargs="+", choices=FORMS, default=tuple(FORMS))
    given = flags.parse_args()
    rows = []
    for layer in LAYERS:
        for name, differentiated in (("forward", False), ("with gradients", True)):
            seconds = measuring.alternating(calls(given.forms, given.batch, *layer, differentiated), given.rounds)
            plain, *others = seconds.values()
            side, inputs, outputs = layer
            rows.append((f"{side}², {inputs} → {outputs}, {name}", 1e3 * plain, *(other / plain for other in others)))
    first, *others = given.forms
    measuring.report("convolution", ("layer", f"{first} ms", *others), rows)


def calls(forms, batch, side, inputs, outputs, differentiated):
    """{form: a call that waits for its result}."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, side, side, inputs)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, inputs, outputs)) / (9 * inputs) ** 0.5, jnp.float32)
    wanted = jnp.asarray(rng.normal(size=(batch, side, side, outputs)), jnp.float32)
    made = {}
    for name in forms:
        form = FORMS[name]
        run = jax.jit(form)
        if differentiated:
            run = jax.jit(jax.grad(lambda x, kernel, form=form: (form(x, kernel) * wanted).sum(), (0, 1)))
        found, expected = run(x, kernel), made and next(iter(made.values()))()
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=False):
            np.testing.assert_allclose(one, other, atol=1e-4 * float(jnp.abs(one).max()))
        made[name] = lambda run=run: jax.block_until_ready(run(x, kernel))
    return made


def plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def channels_first(x, kernel):
    """The same with channels before rows and columns, both turns included."""
    x = jnp.transpose(x, (0, 3, 1, 2))
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NCHW", "HWIO", "NCHW"))
    return jnp.transpose(y, (0, 2, 3, 1))


def padded_channels(x, kernel):
    """The plain form with channels of nothing, up to a multiple of WIDEST."""
    inputs, outputs = ((-n) % WIDEST for n in kernel.shape[2:])
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, inputs)))
    return plain(x, jnp.pad(kernel, ((0, 0), (0, 0), (0, inputs), (0, outputs))))[..., : kernel.shape[3]]


def shifts(x):
    """The nine neighbours of every pixel, each (b, y, x, c)."""
    _, height, width, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [x[:, dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]


def nine_products(x, kernel):
    """A matrix product of every shift, added up."""
    return sum(shift @ weights for shift, weights in zip(shifts(x), kernel.reshape(9, *kernel.shape[2:]), strict=True))


def three_products(x, kernel):
    """The three neighbours of a row side by side, a matrix product of every row."""
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    row = jnp.concatenate([x[:, :, dx : dx + width] for dx in range(3)], -1)
    weights = kernel.reshape(3, -1, kernel.shape[3])
    return sum(row[:, dy : dy + height] @ weights[dy] for dy in range(3))


def one_product(x, kernel):
    """All nine neighbours side by side (im2col), one matrix product."""
    return jnp.concatenate(shifts(x), -1) @ kernel.reshape(-1, kernel.shape[3])


@jax.custom_vjp
def by_twos(x, kernel):
    """The plain form, but the gradient of the kernel is the sum of those of two samples at a time."""
    return plain(x, kernel)


def _by_twos_forward(x, kernel):
    return plain(x, kernel), (x, kernel)


def _by_twos_backward(kept, wanted):
    x, kernel = kept
    (of_x,) = jax.vjp(lambda x: plain(x, kernel), x)[1](wanted)
    pairs = [slice(start, start + 2) for start in range(0, len(x), 2)]
    return of_x, sum(jax.vjp(lambda k, two=two: plain(x[two], k), kernel)[1](wanted[two])[0] for two in pairs)


by_twos.defvjp(_by_twos_forward, _by_twos_backward)

FORMS = {
    "plain": plain,
    "channels first": channels_first,
    "padded": padded_channels,
    "nine products": nine_products,
    "three products": three_products,
    "one product": one_product,
    "by twos": by_twos,
}


if __name__ == "__main__":
    main()
