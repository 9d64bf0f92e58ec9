"""Few labelled slices of a stack: a U-Net, its masks made continuous along z, and a network that learns that.

    MAEREF_DATA=FOLDER python train.py --config configs/spatial_continuity.py --workdir runs/scm
    python refine.py --input stack.tif --ensemble runs/scm/segmenter --refiner runs/scm/refiner --output refined

draft
"""

import os

from configs import ensemble
from configs.defaults import files, public

MODES = ("", "small", "demo")
CLASSES = {"names": ("background", "mitochondria"), "colours": ((0, 0, 0), (250, 220, 60)), "ambiguous": -1}


def get_config(mode):
    config = ensemble.get_config("")
    folder = public("epfl_hippocampus")
    image, label = (os.path.join(folder, f"training_half{name}.tif") for name in ("", "_groundtruth"))
    config.classes.update(CLASSES)
    config.class_weights = (1.0, 1.0)
    config.data.phantom.update({"train": (), "validation": ()})
    config.data.train = files((f"{image}[0:128]",), (f"{label}[0:128]",), labelled_slices=("0:128:4",))
    config.data.validation = files((f"{image}[134:147]",), (f"{label}[134:147]",))
    config.data.axes = "ZYX"
    config.voxel_size_nm = (5.0, 10.0, 10.0)
    config.update({"members": 1, "loss": "cross_entropy+dice", "min_foreground": 0.03, "anywhere_share": 0.4})
    config.use.symmetries = True
    config.augmentation.update({"piecewise_share": 0.05, "rotation_degrees": 45.0})
    if mode == "small":
        config.update({"window": (256, 256), "stride": (256, 256), "batch": 4, "steps": 900, "evaluate_every": 150})
        config.model.update({"widths": (12, 24, 48, 96, 128), "strides": ((2, 2),) * 4})
        config.optimizer.update({"rate": 3e-3, "warmup_steps": 30})
    config.method = "ensemble"
    return config
