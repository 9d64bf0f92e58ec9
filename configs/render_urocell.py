"""Organelles, rendered: four boxes of urinary bladder cells (FIB-SEM, 16 nm, Žerovnik Mekuč et al. 2020), any class.

    MAEREF_DATA=FOLDER maeref render --config render_urocell --output runs/urocell

FOLDER holds urocell/{0-0-0,1-0-3,3-2-1,3-3-0}_label.tif, 256³ voxels each: 0 background, 1 mitochondrion, 2 lysosome, 3
fusiform vesicle, 4 Golgi (https://doi.org/10.1016/j.compbiomed.2020.103693). Whole boxes are kept apart: 1-0-3 and
3-3-0 train, 0-0-0 validates, 3-2-1 is the test. What is trained on them: the modes `:urocell` of configs/ensemble.py,
corrector.py, mae.py and its competitors; what is judged: configs/evaluate.py:urocell. Two minutes on 2 CPU cores.

Nobody drew the vesicles of 1-0-3 and the Golgi of 0-0-0. In an image that is rendered of labels these are not missing
but absent: what is not in the labels is not in the image, and a network that sees a vesicle there is wrong. So every
voxel counts in every score. But no box that has Golgi is left for validation: 1-0-3 has to teach it, 3-2-1 to test it.
"""

import os

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import urocell
from configs.defaults import public, trust

MODES = ("",)
WIDE_LOW_SIGNAL = {"radius_vx": (6.0, 24.0), "stretch": (1.0, 1.8), "profiles": ("linear", "sqrt")}


def get_config(mode):
    config = ConfigDict(
        {
            "label_map": tuple((i, i) for i in range(5)),
            "class_names": urocell.CLASSES["names"],
            "undecided": -1,  # what an annotator draws where he cannot decide: unknown
            "shell_class": -1,
            "shell_vx": 0.0,
            "axes": "ZYX",
            "channel": placeholder(str),  # of label files that have several: index from 0, or name
            "voxel_size_nm": (15.0, 16.0, 16.0),
            "at_voxel_size_nm": (),  # that they are read and rendered at, whatever their own
            **trust(),
            "z_step": 2,  # every second slice is kept: neighbours differ little
            "pad_vx": 0,  # the boxes are full of cytoplasm
            "y_planes": (),
            # Of ImagingSettings: grey value, grain and border of background, mitochondrion, lysosome, vesicle, Golgi.
            "looks": {
                "stain": (105.0, 160.0, 62.0, 142.0, 78.0),
                "texture": (12.0, 16.0, 10.0, 5.0, 30.0),
                "membrane": (0.0, 45.0, 40.0, 36.0, 56.0),
                "membrane_nm": 15.0,
            },
            # Small round bodies are what these labels themselves hold: of distractors only the reticulum is drawn.
            "cytoplasm": {"vesicles_per_um3": 0.0, "organelles_per_um3": 0.0},
            "splits": {},
        }
    )
    for first_seed, (split, parts) in zip((400, 500, 600), urocell.SPLITS.items(), strict=True):
        config.splits[split] = {
            "labels": tuple(os.path.join(public("urocell"), f"{box}_label.tif[{a}:{b}]") for box, a, b in parts),
            "first_seed": first_seed,
            "artefacts": ("",),
            "low_signal": WIDE_LOW_SIGNAL if split == "test" else {},
        }
    return config
