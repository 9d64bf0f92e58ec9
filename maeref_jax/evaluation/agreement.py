"""Agreement with the truth (EVALUATION E1, E2): Dice, repairs, control masks, and the primary endpoint.

`judge` counts one volume, and only `tables` and `summary` take ratios, of the sums over volumes.
"""

import math
from typing import NamedTuple

import numpy as np

from maeref_jax import report
from maeref_jax.evaluation.runs import CONTROLS, Found, name_of
from maeref_jax.metrics import overlap, scores, statistics, validity

REGIONS = {"hidden": "inside hidden tokens", "low_signal": "inside low-signal regions", "all": "everywhere"}
RESHELLED = "sanity: refined, its shell derived again"


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
    None.
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
    return _without_nan(numbers)


def tables(judged, class_names, endpoint_classes):
    """A list of report.Table. judged: Judged of every volume; class_names: background first; endpoint_classes: ids
    whose Dice is averaged to compare methods.
    """
    found = total(judged)
    reshelled = {region: sum(one.reshelled[region] for one in judged) for region in judged[0].reshelled}
    tables = [_dice_table(found, class_names, reshelled), comparison([one.scores for one in judged], endpoint_classes)]
    tables += [_published_table(judged, endpoint_classes)] if judged[0].published else []
    tables += [_repair_table(found)] if found.repairs else []
    tables += [_control_table(judged, endpoint_classes)] if judged[0].controls else []
    tables += [_validity_table(found)] if found.validity else []
    return [table for table in tables if table]


class Endpoint(NamedTuple):
    """The primary endpoint (EVALUATION E1): name: of the best other map; refined, other: mean Dice of both; difference:
    Interval of refined minus other, bootstrap over volumes, paired; p: of sign flips of the volumes' differences.
    """

    name: str
    refined: float
    other: float
    difference: statistics.Interval
    p: float


def endpoint(found, classes, seed=0):
    """The Endpoint of Scores of every volume; None without a refiner, or where nothing was hidden. classes: ids whose
    Dice is averaged. The best other map is the best on these very volumes, which favours it.
    """
    maps = found[0].confusions["hidden"]
    if "refined" not in maps:
        return None

    def statistic(confusion):
        return overlap.macro_dice(confusion, classes)

    counts = {name: np.stack([one.confusions["hidden"][name] for one in found]) for name in maps}
    dice = {name: statistic(each.sum(0)) for name, each in counts.items()}
    known = [name for name in dice if name not in ("initial", "refined") and not math.isnan(dice[name])]
    if not known or math.isnan(dice["refined"]):
        return None
    best, refined = max(known, key=dice.get), counts["refined"]
    difference = statistics.difference_interval(refined, counts[best], statistic, seed)
    each = [statistic(a) - statistic(b) for a, b in zip(refined, counts[best], strict=True)]
    return Endpoint(best, dice["refined"], dice[best], difference, statistics.sign_flip_p(np.array(each), seed))


def comparison(found, classes, seed=0):
    """A report.Table: how far the refined map is ahead of each other one, inside hidden tokens (EVALUATION E1).

    found: Scores of every volume; classes: ids whose Dice is averaged. Interval: bootstrap over volumes, paired. p:
    sign flips of the volumes' differences. The best competitor stands alone: it is the primary endpoint; the other p
    are Holm-corrected together. None where there is nothing to compare with.
    """
    names = [name for name in found[0].confusions["hidden"] if name != "refined"]
    if "refined" not in found[0].confusions["hidden"]:
        return None

    def statistic(confusion):
        return overlap.macro_dice(confusion, classes)

    counts = {name: np.stack([one.confusions["hidden"][name] for one in found]) for name in (*names, "refined")}
    refined, chances, rows = counts["refined"], {}, []
    dice = {name: statistic(counts[name].sum(0)) for name in names}
    primary = endpoint(found, classes, seed)
    best = primary.name if primary else None
    for name in names:
        each = [statistic(a) - statistic(b) for a, b in zip(refined, counts[name], strict=True)]
        chances[name] = statistics.sign_flip_p(np.array(each), seed)
    others = [name for name in names if name != best]
    corrected = dict(zip(others, statistics.holm(np.array([chances[name] for name in others])), strict=True))
    for name in names:
        difference = statistics.difference_interval(refined, counts[name], statistic, seed)
        between = f"[{difference.low:+.3f}, {difference.high:+.3f}]" if difference.clusters > 1 else "-"
        ahead = sum(statistic(a) > statistic(b) for a, b in zip(refined, counts[name], strict=True))
        p = report.number(float(chances[name] if name == best else corrected[name]))
        cells = (report.number(dice[name]), f"{difference.estimate:+.3f}", between, f"{ahead} of {len(found)}", p)
        rows.append((f"{name_of(name)}{' (best of the others)' if name == best else ''}", *cells))
    header = ("inside hidden tokens", "its Dice", "refined minus it", "95 % interval", "ahead in", "p")
    note = (
        f"Primary endpoint: mean Dice of the classes {', '.join(map(str, classes))}, the refined map "
        f"({report.number(statistic(refined.sum(0)))}) against the best of the others. Interval: paired bootstrap over "
        f"{len(found)} volumes, too narrow for fewer than ten. p: sign flips of the volumes' differences, not below "
        "2 / 2^n with n volumes; that of the best stands alone, the others are Holm-corrected. The best is the best on "
        "these very volumes; Dice is of all volumes together, p and 'ahead in' are of each by itself."
    )
    strong = tuple(row[0] for row in rows if "(best of the others)" in row[0])
    return report.Table("The refined map against every other one", header, tuple(rows), strong, note)


def verdict(found, primary=None):
    """The result in a few plain sentences, good or bad; a list of str. found: Scores of all volumes; primary: their
    Endpoint.
    """
    if not found.repairs:
        mean = scores.dice_with_mean(found.confusions["all"]["initial"])["mean"]
        return [f"The segmentation alone, no refiner: mean Dice of the foreground classes {mean:.3f} (1 is the truth)."]
    dice = {
        name: scores.dice_with_mean(found.confusions["hidden"][name])["mean"]
        for name in ("initial", "nearest", "refined")
    }
    if math.isnan(dice["initial"]):
        return ["No voxel with known truth was hidden: there was nothing to repair, and nothing was changed."]
    repairs = found.repairs["refined"]
    direction = "rose" if dice["refined"] > dice["initial"] else "did not rise: it went"
    better, worse = repairs["wrong_to_right"], repairs["right_to_wrong"]
    first = (
        f"Where the segmentation was unreliable, the mean Dice score of the foreground classes {direction} from "
        f"{dice['initial']:.3f} to {dice['refined']:.3f} (1 is the truth). {better:,} wrong voxels became right and "
        f"{worse:,} right ones became wrong."
    )
    compared = "the refiner is better than that" if dice["refined"] > dice["nearest"] else "the refiner is NOT better"
    second = (
        f"Copying the nearest visible label, which learns nothing, reaches {dice['nearest']:.3f}: {compared}. "
        f"{scores.share_hidden(found):.1%} of the voxels were hidden; they hold "
        f"{scores.share_of_errors_hidden(found):.0%} of all errors, the most that any refinement could repair."
    )
    outside = found.changed_outside["refined"]
    return [
        *_primary(primary),
        first,
        second,
        f"Outside the hidden tokens {outside or 'no'} voxel{'s' if outside > 1 else ''} changed.",
    ]


def _primary(primary):
    """The primary endpoint as a sentence, if there is one."""
    if primary is None:
        return []
    difference = primary.difference
    between = f", 95 % interval [{difference.low:+.3f}, {difference.high:+.3f}]" if difference.clusters > 1 else ""
    decided = difference.clusters > 1 and (difference.low > 0 or difference.high < 0)
    word = "not told apart from" if not decided else "better than" if difference.estimate > 0 else "WORSE than"
    number = f"{difference.clusters} volume{'s' if difference.clusters > 1 else ''}"
    return [
        f"Primary endpoint, Dice inside hidden tokens of the classes compared: the refiner reaches "
        f"{primary.refined:.3f}, the best other way, {name_of(primary.name)}, {primary.other:.3f}: "
        f"{difference.estimate:+.3f}{between}, {number}. The refiner is {word} it."
    ]


def _dice_table(found, class_names, reshelled):
    rows = []
    for region, confusions in found.confusions.items():
        rows.append((REGIONS[region], *[""] * len(class_names)))
        sanity = {RESHELLED: reshelled[region]} if reshelled else {}
        for name, counts in (confusions | sanity).items():
            dice = scores.dice_with_mean(counts)
            rows.append((f"  {name_of(name)}", *(report.number(value) for value in dice.values())))
    note = f"The mean is over the classes listed, not over voxels; {class_names[0]} takes no part in it."
    if found.repairs:
        note += (
            " The nearest visible label learns nothing: each hidden voxel copies the closest voxel of its slice that "
            "is not hidden, and its slices agree as those of every refiner do."
        )
    if reshelled:
        note += " The last row forgets the shell of the refined map and derives it by distance, like that of the truth."
    header = ("Dice, 1 = identical to the truth", "mean", *class_names[1:])
    return report.Table("Agreement with the truth", header, tuple(rows), ("refined",), note)


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


def _repair_table(found):
    header = (
        "voxels inside hidden tokens",
        *(name.replace("_to_", " → ").replace("_", " ") for name in overlap.REPAIRS),
    )
    rows = tuple(
        (name_of(name), *(f"{counts[key]:,}" for key in overlap.REPAIRS)) for name, counts in found.repairs.items()
    )
    return report.Table("What was repaired, and what was broken", header, rows, ("refined",))


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


def _without_nan(tree):
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    return None if isinstance(tree, float) and math.isnan(tree) else tree
