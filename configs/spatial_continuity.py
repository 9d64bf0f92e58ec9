"""Few labelled slices of a stack: a U-Net learns from them, its masks of all slices are made continuous along z, and a
network learns that (Spatial continuity, ISBI 2022, arXiv 2206.02392; docs/spatial_continuity.md).

    MAEREF_DATA=FOLDER python train.py --config configs/spatial_continuity.py --workdir runs/scm/32
    python refine.py --input stack.tif --ensemble runs/scm/32/segmenter --refiner runs/scm/32/refiner --output refined

FOLDER holds epfl_hippocampus/training.tif and training_groundtruth.tif, 165 slices of 768 x 1024 pixels of 5 nm, from
https://www.epfl.ch/labs/cvlab/data/data-em/. Of slices 0-127 every fourth is labelled and the others are not; 134-146
are for validation and thresholds; 150-164 for configs/evaluate.py:epfl_hippocampus. They are neighbours along z, of one
animal. Full width, meant for a GPU; not run yet. Modes:

    :small        the stack at half resolution (training_half.tif, training_half_groundtruth.tif), narrow networks;
                  about an hour on 2 shared CPU cores
    :plain        the first stage alone, without bending and rotation of slices: what the others are compared with
    :small_plain  the same, small
    :demo         a phantom, small networks, minutes on 2 CPU cores
    :smoke        seconds, learns nothing

Other numbers of labelled slices: --config.data.train.labelled_slices=0:128:16 (8 of them). A stack of your own:
--images stack.tif --labels labels.tif, unlabelled slices 255 or named, --validation_images, --validation_labels,
--classes, --voxel_size_nm.
"""

import os

from configs import continuity_network, ensemble
from configs.continuity import MORPHOLOGY
from configs.defaults import files, public

MODES = ("", "small", "plain", "small_plain", "demo", "smoke")
CLASSES = {"names": ("background", "mitochondria"), "colours": ((0, 0, 0), (250, 220, 60)), "ambiguous": -1}


def get_config(mode):
    small, plain = mode.startswith("small"), mode.endswith("plain")
    config = ensemble.get_config(mode if mode in ("demo", "smoke") else "")
    config.method = "spatial_continuity"
    config.until = "segmenter" if plain else "refiner"  # the last stage: segmenter, targets, refiner
    config.update({"members": 1, "volumes_per_member": 0, "loss": "cross_entropy+dice"})
    config.use.symmetries = True
    if not plain:
        config.augmentation.update({"piecewise_share": 0.05, "rotation_degrees": 45.0})
    config.morphology = MORPHOLOGY
    config.network = continuity_network.get_config("smoke" if mode == "smoke" else "small" * (small or mode == "demo"))
    if mode == "demo":
        config.network.update({"slices": 5, "window": config.window, "stride": config.stride, "steps": 300})
    if mode in ("demo", "smoke"):
        config.data.phantom.update({"train": (0,), "validation": (1,)})
        config.data.train.labelled_slices = (0, "4:12:4" if mode == "smoke" else "4:24:4")
        return config
    folder, half = public("epfl_hippocampus"), "_half" if small else ""
    image, label = (os.path.join(folder, f"training{half}{name}.tif") for name in ("", "_groundtruth"))
    config.classes.update(CLASSES)
    config.class_weights = (1.0, 1.0)
    config.data.phantom.update({"train": (), "validation": ()})
    config.data.train = files((f"{image}[0:128]",), (f"{label}[0:128]",), labelled_slices=(0, "4:128:4"))
    config.data.validation = files((f"{image}[134:147]",), (f"{label}[134:147]",))
    config.data.axes = "ZYX"
    config.voxel_size_nm = (5.0, 10.0, 10.0) if small else (5.0, 5.0, 5.0)
    config.update({"window": (256, 256), "stride": (128, 128), "min_foreground": 0.03, "anywhere_share": 0.4})
    if small:
        config.update({"stride": (256, 256), "batch": 1, "steps": 2400, "evaluate_every": 600})
        config.model.update({"widths": (12, 24, 48, 96, 128), "strides": ((2, 2),) * 4})
        config.optimizer.update({"rate": 2e-3, "average": 0.99})
        config.network.update({"stride": (256, 256), "batch": 2, "steps": 700, "evaluate_every": 175})
        config.network.optimizer.update({"rate": 2e-3, "warmup_steps": 50})
        config.network.model.widths = (12, 24, 48, 64)
    return config
