"""Which tokens are hidden at use, decided in whole numbers: no block, batch, device or order of a sum tips one over.

Values, and the threshold, are rounded to the nearest of STEPS steps between 0 and 1, which is about as fine as float32
is near 1. Sums of steps are exact. 255ths, as uint8 entropy has them, and thresholds of up to three decimals are whole
numbers of steps, so that "equal stays visible" holds for them to the letter. All in numpy; planes may be of any size, a
token cut by the far border is made of the pixels that it has.
"""

from collections.abc import Sequence

import numpy as np

# 255 · 51,200 = 1000 · 13,056; below 2 ** 24, so that a 255th is the same whole number of steps after float32 too.
STEPS = 13_056_000


def above(values: np.ndarray, token: int, threshold: float) -> np.ndarray:
    """Bool (z, rows, columns): tokens whose mean is above the threshold. values: float (z, y, x), finite."""
    limit = round(threshold * STEPS) * np.outer(*(_lengths(size, token) for size in values.shape[1:]))
    # Slice by slice: steps are four times as large as the values that they are made of.
    planes = (np.rint(np.multiply(plane, STEPS, dtype=np.float64)).astype(np.int64) for plane in values)
    return np.stack([sum_in_tokens(steps[None], token)[0] > limit for steps in planes])


def sum_in_tokens(values: np.ndarray, token: int) -> np.ndarray:
    """Whole numbers or bool (z, y, x) -> int64 (z, rows, columns): the sum over every token."""
    return _in_tokens(values, token).sum((2, 4), dtype=np.int64)


def any_in_tokens(values: np.ndarray, token: int) -> np.ndarray:
    """Bool (z, y, x) -> bool (z, rows, columns): whether any voxel of the token is True."""
    return _in_tokens(values, token).any((2, 4))


def spread(tokens: np.ndarray, token: int, shape: Sequence[int]) -> np.ndarray:
    """(z, rows, columns) -> (z, y, x) of `shape`: every token's value at its voxels."""
    return tokens.repeat(token, 1).repeat(token, 2)[:, : shape[1], : shape[2]]


def _lengths(size: int, token: int) -> np.ndarray:
    """How many pixels of an axis each token has."""
    return np.minimum(token, size - np.arange(0, size, token))


def _in_tokens(values: np.ndarray, token: int) -> np.ndarray:
    """(z, y, x) -> (z, rows, token, columns, token), 0 beyond the border."""
    depth, height, width = values.shape
    padded = np.pad(values, ((0, 0), (0, -height % token), (0, -width % token)))
    return padded.reshape(depth, padded.shape[1] // token, token, padded.shape[2] // token, token)
