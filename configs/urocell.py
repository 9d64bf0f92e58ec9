"""Not an experiment: where experiments on rendered organelles find their volumes (configs/render_urocell.py)."""

import os

FOLDER = os.environ.get("MAEREF_UROCELL", os.path.join("runs", "urocell"))
ENSEMBLE = os.path.join(FOLDER, "ensemble")  # a workdir of configs/ensemble.py:urocell
VOXEL_SIZE_NM = (30.0, 16.0, 16.0)
CLASSES = {
    "names": ("background", "mitochondrion", "lysosome", "vesicle", "golgi"),
    "colours": ((0, 0, 0), (250, 220, 60), (230, 60, 60), (40, 90, 255), (40, 200, 80)),
    "ambiguous": -1,
}
# Boxes, and their slices before every second one is left out. Whole boxes are kept apart.
SPLITS = {
    "train": (("1-0-3", 0, 120), ("3-3-0", 0, 120), ("1-0-3", 136, 256), ("3-3-0", 136, 256)),
    "validation": (("0-0-0", 0, 64), ("0-0-0", 192, 256)),
    "test": (("3-2-1", 0, 64), ("3-2-1", 64, 128), ("3-2-1", 128, 192), ("3-2-1", 192, 256)),
}


def paths(split, role):
    """The files of a split: role image, annotated (-1 where nobody could decide), truth or low_signal."""
    return tuple(os.path.join(FOLDER, split, f"{box}_{a}_{b}_{role}.tif") for box, a, b in SPLITS[split])
