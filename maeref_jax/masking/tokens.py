"""Tokens: the small squares, `token` pixels a side, that a masked autoencoder reads, hides and fills as one.

Tokens of a plane are numbered row by row, pixels inside a token too.
"""

import jax.numpy as jnp


def split_tokens(planes, token):
    """(..., y, x) -> (..., n, p): the pixels of every token. y and x must be multiples of `token`."""
    *lead, y, x = planes.shape
    if y % token or x % token:
        raise ValueError(f"a plane of {y} x {x} pixels does not divide into tokens of {token} x {token}")
    rows, columns = y // token, x // token
    planes = planes.reshape(*lead, rows, token, columns, token)
    return jnp.swapaxes(planes, -3, -2).reshape(*lead, rows * columns, token * token)


def join_tokens(tokens, grid, token):
    """(b, n, p, ...) -> (b, y, x, ...): the inverse of split_tokens, trailing axes (classes) kept.

    grid: (rows, columns) of tokens.
    """
    b, _, _, *trail = tokens.shape
    rows, columns = grid
    tokens = tokens.reshape(b, rows, columns, token, token, *trail)
    return jnp.swapaxes(tokens, 2, 3).reshape(b, rows * token, columns * token, *trail)


def token_mean(planes, token):
    """(..., y, x) -> (..., y/token, x/token): the mean over the pixels of every token."""
    *lead, y, x = planes.shape
    return split_tokens(planes, token).mean(-1).reshape(*lead, y // token, x // token)


def token_spread(tokens, token):
    """(..., rows, columns) -> (..., y, x): every token's value repeated over its pixels."""
    return jnp.repeat(jnp.repeat(tokens, token, axis=-2), token, axis=-1)
