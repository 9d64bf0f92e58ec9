"""An ensemble of 3-D residual U-Nets that tells tissue from resin, at voxels of 80 nm: a mask, made once at low
resolution, keeps every heavy step away from resin (docs/tissue.md).

    MAEREF_DATA=FOLDER python train.py --config configs/tissue.py --workdir runs/tissue

Learns from drawn blocks, of which some are resin alone and some tissue alone, and from blocks in which the texture of
a real image is pasted into resin: FOLDER/epfl_hippocampus/training_half.tif, which is the stack training.tif of
https://www.epfl.ch/labs/cvlab/data/data-em/, averaged 2 x 2 in the plane. Without that image:
--config.data.phantom.tissue.kinds="('mixed','resin','tissue')". From masks of your own instead of all that:
--images a.tif b.tif --labels a_mask.tif b_mask.tif --validation_images c.tif --validation_labels c_mask.tif; let one
of the volumes hold resin alone. Widths 16-32-64-128-256, cubes of 64 voxels, Dice and cross-entropy: meant for a GPU,
not run to the end yet. Modes:

    :small   two narrow networks, cubes of 24 voxels: 22 minutes on 2 CPU cores shared with five other processes;
             validation Dice of tissue .958 (docs/tissue.md has what they are worth)
    :smoke   seconds, needs no image, learns nothing

Layers are normalised by what training has seen (norm "batch"), never by the cube at hand as with "group" and
"instance": that takes away how dark and how even a cube is, so that resin alone looks like tissue alone. With no norm
at all the small networks learned next to nothing in that time. Grey values are scaled by the 1 % and 99 % quantiles of
the whole volume, once for all of its cubes (normalisation "volume"): a brain that is brighter is seen alike. The price:
a volume of resin alone is stretched until its noise fills the range, so such volumes are among those to learn from.
Contrast is not turned round in training: a volume with dark and bright exchanged is warned of, and wants to be inverted
first.
"""

import os

from configs import ensemble
from configs.defaults import public

MODES = ("", "small", "smoke")
CLASSES = {"names": ("resin", "tissue"), "colours": ((0, 0, 0), (90, 200, 170)), "ambiguous": -1}
KINDS = ("mixed", "pasted", "resin", "mixed", "tissue", "pasted")
# Of a real image, by their place in x; what lies between them is used by nobody, "test" by configs/evaluate.py alone.
COLUMNS = {"train": (0.0, 0.45), "validation": (0.5, 0.7), "test": (0.75, 1.0)}


def texture(name, file, voxel_size_nm, columns):
    """An image of nothing but tissue, dark where stained, from the folder of public data."""
    path = os.path.join(public(name), file)
    return {"path": path, "axes": "ZYX", "voxel_size_nm": voxel_size_nm, "columns": columns}


def seen_texture():
    """The real texture that networks learn from."""
    return texture("epfl_hippocampus", "training_half.tif", (5.0, 10.0, 10.0), COLUMNS)


def get_config(mode):
    config = ensemble.get_config("smoke" if mode == "smoke" else "")
    config.classes.update(CLASSES)
    config.class_weights = (1.0, 1.0)
    config.voxel_size_nm = (80.0, 80.0, 80.0)
    config.update({"loss": "cross_entropy+dice", "normalisation": "volume"})
    # Three cubes in five hold some tissue, the others lie anywhere, in resin as well.
    config.update({"min_foreground": 0.02, "anywhere_share": 0.4})
    config.model.update({"norm": "batch", "block": "residual"})
    config.augmentation.update({"contrast": 0.15, "brightness": 0.05, "gamma": 0.15, "noise": 0.04, "blur_vx": 0.7})
    config.data.phantom.tissue = {
        # Of seed s: kinds[s % 6] and so on. mixed: tissue in resin; resin or tissue: nothing else; pasted: real texture
        # in resin. Blocks are drawn at voxels of these sizes, all taken for those of voxel_size_nm.
        "kinds": ("mixed", "resin", "tissue") if mode == "smoke" else KINDS,
        "drawn_at_nm": (80.0, 50.0, 80.0, 130.0, 80.0),
        "texture": seen_texture(),
    }
    config.data.phantom.update({"train": tuple(range(30)), "validation": tuple(range(100, 106))})
    config.data.phantom.shape = (96, 160, 160)
    config.update({"window": (64, 64, 64), "stride": (32, 32, 32), "batch": 4, "volumes_per_member": 20})
    config.update({"steps": 20_000, "evaluate_every": 1000, "validation_slices": 12})
    config.model.update({"widths": (16, 32, 64, 128, 256), "strides": ((2, 2, 2),) * 4})
    if mode == "small":
        config.update({"window": (24, 24, 24), "stride": (12, 12, 12), "batch": 4, "members": 2})
        config.update({"steps": 500, "evaluate_every": 100, "volumes_per_member": 12, "validation_slices": 6})
        config.model.update({"widths": (8, 16, 32), "strides": ((2, 2, 2),) * 2})
        config.optimizer.update({"rate": 3e-3, "warmup_steps": 50})
        config.data.phantom.update({"train": tuple(range(18)), "shape": (40, 96, 96)})
    if mode == "smoke":
        config.update({"window": (16, 16, 16), "stride": (8, 8, 8), "batch": 2, "members": 2})
        config.update({"steps": 4, "evaluate_every": 2, "validation_slices": 2, "volumes_per_member": 2})
        config.model.update({"widths": (4, 8), "strides": ((2, 2, 2),)})
        config.data.phantom.update({"train": (0, 1, 2), "validation": (102,), "shape": (20, 32, 32)})
    return config
