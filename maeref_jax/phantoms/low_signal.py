"""Takes the signal away in places, as section 4.3 of the paper and the original's script do (EVALUATION E11).

Inside an ellipsoid the image is interpolated towards the background intensity, or background plus noise. The weight is
the distance to the ellipsoid's surface, 1 at its centre: linear in the paper's text, its square root in the script.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize


class LowSignalSettings(NamedTuple):
    """Radii in voxels, `radius_vx` in the plane and half of it along z."""

    radius_vx: tuple[float, float] = (8.0, 18.0)
    amplitude: float = 1.0  # share of the signal lost at the centre; 0.8 in the original's script
    profiles: tuple[str, ...] = ("sqrt", "sqrt", "linear")  # drawn per region
    noise: tuple[float, ...] = (15.0, 30.0)  # standard deviation around the background, drawn per region
    grain_vx: float = 1.2  # the noise is smoothed by this, to the grain of cytoplasm; 0 is white noise
    counts_from: float = 0.3  # a voxel belongs to a region when it has lost more than this share of its signal
    on_mitochondria: float = 60.0  # per million voxels of mitochondria
    in_cytoplasm: float = 12.0  # per million voxels of cytoplasm
    stretch: tuple[float, float] = (1.0, 1.0)  # of the radius along y, drawn per region; along x it shrinks as much


def lower_signal(
    image: np.ndarray, labels: np.ndarray, rng: np.random.Generator, settings: LowSignalSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Takes signal away at skeleton points of mitochondria (labels > 0) and in empty cytoplasm, of any image (z, y, x).

    Returns the image as float32 and the regions as bool. Counts are exact up to rounding by chance; overlaps add up.
    """
    image = image.astype(np.float32, copy=True)
    regions = np.zeros(labels.shape, bool)
    cytoplasm = labels <= 0
    background = float(image[cytoplasm].mean()) if cytoplasm.any() else float(image.mean())
    millions = np.count_nonzero(cytoplasm) / 1e6
    on_mitochondria = settings.on_mitochondria * (labels.size / 1e6 - millions)
    centres = [_skeleton_point(~cytoplasm, rng) for _ in range(_count(rng, on_mitochondria))]
    centres += [_empty_point(cytoplasm, rng) for _ in range(_count(rng, settings.in_cytoplasm * millions))]
    for centre in centres:
        radius = rng.uniform(*settings.radius_vx)
        profile = settings.profiles[rng.integers(len(settings.profiles))]
        noise = settings.noise[rng.integers(len(settings.noise))]
        # Nothing is drawn where nothing can differ: the random numbers of round regions stay what they were.
        stretch = rng.uniform(*settings.stretch) if settings.stretch != (1.0, 1.0) else 1.0
        if centre is None:
            continue
        drawn = {"background": background, "profile": profile, "noise": noise, "grain_vx": settings.grain_vx}
        box, weight = fade(image, rng, centre, radius, amplitude=settings.amplitude, stretch=stretch, **drawn)
        regions[box] |= weight > settings.counts_from
    return image, regions


def fade(
    image: np.ndarray,
    rng: np.random.Generator,
    centre: tuple[int, int, int],
    radius_vx: float,
    *,
    background: float,
    profile: str,
    noise: float,
    amplitude: float,
    grain_vx: float,
    stretch: float = 1.0,
) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Takes the signal of a float32 image (z, y, x) away, in place, in one ellipsoid around `centre`.

    radius_vx: in the plane, half of it along z; stretch: factor of it along y, divisor along x; profile: "sqrt" or
    "linear"; the rest as in LowSignalSettings.
    Returns the box and in it the share of the signal that is lost, float32 in [0, amplitude].
    """
    radii = (radius_vx / 2, radius_vx * stretch, radius_vx / stretch)
    box, depth = _ellipsoid(centre, radii, image.shape)
    weight = amplitude * (np.sqrt(depth) if profile == "sqrt" else depth)
    target = background + noise * _grain(rng, depth.shape, grain_vx)
    image[box] += weight * (target - image[box])
    return box, weight


def _grain(rng, shape, grain_vx):
    """Noise of standard deviation 1."""
    white = rng.standard_normal(shape, dtype=np.float32)
    if grain_vx == 0:
        return white
    # Smoothing in the plane divides the deviation by 2 sqrt(pi) sigma.
    return ndimage.gaussian_filter(white, (0, grain_vx, grain_vx), mode="wrap") * (2 * np.sqrt(np.pi) * grain_vx)


def _count(rng, expected: float) -> int:
    """A whole number whose mean is `expected`, and that differs from it by less than one."""
    return int(expected + rng.random())


def _skeleton_point(foreground, rng):
    """A random point of the skeleton of a random plane that has foreground; None without foreground."""
    planes = np.flatnonzero(foreground.any(axis=(1, 2)))
    if not len(planes):
        return None
    z = int(rng.choice(planes))
    points = np.argwhere(skeletonize(foreground[z]))
    return (z, *map(int, points[rng.integers(len(points))]))


def _empty_point(cytoplasm, rng):
    """A random point of cytoplasm at least 6 voxels from any mitochondrion in its plane; None if there is none."""
    z = int(rng.integers(cytoplasm.shape[0]))
    padded = np.pad(cytoplasm[z], 1, constant_values=True)
    points = np.argwhere(ndimage.distance_transform_edt(padded)[1:-1, 1:-1] > 6.0)
    return (z, *map(int, points[rng.integers(len(points))])) if len(points) else None


def _ellipsoid(centre, radii, shape):
    """The box around an ellipsoid, cut by the volume, and its relative depth: 1 at the centre, 0 at the surface."""
    box = tuple(
        slice(max(0, at - int(by)), min(size, at + int(by) + 1))
        for at, by, size in zip(centre, radii, shape, strict=True)
    )
    axes = [(np.arange(part.start, part.stop) - at) / by for part, at, by in zip(box, centre, radii, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return box, np.maximum(0, 1 - np.sqrt(z**2 + y**2 + x**2)).astype(np.float32)
