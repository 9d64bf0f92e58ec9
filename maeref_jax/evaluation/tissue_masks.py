"""Masks of tissue from a probability of it: chosen on validation volumes, counted against the truth.

Of every method two masks are judged. The closest: the threshold with the highest Dice. The safe one: the mask of
another threshold, grown by a length, with the highest Dice among those that lose next to nothing; what is lost is lost
for everything after.
"""

import itertools
from typing import NamedTuple

import numpy as np

from maeref_jax.metrics import overlap

RECALL = 0.995  # of the safe mask, on validation volumes
THRESHOLDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
GROWN_VX = (0.0, 1.0, 2.0, 3.0, 4.0)  # by so many voxels
KINDS = ("closest", "safe")


class Choice(NamedTuple):
    """A mask: tissue where its probability is at least `threshold`, grown by a length in voxels; `lengths`: what the
    lengths of a method are multiplied by, 1 where it has none. counted: on validation volumes, as `counts` gives them.
    """

    lengths: float
    threshold: float
    grown_vx: float
    counted: np.ndarray


def counts(truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Voxels int64 (2, 2), row truth, column mask; they add up over volumes. truth: 0 and 1, mask: bool, (z, y, x)."""
    return overlap.confusion(truth, mask.astype(np.int16), 2)


def dice(counted: np.ndarray) -> float:
    """Of tissue, NaN where there is none in truth or mask."""
    return float(overlap.dice(counted)[1])


def recall(counted: np.ndarray) -> float:
    """The share of the tissue that the mask has, NaN where there is none."""
    return _share(counted[1, 1], counted[1].sum())


def false_share(counted: np.ndarray) -> float:
    """The share of what is no tissue that the mask has, NaN where all is tissue."""
    return _share(counted[0, 1], counted[0].sum())


def kept(counted: np.ndarray) -> float:
    """The share of all voxels that the mask has: what is still to be worked on."""
    return _share(counted[:, 1].sum(), counted.sum())


def mask_of(probability: np.ndarray, choice: Choice, grow) -> np.ndarray:
    """bool (z, y, x). grow: (mask, voxels) -> mask, of what is made of any mask."""
    return grow(probability >= choice.threshold, choice.grown_vx)


def choose(validation, lengths, grow) -> dict[str, Choice]:
    """{kind of KINDS: Choice}. lengths: those that are tried; validation: {length: [(truth, probability) of every
    volume]}; grow: as in `mask_of`. Equal ones: the first that was tried.

    Where nothing reaches RECALL the safe mask is the one that loses least.
    """
    tried = []
    for length, threshold, by in itertools.product(lengths, THRESHOLDS, GROWN_VX):
        choice = Choice(length, threshold, by, np.zeros((2, 2), np.int64))
        counted = sum(counts(truth, mask_of(share, choice, grow)) for truth, share in validation[length])
        tried.append(choice._replace(counted=counted))
    closest = max((one for one in tried if not one.grown_vx), key=lambda one: dice(one.counted))
    good = [one for one in tried if recall(one.counted) >= RECALL]
    if good:
        return {"closest": closest, "safe": max(good, key=lambda one: dice(one.counted))}
    return {"closest": closest, "safe": max(tried, key=lambda one: recall(one.counted))}


def _share(part, whole):
    return float(part / whole) if whole else float("nan")
