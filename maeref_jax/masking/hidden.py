"""Which tokens are hidden, which are near, and the gathered indices the networks run on.

Array shapes never depend on how many tokens are hidden: indices are padded to a static length and the padding is
marked invalid, so that attention leaves it out (design law 2).
"""

import jax
import jax.numpy as jnp

MASK_SHAPES = ("scattered", "blobs", "transplanted")


def hidden_tokens(entropy_mean, threshold):
    """The rule of use, as training needs it inside a compiled step: a token is hidden where mean entropy > threshold.
    A mean of floats is not the same to the last bit for every shape: what is refined is decided by masking/exact.py.

    entropy_mean: (..., rows, columns) in [0, 1]. Returns bool of the same shape. Equal stays visible.
    """
    return entropy_mean > threshold


def scattered_tokens(key, count, tokens):
    """The plain rule of training: `count` of `tokens` tokens, drawn without replacement. Returns bool (tokens,).

    Ranks of uniform noise; equal noise is ordered by token index (the sort is stable).
    """
    noise = jax.random.uniform(key, (tokens,))
    rank = jnp.argsort(jnp.argsort(noise))
    return rank < count


def blob_score(key, grid):
    """Gaussian noise smoothed over the token grid, float32 (rows, columns): ranked, it gives contiguous blobs.

    The smoothing length is log-uniform between one token side and a quarter of the longer side of the grid; the
    variance is the same everywhere, so that blobs are as frequent at the border as in the middle.
    """
    length_key, noise_key = jax.random.split(key)
    longest = max(max(grid) / 4, 1.0)
    length = jnp.exp(jax.random.uniform(length_key) * jnp.log(longest))

    def kernel(size):
        way = jnp.arange(size)[:, None] - jnp.arange(size)
        weight = jnp.exp(-jnp.square(way / length) / 2)
        return weight / jnp.sqrt(jnp.square(weight).sum(1, keepdims=True))

    return kernel(grid[0]) @ jax.random.normal(noise_key, grid) @ kernel(grid[1]).T


def shaped_tokens(key, count, grid, weights, donor=None):
    """The rule of training with shapes: `count` tokens hidden in one of MASK_SHAPES, bool (n,).

    weights: how often each of MASK_SHAPES is drawn, three numbers or an array of them; donor: float (rows, columns),
    the mean entropy of another crop's tokens, needed where the third weight is not 0: the most undecided places of the
    donor are hidden.
    The count is exact in every shape; ties of the donor are broken at random.
    """
    tokens = grid[0] * grid[1]
    if isinstance(weights, tuple) and not any(weights[1:]):
        return scattered_tokens(key, count, tokens)
    shape_key, noise_key, blob_key = jax.random.split(key, 3)
    noise = jax.random.uniform(noise_key, (tokens,))
    donor = jnp.zeros(tokens) if donor is None else donor.reshape(tokens)
    # Entropy on disk comes in steps of 1/255, and a mean over pixels in smaller ones: 1e-4 breaks ties only.
    scores = jnp.stack([noise, blob_score(blob_key, grid).reshape(tokens), 1e-4 * noise - donor])
    share = jnp.asarray(weights, jnp.float32)
    shape = jax.random.choice(shape_key, len(MASK_SHAPES), p=share / share.sum())
    return jnp.argsort(jnp.argsort(scores[shape])) < count


def shapes_after(weights, curriculum, progress):
    """How often each of MASK_SHAPES is drawn when `progress` of the training is over, float32 (3,): scattered tokens
    alone at first, `weights` once the share `curriculum` (above 0) of the training is, evenly in between.
    """
    wanted = jnp.asarray(weights, jnp.float32)
    way = jnp.minimum(progress / curriculum, 1.0)
    return way * wanted / wanted.sum() + (1 - way) * jnp.asarray((1.0, 0.0, 0.0))


def near_tokens(foreground, keep_within, side=(1.0, 1.0)):
    """Tokens whose centre lies within `keep_within` of the centre of a foreground token, in the unit of `side`.

    foreground: bool (b, rows, columns), visible foreground only, so that nothing under a hidden token can show in the
    distance (design law 3); side: height and width of a token, (1, 1) to measure in token sides. Returns bool
    (b, rows, columns). keep_within may be infinite: then every token is near.
    """
    b, rows, columns = foreground.shape
    row, column = jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij")
    row, column = row.ravel() * side[0], column.ravel() * side[1]
    squared = (row[:, None] - row[None]) ** 2 + (column[:, None] - column[None]) ** 2
    if keep_within == float("inf"):
        return jnp.ones_like(foreground)
    within = (squared <= keep_within**2).astype(jnp.float32)
    return (foreground.reshape(b, -1).astype(jnp.float32) @ within > 0).reshape(b, rows, columns)


def gathered_indices(chosen, length):
    """Indices of the chosen tokens, ascending, padded to a static length.

    chosen: bool (b, n). Returns indices int32 (b, length) and valid bool (b, length). `length` must be at least the
    largest number of chosen tokens; of more, the last ones would be lost.
    """
    order = jnp.argsort(~chosen, axis=-1, stable=True)[:, :length]
    return order.astype(jnp.int32), jnp.take_along_axis(chosen, order, axis=-1)


def placed(values, index, valid, background):
    """Gathered tokens back in their places, (b, n, ...) like background, which stays everywhere else.

    values: (b, l, ...); index: int32 (b, l), of each sample without repetition where valid, bool (b, l).
    """
    # Padding is written into one spare slot behind the last token and never read.
    full = jnp.concatenate([background, background[:, :1]], axis=1)
    slots = jnp.where(valid, index, background.shape[1])
    full = jax.vmap(lambda rows, slot, value: rows.at[slot].set(value))(full, slots, values)
    return full[:, :-1]
