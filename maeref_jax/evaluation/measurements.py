"""The bias of what people measure (EVALUATION E9): volumes and lengths of every mitochondrion, against the truth."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from maeref_jax import report
from maeref_jax.evaluation.runs import Found
from maeref_jax.metrics import instances, skeleton
from maeref_jax.metrics.validity import Classes, mean_and_error
from maeref_jax.report.dice_tables import name_of

MEASURES = ("volume", "cristae volume", "cristae share", "skeleton length")
SMALLEST_VX = 2000  # of a true mitochondrion: less of it says nothing about its shape
AFFECTED = 0.02  # hidden share of a mitochondrion from which on it is "affected"


class Measured(NamedTuple):
    """One true mitochondrion. hidden: share of its voxels; values: {map: float (measures,)}, the truth with them."""

    hidden: float
    values: dict[str, np.ndarray]


def count(found: Found, meaning: Classes) -> list[Measured]:
    """Every mitochondrion of one volume. What a map has nearer to one true mitochondrion than to any other belongs to
    it, so that pieces and bridges need no matching.
    """
    truth, size = found.case.truth, found.case.voxel_size_nm or (1.0, 1.0, 1.0)
    numbers = instances.of(truth, meaning.background)
    if not numbers.any():
        return []
    nearest = ndimage.distance_transform_edt(numbers == 0, size, return_distances=False, return_indices=True)
    territory = numbers[tuple(nearest)]
    maps = {**found.maps, "truth": truth}
    measured = []
    for number, box in enumerate(ndimage.find_objects(territory), 1):
        own = numbers[box] == number
        if np.count_nonzero(own) < SMALLEST_VX:
            continue
        inside = (territory[box] == number) & (truth[box] != -1)
        values = {name: _measure(np.where(inside, one[box], 0), meaning, size) for name, one in maps.items()}
        measured.append(Measured(float(found.hidden[box][own].mean()), values))
    return measured


def table(measured: list[Measured]):
    """A report.Table; None without any mitochondrion."""
    if not measured:
        return None
    unaffected = [one for one in measured if one.hidden < AFFECTED]
    rows = []
    for name in (name for name in measured[0].values if name != "truth"):
        rows.append((name_of(name), f"{len(measured)}", *_biases(measured, name)))
        if name == "initial":
            rows.append(("initial, affected ones left out", f"{len(unaffected)}", *_biases(unaffected, name)))
    header = ("mean of (measured / true - 1)", "mitochondria", *MEASURES)
    note = (
        f"Bias ± mean absolute error, per mitochondrion of at least {SMALLEST_VX:,} voxels; affected: at least "
        f"{AFFECTED:.0%} of it hidden. Skeleton: of cristae and matrix together."
    )
    return report.Table("What people measure", header, tuple(rows), ("refined",), note)


def _measure(labels, meaning, size):
    inner = (labels == meaning.cristae) | (labels == meaning.matrix)
    foreground, cristae = np.count_nonzero(labels > 0), np.count_nonzero(labels == meaning.cristae)
    thin = skeleton.skeleton_of(inner)
    length = skeleton.measure(thin, thin.points * np.array(size))["length_nm"] if len(thin.points) else 0.0
    share = cristae / max(np.count_nonzero(inner), 1)
    return np.array([foreground, cristae, share, length], float)


def _biases(measured, name):
    if not measured:
        return ("-",) * len(MEASURES)
    true = np.stack([one.values["truth"] for one in measured])
    error = np.stack([one.values[name] for one in measured]) / np.where(true > 0, true, np.nan) - 1
    cells = []
    for column in error.T:
        bias, size = mean_and_error(column)["mean"], mean_and_error(np.abs(column))["mean"]
        cells.append("-" if np.isnan(bias) else f"{bias:+.1%} ± {size:.1%}")
    return tuple(cells)
