"""Random fields with a length scale in nanometres: the roughness of membranes, staining and cytoplasm."""

import numpy as np
from scipy import ndimage


def smooth_noise(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    length_nm: float,
) -> np.ndarray:
    """Gaussian random field, float32 (z, y, x), mean 0 and standard deviation 1 over many draws.

    `length_nm` is the standard deviation of the Gaussian the white noise is smoothed with. The field is drawn on a grid
    no finer than half that length and interpolated, so slow fields are cheap.
    """
    steps = [max(1.0, length_nm / (2 * size)) for size in voxel_size_nm]
    sigmas = [length_nm / (size * step) for size, step in zip(voxel_size_nm, steps, strict=True)]
    margins = [int(np.ceil(3 * sigma)) for sigma in sigmas]
    coarse = [
        int(np.ceil(count / step)) + 2 + 2 * margin for count, step, margin in zip(shape, steps, margins, strict=True)
    ]
    white = rng.standard_normal(coarse, dtype=np.float32)
    field = ndimage.gaussian_filter(white, sigmas, truncate=3.0)
    # The deviation of smoothed white noise is known, and measuring it on a few cells would flatten slow fields.
    deviation = np.prod([np.sqrt(np.sum(_kernel(sigma) ** 2)) for sigma in sigmas])
    scale = [1 / step for step in steps]
    field = ndimage.affine_transform(field / deviation, scale, offset=margins, output_shape=shape, order=1)
    return field.astype(np.float32)


def _kernel(sigma: float) -> np.ndarray:
    radius = int(3.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()
