"""Do outlines lie where an independent stain is bright? Two maps of one volume scored against the same channel.

Laws of this file:
- The outline of a map, plane by plane, are the voxels on both sides of the border of its foreground; unknown (-1)
  belongs to neither side. Near is what lies within a distance of it in its plane, in voxels.
- Everything is a sum or a count; boxes and volumes of one scale of brightness add up. Contrast, AUROC and coverage
  are taken of the sums.
- Nothing near, or nothing elsewhere: NaN.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from maeref_jax.metrics.boundaries import boundary

LEVELS = 65536  # of brightness: exact for uint8 and uint16


class WitnessCounts(NamedTuple):
    """Voxels near the outline and elsewhere: by level of brightness, int64 (LEVELS,) each; their brightness added up,
    in the unit of the stain. They add up.
    """

    near: np.ndarray
    elsewhere: np.ndarray
    sum_near: float = 0.0
    sum_elsewhere: float = 0.0


def zero() -> WitnessCounts:
    """Counts of nothing."""
    return WitnessCounts(np.zeros(LEVELS, np.int64), np.zeros(LEVELS, np.int64))


def near_outline(labels: np.ndarray, foreground: Sequence[int], distance: float) -> np.ndarray:
    """Bool (z, y, x): within `distance` voxels, in the plane, of the outline of the classes `foreground`. At exactly
    that distance is near. labels: integers (z, y, x), -1 unknown.
    """
    inside = np.where(labels < 0, -1, np.isin(labels, list(foreground)).astype(np.int8))
    return within(np.stack([boundary(plane) for plane in inside]), distance)


def within(mask: np.ndarray, distance: float) -> np.ndarray:
    """Bool (z, y, x): within `distance` voxels, in the plane, of the bool mask; nothing is near an empty plane."""
    found = np.zeros(mask.shape, bool)
    for plane, near in zip(mask, found, strict=True):
        if plane.any():
            near[...] = scipy.ndimage.distance_transform_edt(~plane) <= distance * (1 + 1e-9)
    return found


def levels_of(stain: np.ndarray, low: float, high: float) -> np.ndarray:
    """The brightness as a level 0 … LEVELS - 1, intp: that of low is 0, of high the last. Whole numbers keep apart what
    differs where high - low is below LEVELS.
    """
    if np.dtype(stain.dtype).kind in "ui" and high - low < LEVELS:
        return np.clip(stain.astype(np.int64) - int(low), 0, LEVELS - 1)
    share = (stain.astype(np.float64) - low) / max(high - low, np.finfo(float).tiny)
    return np.clip(np.rint(share * (LEVELS - 1)), 0, LEVELS - 1).astype(np.intp)


def count(stain: np.ndarray, levels: np.ndarray, near: np.ndarray, where: np.ndarray) -> WitnessCounts:
    """WitnessCounts of the voxels of one map in `where`. Arrays of one shape: the stain and its levels_of, near_outline
    of the map, and bool.
    """
    found = []
    for part in (near & where, ~near & where):
        found.append((np.bincount(levels[part], minlength=LEVELS), float(stain[part].sum(dtype=np.float64))))
    (near_levels, near_sum), (other_levels, other_sum) = found
    return WitnessCounts(near_levels, other_levels, near_sum, other_sum)


def add(one: WitnessCounts, other: WitnessCounts) -> WitnessCounts:
    """The counts of both together."""
    return WitnessCounts(*(a + b for a, b in zip(one, other, strict=True)))


def contrast(counts: WitnessCounts) -> float:
    """Mean brightness near the outline over that elsewhere; NaN without either, or where elsewhere is not positive."""
    near, elsewhere = counts.near.sum(), counts.elsewhere.sum()
    if not near or not elsewhere or counts.sum_elsewhere <= 0:
        return float("nan")
    return float((counts.sum_near / near) / (counts.sum_elsewhere / elsewhere))


def auroc(counts: WitnessCounts) -> float:
    """The chance that a voxel near the outline is brighter than one elsewhere, equal ones counting half; NaN without
    both.
    """
    near, elsewhere = counts.near.astype(float), counts.elsewhere.astype(float)
    if not near.sum() or not elsewhere.sum():
        return float("nan")
    darker = np.cumsum(elsewhere) - elsewhere
    return float((near * (darker + elsewhere / 2)).sum() / (near.sum() * elsewhere.sum()))


def coverage(counts: WitnessCounts, brightest: float = 0.1) -> float:
    """The share of the brightest tenth of the voxels that is near the outline: which outlines were missed. Of voxels as
    bright as the last of them, all count by the same fraction. NaN without voxels.
    """
    total = (counts.near + counts.elsewhere)[::-1].astype(float)
    wanted = brightest * total.sum()
    if not wanted:
        return float("nan")
    taken = np.clip(wanted - (np.cumsum(total) - total), 0, total)
    return float((taken * counts.near[::-1] / np.maximum(total, 1)).sum() / wanted)
