"""Morphological filling by majority, from the border of a hole inwards; it learns nothing (docs/refiners.md).

    python train.py --config configs/morphology.py --workdir runs/morphology
    python refine.py --labels labels.tif --entropy entropy.tif --refiner runs/morphology --output refined

Seconds, on anything. Modes: `:demo`, `:rendered`, `:urocell` and `:smoke`, to go with the models of those.
"""

from configs import nearest

MODES = nearest.MODES


def get_config(mode):
    config = nearest.get_config(mode)
    config.method = "morphology"
    config.radius_px = 3.0  # of the disc that votes
    return config
