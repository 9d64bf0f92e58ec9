"""An image of tissue in resin for tests: a disc of coarse structure in faint noise."""

import numpy as np
from scipy import ndimage


def tissue_in_resin(shape, radius, seed=0):
    """float64 (z, y, x) around 100, and where the tissue is, bool: within `radius` voxels of the planes' middle."""
    rng = np.random.default_rng(seed)
    _, y, x = np.indices(shape)
    inside = np.hypot(y - shape[1] / 2, x - shape[2] / 2) < radius
    structure = ndimage.gaussian_filter(rng.normal(size=shape), (0, 2, 2))
    return np.where(inside, 100 + 60 * structure / structure.std(), 100) + rng.normal(0, 5, shape), inside
