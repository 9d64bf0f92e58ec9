"""Not an experiment: where experiments on rendered real shapes find their volumes (configs/render_mef_cristae.py)."""

import os

FOLDER = os.environ.get("MAEREF_RENDERED", os.path.join("runs", "rendered"))
ENSEMBLE = os.path.join(FOLDER, "ensemble")  # a workdir of configs/ensemble.py:rendered
VOXEL_SIZE_NM = (10.0, 5.0, 5.0)
SPLITS = {
    "train": ("NI_m1", "NI_m2", "8hpi_m1", "8hpi_m2"),
    "validation": ("NI_m3", "8hpi_m3"),
    "test": ("NI_m4", "NI_m5", "NI_m6", "8hpi_m4", "8hpi_m5", "8hpi_m6"),
    # Those of "validation" once more, with regions of low signal as wide as in the test.
    "validation_wide": ("NI_m3", "8hpi_m3"),
}


def paths(split, role, artefact=""):
    """The files of a split: role image, annotated (class 4 where nobody could decide), truth or low_signal."""
    ending = f"_{artefact}_{role}.tif" if artefact else f"_{role}.tif"
    return tuple(os.path.join(FOLDER, split, name + ending) for name in SPLITS[split])
