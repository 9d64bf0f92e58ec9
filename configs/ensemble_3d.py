"""An ensemble of six 3-D U-Nets on annotated phantoms with voxels of 40 x 10 x 10 nm, four times as long along z.

    python train.py --config configs/ensemble_3d.py --workdir runs/ensemble_3d

Crops of 24 x 128 x 128; the first two steps down leave z alone, after which a voxel of the network is as long along all
axes; before that convolutions stay in the plane. Meant for a GPU with much memory; not run to the end yet. Modes:

    :small     small networks, voxels of 24 x 6 x 6 nm, three members, 12 minutes of processor (2 shared CPU cores)
    :small_2d  2-D U-Nets on the same phantoms, as many members, the same time: does the third dimension help?
    :smoke     seconds, learns nothing

Both small ones are judged by one command each, on phantoms that neither has seen (docs/evaluation.md has the figures):

    python train.py --config configs/ensemble_3d.py:small --workdir runs/stacks/3d
    python train.py --config configs/ensemble_3d.py:small_2d --workdir runs/stacks/2d
    python evaluate.py --config configs/evaluate.py:uncertainty --config.phantom.voxel_size_nm=24,6,6 \\
        --config.ensemble=runs/stacks/3d --workdir runs/stacks/3d_judged
    python evaluate.py --config configs/evaluate.py:uncertainty --config.phantom.voxel_size_nm=24,6,6 \\
        --config.ensemble=runs/stacks/2d --workdir runs/stacks/2d_judged

refine.py works block by block: give it blocks as deep as the window, --config.block=24,512,512, or windows that reach
beyond a block are computed once for every block that they touch.
"""

from configs import ensemble

MODES = ("", "small", "small_2d", "smoke")


def get_config(mode):
    small = mode in ("small", "small_2d")
    config = ensemble.get_config("demo" if small else mode)
    config.voxel_size_nm = (24.0, 6.0, 6.0) if small else (40.0, 10.0, 10.0)
    if small:
        # Either is chosen, and its members at their best, on all of the validation volumes.
        config.update({"members": 3, "validation_slices": 48})
    if mode == "small_2d":
        config.update({"steps": 6600, "evaluate_every": 1100})
        return config
    config.update({"window": (24, 128, 128), "stride": (12, 64, 64), "batch": 2})
    config.model.update({"widths": (32, 64, 128, 256), "strides": ((1, 2, 2), (1, 2, 2), (2, 2, 2)), "plane_levels": 2})
    config.model.remat = True
    if mode == "small":
        # Few slices at a time, and depth at the coarsest level alone: a voxel costs no more than in the plane, so that
        # there is time for half as many steps, each on twice as many voxels.
        config.update({"window": (4, 64, 64), "stride": (2, 32, 32), "batch": 1, "steps": 3000, "evaluate_every": 500})
        config.model.update({"widths": (16, 32, 64, 64), "strides": ((1, 2, 2),) * 3, "plane_levels": 3})
        config.model.remat = False
        return config
    config.data.phantom.shape = (32, 256, 256)
    if mode == "smoke":
        config.update({"window": (8, 32, 32), "stride": (4, 16, 16)})
        config.model.update({"widths": (4, 8), "strides": ((1, 2, 2),), "plane_levels": 1, "remat": False})
        config.data.phantom.shape = (12, 64, 64)
    return config
