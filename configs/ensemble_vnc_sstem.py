"""A 2-D ensemble on real data: Drosophila ventral nerve cord, ssTEM, five classes (Gerhard et al. 2013).

    MAEREF_DATA=FOLDER python train.py --config configs/ensemble_vnc_sstem.py --workdir runs/vnc

FOLDER holds vnc_sstem/image.tif and label.tif (14 x 1024 x 1024, ids 0 … 4), the slices and labels of
https://doi.org/10.6084/m9.figshare.856713 (also https://github.com/unidesigner/groundtruth-drosophila-vnc) as stacks.
Slices 0–7 train, in four pairs so that members learn from different ones; 8–9 validate; 10–13 are for the test. Meant
for a GPU. Modes:

    :small   narrow networks, about five minutes on 2 CPU cores
    :smoke   seconds, learns nothing
"""

import os

from configs import ensemble
from configs.defaults import files, public

MODES = ("", "small", "smoke")
CLASSES = {
    "names": ("intracellular", "membrane", "mitochondria", "synapse", "extracellular"),
    "colours": ((225, 225, 225), (40, 40, 40), (250, 220, 60), (230, 60, 60), (40, 90, 255)),
    "ambiguous": -1,
}


def get_config(mode):
    config = ensemble.get_config("smoke" if mode == "smoke" else "")
    folder = public("vnc_sstem")
    image, label = os.path.join(folder, "image.tif"), os.path.join(folder, "label.tif")
    pairs = ("[0:2]", "[2:4]", "[4:6]", "[6:8]")
    config.classes.update(CLASSES)
    config.class_weights = (1.0, 1.0, 1.0, 1.0, 1.0)
    config.min_foreground = 0.0
    config.data.phantom.update({"train": (), "validation": ()})
    config.data.train = files(tuple(image + pair for pair in pairs), tuple(label + pair for pair in pairs))
    config.data.validation = files((image + "[8:10]",), (label + "[8:10]",))
    config.data.axes = "ZYX"
    config.voxel_size_nm = (45.0, 4.6, 4.6)
    if mode != "smoke":
        config.volumes_per_member = 3
        config.update({"window": (256, 256), "stride": (128, 128), "batch": 4})
        config.update({"steps": 4000, "evaluate_every": 500})
    if mode == "small":
        config.update({"window": (96, 96), "stride": (48, 48), "batch": 2, "steps": 1000})
        config.model.update({"widths": (12, 24, 48, 96)})
        config.optimizer.rate = 3e-3
    return config
