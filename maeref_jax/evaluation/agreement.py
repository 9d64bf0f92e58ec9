"""Agreement with the truth (EVALUATION E1, E2): Dice, repairs, control masks.

`judge` counts one volume, and only `tables` and `summary` take ratios, of the sums over volumes.
"""

from typing import NamedTuple

import numpy as np

from maeref_jax import report
from maeref_jax.evaluation.endpoint import comparison, endpoint
from maeref_jax.evaluation.runs import CONTROLS, Found
from maeref_jax.metrics import overlap, scores, validity
from maeref_jax.report.dice_tables import dice_table, name_of, repair_table

RESHELLED = "sanity: refined, its shell derived again"


class Told(NamedTuple):
    """What notes say beside the numbers. slices: how far they agree, runs.slices_in_words; unit: what intervals are
    about, independence.in_words.
    """

    slices: str = ""
    unit: str = ""


class Judged(NamedTuple):
    """Counts of one volume.

    scores: Scores. controls: {name: {"initial" | "refined": confusion inside those tokens, "repairs": counts,
    "errors": of the initial map inside and everywhere}}. published: {name: {"hidden" | "all": confusion}}.
    repaired, made_wrong: int64 (z,), voxels of every slice. reshelled: {region: confusion} of Found.reshelled.
    """

    scores: scores.Scores
    controls: dict
    published: dict
    repaired: np.ndarray
    made_wrong: np.ndarray
    reshelled: dict


def judge(found: Found, classes: int, settings: dict) -> Judged:
    """Counts of one volume. classes: their number; settings: the config's `validity` group."""
    truth, initial = found.case.truth, found.maps["initial"]
    meaning = validity.Classes(*settings["classes"]) if settings["classes"] else None
    shape = {name: settings[name] for name in ("size", "min_foreground", "slice_step")}
    counted = scores.count(
        truth=truth,
        initial=initial,
        repaired={name: labels for name, labels in found.maps.items() if name != "initial"},
        hidden=found.hidden,
        low_signal=found.case.low_signal,
        classes=classes,
        crops=validity.crops(truth, **shape) if meaning else [],
        meaning=meaning,
    )
    wrong_everywhere = overlap.errors(counted.confusions["all"]["initial"])

    def control(tokens, labels):
        confusions = {
            name: overlap.confusion(truth, one, classes, tokens)
            for name, one in (("initial", initial), ("refined", labels))
        }
        inside = overlap.errors(confusions["initial"])
        return {
            **confusions,
            "repairs": overlap.repairs(truth, initial, labels, tokens),
            "errors": np.array([inside, wrong_everywhere]),
        }

    controls = {name: control(*one) for name, one in found.controls.items()}
    if controls:
        controls = {"doubt": control(found.hidden, found.maps["refined"]), **controls}
    published = {
        name: {
            "hidden": overlap.confusion(truth, labels, classes, found.hidden),
            "all": overlap.confusion(truth, labels, classes),
        }
        for name, labels in found.published.items()
    }
    refined = found.maps.get("refined", initial)
    right_before, right_after, known = initial == truth, refined == truth, truth != -1
    repaired, made_wrong = (~right_before & right_after & known), (right_before & ~right_after & known)
    regions, reshelled = {"hidden": found.hidden, "low_signal": found.case.low_signal, "all": None}, {}
    if found.reshelled is not None:
        reshelled = {
            region: overlap.confusion(truth, found.reshelled, classes, regions[region]) for region in counted.confusions
        }
    return Judged(counted, controls, published, repaired.sum((1, 2)), made_wrong.sum((1, 2)), reshelled)


def total(judged):
    """The Scores of several volumes together."""
    found = judged[0].scores
    for one in judged[1:]:
        found = scores.add(found, one.scores)
    return found


def summary(judged, endpoint_classes):
    """The numbers for programs: endpoint, dice_hidden, dice_low_signal, dice_all, repairs, validity. Undefined ones are
    NaN.
    """
    found, primary = total(judged), endpoint([one.scores for one in judged], endpoint_classes)
    numbers = {
        f"dice_{region}": {name: scores.dice_with_mean(counts) for name, counts in confusions.items()}
        for region, confusions in found.confusions.items()
    }
    if primary:
        numbers["endpoint"] = {**primary._asdict(), "difference": primary.difference._asdict()}
    if found.repairs:
        numbers["repairs"] = {name: found.repairs["refined"][name] for name in ("wrong_to_right", "right_to_wrong")}
    if found.validity:
        numbers["validity"] = {
            name: {
                metric: {"mean": value["mean"], "se": value["se"]} for metric, value in validity.summary(crops).items()
            }
            for name, crops in found.validity.items()
        }
    return numbers


def tables(judged, class_names, endpoint_classes, told=Told()):
    """A list of report.Table. judged: Judged of every volume; class_names: background first; endpoint_classes: ids
    whose Dice is averaged to compare methods.
    """
    found = total(judged)
    reshelled = {region: sum(one.reshelled[region] for one in judged) for region in judged[0].reshelled}
    tables = [
        _dice_table(found, class_names, reshelled, told.slices),
        comparison([one.scores for one in judged], endpoint_classes, unit=told.unit),
    ]
    tables += [_published_table(judged, endpoint_classes)] if judged[0].published else []
    tables += [repair_table(found.repairs)] if found.repairs else []
    tables += [_control_table(judged, endpoint_classes)] if judged[0].controls else []
    tables += [_validity_table(found)] if found.validity else []
    return [table for table in tables if table]


def _dice_table(found, class_names, reshelled, slices):
    dice = {
        region: {
            name: scores.dice_with_mean(counts)
            for name, counts in (confusions | ({RESHELLED: reshelled[region]} if reshelled else {})).items()
        }
        for region, confusions in found.confusions.items()
    }
    note = f"The mean is over the classes listed, not over voxels; {class_names[0]} takes no part in it."
    if not found.validity:
        note += (
            " How plausible masks look (validity metrics) is not counted: that needs the classes background, "
            "intermembrane, cristae and matrix."
        )
    if found.repairs:
        note += (
            " The nearest visible label learns nothing: each hidden voxel copies the closest voxel of its slice that "
            f"is not hidden{f'; {slices}' if slices else ''}."
        )
    if reshelled:
        note += " The last row forgets the shell of the refined map and derives it by distance, like that of the truth."
    return dice_table(dice, class_names, note)


def _published_table(judged, classes):
    rows = []
    for name in judged[0].published:
        counts = {region: sum(one.published[name][region] for one in judged) for region in ("hidden", "all")}
        rows.append((name, *(report.number(overlap.macro_dice(part, classes)) for part in counts.values())))
    found = total(judged)
    for name in ("initial", "refined"):
        counts = (found.confusions[region][name] for region in ("hidden", "all"))
        rows.append((name, *(report.number(overlap.macro_dice(part, classes)) for part in counts)))
    note = (
        "Competitors that were made to redo whole crops, let loose on everything instead of the hidden tokens. Mean "
        f"Dice of the classes {', '.join(map(str, classes))}."
    )
    header = ("mean Dice", "inside hidden tokens", "everywhere")
    return report.Table("As published: the whole volume redone", header, tuple(rows), ("refined",), note)


def _control_table(judged, classes):
    rows = []
    for name in judged[0].controls:
        parts = [one.controls[name] for one in judged]
        dice = [overlap.macro_dice(sum(part[which] for part in parts), classes) for which in ("initial", "refined")]
        repairs = {key: sum(part["repairs"][key] for part in parts) for key in overlap.REPAIRS}
        inside, everywhere = sum(part["errors"] for part in parts)
        cells = [f"{sum(repairs.values()):,}", f"{inside / everywhere:.0%}" if everywhere else "-"]
        cells += [report.number(value) for value in dice]
        cells += [f"{repairs[key]:,}" for key in ("wrong_to_right", "right_to_wrong")]
        rows.append(({"doubt": "tokens of high entropy", **CONTROLS}[name], *cells))
    header = ("hidden are", "voxels", "of all errors", "Dice before", "after", "wrong → right", "right → wrong")
    note = (
        "The same refiner on other tokens: anywhere on the foreground, and where doubt would know every error. The "
        f"second column is the ceiling of any repair there. Mean Dice of the classes {', '.join(map(str, classes))}."
    )
    return report.Table("Are the right places hidden?", header, tuple(rows), (), note)


def _validity_table(found):
    number = len(found.validity["truth"])
    order = [name for name in found.validity if name != "truth"] + ["truth"]
    rows = [(name_of(name), *report.validity_cells(validity.summary(found.validity[name]))) for name in order]
    rows.append(("paper's control group", *report.validity_cells(validity.paper_control())))
    note = (
        f"Mean ± standard error over {number} crops, taken as independent although neighbouring slices are not. "
        "Nearer to the truth's row is better; higher or lower is not. End points and cycles are those of the skeleton "
        "of the inner part (cristae and matrix). The paper's row is other data at another pixel size."
    )
    return report.Table(
        "How plausible the masks look", ("per crop", *report.METRIC_NAMES), tuple(rows), ("refined",), note
    )
