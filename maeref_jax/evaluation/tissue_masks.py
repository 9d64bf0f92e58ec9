"""Masks of tissue from a score of it: chosen on validation blocks, counted against the truth.

Of every method two masks are judged. The closest: the threshold with the highest Dice. The safe one: the mask of
another threshold, grown by a length, with the highest Dice among those that lose next to nothing; what is lost is lost
for everything after.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from maeref_jax.metrics import overlap

RECALL = 0.995  # of the safe mask, on validation blocks
THRESHOLDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a probability
QUANTILES = np.linspace(0.05, 0.95, 19)  # of other scores, over all validation blocks
GROWN_VX = (0.0, 1.0, 2.0, 3.0, 4.0)  # by so many voxels
KINDS = ("closest", "safe")


class Choice(NamedTuple):
    """A mask: tissue where the score is at least `threshold`, grown by so many voxels; `sizes`: which of a method's
    filters' sizes. counted: on validation blocks, as `counts` gives them.
    """

    sizes: Any
    threshold: float
    grown_vx: float
    counted: np.ndarray


def counts(truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Voxels int64 (2, 2), row truth, column mask; they add up over blocks. truth: 0 and 1, mask: bool, (z, y, x)."""
    return overlap.confusion(truth, mask.astype(np.int16), 2)


def dice(counted: np.ndarray) -> float:
    """Of tissue, NaN where there is none."""
    return float(overlap.dice(counted)[1]) if counted[1].any() else float("nan")


def recall(counted: np.ndarray) -> float:
    """The share of the tissue that the mask has, NaN where there is none."""
    return _share(counted[1, 1], counted[1].sum())


def false_share(counted: np.ndarray) -> float:
    """The share of what is no tissue that the mask has, NaN where all is tissue."""
    return _share(counted[0, 1], counted[0].sum())


def kept(counted: np.ndarray) -> float:
    """The share of all voxels that the mask has: what is still to be worked on."""
    return _share(counted[:, 1].sum(), counted.sum())


def grown(mask: np.ndarray, by_vx: tuple[float, ...] = GROWN_VX) -> list[np.ndarray]:
    """The mask, bool (z, y, x), grown by each of these lengths, in voxels, which are as long along every axis."""
    if not mask.any():
        return [mask] * len(by_vx)
    distance = ndimage.distance_transform_edt(~mask)
    return [distance <= by for by in by_vx]


def mask_of(score: np.ndarray, choice: Choice) -> np.ndarray:
    """bool (z, y, x): the chosen mask of another block."""
    return grown(score >= choice.threshold, (choice.grown_vx,))[0]


def choose(validation: dict[Any, list[tuple[np.ndarray, np.ndarray]]], probability: bool) -> dict[str, Choice]:
    """{kind of KINDS: Choice}. validation: {sizes: [(truth, score) of every block]}; probability: whether scores are
    probabilities, with THRESHOLDS, or in a unit of their own, with QUANTILES. Of equal ones the first is taken.

    Where nothing reaches RECALL, the safe mask is the one that loses least.
    """
    tried = []
    for sizes, blocks in validation.items():
        values = np.concatenate([score[::2, ::2, ::2].ravel() for _, score in blocks])
        for threshold in THRESHOLDS if probability else np.quantile(values, QUANTILES).tolist():
            counted = np.zeros((len(GROWN_VX), 2, 2), np.int64)
            for truth, score in blocks:
                counted += np.stack([counts(truth, mask) for mask in grown(score >= threshold)])
            tried += [Choice(sizes, threshold, by, one) for by, one in zip(GROWN_VX, counted, strict=True)]
    closest = max((one for one in tried if not one.grown_vx), key=lambda one: dice(one.counted))
    good = [one for one in tried if recall(one.counted) >= RECALL]
    safe = max(good, key=lambda one: dice(one.counted)) if good else max(tried, key=lambda one: recall(one.counted))
    return {"closest": closest, "safe": safe}


def _share(part, everything):
    return float(part / everything) if everything else float("nan")
