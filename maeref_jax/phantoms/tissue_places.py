"""Where tissue lies in a block of resin, ragged at its border, and what else lies there: tracheae, specks of dirt."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from maeref_jax.phantoms.smooth_noise import smooth_noise

SMALLEST_NM3 = 6e8  # smaller pieces of tissue, or holes in it, are none: a cube of about 840 nm
_STEP_NM = 40.0  # between the points of a trachea's middle line


class Surroundings(NamedTuple):
    """Lengths in nm; ranges are uniform draws, one for every trachea or speck."""

    tracheae_per_1000_um3: float = 6.0
    trachea_radius_nm: tuple[float, float] = (200.0, 900.0)
    wall_nm: tuple[float, float] = (60.0, 160.0)
    specks_per_1000_um3: float = 25.0
    speck_radius_nm: tuple[float, float] = (50.0, 220.0)


def ragged(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    share: float,
) -> np.ndarray:
    """Where a block is tissue, bool (z, y, x): about `share` of it, 0 nowhere and 1 everywhere.

    The border is rough at three lengths, from folds of the surface to single processes that stick out.
    """
    if share <= 0 or share >= 1:
        return np.full(shape, share >= 1)
    lengths = ((1500.0, 1.0), (350.0, 0.22), (110.0, 0.1))
    field = sum(weight * smooth_noise(rng, shape, voxel_size_nm, length) for length, weight in lengths)
    tissue = field > np.quantile(field, 1 - share)
    least = SMALLEST_NM3 / np.prod(voxel_size_nm)
    tissue = _without_crumbs(tissue, least)
    return ~_without_crumbs(~tissue, least)


def tracheae(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    settings: Surroundings,
) -> tuple[np.ndarray, np.ndarray]:
    """(share of every voxel that is wall, float32 (z, y, x) in [0, 1]; bool, what lies inside of the walls) of bent
    tubes across the block.
    """
    size = np.array(voxel_size_nm)
    extent = np.array(shape) * size
    wall, lumen = np.zeros(shape, np.float32), np.zeros(shape, bool)
    centres = None
    for _ in range(rng.poisson(settings.tracheae_per_1000_um3 * extent.prod() * 1e-12)):
        radius, thickness = rng.uniform(*settings.trachea_radius_nm), rng.uniform(*settings.wall_nm)
        through, direction = rng.uniform(0, extent), rng.standard_normal(3)
        bend = rng.standard_normal(3) * 0.15 / np.linalg.norm(extent)
        along = np.arange(-np.linalg.norm(extent), np.linalg.norm(extent), _STEP_NM)[:, None]
        line = through + along * direction / np.linalg.norm(direction) + along**2 * bend
        line = line[((line > -2 * radius) & (line < extent + 2 * radius)).all(1)]
        if not len(line):
            continue
        if centres is None:
            grid = np.meshgrid(*((np.arange(n) + 0.5) * s for n, s in zip(shape, size, strict=True)), indexing="ij")
            centres = np.stack(grid, -1).reshape(-1, 3)
        reach = radius + thickness + size.max()
        distance, _ = cKDTree(line).query(centres, distance_upper_bound=reach)
        distance = distance.reshape(shape).astype(np.float32)
        width = max(thickness, float(size.min()))
        middle = np.abs(distance - radius)
        wall = np.maximum(wall, np.clip(0.5 + width / 2 / size.min() - middle / size.min(), 0, 1) * thickness / width)
        lumen |= distance < radius
    return wall.astype(np.float32), lumen


def specks(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    settings: Surroundings,
) -> np.ndarray:
    """Dirt: single dark balls, the share of every voxel that they fill, float32 (z, y, x) in [0, 1]."""
    size = np.array(voxel_size_nm)
    found = np.zeros(shape, np.float32)
    expected = settings.specks_per_1000_um3 * np.prod(np.array(shape) * size) * 1e-12
    for _ in range(rng.poisson(expected)):
        centre, radius = rng.uniform(0, shape), rng.uniform(*settings.speck_radius_nm)
        reach = radius / size + 2
        box = tuple(
            slice(max(0, int(at - by)), min(n, int(at + by) + 1))
            for at, by, n in zip(centre, reach, shape, strict=True)
        )
        axes = [
            (np.arange(part.start, part.stop) + 0.5 - at) * s for part, at, s in zip(box, centre, size, strict=True)
        ]
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        inside = np.clip(0.5 + (radius - np.sqrt(z**2 + y**2 + x**2)) / size.min(), 0, 1)
        found[box] = np.maximum(found[box], inside)
    return found


def _without_crumbs(mask, least):
    objects, _ = ndimage.label(mask)
    large = np.bincount(objects.ravel()) >= least
    large[0] = False
    return large[objects]
