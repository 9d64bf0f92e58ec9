"""Filters that tell texture, slice by slice, with sizes in nm: the same to the bit, however a volume is cut.

Grey values become whole numbers, so that sums over a window are exact; every other filter adds in an order of its own.
Read as far around a box as `Sizes.reach` says, and what comes out inside is what the whole volume gives there.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy
import skimage

LEVELS = 4095  # grey values become 0 … LEVELS
WIDEST = 8  # a window is at most the plane's shorter side by this
UNKNOWN_NM = 256.0  # a voxel of the plane, where no file says it
_KERNEL = 4.0  # standard deviations at which a Gaussian ends
_ALIKE = 1e-8  # a variance below that of any two different levels in a window


class Sizes(NamedTuple):
    """Of the filters, in voxels of the plane (y, x). half: of the window without its middle; texture, edge: standard
    deviations; spacing: length of a voxel, the shorter one 1.
    """

    half: tuple[int, int]
    texture: tuple[float, float]
    edge: tuple[float, float]
    spacing: tuple[float, float]

    @property
    def reach(self) -> tuple[int, int, int]:
        """How far around a voxel (z, y, x) its votes depend on the image."""
        axes = zip(self.half, self.texture, self.edge, strict=True)
        # Of the window, in which `flat` looks two further; of what is filtered after `bridged`; of votes, smoothed.
        filters = (half + 2 + max(_radius(2 * sigma), _radius(sigma) + _radius(edge) + 1) for half, sigma, edge in axes)
        return 0, *(most + _radius(sigma) for most, sigma in zip(filters, self.texture, strict=True))


def sizes_of(lengths: Mapping[str, float], shape: Sequence[int], voxel_size_nm: Sequence[float] | None) -> Sizes:
    """The filters' sizes in voxels of a volume (z, y, x). lengths: window_nm, texture_nm, edge_nm. All of them shrink
    together where the window would be more than an eighth of the plane's shorter side: it could not tell places apart.
    No Gaussian is narrower than half a voxel.
    """
    size = np.array(voxel_size_nm[1:] if voxel_size_nm else (UNKNOWN_NM, UNKNOWN_NM), float)
    shrunk = shrinking(lengths["window_nm"], shape, voxel_size_nm)
    half = np.maximum(np.rint(lengths["window_nm"] * shrunk / size / 2).astype(int), 1)
    texture, edge = (np.maximum(lengths[name] * shrunk / size, 0.5) for name in ("texture_nm", "edge_nm"))
    return Sizes(*(tuple(found.tolist()) for found in (half, texture, edge, size / size.min())))


def shrinking(window_nm: float, shape: Sequence[int], voxel_size_nm: Sequence[float] | None) -> float:
    """By how much the lengths shrink, 1 where they do not."""
    size = voxel_size_nm[1:] if voxel_size_nm else (UNKNOWN_NM, UNKNOWN_NM)
    extent = min(n * length for n, length in zip(shape[1:], size, strict=True))
    return min(1.0, extent / WIDEST / window_nm)


def levels_of(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey values of any type as int64 0 … LEVELS, low and below 0; all 0 where low and high are the same."""
    scale = LEVELS / (high - low) if high > low else 0.0
    return np.rint((image.astype(np.float64) - low) * scale).clip(0, LEVELS).astype(np.int64)


def flat(image: np.ndarray) -> np.ndarray:
    """Bool (z, y, x): the voxel lies in a square of 3 by 3 of the same grey value: outside of what was imaged, or
    saturated. That is no texture, and neither is its border.
    """
    square = (1, 3, 3)
    image = image.astype(np.float32) if image.dtype == np.float16 else image  # exact; scipy's filters know no float16
    constant = scipy.ndimage.maximum_filter(image, square) == scipy.ndimage.minimum_filter(image, square)
    # A plane's border repeats: a square has to lie inside.
    for axis in (1, 2):
        edges = [slice(None)] * 3
        for edges[axis] in (slice(0, 1), slice(-1, None)):
            constant[tuple(edges)] = False
    return scipy.ndimage.binary_dilation(constant, np.ones(square))


def bridged(levels: np.ndarray, there: np.ndarray, sizes: Sizes) -> np.ndarray:
    """The levels, where nothing is there the mean of what is in the window around: its border is no edge."""
    count, total = (box_sums(part, sizes.half) for part in (there.astype(np.int64), levels * there))
    return np.where(there, levels, total // np.maximum(count, 1))


def deviation(levels: np.ndarray, sizes: Sizes, there: np.ndarray | None = None) -> np.ndarray:
    """The standard deviation of what is there in the window around every voxel, as far as it lies in the array; float64
    (z, y, x), 0 where there is none. there: bool, what is not `flat`; None: all.
    """
    there = np.ones(levels.shape, bool) if there is None else there
    count, total, squares = (
        box_sums(part, sizes.half) for part in (there.astype(np.int64), levels * there, levels**2 * there)
    )
    count = np.maximum(count, 1)
    variance = squares / count - (total / count) ** 2
    return np.sqrt(np.where(variance > _ALIKE, variance, 0.0))


def coherence(levels: np.ndarray, sizes: Sizes, there: np.ndarray | None = None) -> np.ndarray:
    """0 where gradients near a voxel point anywhere, or there are none, 1 where all point one way; float64 (z, y, x).

    From the structure tensor of Gaussian derivatives along y and x.
    """
    gy, gx = (smooth(levels, sizes.texture, order) for order in ((1, 0), (0, 1)))
    gy, gx = gy / sizes.spacing[0], gx / sizes.spacing[1]
    yy, xx, yx = (smooth(product, sizes.edge) for product in (gy * gy, gx * gx, gy * gx))
    total = yy + xx
    some = total > _ALIKE
    return np.where(some, np.sqrt((yy - xx) ** 2 + 4 * yx**2) / np.where(some, total, 1.0), 0.0).clip(0, 1)


def edges(levels: np.ndarray, sizes: Sizes, there: np.ndarray | None = None) -> np.ndarray:
    """How steep the image is, in levels a voxel, smoothed; float64 (z, y, x)."""
    slopes = []
    for axis, other in ((1, 2), (2, 1)):
        across = scipy.ndimage.correlate1d(levels.astype(np.float64), [3 / 16, 10 / 16, 3 / 16], other)
        slopes.append(scipy.ndimage.correlate1d(across, [-0.5, 0.0, 0.5], axis) / sizes.spacing[axis - 1])
    return smooth(np.hypot(*slopes), sizes.edge)


def differences(levels: np.ndarray, sizes: Sizes, there: np.ndarray | None = None) -> np.ndarray:
    """The mean difference of Gaussians of half, one and two `texture`, in levels; float64 (z, y, x)."""
    smoothed = [smooth(levels, [by * sigma for sigma in sizes.texture]) for by in (0.5, 1, 2)]
    return (np.abs(smoothed[1] - smoothed[0]) + np.abs(smoothed[2] - smoothed[1])) / 2


def entropy(levels: np.ndarray, sizes: Sizes, there: np.ndarray | None = None) -> np.ndarray:
    """Shannon's entropy, in bits, of 256 grey values in a square of 5 by 5 voxels; float64 (z, y, x)."""
    grey = (levels * 255 // LEVELS).astype(np.uint8)
    return np.stack([skimage.filters.rank.entropy(plane, np.ones((5, 5), np.uint8)) for plane in grey])


FEATURES = {
    "deviation": deviation,
    "coherence": coherence,
    "edges": edges,
    "differences": differences,
    "entropy": entropy,
}


def box_sums(values: np.ndarray, half: Sequence[int]) -> np.ndarray:
    """Sums int64 in the window around every voxel of a plane, as far as it lies in the array."""
    for axis, reach in ((1, half[0]), (2, half[1])):
        size = values.shape[axis]
        sums = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis)], axis)
        at = np.arange(size)
        values = sums.take(np.minimum(at + reach + 1, size), axis) - sums.take(np.maximum(at - reach, 0), axis)
    return values


def smooth(values: np.ndarray, sigma: Sequence[float], order: Sequence[int] = (0, 0)) -> np.ndarray:
    given = values.astype(np.float64)
    return scipy.ndimage.gaussian_filter(given, (0, *sigma), order=(0, *order), mode="reflect", truncate=_KERNEL)


def _radius(sigma: float) -> int:
    return int(_KERNEL * sigma + 0.5)
