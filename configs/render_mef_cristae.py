"""Real shapes, rendered: twelve mitochondria with cristae (FIB-SEM, 5 nm, Leclerc et al. 2024) in the imaging model.

    MAEREF_DATA=FOLDER maeref render --config render_mef_cristae --output runs/rendered

FOLDER holds mef_cristae/{NI,8hpi}_m{1…6}_label.tif (https://doi.org/10.1371/journal.ppat.1011829, from its repository
2024_mito-HSV_paper). Seconds. Whole mitochondria are kept apart: m1 and m2 train, m3 validates, m4 to m6 are the test,
of either condition (NI: not infected, 8hpi: eight hours after infection). Regions of low signal have other seeds, sizes
and shapes in the test, and in a second rendering of the validation volumes. What is trained on them: the modes
`:rendered` of configs/ensemble.py, corrector.py, mae.py and its competitors; what is judged:
configs/evaluate.py:rendered. One mode more, `:artefacts`: the test volumes alone, each with the four artefacts that no
training image has.
"""

import os

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.defaults import public, trust
from configs.rendered import SPLITS

MODES = ("", "artefacts")
Y_PLANES = ("8hpi_m4", "8hpi_m6")  # whose long axes lie in the y-plane
WIDE_LOW_SIGNAL = {"radius_vx": (6.0, 24.0), "stretch": (1.0, 1.8), "profiles": ("linear", "sqrt")}


def get_config(mode):
    folder = public("mef_cristae")
    config = ConfigDict(
        {
            "label_map": ((0, 0), (1, 3), (2, 2), (3, 1)),
            "shell_class": 1,  # the outermost shell_vx voxels of the foreground
            "shell_vx": 6.0,
            "axes": "ZYX",
            "channel": placeholder(str),  # of label files that have several: index from 0, or name
            "voxel_size_nm": (5.0, 5.0, 5.0),
            "at_voxel_size_nm": (),  # that they are read and rendered at, whatever their own
            **trust(),
            "z_step": 2,  # every second slice is kept: neighbours differ little
            "pad_vx": 24,  # cytoplasm on all sides in the plane
            "y_planes": tuple(os.path.join(folder, f"{name}_label.tif") for name in Y_PLANES),
            "splits": {},
        }
    )
    artefacts = ("blur", "bleaching", "stripes", "defocus") if mode == "artefacts" else ("",)
    for first_seed, (split, names) in zip((0, 100, 200, 300), SPLITS.items(), strict=True):
        if mode == "artefacts" and split != "test":
            continue
        config.splits[split] = {
            "labels": tuple(os.path.join(folder, f"{name}_label.tif") for name in names),
            "first_seed": first_seed,
            "artefacts": artefacts,
            "low_signal": WIDE_LOW_SIGNAL if split in ("test", "validation_wide") else {},
        }
    return config
