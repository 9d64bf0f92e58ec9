"""Is the refiner as sure as it is right (EVALUATION E8)? Confidence against the truth, by the radius of the hole."""

import numpy as np
from scipy import ndimage

from maeref_jax import report
from maeref_jax.evaluation.runs import Found
from maeref_jax.metrics import calibration

RADII_PX = (0, 4, 8, 16)  # a hole's deepest pixel is at least so far from what is visible


def count(found: Found) -> list:
    """calibration.ConfidenceCounts of hidden voxels by RADII_PX, of one volume."""
    counted = []
    radius = np.zeros(found.hidden.shape)
    for z in np.flatnonzero(found.hidden.any((1, 2))):
        depth = ndimage.distance_transform_edt(np.pad(found.hidden[z], 1, constant_values=True))[1:-1, 1:-1]
        holes, number = ndimage.label(found.hidden[z])
        deepest = np.concatenate([[0], ndimage.maximum(depth, holes, range(1, number + 1))])
        radius[z] = deepest[holes]
    right = found.maps["refined"] == found.case.truth
    known = found.hidden & (found.case.truth >= 0)
    for low, high in zip(RADII_PX, (*RADII_PX[1:], np.inf), strict=True):
        chosen = known & (radius >= low) & (radius < high)
        counted.append(calibration.count_sure(found.confidence[chosen] / 255, right[chosen]))
    return counted


def table(counted: list[list]):
    """A report.Table of `count` of every volume."""
    rows = []
    for i, low in enumerate(RADII_PX):
        found = counted[0][i]
        for one in counted[1:]:
            found = calibration.add(found, one[i])
        voxels = found.voxels.sum()
        if voxels:
            sure, right = found.confidence.sum() / voxels, found.right.sum() / voxels
            cells = (f"{voxels:,}", *map(report.number, (sure, right, calibration.expected_calibration_error(found))))
            last = i + 1 == len(RADII_PX)
            rows.append((f"{low} px and more" if last else f"{low} to {RADII_PX[i + 1]} px", *cells))
    header = ("radius of the hole", "voxels", "mean confidence", "share right", "calibration error")
    note = (
        "Hidden voxels. A hole's radius is the distance of its deepest pixel from what is visible, in its slice. The "
        "refiner predicts every token by itself (marginals), while Eq. 2 of the paper is a joint distribution."
    )
    return report.Table("Is the refiner as sure as it is right?", header, tuple(rows), (), note)
