"""What goes wrong in microscopes and is in no training image: for tests of how a method stands up to it (EVALUATION).

All strengths were fixed before anything was measured with them.
"""

import numpy as np
from scipy import ndimage

from maeref_jax.errors import BadInput

BLUR_NM = 20.0  # standard deviation in the plane, on top of the microscope's own
BLEACHED = 0.45  # share of the signal that is left in the last slice
STRIPE = 0.12  # standard deviation of the logarithm of a column's brightness
DEFOCUS_NM = 45.0  # standard deviation of the blur at the centre of a region out of focus
DEFOCUS_RADIUS_NM = 250.0
DEFOCUS_PER_CUBIC_UM = 12.0


def add_artefact(
    kind: str, signal: np.ndarray, seed: int | tuple[int, ...], voxel_size_nm: tuple[float, float, float]
) -> np.ndarray:
    """The signal float32 (z, y, x), >= 0, as it looks with an artefact of ARTEFACTS; "" leaves it as it is.

    Raises BadInput for another name.
    """
    if not kind:
        return signal
    if kind not in ARTEFACTS:
        raise BadInput(f"no artefact '{kind}'; expected one of {', '.join(ARTEFACTS)}")
    return ARTEFACTS[kind](signal, np.random.default_rng([*np.atleast_1d(seed), 3]), voxel_size_nm).astype(np.float32)


def blur(signal, rng, voxel_size_nm):
    return _blurred(signal, BLUR_NM, voxel_size_nm)


def bleaching(signal, rng, voxel_size_nm):
    """Slice after slice a little darker."""
    share = np.linspace(0, 1, len(signal)) if len(signal) > 1 else np.ones(1)
    return signal * (BLEACHED**share)[:, None, None]


def stripes(signal, rng, voxel_size_nm):
    """Curtains: every column of a slice is brighter or darker than it should be."""
    columns = rng.normal(0, STRIPE, (signal.shape[0], 1, signal.shape[2]))
    return signal * np.exp(columns)


def defocus(signal, rng, voxel_size_nm):
    """Round regions out of focus, most at their centres."""
    size = np.array(voxel_size_nm)
    number = int(DEFOCUS_PER_CUBIC_UM * signal.size * size.prod() / 1e9 + rng.random())
    grid = np.meshgrid(*(np.arange(n) for n in signal.shape), indexing="ij", sparse=True)
    weight = np.zeros(signal.shape, np.float32)
    for centre in rng.uniform(0, signal.shape, (number, 3)):
        parts = zip(grid, centre, size, strict=True)
        distance = np.sqrt(sum(((axis - at) * side) ** 2 for axis, at, side in parts))
        weight = np.maximum(weight, 1 - distance / DEFOCUS_RADIUS_NM)
    return signal + weight * (_blurred(signal, DEFOCUS_NM, voxel_size_nm) - signal)


ARTEFACTS = {"blur": blur, "bleaching": bleaching, "stripes": stripes, "defocus": defocus}


def _blurred(signal, sigma_nm, voxel_size_nm):
    return ndimage.gaussian_filter(signal, (0, sigma_nm / voxel_size_nm[1], sigma_nm / voxel_size_nm[2]))
