"""Phantoms beside real labels and the paper's control group: a sanity check of the generator, never evidence.

The phantoms were tuned to the five validity metrics. The features of `morphometry` were not fitted; the first guesses
of thickness and spacing were made by eye on pictures of the real labels.
"""

from pathlib import Path

import numpy as np

from maeref_jax import report
from maeref_jax.errors import BadInput
from maeref_jax.evaluation.cases import check_phantoms
from maeref_jax.metrics import morphometry, validity
from maeref_jax.phantoms.phantom import VOXEL_SIZE_NM, phantom
from maeref_jax.training.workdir import make_workdir, write_text
from maeref_jax.volumes.class_scheme import MITOCHONDRIA, scheme_of_names
from maeref_jax.volumes.dataset import mapped_labels
from maeref_jax.volumes.volume import open_volume


def judge(settings, workdir):
    """The tables, printed and in WORKDIR/phantoms.txt: a check of the generator, no evidence."""
    check_phantoms(settings["phantom"])
    if not settings["phantom"]["seeds"]:
        raise BadInput("phantom.seeds is empty; the task 'phantoms' needs seeds of phantoms to look at")
    found = tables(settings)
    make_workdir(workdir)
    text = "\n\n".join(map(report.text_table, found))
    write_text(workdir / "phantoms.txt", text + "\n")
    print(text)


def tables(settings):
    """Two report.Tables: validity metrics, and features that were not fitted. settings: a config of evaluate.py.

    Every volume counts once: crops are averaged in it first, the error is over volumes.
    """
    pixel_nm = VOXEL_SIZE_NM[-1]
    shape = tuple(settings["phantom"]["shape"])
    made = [phantom(seed, shape).labels for seed in settings["phantom"]["seeds"]]
    crops = {name: settings["validity"][name] for name in ("size", "min_foreground", "slice_step")}
    single = {**crops, "min_foreground": settings["real"]["min_foreground"]}
    groups = {f"phantoms, {pixel_nm:g} nm": (made, pixel_nm, crops)}
    real, missing = real_labels(settings["real"])
    for step in settings["real"]["steps"] if real else ():
        coarse, pixel = [subsampled(labels, step) for labels in real], settings["real"]["pixel_nm"] * step
        groups[f"mef_cristae, {pixel:g} nm"] = (coarse, pixel, single)
    rows, features = [], []
    for name, (volumes, pixel, shape) in groups.items():
        rows.append((f"{name}, {len(volumes)} volumes", *report.validity_cells(over_volumes(volumes, shape))))
        found = [morphometry.means(morphometry.morphometry(labels, pixel)) for labels in volumes]
        features.append((name, {key: validity.mean_and_error([one[key] for one in found]) for key in found[0]}))
    rows.append(("paper's control group", *report.validity_cells(validity.paper_control())))
    note = (
        f"True labels, in-plane crops of {crops['size']} x {crops['size']} pixels with more than "
        f"{crops['min_foreground']:.0%} foreground ({single['min_foreground']:.0%} for mef_cristae, whose volumes hold "
        "one mitochondrion each). Mean ± standard error over volumes; the paper's is over crops. The intermembrane "
        "shell of mef_cristae is derived by distance, so the two ratios that use it are partly artefacts. "
    )
    if missing:
        note += f"Real labels not found: {missing[0]} and {len(missing) - 1} more; set MAEREF_DATA to their folder."
    header = ("per crop", *report.METRIC_NAMES)
    first = report.Table(
        "Validity metrics of true labels (phantoms were calibrated on these)", header, tuple(rows), note=note
    )
    keys = list(features[0][1])
    body = tuple((key.replace("_", " "), *(feature_cell(found[key]) for _, found in features)) for key in keys)
    header = ("mean ± standard error over volumes", *(name for name, _ in features))
    return [first, report.Table("Features that were not fitted", header, body)]


def real_labels(settings):
    """(label volumes int16 (z, y, x) in the paper's scheme, their long axes in the plane; paths that do not exist)."""
    volumes, missing = [], []
    for path in (*settings["z_planes"], *settings["y_planes"]):
        if not Path(path).exists():
            missing.append(path)
            continue
        volume = open_volume(path, axes=settings["axes"])
        # The shell first, before any padding: the mitochondria are cut by faces of their volumes.
        labels = mapped_labels(volume, settings, scheme_of_names(MITOCHONDRIA), flag="--config.real.label_map")
        volumes.append(labels if path in settings["z_planes"] else labels.swapaxes(0, 1))
    return volumes, missing


def subsampled(labels, step):
    """Every step-th voxel: the same object at a coarser pixel size."""
    return labels[::step, ::step, ::step]


def over_volumes(volumes, crops):
    """{metric: {"mean", "se", "crops"}} over volumes, each being the mean of its crops; none in a volume: left out."""
    means = []
    for labels in volumes:
        # Beyond its faces, some of which cut the mitochondrion, a volume is unknown: no interface, no area.
        pad = [(0, 0), *((0, max(0, crops["size"] - extent)) for extent in labels.shape[1:])]
        padded = np.pad(labels, pad, constant_values=-1)
        found = validity.summary([validity.counts(padded[crop]) for crop in validity.crops(padded, **crops)])
        means.append({name: value["mean"] for name, value in found.items()})
    return {name: validity.mean_and_error([one[name] for one in means]) for name in validity.METRICS}


def feature_cell(summary):
    """Three significant digits, as lengths in nm and shares stand in one table."""
    return f"{summary['mean']:.3g} ± {summary['se']:.2g}"
