"""Segmentation learned from few labels (EVALUATION E17): every segmenter in a folder, judged by the truth of volumes
that none of them has seen.

A segmenter is called by its place in the folder: SHARE/DRAW/METHOD as benchmarks/clicks.py makes them, or whatever
there is.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax import report
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import cases, doubt, independence, openings_log, summary
from maeref_jax.evaluation.contestants import without_ambiguous
from maeref_jax.metrics import calibration, overlap
from maeref_jax.pipeline import jobs, methods
from maeref_jax.pipeline.shown import seen_by
from maeref_jax.training.workdir import make_workdir, read_config, write_text
from maeref_jax.uncertainty.entropy import entropy_of_means


class Counts(NamedTuple):
    """Of any number of voxels; they add up. confusion: int64 (c, c), row truth; doubts: calibration.DoubtCounts."""

    confusion: np.ndarray
    doubts: calibration.DoubtCounts


def judge(settings, workdir):
    """Every segmenter of the folder on every case: prints the table, writes it, and the numbers as summary.json."""
    cases.check(settings)
    models = models_in(Path(settings["sparse"]["folder"]))
    cases.check_held_out(settings, models.values())
    scheme = jobs.scheme_of(next(iter(models.values())), None, settings["classes"])
    names = without_ambiguous(scheme)["names"]
    for name, model in models.items():
        if (own := without_ambiguous(model.settings["classes"])["names"]) != names:
            raise BadInput(f"{name} has the classes {', '.join(own)}, others {', '.join(names)}; judge them apart")
    given, left_out = independence.without_shifts(cases.cases(settings, scheme, workdir / "held_out"))
    if any("image" not in case.inputs for case in given):
        raise BadInput("segmenters need images to be judged on: give files.images beside files.truths")
    make_workdir(workdir)
    with openings_log.opened(workdir, [case.stem for case in given], {name: m.workdir for name, m in models.items()}):
        found = {}
        for name, model in models.items():
            print(f"counting {name}", flush=True)
            found[name] = numbers(sum_of(count(model, case.inputs["image"], case.truth) for case in given), names)
        table = independence.noted(table_of(found, names), left_out)
        write_text(workdir / "tables.txt", report.text_table(table) + "\n")
        summary.write(workdir / "summary.json", found)
        print("\n" + report.text_table(table))


def models_in(folder):
    """{place in the folder: Model} of all segmenters there whose training has ended. Raises BadInput for none."""
    places = sorted(path.parent for path in folder.rglob("summary.json") if (path.parent / "config.json").is_file())
    places = [place for place in places if read_config(place)["method"] in methods.SEGMENTERS]
    if not places:
        raise BadInput(f"no segmenter's workdir in {folder}; name their folder: --config.sparse.folder=DIR")
    return {place.relative_to(folder).as_posix(): methods.load_model(place, "segmenter") for place in places}


def count(model, image, truth):
    """Counts of one volume. model: a Segmenter's Model; image: Volume; truth: integers (z, y, x), -1 unknown."""
    classes = len(without_ambiguous(model.settings["classes"])["names"])
    return sum_of(count_means(means, truth[box.slices], classes) for box, means in means_of(model, image))


def means_of(model, image):
    """(Box, the members' mean probabilities there, float32 (z, y, x, c)) of the slabs of an image, a Volume."""
    shown = seen_by(model, image)
    for box in doubt.slabs(model, image.shape):
        yield box, doubt.probabilities(model, shown, box)[1]["mean"]


def count_means(means, truth, classes):
    """Counts of mean probabilities, float32 (z, y, x, c), of which the first `classes` are real."""
    labels = means[..., :classes].argmax(-1)
    entropy = np.asarray(entropy_of_means(means, "mean"))
    return Counts(overlap.confusion(truth, labels, classes), calibration.count_doubt(entropy, labels, truth))


def sum_of(counts):
    """The Counts of all voxels together."""
    first, *others = counts
    for other in others:
        first = Counts(first.confusion + other.confusion, calibration.add(first.doubts, other.doubts))
    return first


def numbers(counts, names):
    """{"mean_dice": of the classes but the first, "auroc": of entropy for error, "dice", "precision", "recall": {class:
    float}}, NaN where nothing is counted.
    """
    agreed = np.diag(counts.confusion)
    with np.errstate(invalid="ignore"):
        each = {
            "dice": overlap.dice(counts.confusion),
            "precision": agreed / counts.confusion.sum(0),
            "recall": agreed / counts.confusion.sum(1),
        }
    return {
        "mean_dice": float(overlap.macro_dice(counts.confusion, range(1, len(names)))),
        "auroc": calibration.auroc(counts.doubts),
        **{name: dict(zip(names, map(float, values), strict=True)) for name, values in each.items()},
    }


def table_of(found, names):
    """The report.Table of {name: `numbers`}."""
    rows = []
    for name, one in found.items():
        cells = (" / ".join(report.number(one[kind][c]) for kind in ("dice", "precision", "recall")) for c in names)
        rows.append((name, report.number(one["mean_dice"]), *cells, report.number(one["auroc"])))
    header = ("Dice / precision / recall", "mean Dice", *names, "AUROC")
    note = f"Pooled over all voxels; the mean is without {names[0]}. AUROC: of entropy for error, .5 for no idea."
    return report.Table("Learned from few labels", header, tuple(rows), (), note)
