"""Do the boundaries of a label map lie where those of the truth do? Boundary F1 at a tolerance.

Laws of this file:
- A voxel is a boundary voxel of its class if a face neighbour (4 in a plane, 6 in a box) is of another known class.
  The border of the image is no boundary, and neither is the border to a voxel whose truth is unknown (-1).
- Counts add over planes, crops and volumes; precision, recall and F1 are ratios of the sums.
- Empty masks: a class without a boundary in both maps scores NaN, with one in only one of them 0.
"""

from typing import NamedTuple

import numpy as np
import scipy

from maeref_jax.errors import BadInput
from maeref_jax.metrics.overlap import macro


class BoundaryCounts(NamedTuple):
    """Boundary voxels per class, int64 (c,) each: those of the truth, and how many of them have a predicted one of the
    same class within the tolerance; those of the prediction, and how many have a true one. They add up.
    """

    true: np.ndarray
    true_met: np.ndarray
    predicted: np.ndarray
    predicted_met: np.ndarray


def count(truth, predicted, classes, tolerance, region=None, voxel_size_nm=None):
    """BoundaryCounts of one plane (y, x) or one box (z, y, x), in which boundaries are surfaces.

    truth: integers, -1 unknown; predicted: integers of that shape. classes: number of classes.
    tolerance: largest distance of two boundary voxels that meet: in nm with `voxel_size_nm`, a number per axis, else in
    voxels.
    region: bool; only boundary voxels inside it are counted, but they may be met by one outside. None for everywhere.
    Raises BadInput where shapes differ, the region is not bool, the tolerance is negative, or the voxel size has
    another number of axes.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    region = np.ones(truth.shape, bool) if region is None else np.asarray(region)
    if truth.shape != predicted.shape or truth.shape != region.shape or region.dtype != bool:
        raise BadInput(
            f"expected truth, prediction and a bool region of one shape, found {truth.shape}, {predicted.shape} and "
            f"{region.dtype} {region.shape}"
        )
    if tolerance < 0 or (voxel_size_nm is not None and len(voxel_size_nm) != truth.ndim):
        raise BadInput(
            f"expected a tolerance of at least 0 and a voxel size for {truth.ndim} axes, found {tolerance} and "
            f"{voxel_size_nm}"
        )
    # Where nobody knows the truth neither map has a boundary.
    predicted = np.where(truth < 0, truth.dtype.type(-1), predicted)
    edges = [boundary(labels) for labels in (truth, predicted)]
    found = np.zeros((4, classes), np.int64)
    for i in range(classes):
        true, guessed = (edge & (labels == i) for edge, labels in zip(edges, (truth, predicted), strict=True))
        pairs = ((true, guessed), (guessed, true))
        for row, (here, there) in enumerate(pairs):
            here = here & region
            met = here & _near(there, tolerance, voxel_size_nm) if here.any() else here
            found[2 * row : 2 * row + 2, i] = np.count_nonzero(here), np.count_nonzero(met)
    return BoundaryCounts(*found)


def count_planes(truth, predicted, classes, tolerance, region=None, voxel_size_nm=None):
    """BoundaryCounts of a volume (z, y, x) taken plane by plane: outlines, not surfaces. voxel_size_nm: (z, y, x);
    otherwise as `count`.
    """
    size = None if voxel_size_nm is None else voxel_size_nm[1:]
    total = BoundaryCounts(*np.zeros((4, classes), np.int64))
    for z in range(len(truth)):
        where = None if region is None else region[z]
        total = add(total, count(truth[z], predicted[z], classes, tolerance, where, size))
    return total


def boundary(labels):
    """Bool: voxels with a face neighbour of another class; -1 belongs to no boundary, on neither side of it."""
    labels = np.asarray(labels)
    found = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        low = (slice(None),) * axis + (slice(None, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        differ = (labels[low] != labels[high]) & (labels[low] >= 0) & (labels[high] >= 0)
        found[low] |= differ
        found[high] |= differ
    return found


def add(one, other):
    """The BoundaryCounts of both together."""
    return BoundaryCounts(*(a + b for a, b in zip(one, other, strict=True)))


def f1(counts):
    """2 precision recall / (precision + recall) per class, float64 (c,) in [0, 1]."""
    score = np.full(len(counts.true), np.nan)
    for i, (true, true_met, predicted, predicted_met) in enumerate(zip(*counts, strict=True)):
        if true + predicted:
            recall, precision = true_met / max(true, 1), predicted_met / max(predicted, 1)
            score[i] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return score


def macro_f1(counts, class_ids):
    """Unweighted mean of the F1 of `class_ids`, over those that are not NaN; NaN if there are none."""
    return macro(f1(counts), class_ids)


def _near(mask, tolerance, voxel_size_nm):
    """Bool: within the tolerance of the mask; nothing is near an empty one."""
    if not mask.any():
        return mask
    # Rounding must not decide about a distance of exactly the tolerance.
    return scipy.ndimage.distance_transform_edt(~mask, sampling=voxel_size_nm) <= tolerance * (1 + 1e-9)
