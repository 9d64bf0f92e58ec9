"""What fills the cytoplasm and is no mitochondrion: endoplasmic reticulum, vesicles, dark organelles.

They are background in every label and exist to tempt a segmenter. They are drawn around any label volume, so rendered
real shapes get them too.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from maeref_jax.phantoms.smooth_noise import smooth_noise

RETICULUM, VESICLE, LUMEN, DARK_ORGANELLE, ORGANELLE_RIM = 1, 2, 3, 4, 5


class CytoplasmSettings(NamedTuple):
    """Lengths in nanometres; densities per cubic micrometre of cytoplasm."""

    reticulum_nm: float = 26.0  # thickness of a sheet
    reticulum_share: float = 0.2  # of the cytoplasm that sheets may cross
    vesicles_per_um3: float = 20.0
    vesicle_radius_nm: tuple[float, float] = (30.0, 65.0)
    organelles_per_um3: float = 4.0
    organelle_radius_nm: tuple[float, float] = (80.0, 170.0)


def distractors(
    labels: np.ndarray,
    rng: np.random.Generator,
    voxel_size_nm: tuple[float, float, float],
    settings: CytoplasmSettings,
) -> np.ndarray:
    """Kind of distractor per voxel, int8 (z, y, x), 0 none; never on a mitochondrion (labels > 0)."""
    kinds = np.zeros(labels.shape, np.int8)
    free = labels <= 0
    if not free.any():
        return kinds
    clearance = (
        ndimage.distance_transform_edt(free, sampling=voxel_size_nm) if (~free).any() else np.full(labels.shape, 1e9)
    ).astype(np.float32)

    field = smooth_noise(rng, labels.shape, voxel_size_nm, 90.0)
    slope = np.sqrt(sum(part**2 for part in _gradient(field, voxel_size_nm)))
    where = smooth_noise(rng, labels.shape, voxel_size_nm, 160.0)
    crossed = where > np.quantile(where, 1 - settings.reticulum_share)
    sheet = np.abs(field) < 0.5 * settings.reticulum_nm * np.maximum(slope, 1e-4)
    kinds[sheet & crossed & (clearance > 15.0)] = RETICULUM

    volume_um3 = np.count_nonzero(free) * np.prod(voxel_size_nm) * 1e-9
    lumpy = smooth_noise(rng, labels.shape, voxel_size_nm, 30.0) * 15.0
    for centre, radius in _places(
        rng, clearance, volume_um3 * settings.organelles_per_um3, settings.organelle_radius_nm
    ):
        box, distance = _ball(centre, radius * 1.4, labels.shape, voxel_size_nm)
        inside = distance + lumpy[box] < radius
        inside &= clearance[box] > 10.0
        kinds[box][inside] = np.where(distance + lumpy[box] > radius - 25.0, ORGANELLE_RIM, DARK_ORGANELLE)[inside]
    for centre, radius in _places(rng, clearance, volume_um3 * settings.vesicles_per_um3, settings.vesicle_radius_nm):
        box, distance = _ball(centre, radius, labels.shape, voxel_size_nm)
        if (kinds[box][distance < radius] >= VESICLE).any():
            continue
        kinds[box][distance < radius] = VESICLE
        kinds[box][distance < radius - 22.0] = LUMEN
    return kinds


def _gradient(field, voxel_size_nm):
    return [
        np.gradient(field, size, axis=axis) if field.shape[axis] > 1 else np.zeros_like(field)
        for axis, size in enumerate(voxel_size_nm)
    ]


def _places(rng, clearance, expected, radius_range):
    """Centres (voxels) and radii of balls that fit into the free space."""
    for _ in range(rng.poisson(expected)):
        radius = rng.uniform(*radius_range)
        fits = [tuple(rng.integers(0, clearance.shape)) for _ in range(20)]
        fits = [place for place in fits if clearance[place] > radius + 15.0]
        if fits:
            yield fits[0], radius


def _ball(centre, radius, shape, voxel_size_nm):
    """The box around a ball, cut by the volume, and the distance to its centre in nanometres."""
    reach = [int(np.ceil(radius / size)) for size in voxel_size_nm]
    box = tuple(
        slice(max(0, at - by), min(size, at + by + 1)) for at, by, size in zip(centre, reach, shape, strict=True)
    )
    axes = [
        (np.arange(part.start, part.stop) - at) * size
        for part, at, size in zip(box, centre, voxel_size_nm, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return box, np.sqrt(z**2 + y**2 + x**2)
