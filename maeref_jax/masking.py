"""Which tokens are hidden, which are near, and the gathered indices the networks run on.

Array shapes never depend on how many tokens are hidden: indices are padded to a static length and the padding is
marked invalid, so that attention leaves it out (design law 2).
"""

import jax
import jax.numpy as jnp


def hidden_tokens(entropy_mean, threshold, ambiguous_mean=0.0, ambiguous_threshold=1.0):
    """The rule of use: a token is hidden where mean entropy > threshold or mean P(ambiguous) > ambiguous_threshold.

    entropy_mean, ambiguous_mean: (..., rows, columns) in [0, 1]. Returns bool of the same shape. Equal stays visible.
    """
    return (entropy_mean > threshold) | (ambiguous_mean > ambiguous_threshold)


def scattered_tokens(key, count, tokens):
    """The rule of training: `count` of `tokens` tokens, drawn without replacement. Returns bool (tokens,).

    Ranks of uniform noise; equal noise is ordered by token index (the sort is stable).
    """
    noise = jax.random.uniform(key, (tokens,))
    rank = jnp.argsort(jnp.argsort(noise))
    return rank < count


def near_tokens(foreground, keep_within):
    """Tokens whose centre lies within `keep_within` token sides of the centre of a foreground token.

    foreground: bool (b, rows, columns), visible foreground only, so that nothing under a hidden token can show in the
    distance (design law 3). Returns bool (b, rows, columns). keep_within may be infinite: then every token is near.
    """
    b, rows, columns = foreground.shape
    row, column = jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij")
    row, column = row.ravel(), column.ravel()
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
