"""A masked autoencoder on real label volumes: single mitochondria with cristae, FIB-SEM, 5 nm (Leclerc et al. 2024).

    MAEREF_DATA=FOLDER python train.py --config configs/mae_mef_cristae.py --workdir runs/mef

FOLDER holds mef_cristae/{NI,8hpi}_m{1…6}_label.tif (https://doi.org/10.1371/journal.ppat.1011829, from its repository
2024_mito-HSV_paper): 0 background, 1 mitochondrion, 2 cristae, 3 outer membrane (in m1 only). The label mapping below
brings them to the paper's scheme: the outermost 6 voxels become intermembrane space. Whole mitochondria are kept apart:
m1–m4 train, m5 validate, m6 test (8hpi_m4 and 8hpi_m6, whose long axes are not in the z-plane, are left out). Meant for
a GPU. Modes:

    :small   small network, about five minutes on 2 CPU cores
    :smoke   seconds, learns nothing
"""

import os

from configs import mae
from configs.defaults import files, public

MODES = ("", "small", "smoke")
TRAIN = ("NI_m1", "NI_m2", "NI_m3", "NI_m4", "8hpi_m1", "8hpi_m2", "8hpi_m3")
VALIDATION = ("NI_m5", "8hpi_m5")


def get_config(mode):
    config = mae.get_config({"": "", "small": "demo", "smoke": "smoke"}[mode])
    folder = public("mef_cristae")
    config.data.phantom.update({"train": (), "validation": ()})
    config.data.train = files(labels=tuple(os.path.join(folder, f"{name}_label.tif") for name in TRAIN))
    config.data.validation = files(labels=tuple(os.path.join(folder, f"{name}_label.tif") for name in VALIDATION))
    config.data.label_map = ((0, 0), (1, 3), (2, 2), (3, 1))
    config.data.update({"shell_class": 1, "shell_vx": 6.0, "axes": "ZYX"})
    config.voxel_size_nm = (5.0, 5.0, 5.0)
    if mode == "small":
        config.steps = 2000
    return config
