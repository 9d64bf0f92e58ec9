"""The fully connected conditional random field with Gaussian edge potentials (Krähenbühl & Koltun, NIPS 2011).

Every pixel of a window is tied to every other one by two kernels: smoothness, by distance alone, and appearance, by
distance and difference of intensity. Mean field:

    Q_i(l) ∝ exp( log P_i(l) + Σ_m w_m Σ_j k_m(i, j) Q_j(l) )
    k_m(i, j) = g_m(i, j) / sqrt(n_i n_j),   n_i = Σ_j g_m(i, j)

which is Potts compatibility and symmetric normalisation; j = i is included, as in the authors' program. The kernels g
are exact, not a lattice's approximation: smoothness is separable, appearance is computed `chunk` rows of the kernel
matrix at a time and never kept, so memory is chunk x window pixels.

It learns nothing from label maps: what it may do is decided by six numbers, chosen on validation data. It changes every
pixel of a window (as published: hide everything, `refine.py --threshold 0`); the pipeline composites at hidden tokens.
"""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.records import Refiner

PARAMETERS = (
    "smoothness_weight",
    "smoothness_vx",
    "appearance_weight",
    "appearance_vx",
    "appearance_intensity",
    "iterations",
)
# Probabilities below are taken as this before their logarithm: a network's zero is not a certainty.
SMALLEST = 1e-5


def check(settings):
    """Raises BadInput for values to search through that no CRF can have."""
    for name in PARAMETERS:
        values, least = settings["search"][name], 1 if name == "iterations" else 0
        positive = name.endswith(("_vx", "_intensity"))
        if not values or min(values) < least or (positive and min(values) <= 0):
            raise BadInput(f"search.{name} must be values {'> 0' if positive else f'>= {least}'}, found {values}")
    if settings["trials"] < 1 or settings["chunk"] < 1:
        raise BadInput(f"trials and chunk must be at least 1, found {settings['trials']} and {settings['chunk']}")


def candidates(settings):
    """The parameters to try, a list of `trials` dicts of numpy scalars; the first one changes nothing.

    The others are drawn from the grid of `search` without repetition, from the seed; all of it where it is smaller.
    """
    grid = list(product(*(settings["search"][name] for name in PARAMETERS)))
    order = np.random.default_rng(settings["seed"]).permutation(len(grid))[: settings["trials"] - 1]
    nothing = dict(zip(PARAMETERS, (0.0, 1.0, 0.0, 1.0, 1.0, 1), strict=True))
    drawn = [dict(zip(PARAMETERS, grid[i], strict=True)) for i in order]
    return [
        {name: np.asarray(value, np.int32 if name == "iterations" else np.float32) for name, value in found.items()}
        for found in (nothing, *drawn)
    ]


def refiner(settings):
    """The Refiner of a CRF's workdir."""
    chunk = settings["chunk"]

    def refine(params, state, inputs, key):
        low, high = state["intensity_range"]
        image = jnp.clip((inputs["image"].astype(jnp.float32) - low) / (high - low), 0.0, 1.0)

        def one(window):
            return mean_field(*window, params, chunk)

        # One window after another: together they would need so many times the memory.
        return jax.lax.map(one, (inputs["probabilities"], image))

    return Refiner(
        refine,
        tuple(settings["window"]),
        tuple(settings["stride"]),
        dims=2,
        needs=("image", "probabilities"),
        token=settings["token"],
    )


def mean_field(probabilities, image, params, chunk):
    """Class probabilities float32 (y, x, c) after `iterations` of mean field.

    probabilities: float32 (y, x, c), summing to 1, or 0 for all classes outside the volume, from where nothing is
    heard; image: float32 (y, x) in [0, 1]. params: PARAMETERS, scalars; weights are those of the kernels, …_vx their
    standard deviations in pixels and appearance_intensity that in units of the image. Jit-able, also over params.
    chunk: rows of the appearance kernel at a time, static.
    """
    height, width, _ = probabilities.shape
    inside = (probabilities.sum(-1, keepdims=True) > 0.5).astype(jnp.float32)
    log_likelihood = jnp.log(jnp.maximum(probabilities, SMALLEST)) * inside
    smooth = _separable(height, width, params["smoothness_vx"])
    appear = _dense(image, params["appearance_vx"], params["appearance_intensity"], chunk)
    kernels = [
        (params[f"{name}_weight"], _scale(kernel, inside), kernel)
        for name, kernel in (("smoothness", smooth), ("appearance", appear))
    ]

    def step(_, q):
        messages = sum(weight * scale * kernel(scale * q) for weight, scale, kernel in kernels)
        return jax.nn.softmax(log_likelihood + messages)

    return jax.lax.fori_loop(0, params["iterations"], step, jax.nn.softmax(log_likelihood))


def _scale(kernel, inside):
    """1 / sqrt(n), 0 outside the volume: what symmetric normalisation multiplies by before and after the kernel."""
    return inside / jnp.sqrt(jnp.maximum(kernel(inside), 1e-20))


def _separable(height, width, sigma):
    """Sum over all pixels weighted by a Gaussian of distance, as a function of arrays (y, x, c)."""
    rows, columns = (_gaussian(jnp.arange(size, dtype=jnp.float32), sigma) for size in (height, width))

    def kernel(values):
        return jnp.einsum("Yy,Xx,yxc->YXc", rows, columns, values, precision="highest")

    return kernel


def _dense(image, sigma, sigma_intensity, chunk):
    """The same, weighted by Gaussians of distance and of the difference in intensity."""
    height, width = image.shape
    pixels, blocks = height * width, -(-height * width // chunk)
    row, column = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    features = jnp.stack([row / sigma, column / sigma, image / sigma_intensity]).reshape(3, pixels)
    here = jnp.pad(features, ((0, 0), (0, blocks * chunk - pixels))).reshape(3, blocks, chunk)

    def kernel(values):
        flat = values.reshape(pixels, -1)

        def rows(block):
            # Differences, not dot products, whose cancellation costs digits.
            squared = sum(jnp.square(block[i][:, None] - features[i]) for i in range(3))
            return jnp.matmul(jnp.exp(-squared / 2), flat, precision="highest")

        found = jax.lax.map(rows, jnp.moveaxis(here, 1, 0))
        return found.reshape(blocks * chunk, -1)[:pixels].reshape(values.shape)

    return kernel


def _gaussian(places, sigma):
    return jnp.exp(-jnp.square((places[:, None] - places) / sigma) / 2)
