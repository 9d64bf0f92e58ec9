"""Do the colours of the repairs tell? What is right in green, amber and red blobs (trust.py), before and after."""

import numpy as np

from maeref_jax import report
from maeref_jax.audit.trust import RATINGS
from maeref_jax.evaluation.runs import Found


def count(found: Found) -> np.ndarray:
    """int64 (ratings, 4) of one volume: hidden voxels of known truth, those right before, right after, and repaired."""
    arrays = found.case.truth, found.maps["initial"], found.maps["refined"]
    truth, before, after = (array[found.hidden] for array in arrays)
    rated, known = found.rating[found.hidden], truth >= 0
    right = np.stack([known, known & (before == truth), known & (after == truth)])
    each = np.vstack([right, right[2] & ~right[1]])
    return np.stack([each[:, rated == rating].sum(1) for rating in range(1, len(RATINGS) + 1)])


def table(counted: list[np.ndarray]):
    """A report.Table of `count` of every volume."""
    rows = []
    for name, (voxels, before, after, repaired) in zip(RATINGS, sum(counted), strict=True):
        if voxels:
            shares = map(report.number, (before / voxels, after / voxels))
            rows.append((name, f"{voxels:,}", *shares, f"{repaired:,}", f"{before - (after - repaired):,}"))
    header = ("rating of the blob", "hidden voxels", "right before", "right after", "repaired", "broken")
    note = "Shares of the hidden voxels whose truth is known. The limits between the colours are choices, see trust.py."
    return report.Table("Do the colours tell which repairs to trust?", header, tuple(rows), (), note)
