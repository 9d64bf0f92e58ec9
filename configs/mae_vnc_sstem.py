"""A masked autoencoder on what an ensemble says of real slices: Drosophila ventral nerve cord, ssTEM, five classes.

    MAEREF_DATA=FOLDER python train.py --config configs/mae_vnc_sstem.py --workdir runs/vnc_mae \
        --config.data.ensemble=runs/vnc

FOLDER and the ensemble are those of configs/ensemble_vnc_sstem.py. It learns from that ensemble's predictions of slices
0–7, each pair by the members that have not seen it, never from the annotation; 8–9 validate, 10–13 are for the test
(configs/evaluate.py:vnc_sstem --config.refiner=runs/vnc_mae). Meant for a GPU. Modes:

    :small   small network, about five minutes on 2 CPU cores
    :smoke   seconds, learns nothing
"""

import os

from configs import ensemble_vnc_sstem, mae
from configs.defaults import files, public

MODES = ("", "small", "smoke")


def get_config(mode):
    config = mae.get_config({"": "", "small": "demo", "smoke": "smoke"}[mode])
    image = os.path.join(public("vnc_sstem"), "image.tif")
    config.classes.update(ensemble_vnc_sstem.CLASSES)
    config.class_weights = (1.0,) * len(config.classes.names)
    config.data.phantom.update({"train": (), "validation": ()})
    config.data.train = files(tuple(image + pair for pair in ("[0:2]", "[2:4]", "[4:6]", "[6:8]")))
    config.data.validation = files((image + "[8:10]",))
    config.data.axes = "ZYX"
    config.voxel_size_nm = (45.0, 4.6, 4.6)
    # All of a slice is tissue: nothing is far from foreground, and thresholds are those of an ensemble without a class
    # "ambiguous"; not chosen on any data yet.
    config.update({"min_foreground": 0.1, "threshold": 0.4, "train_threshold": 0.4})
    if mode == "small":
        config.steps = 2000
    if mode == "smoke":
        config.update({"threshold": 1.0, "train_threshold": 1.1})
    return config
