"""Agreement of a label map with the truth: confusion counts, Dice, IoU, and what a refinement repaired or broke.

Laws of this file:
- Everything is a count, and counts add: sum confusions (or repairs) over crops, blocks or volumes, then take
  the ratio once. A mean of Dice values over crops is never formed.
- Voxels whose truth is unknown (-1) belong to no count. A prediction must commit itself: -1 there is refused.
- Empty masks: a class that neither truth nor prediction has scores NaN, and no mean counts it; a class that only one
  of them has scores 0. A mean over no class at all is NaN.
"""

import numpy as np

from maeref_jax.errors import BadInput

REPAIRS = ("wrong_to_right", "right_to_wrong", "wrong_to_other_wrong", "wrong_kept", "right_kept")


def confusion(truth, predicted, classes, region=None):
    """Counts of voxels by true and by predicted class.

    truth: integers of any shape, 0 .. classes-1, or -1 where unknown (left out).
    predicted: integers of the same shape, 0 .. classes-1 wherever the truth is known inside the region.
    classes: number of classes.
    region: None for everywhere, or bool of the same shape; only True voxels count.
    Returns int64 (classes, classes): row = truth, column = prediction.
    Raises BadInput where shapes differ or a label lies outside the range.
    """
    truth, predicted, region = _aligned(truth, predicted, region)
    counted = region & (truth != -1)
    truth, predicted = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    _check_range("truth", truth, classes)
    _check_range("predicted", predicted, classes)
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def dice(confusion_counts):
    """Dice coefficient per class, 2 TP / (2 TP + FP + FN).

    confusion_counts: integers (c, c), row = truth, column = prediction.
    Returns float64 (c,) in [0, 1]; NaN for a class absent from both truth and prediction, because there is
    nothing to agree on. A class absent from one of them scores 0.
    """
    agreed = np.diag(confusion_counts).astype(np.float64)
    claimed = confusion_counts.sum(axis=0) + confusion_counts.sum(axis=1)
    return np.divide(2 * agreed, claimed, out=np.full(len(agreed), np.nan), where=claimed > 0)


def iou(confusion_counts):
    """Intersection over union per class, TP / (TP + FP + FN); otherwise as `dice`."""
    found = dice(confusion_counts)
    return found / (2 - found)


def macro(scores, class_ids):
    """Unweighted mean of the scores per class, float (c,), of `class_ids`.

    Returns a float over those classes that are not NaN, NaN if there are none.
    """
    chosen = np.asarray(scores, np.float64)[list(class_ids)]
    present = chosen[~np.isnan(chosen)]
    return float(present.mean()) if present.size else float("nan")


def macro_dice(confusion_counts, class_ids):
    """Unweighted mean of the Dice coefficients of `class_ids`, see `macro`."""
    return macro(dice(confusion_counts), class_ids)


def pooled_dice(confusion_counts, class_ids):
    """2 TP / (2 TP + FP + FN) of the counts of `class_ids` added up (micro Dice), float in [0, 1].

    Of all classes, background included, it is the share of voxels that are right. Common classes decide; NaN where
    none of the classes is in truth or prediction.
    """
    chosen = list(class_ids)
    claimed = confusion_counts.sum(axis=0)[chosen].sum() + confusion_counts.sum(axis=1)[chosen].sum()
    return float(2 * np.diag(confusion_counts)[chosen].sum() / claimed) if claimed else float("nan")


def errors(confusion_counts):
    """Number of voxels that are called another class than theirs. Those inside hidden tokens / those everywhere is the
    ceiling of any repair there (docs/metrics.md).
    """
    return int(confusion_counts.sum() - np.trace(confusion_counts))


def repairs(truth, initial, refined, region=None):
    """What a refinement did to each voxel, judged by the truth.

    truth, initial, refined: integers of one shape; truth -1 is left out.
    region: None for everywhere, or bool of the same shape.
    Returns {name: int}: wrong_to_right, right_to_wrong, wrong_to_other_wrong, wrong_kept (the same wrong
    class as before), right_kept. The five add up to the known voxels of the region.
    """
    truth, initial, region = _aligned(truth, initial, region)
    truth, refined, region = _aligned(truth, refined, region)
    counted = region & (truth != -1)
    was_right, is_right = (initial == truth), (refined == truth)
    changed = initial != refined
    masks = (~was_right & is_right, was_right & ~is_right, ~was_right & ~is_right & changed)
    masks += (~was_right & ~changed, was_right & is_right)
    return {name: int(np.count_nonzero(mask & counted)) for name, mask in zip(REPAIRS, masks, strict=True)}


def _aligned(truth, labels, region):
    truth, labels = np.asarray(truth), np.asarray(labels)
    region = np.ones(truth.shape, bool) if region is None else np.asarray(region)
    if truth.shape != labels.shape or truth.shape != region.shape:
        raise BadInput(
            "truth, labels and region must have one shape; "
            f"found truth {truth.shape}, labels {labels.shape}, region {region.shape}"
        )
    if region.dtype != bool:
        raise BadInput(f"a region must be bool, found {region.dtype}; compare it with 0 first")
    return truth, labels, region


def _check_range(name, labels, classes):
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise BadInput(
            f"{name} labels must lie in 0..{classes - 1} wherever the truth is known, "
            f"found {labels.min()}..{labels.max()}; map them to the class scheme first"
        )
