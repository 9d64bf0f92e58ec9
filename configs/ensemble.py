"""An ensemble of six 2-D U-Nets on annotated phantoms (paper section 3.1).

    python train.py --config configs/ensemble.py --workdir runs/ensemble

Full width: 64-128-256-512, crops of 128 x 128; meant for a GPU. Modes:

    :demo      small networks for `make demo`, three to four minutes on 2 CPU cores
    :rendered  the same size, on rendered real shapes (configs/render_mef_cristae.py makes them), four minutes
    :urocell   the same on rendered organelles of other classes (configs/render_urocell.py), five minutes
    :smoke     seconds, learns nothing
"""

from ml_collections import ConfigDict

from configs import rendered, urocell
from configs.defaults import CLASSES, files, reading, training

MODES = ("", "demo", "rendered", "urocell", "smoke")
REAL_SHAPES = {"rendered": rendered, "urocell": urocell}
# How training crops are varied, all on the device; 0 or False for none. Intensities are those the network sees, 0 to 1;
# lengths are in voxels of the finest axis.
AUGMENTATION = {
    "symmetries": True,  # 8 of the plane; 16 of an anisotropic stack, 48 where all axes are alike
    "contrast": 0.1,  # standard deviation of the factor, of what is added, and of the logarithm of the exponent
    "brightness": 0.03,
    "gamma": 0.1,
    "noise": 0.03,  # … of the standard deviation of white noise
    "blur_vx": 0.0,  # largest standard deviation of a Gaussian; the draw is uniform from 0
    "low_signal": 0,  # up to so many ellipsoids a crop in which the signal is lost towards the background
    "low_signal_radius_vx": (8.0, 18.0),
    "low_signal_noise": 0.08,
    "elastic_vx": 0.0,  # standard deviation of a smooth displacement, and the distance of its nodes
    "elastic_spacing_vx": 32.0,
    # Affine in each triangle (tetrahedron) of a grid of so many nodes a side: largest standard deviation of the nodes'
    # displacement, as a share of the side; the draw is uniform from 0.
    "piecewise_share": 0.0,
    "piecewise_grid": 4,
    "rotation_degrees": 0.0,  # in the plane, largest angle either way
}
PLAIN = {"contrast": 0.0, "brightness": 0.0, "gamma": 0.0, "noise": 0.0}  # symmetries alone


def get_config(mode):
    config = ConfigDict(
        {
            "method": "ensemble",
            "seed": 0,
            "steps": 10_000,
            "batch": 8,  # crops per member and step
            "members": 6,
            "member_mapping": "auto",  # or vmap, unroll, scan: the results are the same (segmenters/ensemble.py)
            "member_chunk": 0,  # members computed at a time, where all do not fit into memory; 0 for all
            # Member i learns from the volumes i … i+3, counted around; or folds (disjoint), all_but_fold, bootstrap
            # (volumes_per_member draws with replacement), lists (as member_lists says, like ((0,1),(1,2),…)).
            "subsets": "ring",
            "volumes_per_member": 0,  # 0: all but one, at most 4
            "member_lists": (),
            "window": (128, 128),
            "stride": (64, 64),
            # Crops hold more foreground than this share of them; 0: wherever there is a known label. A share of all
            # crops, anywhere_share, is drawn like that whatever min_foreground says: a network learns what is none.
            # Of clicks (docs/clicks.md) every one is as likely to be met, whatever these two say.
            "min_foreground": 0.05,
            "anywhere_share": 0.3,
            # "training": grey values are seen in the range of all training volumes; "volume": every volume, in training
            # and in use, in its own range (its 1 % and 99 % quantiles).
            "normalisation": "training",
            "evaluate_every": 1000,
            "validation_slices": 16,  # whole slices (3-D: slabs) of the validation volumes, drawn wherever they are
            "classes": CLASSES,
            "class_weights": (1.0, 1.0, 1.0, 1.0, 1.0),
            # How the members are taught the class "ambiguous": class; unknown, those pixels do not count and only
            # entropy tells doubt; per_member, a class to the members 1, 3, 5, unknown to 0, 2, 4.
            "ambiguous_as": "class",
            "loss": "cross_entropy",  # or dice, cross_entropy+dice; unknown pixels never count
            "augmentation": AUGMENTATION,
            # When predicting: the mean over the orientations of the plane, 8 times the work; and the share of what a
            # class and background have together from which on it is called (foreground.json of a workdir wins).
            "use": {"symmetries": False, "foreground_threshold": 0.5},
            "voxel_size_nm": (20.0, 10.0, 10.0),  # z, y, x of the training volumes; the workdir remembers it
            "model": {
                "widths": (64, 128, 256, 512),
                "strides": ((2, 2), (2, 2), (2, 2)),
                "plane_levels": 0,  # 3-D alone: so many of the finest levels convolve in the plane
                "norm": "group",  # or instance, batch (statistics of a micro-batch, of all devices), none
                "block": "plain",  # two convolutions; or residual
                "compute_dtype": "float32",  # or bfloat16; parameters stay float32
                "remat": False,  # recompute activations in the backward pass: slower, less memory
            },
            **training(),
            "data": {
                # Phantoms by seed, as an annotator would have drawn them; or files, when there are no seeds.
                "phantom": {"train": tuple(range(8)), "validation": (8, 9), "shape": (32, 256, 256)},
                "train": files(),
                "validation": files(),
                # What ids in label files mean: pairs (id, class), or 0:0,255:1; instances: all above 0 are class 1;
                # identity: they are the classes. (): what has one reading is taken so, else it is asked.
                "label_map": (),
                "shell_class": -1,  # derive this class as the outermost shell_vx voxels of the foreground
                "shell_vx": 0.0,
                **reading(),
            },
        }
    )
    if mode:
        config.update({"window": (64, 64), "stride": (32, 32), "batch": 4})
        config.model.update({"widths": (16, 32, 64, 64), "strides": ((2, 2),) * 3})
        config.data.phantom.shape = (24, 112, 112)
    if mode in ("demo", *REAL_SHAPES):
        config.voxel_size_nm = (12.0, 6.0, 6.0)  # finer: structures of several pixels are learned in minutes
        config.update({"batch": 2, "steps": 1200, "evaluate_every": 400})
        config.augmentation.update(PLAIN)
        config.optimizer.update({"rate": 3e-3, "warmup_steps": 50})
    if mode in REAL_SHAPES:
        shapes = REAL_SHAPES[mode]
        config.voxel_size_nm = shapes.VOXEL_SIZE_NM
        config.update({"volumes_per_member": 2})
        config.data.phantom.update({"train": (), "validation": ()})
        for split in ("train", "validation"):
            config.data[split] = files(*(shapes.paths(split, role) for role in ("image", "annotated")))
    if mode == "urocell":
        # Golgi fills one voxel in a hundred of the training volumes: crops full of objects show it more often.
        config.update({"classes": urocell.CLASSES, "min_foreground": 0.2})
    if mode == "smoke":
        config.update({"steps": 4, "evaluate_every": 2, "members": 2, "volumes_per_member": 1, "validation_slices": 2})
        config.update({"window": (32, 32), "stride": (16, 16)})
        config.model.update({"widths": (4, 8), "strides": ((2, 2),)})
        config.data.phantom.update({"train": (0, 1), "validation": (2,), "shape": (12, 64, 64)})
    return config
