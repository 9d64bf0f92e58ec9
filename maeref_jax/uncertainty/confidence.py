"""Confidence that means what it says: a refiner's probabilities, tempered by how far a pixel is from what is visible.

A network is as sure deep inside a hole as at its edge, and right less often. One temperature per depth of the hole
(Guo et al., "On calibration of modern neural networks", ICML 2017), fitted on validation volumes, mends that. The class
that is chosen stays the same. These are confidences of single pixels: marginals, not of a whole filling (paper,
equation 2).
"""

from typing import NamedTuple

import numpy as np
import scipy

DEPTHS = (1.0, 2.0, 4.0)  # token sides: bounds of the depths that have a temperature each
FEWEST = 500  # pixels of a depth; of fewer, all pixels together decide its temperature
_LEAST = 1e-6  # probability


class Calibration(NamedTuple):
    """temperatures: one per depth, of pixels up to each of DEPTHS token sides from a visible pixel, and beyond."""

    temperatures: tuple[float, ...]


def is_calibration(found):
    """Whether what was read from a calibration.json has what a Calibration needs, and the `use` that it belongs to."""
    values = found.get("temperatures") if isinstance(found, dict) and "use" in found else None
    enough = isinstance(values, list) and len(values) == len(DEPTHS) + 1
    return enough and all(isinstance(value, int | float) and 0 < value < np.inf for value in values)


def depth_of(hidden, token):
    """Distance of every pixel from the nearest visible one of its plane, in token sides, float32; visible pixels 0.

    hidden: bool (..., y, x). Where nothing is visible the distance is infinite. Distances of 4 sides and more differ
    in nothing that follows: four sides of context are enough to know them.
    """
    depth = np.zeros(hidden.shape, np.float32)
    for place in np.ndindex(hidden.shape[:-2]):
        plane = hidden[place]
        if plane.all():
            depth[place] = np.inf
        elif plane.any():
            depth[place] = scipy.ndimage.distance_transform_edt(plane) / token
    return depth


def fit(probabilities, truth, depth):
    """The Calibration of pixels whose class is known.

    probabilities: float (n, c); truth: integers (n,), -1 takes no part; depth: float (n,) by `depth_of`.
    """
    known = truth >= 0
    probabilities, truth, depth = probabilities[known], truth[known], depth[known]
    place = np.searchsorted(DEPTHS, depth)
    overall = temperature_of(probabilities, truth)
    parts = (place == i for i in range(len(DEPTHS) + 1))
    return Calibration(
        tuple(temperature_of(probabilities[i], truth[i]) if i.sum() >= FEWEST else overall for i in parts)
    )


def tempered(probabilities, depth, calibration):
    """Class probabilities float32 (..., c) with the temperature of their depth (...); sums of 1 stay sums of 1."""
    temperature = np.asarray(calibration.temperatures, np.float32)[np.searchsorted(DEPTHS, depth)]
    logits = np.log(np.maximum(probabilities, _LEAST), dtype=np.float32) / temperature[..., None]
    found = np.exp(logits - logits.max(-1, keepdims=True))
    return found / found.sum(-1, keepdims=True)


def temperature_of(probabilities, truth):
    """The temperature of the smallest negative log-likelihood, between 1/e² and e²; 1 without pixels."""
    if not len(truth):
        return 1.0
    logits = np.log(np.maximum(probabilities.astype(np.float64), _LEAST))

    def loss(log_temperature):
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(-1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(-1))
        return (total - np.take_along_axis(scaled, truth[:, None].astype(np.int64), -1)[:, 0]).mean()

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))
