"""Distance to control (the paper's Table 2; EVALUATION E4, E5), with the rows that must not win beside it.

Crops are chosen by a rule that no metric enters: those with at least a given hidden share. What they should look like
is told by the control group: true masks of those crops of the rest that are most like them in how many mitochondria
they show and how much of them, for the metrics depend on both.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from maeref_jax import report
from maeref_jax.evaluation.runs import Found
from maeref_jax.metrics import instances, sanity, topology, validity
from maeref_jax.report.dice_tables import name_of

SANITY = {
    "erased": "sanity: cristae erased",
    "majority": f"sanity: {sanity.MAJORITY_PX}-px majority filter",
    "another": "sanity: another true crop",
}


class Crop(NamedTuple):
    """What is counted of one crop. volume: it was cut from. hidden: share of its voxels. foreground: true area, 1 is a
    whole crop, which one at a border may not reach; mitochondria: connected pieces of that. metrics: {map: {metric:
    float}}; cristae: {map: number of pieces}; areas: {map: int64 (2, classes)}; lost, invented: {map: (number, of)}.
    """

    volume: str
    hidden: float
    foreground: float
    mitochondria: int
    metrics: dict
    cristae: dict
    areas: dict
    lost: dict
    invented: dict


def count(found: Found, settings: dict, classes: int) -> list[Crop]:
    """The crops of one volume. settings: the config's `validity` group, with class ids."""
    meaning = validity.Classes(*settings["classes"])
    shape = {name: settings[name] for name in ("size", "min_foreground", "slice_step")}
    truth = found.case.truth
    whole = {**found.maps, "majority": sanity.majority_filtered(found.maps["initial"]), "truth": truth}
    counted = []
    for place in validity.crops(truth, **shape):
        maps = {name: labels[place] for name, labels in whole.items()}
        maps["erased"] = sanity.cristae_erased(maps["initial"], meaning)
        reference = maps["truth"]
        pieces = instances.of(reference, meaning.background)

        def lost(labels, other, meaning=meaning):
            return np.array(sanity.lost_structures(labels, other, meaning.cristae, smallest_vx=9))

        counted.append(
            Crop(
                found.case.stem,
                float(found.hidden[place].mean()),
                np.count_nonzero(pieces) / settings["size"] ** 2,
                int(pieces.max()),
                {name: validity.metrics(validity.counts(one, meaning)) for name, one in maps.items()},
                {name: topology.cristae_counts(one, meaning)["cristae"] for name, one in maps.items()},
                {name: sanity.class_areas(one, reference, classes) for name, one in maps.items()},
                {name: lost(one, reference) for name, one in maps.items()},
                {name: lost(reference, one) for name, one in maps.items()},
            )
        )
    return counted


def matched(chosen: list[Crop], others: list[Crop]) -> np.ndarray:
    """For every chosen crop the number of that one of the others that is most like it, int (chosen,); none twice before
    each has been taken once.

    Like: |difference of mitochondria| + |difference of foreground|, the least sum over all pairs; so a mitochondrion
    more or less outweighs any difference in size.
    """
    here, there = (np.array([(crop.mitochondria, crop.foreground) for crop in part]) for part in (chosen, others))
    unlike = np.abs(here[:, None] - there).sum(-1)
    partner, left = np.zeros(len(chosen), int), np.arange(len(chosen))
    while len(left):
        served, taken = linear_sum_assignment(unlike[left])
        partner[left[served]] = taken
        left = np.delete(left, served)
    return partner


def table(crops: list[Crop], least_hidden: float, cristae: int, seed: int = 0):
    """A report.Table, or None without two chosen crops, or without two others for the control group."""
    chosen = [crop for crop in crops if crop.hidden >= least_hidden]
    others = [crop for crop in crops if crop.hidden < least_hidden]
    if min(len(chosen), len(others)) < 2:
        return None
    partners = matched(chosen, others)
    control = [others[i] for i in partners]
    columns = {metric: np.array([crop.metrics["truth"][metric] for crop in control]) for metric in validity.METRICS}
    shown = [name for name in chosen[0].metrics if name not in ("truth", "erased", "majority")]
    rows = [
        _row(name_of(name), [crop.metrics[name] for crop in chosen], columns, chosen, name, cristae) for name in shown
    ]
    rows.append(
        _row("truth of these crops", [crop.metrics["truth"] for crop in chosen], columns, chosen, "truth", cristae)
    )
    for name in ("erased", "majority"):
        rows.append(_row(SANITY[name], [crop.metrics[name] for crop in chosen], columns, chosen, name, cristae))
    volumes = np.array([crop.volume for crop in chosen])
    if len(np.unique(volumes)) > 1:
        other = sanity.another_crop(volumes, seed)
        rows.append(_row(SANITY["another"], [chosen[i].metrics["truth"] for i in other], columns, None, "", cristae))
    mean = [validity.mean_and_error(values)["mean"] for values in columns.values()]
    rows.append(("control: mean", *(report.number(value) for value in mean), "", "", "", ""))
    header = ("s.d. of the control from its mean", *report.METRIC_NAMES, "cristae", "their area", "lost", "invented")
    used = len(np.unique(partners))
    alike, wanted = (
        f"{np.mean([crop.foreground for crop in part]):.0%} of a whole crop is foreground, "
        f"{np.mean([crop.mitochondria for crop in part]):.1f} mitochondria"
        for part in (control, chosen)
    )
    note = (
        f"{len(chosen)} crops with at least {least_hidden:.0%} hidden ({wanted}); control: the truth of the {used} "
        f"most like them of {len(others)} others{', some for several' if used < len(chosen) else ''} ({alike}). "
        "Two-sided: too low is as far as too high. 'cristae' is their number per crop, 'their area' that of the map "
        "over that of the truth, 'lost' the share of true cristae of which less than half is found again, 'invented' "
        "the reverse. This table alone supports no claim: a row that looks better and has lost cristae is worse."
    )
    return report.Table("Distance to control, and what it cost", header, tuple(rows), ("refined",), note)


def _row(label, values, columns, crops, name, cristae):
    cells = []
    for metric, wanted in columns.items():
        floor = sanity.FLOORS[metric]
        found = sanity.distance_to_control(np.array([one[metric] for one in values]), wanted, floor)
        cells.append(report.number(found["distance"], 2))
    if crops is None:
        return (label, *cells, "-", "-", "-", "-")
    kept = sanity.retention(sum(crop.areas[name] for crop in crops))[cristae]
    rates = []
    for lost, of in (sum(crop.lost[name] for crop in crops), sum(crop.invented[name] for crop in crops)):
        rates.append(f"{lost / of:.0%}" if of else "-")
    number = np.mean([crop.cristae[name] for crop in crops])
    return (label, *cells, report.number(number, 1), report.number(kept, 2), *rates)
