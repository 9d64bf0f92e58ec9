"""Nothing is filled in: the ensemble's own probabilities stay, and only slices agree (docs/refiners.md).

    python train.py --config configs/unrefined.py --workdir runs/unrefined
    python refine.py --input image.tif --ensemble runs/ensemble --refiner runs/unrefined --output refined

Learns nothing: the workdir is the classes, thresholds and windows of configs/mae.py in the same mode. Modes: `:demo`,
`:rendered`, `:urocell` and `:smoke`, to go with the models of those.
"""

from configs import nearest

MODES = nearest.MODES


def get_config(mode):
    config = nearest.get_config(mode)
    config.method = "unrefined"
    return config
