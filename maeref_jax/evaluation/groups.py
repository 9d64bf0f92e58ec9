"""What no training volume had (both shifts), and what differs between conditions of the biology (EVALUATION E7)."""

import numpy as np
from scipy import ndimage

from maeref_jax import report
from maeref_jax.errors import BadInput
from maeref_jax.evaluation.runs import Found
from maeref_jax.metrics import morphometry, overlap
from maeref_jax.metrics.validity import Classes
from maeref_jax.report.dice_tables import name_of

FEATURES = {
    "cristae_share": "cristae share",
    "lamella_spacing_nm": "spacing, nm",
    "lamella_thickness_nm": "thickness, nm",
    "cristae_per_um2": "cristae per µm²",
}


def check_priors(priors, conditions, competitors) -> None:
    """BadInput unless priors, pairs (condition, name), are none, or a competitor for each of both conditions."""
    if wrong := [pair for pair in priors if not isinstance(pair, tuple | list) or len(pair) != 2]:
        raise BadInput(f"priors holds {wrong[0]!r}, expected pairs (condition, competitor), like (('a', 'mae_a'), …)")
    known = sorted({*conditions} - {""})  # volumes may have none
    if priors and (sorted(name for name, _ in priors) != known or len(priors) != 2):
        raise BadInput(f"priors names the conditions of files.conditions, {known}, two; found {priors}")
    if missing := [name for _, name in priors if name not in competitors]:
        raise BadInput(f"priors names competitors by the folders of their workdirs; '{missing[0]}' is none of them")


def shift_table(judged: dict[str, list], classes: tuple[int, ...]):
    """A report.Table: mean Dice inside hidden tokens for every shift. judged: {shift: agreement.Judged of its volumes},
    "" first; classes: ids whose Dice is averaged.
    """
    names = list(judged[""][0].scores.confusions["hidden"])
    rows = []
    for shift, found in judged.items():
        counts = {name: sum(one.scores.confusions["hidden"][name] for one in found) for name in names}
        everywhere = sum(one.scores.confusions["all"]["initial"] for one in found)
        hidden = counts["initial"].sum() / everywhere.sum()
        errors = overlap.errors(counts["initial"]) / max(overlap.errors(everywhere), 1)
        dice = (report.number(overlap.macro_dice(part, classes)) for part in counts.values())
        rows.append((shift or "none", f"{len(found)}", f"{hidden:.1%}", f"{errors:.0%}", *dice))
    header = ("shift", "volumes", "hidden", "of all errors", *(name_of(name) for name in names))
    note = (
        f"Mean Dice of the classes {', '.join(map(str, classes))} inside hidden tokens. No model has been trained on a "
        "volume like these; hidden shares show how much the ensemble itself is thrown by it."
    )
    return report.Table("What no training volume had", header, tuple(rows), (), note)


def features(found: Found, meaning: Classes) -> dict:
    """{map: {feature: (sum, count)}} of one volume, whose voxel size is known, the truth with them."""
    pixel_nm = found.case.voxel_size_nm[1:]
    maps = {**found.maps, "truth": found.case.truth}
    return {
        name: {
            **morphometry.morphometry(labels, pixel_nm, meaning),
            "cristae_per_um2": _number(labels, pixel_nm, meaning),
        }
        for name, labels in maps.items()
    }


def condition_table(found: dict[str, list[dict]], priors: dict[str, str]):
    """A report.Table: FEATURES under two conditions, and whether their difference survives. found: {condition:
    `features` of its volumes}; priors: {condition: map of the refiner that learned from it alone}, or {}.
    """
    first, second = found

    def cells(name, other):
        """The first condition in the map `name`, the second in the map `other`."""
        of = {first: name, second: other}
        means = (
            [_mean([volume[of[part]][feature] for volume in found[part]]) for part in found] for feature in FEATURES
        )
        return tuple(f"{one:.3g} → {two:.3g}" for one, two in means)

    rows = [(name_of(name), *cells(name, name)) for name in found[first][0]]
    if priors:
        rows.insert(-1, ("each by the other's prior", *cells(priors[second], priors[first])))
    header = (f"{first} → {second}", *FEATURES.values())
    note = (
        f"Means over {len(found[first])} volumes {first} and {len(found[second])} {second}. A prior learned under one "
        "condition may pull the other towards it; the differences of the truth's row should survive."
    )
    return report.Table("Does the prior erase an effect?", header, tuple(rows), ("refined",), note)


def _number(labels, pixel_nm, meaning):
    """(pieces of cristae in the planes, µm² of the inner part)."""
    cristae = labels == meaning.cristae
    inner = np.count_nonzero(cristae | (labels == meaning.matrix)) * np.prod(pixel_nm) / 1e6
    return float(sum(ndimage.label(plane, np.ones((3, 3)))[1] for plane in cristae)), inner


def _mean(sums_and_counts):
    values = [total / count for total, count in sums_and_counts if count]
    return float(np.mean(values)) if values else float("nan")
