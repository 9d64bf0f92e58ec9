"""What keeps the validity metrics honest: label maps that look plausible and are worthless, and counts that show it.

A row of a table of validity metrics supports nothing if one of these beats it: masks without any cristae, masks with
every detail voted away, and flawless masks of another mitochondrion. Beside such a table always stand how much of each
class is left, how many cristae (topology.cristae_counts), and how many structures were lost.
"""

import numpy as np
from scipy import ndimage

from maeref_jax.errors import BadInput
from maeref_jax.metrics.validity import METRICS, MITOCHONDRIA, mean_and_error

MAJORITY_PX = 15
# Smallest standard deviation that a control group is believed to have: the control of the paper has exactly 0 of
# inner_background, and any difference would be infinitely far. Set by hand before any result was seen: a tenth of an
# end point or cycle per crop, and one per cent.
FLOORS = dict(zip(METRICS, (0.1, 0.1, 0.01, 0.01, 0.01), strict=True))


def cristae_erased(labels, classes=MITOCHONDRIA):
    """Every crista turned into matrix. labels: integers of any shape; returns the same dtype."""
    return np.where(labels == classes.cristae, labels.dtype.type(classes.matrix), labels)


def majority_filtered(labels, size=MAJORITY_PX):
    """Each voxel takes the commonest class of the size x size square around it, in its own plane.

    labels: integers (y, x) or (z, y, x), -1 unknown: it has no vote, keeps its place and is never chosen. Ties go to
    the lower class; beyond the border nobody votes. size: odd, in voxels. Raises BadInput for an even one.
    """
    if size < 1 or size % 2 == 0:
        raise BadInput(f"expected an odd size of the majority filter, found {size}")
    labels = np.asarray(labels)
    box = (1,) * (labels.ndim - 2) + (size, size)
    present = np.unique(labels[labels != -1])
    best, most = labels.copy(), np.zeros(labels.shape)
    for label in present:
        # A mean times the number of voxels is the number of votes up to rounding, and votes are whole.
        votes = np.rint(ndimage.uniform_filter((labels == label).astype(np.float64), box, mode="constant") * size**2)
        better = votes > most
        best[better], most[better] = label, votes[better]
    return np.where(labels == -1, labels, best)


def another_crop(groups, seed):
    """Which crop stands in for which: int (n,), for every crop a random one of another group.

    groups: of every crop, what it was cut from (volume, mitochondrion), (n,). Raises BadInput where there is only one.
    """
    groups, rng = np.asarray(groups), np.random.default_rng(seed)
    if len(np.unique(groups)) < 2:
        raise BadInput(f"another crop needs crops of at least two groups, found {np.unique(groups).tolist()}")
    return np.array([rng.choice(np.flatnonzero(groups != group)) for group in groups])


def distance_to_control(values, control, floor):
    """How far a group of crops is from a control group, in standard deviations of the control's crops.

    values, control: float (crops,), NaN (undefined) left out. floor: least standard deviation that is believed, > 0.
    Returns {"distance": |difference| / max(s.d., floor), two-sided: too low is as far as too high; "difference": of the
    means, with its sign; "sd": of the control, n - 1}; NaN where either group has no crop, sd also with one.
    """
    if floor <= 0:
        raise BadInput(f"expected a floor above 0 for the standard deviation, found {floor}")
    found, wanted = mean_and_error(values), mean_and_error(control)
    difference = found["mean"] - wanted["mean"]
    sd = wanted["se"] * np.sqrt(wanted["crops"])
    return {
        "distance": abs(difference) / (max(sd, floor) if np.isfinite(sd) else floor),
        "difference": difference,
        "sd": float(sd),
    }


def class_areas(labels, reference, classes):
    """Voxels of each class in a map and in the one it is compared with, int64 (2, classes); they add up.

    Voxels whose reference is unknown (-1) take no part. `retention` of the sums is what is left of each class.
    """
    known = reference != -1
    return np.stack(
        [np.bincount(part[known].astype(np.int64), minlength=classes)[:classes] for part in (labels, reference)]
    )


def retention(areas):
    """Area in the map / area in the reference per class, float64 (classes,): 1 is as it was, 0 is erased, NaN for a
    class that the reference does not have.
    """
    kept, had = np.asarray(areas, np.float64)
    return np.divide(kept, had, out=np.full(len(had), np.nan), where=had > 0)


def lost_structures(labels, reference, label, smallest_vx=1, least_share=0.5):
    """(lost, structures): connected pieces of a class in the reference, and how many of them are not found again.

    A piece (corners connect) of at least `smallest_vx` voxels is lost if less than `least_share` of its voxels have
    that class in `labels`. The lost-structure rate is the ratio of the sums; with the two maps exchanged it is the rate
    of invented structures. Both integers (y, x) or (z, y, x). (0, 0) where the reference has none.
    """
    pieces, number = ndimage.label(reference == label, np.ones((3,) * reference.ndim, int))
    size = np.bincount(pieces.ravel(), minlength=number + 1)[1:]
    found = np.bincount(pieces[labels == label], minlength=number + 1)[1:]
    counted = size >= smallest_vx
    return int(np.count_nonzero(counted & (found < least_share * size))), int(np.count_nonzero(counted))
