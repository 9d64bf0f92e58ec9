"""How much stain there is in tissue as it looks at voxels of 40 to 200 nm: cells and their membranes, nuclei,
mitochondria, grain. Stain is 0 where nothing takes it up and 1 in the densest membrane.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from maeref_jax.phantoms.smooth_noise import smooth_noise


class CellSettings(NamedTuple):
    """Lengths in nm; ranges are uniform draws, one for a volume or one for a nucleus."""

    cytoplasm: tuple[float, float] = (0.25, 0.42)  # stain
    membrane: tuple[float, float] = (0.3, 0.6)  # … of a cell's outline on top of that
    membrane_nm: float = 70.0  # thickness of two membranes side by side, with what lies along them
    neurite_nm: tuple[float, float] = (350.0, 800.0)  # distance of neighbouring cells where they are thin
    body_nm: tuple[float, float] = (2200.0, 4200.0)  # … and where they are bodies
    body_share: tuple[float, float] = (0.05, 0.5)  # of the tissue that is made of cell bodies
    nucleus_share: tuple[float, float] = (0.5, 0.75)  # radius of a nucleus, of half the distance between bodies
    mitochondria_share: float = 0.07
    grain: tuple[float, float] = (0.03, 0.09)  # standard deviation of each of three sizes of grain


def cells(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    settings: CellSettings = CellSettings(),
) -> np.ndarray:
    """Stain of a volume that is tissue everywhere, float32 (z, y, x) in [0, 1].

    Thin cells of all kinds, and in some regions cell bodies with a nucleus, whose inside is smooth: what a judge of
    texture takes for resin.
    """

    def noise(length_nm):
        return smooth_noise(rng, shape, voxel_size_nm, length_nm)

    def drawn(name):
        return rng.uniform(*getattr(settings, name))

    cytoplasm, membrane = drawn("cytoplasm"), drawn("membrane")
    thin, _ = _outlines(rng, shape, voxel_size_nm, drawn("neurite_nm"), settings.membrane_nm)
    spacing = drawn("body_nm")
    thick, to_centre = _outlines(rng, shape, voxel_size_nm, spacing, settings.membrane_nm)
    where = noise(1500.0)
    bodies = where > np.quantile(where, 1 - drawn("body_share"))
    stain = cytoplasm + membrane * np.where(bodies, thick, thin)
    # Thin cells differ from one another in how dark they are.
    stain += 0.05 * noise(0.4 * settings.neurite_nm[1])
    spots = noise(170.0)
    mitochondria = spots > np.quantile(spots, 1 - settings.mitochondria_share)
    stain[mitochondria] += 0.2
    stain += sum(drawn("grain") * noise(length) for length in (40.0, 90.0, 220.0))
    radius = 0.5 * spacing * drawn("nucleus_share")
    depth = radius - to_centre + 0.06 * radius * noise(500.0)
    inside, chromatin = bodies & (depth > 0), rng.uniform(0.01, 0.08)
    stain[inside] = (cytoplasm - 0.04 + chromatin * noise(260.0) + 0.015 * noise(60.0))[inside]
    stain[inside & (depth < settings.membrane_nm)] += 0.7 * membrane
    return np.clip(stain, 0, 1).astype(np.float32)


def _outlines(rng, shape, voxel_size_nm, spacing_nm, thickness_nm):
    """Of cells around points that are about `spacing_nm` apart: how much of every voxel is outline, float32 in [0, 1],
    and its distance in nm from the point of its cell. Outlines are bent by slow noise.
    """
    size = np.array(voxel_size_nm)
    extent = np.array(shape) * size
    margin = 1.5 * spacing_nm
    count = max(2, int(np.prod(extent + 2 * margin) / spacing_nm**3))
    points = rng.uniform(-margin, extent + margin, (count, 3))
    at = np.stack(np.meshgrid(*((np.arange(n) + 0.5) * s for n, s in zip(shape, size, strict=True)), indexing="ij"), -1)
    bent = at + np.stack([smooth_noise(rng, shape, voxel_size_nm, 0.35 * spacing_nm) for _ in range(3)], -1) * (
        0.15 * spacing_nm
    )
    distance, _ = cKDTree(points).query(bent.reshape(-1, 3), k=2)
    first, second = (distance[:, i].reshape(shape).astype(np.float32) for i in range(2))
    # A membrane that is thinner than a voxel darkens only its share of it.
    width = max(thickness_nm, float(size.min()))
    outline = np.clip(1.5 - (second - first) / width, 0, 1) * min(1.0, thickness_nm / width)
    return outline, first
