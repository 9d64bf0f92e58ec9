"""Rules of the original implementation that nobody else follows (setting `original.rules`).

Which tokens take part is decided by rank: the nearest share of them, by their mean distance from foreground. That
distance is measured from all labels, those of hidden tokens included: the one exception from "hidden means hidden"
(design law 3). It says where foreground was, and nothing of its classes. Far tokens are neither seen nor decoded; they
are certain background. Ties of distance or noise are ordered by token index (the original's sort is not stable there).
"""

import jax
import jax.numpy as jnp
import numpy as np

FAR_LOGIT = 1000.0  # of background, where a token is far; the other classes have 0


def near_count(tokens, keep):
    """How many of `tokens` tokens are near. keep: share in (0, 1]."""
    return int(tokens * keep)


def visible_count(tokens, keep, ratio):
    """How many tokens the encoder sees at a masking ratio in [0, 1]; evaluated in float64, from left to right."""
    return int(tokens * keep * (1 - ratio))


def visible_counts(tokens, keep):
    """visible_count for the ratios 0, 1/tokens, … 1, int32 (tokens + 1,)."""
    return np.array([visible_count(tokens, keep, hidden / tokens) for hidden in range(tokens + 1)], np.int32)


def rank(values):
    """Position of each value in the ascending order of its row, int32 (b, n); equal ones by index."""
    return jnp.argsort(jnp.argsort(values, axis=-1, stable=True), axis=-1, stable=True)


def near(distance, keep):
    """Bool (b, n): the nearest share `keep`. distance: float (b, n), the mean over each token's pixels."""
    return rank(distance) < near_count(distance.shape[-1], keep)


def visible(noise, near, count):
    """Bool (b, n): the `count` near tokens with the smallest noise. noise: float (b, n); count: int, may be traced."""
    return near & (rank(jnp.where(near, noise, jnp.inf)) < count)


def foreground_distance(labels):
    """Euclidean distance in pixels of every pixel's centre to the nearest one with a label > 0, float32 (b, y, x).

    0 on foreground; y + x, more than any distance, everywhere in a plane without foreground.
    """
    _, height, width = labels.shape
    nothing = jnp.float32((height + width) ** 2)
    squared = jnp.where(labels > 0, jnp.float32(0), nothing)
    # First along columns, then along rows: the least of what lies there plus the square of the way.
    for axis, size in ((1, height), (2, width)):
        way = jnp.square(jnp.arange(size, dtype=jnp.float32)[:, None] - jnp.arange(size, dtype=jnp.float32))
        across = jnp.moveaxis(squared, axis, -1)
        nearest = jax.lax.map(lambda row, across=across: (across + row).min(-1), way)
        squared = jnp.moveaxis(nearest, 0, axis)
    return jnp.sqrt(jnp.minimum(squared, nothing))


def far_as_background(logits, near):
    """Logits (b, n, p, c) with those of far tokens replaced: certain background."""
    background = jnp.zeros(logits.shape[-1]).at[0].set(FAR_LOGIT)
    return jnp.where(near[..., None, None], logits, background)
