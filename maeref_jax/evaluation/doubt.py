"""Does the ensemble know where it is wrong, and is it better for being one? Members, their mean and their entropy
judged by the truth of held-out volumes.

Everything is counted slab by slab and added up; ratios come last. A voxel whose truth is unknown takes no part.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maeref_jax import report
from maeref_jax.metrics import calibration, overlap
from maeref_jax.pipeline.blockwise import segment_block
from maeref_jax.pipeline.shown import seen_by
from maeref_jax.uncertainty.entropy import KINDS, class_count, entropy_of_means, member_means
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.windows import Box

WORDS = {"mean": "entropy of the mean", "votes": "entropy of the votes", "mutual_information": "mutual information"}
RISK_AT = (0.8, 0.9, 0.95)  # coverages


class Counted(NamedTuple):
    """What adds up: {name: confusion (c, c)} of members, "mean" and "majority vote"; {name: ConfidenceCounts} of
    members and "mean"; {(kind of entropy or member, class or None): DoubtCounts}.
    """

    confusions: dict
    confidences: dict
    doubts: dict


def count(model, image, truth, depth=8):
    """Counted of one volume. model: a Segmenter's Model; image: Volume; truth: integers (z, y, x), -1 unknown; depth:
    slices at a time, at least; a 3-D model's windows reach beyond a slab, and are computed again for the next one.
    """
    image, total = seen_by(model, image), None
    classes = real_classes(model.settings["classes"])
    for box in slabs(model, truth.shape, depth):
        found = count_slab(*probabilities(model, image, box), truth[box.slices], classes)
        total = found if total is None else add(total, found)
    return total


def slabs(model, shape, depth=8):
    """The Boxes of a volume (z, y, x) that are worked on one after the other; model, depth: as for `count`."""
    depth = max(depth, 2 * model.apply.window[0]) if model.apply.dims == 3 else depth
    for start in range(0, shape[0], depth):
        yield Box((start, 0, 0), (min(start + depth, shape[0]), *shape[1:]))


def probabilities(model, image, box):
    """(members' class probabilities [float32 (z, y, x, c)], {kind: `entropy.member_means` of all}) in a box."""
    variables, batch = jax.device_put((model.params, model.state)), 1 if model.apply.dims == 3 else 8
    apply = model.apply._replace(predict=_everything(model.apply.predict, model.settings["members"]))
    found, _ = segment_block(apply, variables, None, image, box, batch)
    classes = len(model.settings["classes"]["names"])
    lengths = (*[classes] * model.settings["members"], *(_channels(classes, kind) for kind in KINDS))
    parts = np.split(found, np.cumsum(lengths)[:-1], -1)
    return parts[: -len(KINDS)], dict(zip(KINDS, parts[-len(KINDS) :], strict=True))


def _channels(classes, kind):
    """How many channels `entropy.member_means` makes of so many classes."""
    return next(n for n in range(classes, 2 * classes + 1) if class_count(n, kind) == classes)


@functools.cache  # one function, one compilation
def _everything(predict, count):
    """What `predict` says of the first `count` members, and the means of all of them of all KINDS, as the channels of
    one member: each window goes through the network once.
    """

    def combined(params, state, image):
        members = predict(params, state, image)
        return jnp.concatenate([*members[:count], *(member_means(members, kind) for kind in KINDS)], -1)[None]

    return combined


def count_slab(members, means, truth, classes):
    """Counted of one slab. members, means: as `probabilities` gives them; classes: number of real ones, the first."""

    def real(mean):
        """Probabilities of the real classes alone: "ambiguous" is no answer."""
        kept = mean[..., :classes]
        return kept / np.maximum(kept.sum(-1, keepdims=True), 1e-9)

    answers = {f"member {i}": real(mean) for i, mean in enumerate(members)} | {"mean": real(means["mean"])}
    labels = {name: found.argmax(-1) for name, found in answers.items()}
    votes = means["votes"][..., class_count(means["votes"].shape[-1], "votes") :]
    labels["majority vote"] = votes[..., :classes].argmax(-1)
    entropies = {kind: np.asarray(entropy_of_means(means[kind], kind)) for kind in KINDS}
    entropies |= {f"member {i}": np.asarray(entropy_of_means(mean, "mean")) for i, mean in enumerate(members)}
    doubts = {}
    for name, entropy in entropies.items():
        called = labels.get(name, labels["mean"])
        for of_class in (None, *range(classes)) if name in KINDS else (None,):
            doubts[name, of_class] = calibration.count_doubt(entropy, called, truth, of_class)
    return Counted(
        {name: overlap.confusion(truth, found, classes) for name, found in labels.items()},
        {name: calibration.count_confidence(found, truth) for name, found in answers.items()},
        doubts,
    )


def add(one, other):
    """The Counted of two sets of voxels together."""
    return Counted(
        {name: value + other.confusions[name] for name, value in one.confusions.items()},
        {name: calibration.add(value, other.confidences[name]) for name, value in one.confidences.items()},
        {name: calibration.add(value, other.doubts[name]) for name, value in one.doubts.items()},
    )


def tables(counted, class_names):
    """Three report.Tables: accuracy of members, mean and vote; what entropy knows of errors; calibration."""
    return [_accuracy(counted, class_names), _detection(counted, class_names), _calibration(counted)]


def _accuracy(counted, class_names):
    rows = []
    for name, confusion in counted.confusions.items():
        dice, agreed = overlap.dice(confusion)[1:], np.diag(confusion)
        iou = (agreed / np.maximum(confusion.sum(0) + confusion.sum(1) - agreed, 1))[1:]
        mean = np.nanmean(dice) if len(dice) and not np.isnan(dice).all() else np.nan
        cells = (f"{report.number(a)} / {report.number(b)}" for a, b in zip(dice, iou, strict=True))
        rows.append((name, report.number(mean), *cells))
    header = ("Dice / IoU", "mean Dice", *class_names[1:])
    note = f"{class_names[0]} is left out. Pooled over all voxels of the held-out volumes."
    return report.Table("Members, their mean, their vote", header, tuple(rows), ("mean",), note)


def _detection(counted, class_names):
    rows = []
    for name, words in WORDS.items():
        cells = [report.number(calibration.auroc(counted.doubts[name, c])) for c in (None, *range(len(class_names)))]
        rows.append((words, *cells, *map(_cent, risks(counted.doubts[name, None]))))
    singles = [doubts for (name, _), doubts in counted.doubts.items() if name.startswith("member")]
    scores, wrong = [calibration.auroc(doubts) for doubts in singles], np.mean([*map(risks, singles)], axis=0)
    empty = ("",) * len(class_names)
    rows.append(("a member's own (mean of members)", report.number(float(np.mean(scores))), *empty, *map(_cent, wrong)))
    header = ("AUROC for error", "all", *class_names, *(f"wrong of the surest {share:.0%}" for share in RISK_AT))
    note = (
        "AUROC: the chance that a wrong voxel has more entropy than a right one, .5 for no idea; per class over voxels "
        "that are, or are called, of that class. Wrong of the surest: the share of errors if only so many of the "
        "voxels are kept, the least doubtful first, of equally doubtful ones any."
    )
    return report.Table("Does entropy know of errors?", header, tuple(rows), (), note)


def risks(doubts):
    """The share of wrong ones among the surest RISK_AT of the voxels, float64, NaN without voxels. Of equally doubtful
    ones each is as likely to be kept, so that errors grow evenly within a level. doubts: calibration.DoubtCounts.
    """
    voxels = doubts.right + doubts.wrong
    there = voxels > 0
    if not there.any():
        return np.full(len(RISK_AT), np.nan)
    kept, wrong = (np.concatenate([[0], part[there].cumsum()]) for part in (voxels, doubts.wrong))
    wanted = np.array(RISK_AT) * kept[-1]
    return np.interp(wanted, kept, wrong) / wanted


def _cent(share):
    return "-" if np.isnan(share) else f"{100 * share:.2f} %"


def _calibration(counted):
    errors = {name: calibration.expected_calibration_error(found) for name, found in counted.confidences.items()}
    right = {name: found.right.sum() / max(found.voxels.sum(), 1) for name, found in counted.confidences.items()}
    sure = {name: found.confidence.sum() / max(found.voxels.sum(), 1) for name, found in counted.confidences.items()}
    rows = tuple((name, *(report.number(float(value[name]), 4) for value in (sure, right, errors))) for name in errors)
    header = ("", "mean confidence", "share right", "expected calibration error")
    note = "Confidence: the probability of the class that was chosen; the error is its mean distance from being right."
    return report.Table("Is confidence honest?", header, rows, ("mean",), note)
