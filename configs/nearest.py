"""The nearest visible label, which learns nothing: what any refiner has to beat (docs/refiners.md).

    python train.py --config configs/nearest.py --workdir runs/nearest
    python refine.py --labels labels.tif --entropy entropy.tif --refiner runs/nearest --output refined

Seconds, on anything: the workdir is the classes, thresholds and windows below, those of configs/mae.py in the same
mode. Modes: `:demo`, `:rendered`, `:urocell` and `:smoke`, to go with the models of those.
"""

from ml_collections import ConfigDict

from configs import mae

MODES = mae.MODES
SHARED = ("token", "window", "stride", "threshold", "ambiguous_threshold", "classes", "voxel_size_nm")


def get_config(mode):
    config = mae.get_config(mode)
    return ConfigDict({"method": "nearest", **{name: config[name] for name in SHARED}})
