"""An ensemble of six 3-D U-Nets on annotated phantoms with voxels of 40 x 10 x 10 nm, four times as long along z.

    python train.py --config configs/ensemble_3d.py --workdir runs/ensemble_3d

Crops of 24 x 128 x 128; the first two steps down leave z alone, after which a voxel of the network is as long along all
axes. Meant for a GPU with much memory; not run to the end yet. Modes:

    :smoke   seconds, learns nothing

refine.py works block by block: give it blocks as deep as the window, --config.block=24,512,512, or windows that reach
beyond a block are computed once for every block that they touch.
"""

from configs import ensemble

MODES = ("", "smoke")


def get_config(mode):
    config = ensemble.get_config(mode)
    config.voxel_size_nm = (40.0, 10.0, 10.0)
    config.update({"window": (24, 128, 128), "stride": (12, 64, 64), "batch": 2})
    config.model.update({"widths": (32, 64, 128, 256), "strides": ((1, 2, 2), (1, 2, 2), (2, 2, 2)), "remat": True})
    config.data.phantom.shape = (32, 256, 256)
    if mode == "smoke":
        config.update({"window": (8, 32, 32), "stride": (4, 16, 16)})
        config.model.update({"widths": (4, 8, 8), "strides": ((1, 2, 2), (2, 2, 2)), "remat": False})
        config.data.phantom.shape = (12, 64, 64)
    return config
