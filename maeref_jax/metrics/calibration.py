"""Does doubt predict error, and is confidence honest? From histograms, so that volumes of any size can be added up.

Doubt is entropy in [0, 1], as stored in 256 steps; confidence is the mean probability of the class that was chosen.
Voxels whose truth is unknown, -1, take no part.
"""

from typing import NamedTuple

import numpy as np

LEVELS = 256  # of doubt, as many as uint8 has
BINS = 15  # of confidence


class DoubtCounts(NamedTuple):
    """Voxels by level of doubt, int64 (LEVELS,), of places.py more levels: `right` and `wrong` ones. They add up over
    blocks and volumes.
    """

    right: np.ndarray
    wrong: np.ndarray


class ConfidenceCounts(NamedTuple):
    """By bin of confidence, (BINS,): int64 voxels, int64 right ones, float64 sum of the confidences. They add up."""

    voxels: np.ndarray
    right: np.ndarray
    confidence: np.ndarray


def count_doubt(doubt, predicted, truth, of_class=None):
    """DoubtCounts of voxels. doubt: uint8, or float in [0, 1], of any shape; predicted, truth: integers of that shape.

    of_class: only voxels that are, or are called, of this class; None for all.
    """
    levels = doubt if doubt.dtype == np.uint8 else np.round(doubt * (LEVELS - 1)).astype(np.uint8)
    counted = truth >= 0
    if of_class is not None:
        counted &= (truth == of_class) | (predicted == of_class)
    wrong = predicted != truth
    return DoubtCounts(*(np.bincount(levels[counted & part], minlength=LEVELS) for part in (~wrong, wrong)))


def count_confidence(probabilities, truth):
    """ConfidenceCounts of class probabilities (..., c) and truth (...)."""
    known = truth >= 0
    return count_sure(probabilities.max(-1)[known].astype(np.float64), (probabilities.argmax(-1) == truth)[known])


def count_sure(confidence, right):
    """ConfidenceCounts of voxels (n,) of that confidence, float64 in [0, 1], that are right or not, bool."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    voxels, hits = (np.bincount(place[part], minlength=BINS) for part in (slice(None), right))
    return ConfidenceCounts(voxels, hits, np.bincount(place, weights=confidence, minlength=BINS))


def add(one, other):
    """The counts of two sets of voxels together."""
    return type(one)(*(a + b for a, b in zip(one, other, strict=True)))


def auroc(counts):
    """The chance that a wrong voxel has more doubt than a right one, equal doubt counting half; NaN without both."""
    right, wrong = counts.right.astype(float), counts.wrong.astype(float)
    if not right.sum() or not wrong.sum():
        return float("nan")
    less_doubt = np.cumsum(right) - right
    return float((wrong * (less_doubt + right / 2)).sum() / (right.sum() * wrong.sum()))


def average_precision(counts):
    """The mean share of wrong voxels among those of at least as much doubt, over the wrong ones: their share of all for
    no idea, 1 where every wrong voxel has more doubt than any right one. NaN without wrong ones.
    """
    wrong, found = counts.wrong[::-1].astype(float), (counts.right + counts.wrong)[::-1].cumsum()
    if not wrong.sum():
        return float("nan")
    return float((wrong * wrong.cumsum() / np.maximum(found, 1)).sum() / wrong.sum())


def risk_coverage(counts):
    """(coverage, risk), float64 (LEVELS,) each: if only voxels of doubt up to level i are kept, the share kept, and
    the share of the kept ones that is wrong (NaN where none is).
    """
    kept, wrong = np.cumsum(counts.right + counts.wrong), np.cumsum(counts.wrong)
    with np.errstate(invalid="ignore"):
        return kept / max(kept[-1], 1), wrong / np.where(kept, kept, np.nan)


def area_under_risk_coverage(counts):
    """Mean risk over all coverages, the lower the better: errors that doubt keeps to the end cost little. Voxels of
    equal doubt are kept in random order. NaN without voxels.
    """
    total = counts.right + counts.wrong
    if not total.sum():
        return float("nan")
    kept, wrong = np.concatenate([[0], np.cumsum(total)]), np.concatenate([[0], np.cumsum(counts.wrong)])
    # Inside a level the number of errors grows evenly: wrong = a + b kept, whose risk has a closed integral.
    area = 0.0
    for i in np.flatnonzero(total):
        slope = counts.wrong[i] / total[i]
        offset = wrong[i] - slope * kept[i]
        area += slope * total[i] + (offset * np.log(kept[i + 1] / kept[i]) if kept[i] else 0.0)
    return float(area / kept[-1])


def expected_calibration_error(counts):
    """Mean distance of confidence from the share of right voxels in BINS bins, weighted by voxels; NaN without any."""
    voxels = counts.voxels.sum()
    return float(np.abs(counts.confidence - counts.right).sum() / voxels) if voxels else float("nan")
