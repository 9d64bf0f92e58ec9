"""Label volumes through the imaging model: images whose truth is known, of real shapes instead of phantoms.

    maeref render --config configs/render_mef_cristae.py --output runs/rendered

Writes, for every label volume of every split of the config, OUTPUT/SPLIT/STEM_image.tif, STEM_truth.tif,
STEM_annotated.tif (the truth with class 4, ambiguous, where an annotator could not decide) and STEM_low_signal.tif;
STEM is the file's name without "_label". Labels are brought to the classes 0 background, 1 intermembrane, 2 cristae, 3
matrix by label_map and the derived shell; or to those that a config like configs/render_urocell.py names, with how they
look and what undecided voxels are.
"""

import re

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.cytoplasm import CytoplasmSettings
from maeref_jax.phantoms.imaging import AMBIGUOUS, ImagingSettings, annotate, render
from maeref_jax.phantoms.low_signal import LowSignalSettings
from maeref_jax.samples.training_volumes import stems
from maeref_jax.training.workdir import make_workdir
from maeref_jax.volumes.class_scheme import MITOCHONDRIA, scheme_of_names
from maeref_jax.volumes.dataset import given_of, mapped_labels
from maeref_jax.volumes.volume import write_tiff


def shapes(path, settings):
    """The labels of one file in the classes of the imaging model, int16 (z, y, x), padded with background in the plane.

    The shell is derived first: an object that a face of the volume cuts must not get a cap there.
    """
    volume = given_of(settings).open(path, "labels")
    names = settings.get("class_names") or MITOCHONDRIA
    labels = mapped_labels(volume, settings, scheme_of_names(names), flag="--config.label_map")
    if labels.min() < 0:
        raise BadInput(f"{path} has unknown labels (-1, 255), which cannot be rendered; map them to a class")
    if path in settings["y_planes"]:
        labels = labels.swapaxes(0, 1)
    pad = settings["pad_vx"]
    return np.pad(labels, ((0, 0), (pad, pad), (pad, pad)))


def rendered(labels, seed, settings, low_signal, artefact=""):
    """{"image": float32, "truth": int16, "annotated": int16, "low_signal": bool}, each (z, y, x).

    labels: as `shapes` gives them, every z_step-th slice is kept; low_signal: fields of LowSignalSettings to replace.
    """
    image, regions = render(labels, seed, _size(settings), _imaging(settings, low_signal, artefact))
    kept = slice(None, None, settings["z_step"])
    truth, regions = labels[kept], regions[kept]
    annotated = annotate(truth, regions, seed, undecided=settings.get("undecided", AMBIGUOUS))
    return {"image": image[kept], "truth": truth, "annotated": annotated, "low_signal": regions}


def _imaging(settings, low_signal, artefact):
    """The ImagingSettings of a config; one that names no others has those of mitochondria."""
    return ImagingSettings(
        **(settings.get("looks") or {}),
        cytoplasm=CytoplasmSettings(**(settings.get("cytoplasm") or {})),
        low_signal=LowSignalSettings(**low_signal),
        artefact=artefact,
    )


def _size(settings):
    """The voxel size of labels as they are read."""
    return tuple(settings.get("at_voxel_size_nm") or settings["voxel_size_nm"])


def write_volumes(settings, output):
    """Writes what a config like configs/render_mef_cristae.py asks for into the folder `output`; a line to be printed
    for every volume.
    """
    z, y, x = _size(settings)
    size = (z * settings["z_step"], y, x)
    for split, given in settings["splits"].items():
        folder = output / split
        make_workdir(folder)
        names = stems([re.sub(r"_label\.", ".", path) for path in given["labels"]])
        for number, (path, stem) in enumerate(zip(given["labels"], names, strict=True)):
            labels = shapes(path, settings)
            for artefact in given["artefacts"]:
                seed = given["first_seed"] + number
                found = rendered(labels, seed, settings, given["low_signal"], artefact)
                name = f"{stem}_{artefact}" if artefact else stem
                for role, array in found.items():
                    write_tiff(folder / f"{name}_{role}.tif", array, size)
                lost = found["low_signal"][found["truth"] > 0].mean()
                shape = " x ".join(map(str, found["truth"].shape))
                yield f"{split}/{name}: {shape} voxels, {lost:.0%} of the foreground without signal"
