"""How likely a label is wrong, and what is won by another one, of class probabilities. No jax."""

import numpy as np


def doubted(likely: np.ndarray, initial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of class probabilities float32 (z, y, x, c) and the labels that are there, int16 (z, y, x), -1 unknown: the
    probability that a label is wrong, and what is won on the mean if the likeliest one takes its place; uint8 of 255.
    """
    there = np.take_along_axis(likely, np.maximum(initial, 0)[..., None].astype(np.int64), -1)[..., 0]
    right = np.where(initial >= 0, np.rint(255 * there.clip(0, 1)), 0).astype(np.uint8)
    best = np.rint(255 * likely.max(-1).clip(0, 1)).astype(np.uint8)
    return 255 - right, best - np.minimum(right, best)
