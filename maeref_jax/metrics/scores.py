"""Everything an evaluation counts on one slab of a volume, in one record that adds.

`count` looks at a slab, `add` joins slabs and volumes, and only then are ratios taken (by the callers, with
`overlap.dice`, `validity.summary` and the functions below).
"""

from typing import NamedTuple

import numpy as np

from maeref_jax.metrics import overlap, validity


class Scores(NamedTuple):
    """Counts that add.

    confusions: {region: {name of label map: int64 (c, c)}}; regions are hidden, low_signal (if known) and all
    repairs: {name: counts of `overlap.repairs` inside the hidden voxels, against the initial map}
    validity: {name: one `validity.counts` per crop}, the truth included
    changed_outside: {name: voxels outside the hidden ones that differ from the initial map}; a refiner has 0
    """

    confusions: dict
    repairs: dict
    validity: dict
    changed_outside: dict


def count(*, truth, initial, repaired, hidden, low_signal, classes, crops, meaning):
    """Scores of one slab.

    truth, initial: integers (z, y, x), truth -1 unknown. repaired: {name: integers (z, y, x)}, maps to judge.
    hidden: bool (z, y, x). low_signal: the same, or None where nobody knows it.
    classes: number of classes. crops: indices into the slab, as made by `validity.crops` on the truth.
    meaning: `validity.Classes`, or None where the classes are not those of mitochondria: no validity counts.
    """
    maps = {"initial": initial, **repaired}
    regions = {"hidden": hidden, "low_signal": low_signal, "all": None}
    if low_signal is None:
        del regions["low_signal"]
    looked_at = {**maps, "truth": truth} if meaning is not None else {}
    return Scores(
        confusions={
            region: {name: overlap.confusion(truth, labels, classes, where) for name, labels in maps.items()}
            for region, where in regions.items()
        },
        repairs={name: overlap.repairs(truth, initial, labels, hidden) for name, labels in repaired.items()},
        validity={
            name: [validity.counts(np.where(truth[crop] == -1, -1, labels[crop]), meaning) for crop in crops]
            for name, labels in looked_at.items()
        },
        changed_outside={
            name: int(np.count_nonzero((labels != initial) & ~hidden)) for name, labels in repaired.items()
        },
    )


def add(first, second):
    """The sum of two Scores of the same maps and regions: counts add, lists of crops are joined."""
    return Scores(*(_add(one, other) for one, other in zip(first, second, strict=True)))


def dice_with_mean(confusion_counts):
    """{"mean": float, "1": float, …}: Dice per class above background, and their mean; NaN: class absent."""
    foreground = range(1, len(confusion_counts))
    scores = overlap.dice(confusion_counts)
    mean = overlap.macro_dice(confusion_counts, foreground)
    return {"mean": mean, **{str(c): float(scores[c]) for c in foreground}}


def share_of_errors_hidden(scores, name="initial"):
    """Share of a map's errors that lie inside hidden tokens: the ceiling of any repair; NaN without."""
    inside, everywhere = (overlap.errors(scores.confusions[region][name]) for region in ("hidden", "all"))
    return inside / everywhere if everywhere else float("nan")


def share_hidden(scores):
    """Share of the voxels with known truth that were hidden; NaN where there are none."""
    inside, everywhere = (int(scores.confusions[region]["initial"].sum()) for region in ("hidden", "all"))
    return inside / everywhere if everywhere else float("nan")


def _add(one, other):
    if isinstance(one, dict):
        if one.keys() != other.keys():
            raise ValueError(f"only Scores of the same maps and regions add: {sorted(one)} and {sorted(other)}")
        return {key: _add(value, other[key]) for key, value in one.items()}
    return one + other
