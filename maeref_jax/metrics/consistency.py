"""Does a label map hang together along z? Masks that are repaired slice by slice may flicker.

Labels change from slice to slice in the truth as well, so every count has its counterpart there: it is the ratio of the
two that says something, and 1 is as it should be.
"""

import numpy as np

from maeref_jax.errors import BadInput

COUNTS = ("pairs", "changed", "changed_true", "changed_falsely", "triples", "blinks", "blinks_true")


def counts(labels, truth, region=None):
    """Changes along z, {name of COUNTS: int}; they add over volumes and over slabs that share a slice (two slices for
    triples).

    labels, truth: integers (z, y, x), truth -1 unknown. region: bool, e.g. the hidden voxels; None for everywhere.
        pairs: of a voxel and the next one along z, both known, at least one inside the region: a repaired slice can
            also differ from the slice beside it that was not
        changed, changed_true: pairs of two classes, in the labels and in the truth
        changed_falsely: pairs of two classes in the labels and of one in the truth
        triples: of three voxels along z, all known, the middle one inside the region
        blinks, blinks_true: triples whose outer two agree and whose middle one differs
    Fewer than two (three) slices give no pairs (triples).
    """
    labels, truth = np.asarray(labels), np.asarray(truth)
    region = np.ones(truth.shape, bool) if region is None else np.asarray(region)
    if labels.shape != truth.shape or labels.ndim != 3 or region.shape != truth.shape or region.dtype != bool:
        raise BadInput(
            f"expected labels, truth and a bool region of one shape (z, y, x), found {labels.shape}, {truth.shape} and "
            f"{region.dtype} {region.shape}"
        )
    known = truth != -1
    pairs = known[:-1] & known[1:] & (region[:-1] | region[1:])
    changed, changed_true = (part[:-1] != part[1:] for part in (labels, truth))
    triples = known[:-2] & known[1:-1] & known[2:] & region[1:-1]
    blinks, blinks_true = ((part[:-2] == part[2:]) & (part[:-2] != part[1:-1]) for part in (labels, truth))
    found = (pairs, pairs & changed, pairs & changed_true, pairs & changed & ~changed_true)
    found += (triples, triples & blinks, triples & blinks_true)
    return {name: int(np.count_nonzero(part)) for name, part in zip(COUNTS, found, strict=True)}


def add(one, other):
    """The counts of both together."""
    return {name: one[name] + other[name] for name in COUNTS}


def flicker(found):
    """{"flicker": changes over those of the truth, "false_changes": share of the pairs, "blinks": over those of the
    truth} of `counts`; NaN where the denominator is 0.
    """
    return {
        "flicker": _ratio(found["changed"], found["changed_true"]),
        "false_changes": _ratio(found["changed_falsely"], found["pairs"]),
        "blinks": _ratio(found["blinks"], found["blinks_true"]),
    }


def _ratio(numerator, denominator):
    return numerator / denominator if denominator else float("nan")
