"""How likely a label is wrong, what is won by another one, and when it takes its place; of probabilities. No jax."""

import numpy as np


def doubted(likely: np.ndarray, initial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of class probabilities float32 (z, y, x, c) and the labels that are there, int16 (z, y, x), -1 unknown: the
    probability that a label is wrong, and what is won on the mean if the likeliest one takes its place; uint8 of 255.
    """
    right = np.rint(255 * _of_labels(likely, initial).clip(0, 1)).astype(np.uint8)
    best = np.rint(255 * likely.max(-1).clip(0, 1)).astype(np.uint8)
    return 255 - right, best - np.minimum(right, best)


def replaced(likely: np.ndarray, initial: np.ndarray, caution: float) -> np.ndarray:
    """The likeliest classes in place of the labels that are there, int16; but a label stays where no other one is
    `caution` times as likely. With 1 it is always the likeliest. Arrays as of `doubted`, of any shape.
    """
    stays = likely.max(-1) < np.float32(caution) * _of_labels(likely, initial)
    return np.where(stays, initial, likely.argmax(-1)).astype(np.int16)


def _of_labels(likely, labels):
    """The probability of each label, 0 of unknown ones, and of ids that are none of these classes, as "ambiguous"."""
    known = (labels >= 0) & (labels < likely.shape[-1])
    found = np.take_along_axis(likely, np.where(known, labels, 0)[..., None].astype(np.int64), -1)[..., 0]
    return np.where(known, found, np.float32(0))
