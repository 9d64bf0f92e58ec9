"""A 2-D ensemble on real data: mitochondria in CA1 hippocampus, FIB-SEM, binary (Lucchi et al. 2012).

    MAEREF_DATA=FOLDER python train.py --config configs/ensemble_epfl_hippocampus.py --workdir runs/epfl

FOLDER holds epfl_hippocampus/training_every5.tif (33 slices, every fifth of the training stack, 0, 5, … 160) and
training_groundtruth.tif (all 165, ids 0 and 1), made of https://www.epfl.ch/labs/cvlab/data/data-em/. Image k belongs
to label slice 5 k. Images 0–21 train, in five groups so that members learn from different ones; 22–24 validate; 25–32
are for the test. Meant for a GPU. Modes:

    :small   narrow networks, about five minutes on 2 CPU cores
    :smoke   seconds, learns nothing
"""

import os

from configs import ensemble
from configs.defaults import files, public

MODES = ("", "small", "smoke")
CLASSES = {"names": ("background", "mitochondria"), "colours": ((0, 0, 0), (250, 220, 60)), "ambiguous": -1}
GROUPS = ((0, 5), (5, 9), (9, 13), (13, 17), (17, 22))
SPACING = 5  # label slices from image to image


def get_config(mode):
    config = ensemble.get_config("smoke" if mode == "smoke" else "")
    folder = public("epfl_hippocampus")
    image, label = (os.path.join(folder, f"training_{name}.tif") for name in ("every5", "groundtruth"))

    def pair(first, last):
        return f"{image}[{first}:{last}]", f"{label}[{SPACING * first}:{SPACING * last}:{SPACING}]"

    images, labels = zip(*(pair(*group) for group in GROUPS), strict=True)
    config.classes.update(CLASSES)
    config.class_weights = (1.0, 1.0)
    config.min_foreground = 0.0
    config.data.phantom.update({"train": (), "validation": ()})
    config.data.train = files(images, labels)
    config.data.validation = files(*((path,) for path in pair(22, 25)))
    config.data.axes = "ZYX"
    config.voxel_size_nm = (25.0, 5.0, 5.0)
    if mode != "smoke":
        config.volumes_per_member = 4
        config.update({"window": (256, 256), "stride": (128, 128), "batch": 4})
        config.update({"steps": 4000, "evaluate_every": 500})
    if mode == "small":
        config.update({"window": (128, 128), "stride": (64, 64), "batch": 2, "steps": 800, "evaluate_every": 400})
        config.model.update({"widths": (12, 24, 48, 96)})
        config.optimizer.rate = 3e-3
    return config
