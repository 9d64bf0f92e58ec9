"""Synthetic mitochondria with known labels, any size, from a seed. The paper's data are private; these are not.

The anatomy is drawn in nanometres and sampled at the voxel size; the picture is made of the labels by imaging.py.
The defaults are calibrated at (20, 10, 10) nm so that the validity metrics of the true labels on 128 x 128 crops come
near the paper's control group (EVALUATION: a sanity check of the generator, never evidence for the method).
"""

from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.anatomy import Cristae, build_anatomy
from maeref_jax.phantoms.centrelines import Packing, pack_tubes
from maeref_jax.phantoms.imaging import ImagingSettings, render

VOXEL_SIZE_NM = (20.0, 10.0, 10.0)


class PhantomSettings(NamedTuple):
    """Anatomy and imaging. Change one thing with `PhantomSettings()._replace(...)`."""

    packing: Packing = Packing()
    cristae: Cristae = Cristae()
    shell_nm: float = 42.0  # outer membrane to inner membrane
    roughness_nm: float = 8.0  # standard deviation of the outer surface
    imaging: ImagingSettings = ImagingSettings()


class Phantom(NamedTuple):
    """One synthetic volume; all arrays are (z, y, x)."""

    image: np.ndarray  # float32, 0 … 255
    labels: np.ndarray  # int16: 0 background, 1 intermembrane, 2 cristae, 3 matrix
    low_signal: np.ndarray  # bool: where the stain was taken away
    instances: np.ndarray  # int32: 0 none, then one number per mitochondrion
    voxel_size_nm: tuple[float, float, float]


def phantom(
    seed: int,
    shape: tuple[int, int, int] = (24, 160, 160),
    voxel_size_nm: tuple[float, float, float] = VOXEL_SIZE_NM,
    settings: PhantomSettings = PhantomSettings(),
) -> Phantom:
    """A volume of mitochondria, its true labels and its image; the same arguments give the same volume.

    Raises BadInput for an empty shape or a voxel size that is not positive.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise BadInput(f"a phantom needs a shape (z, y, x) of at least one voxel each, got {tuple(shape)}")
    if len(voxel_size_nm) != 3 or min(voxel_size_nm) <= 0:
        raise BadInput(f"a phantom needs a positive voxel size (z, y, x) in nm, got {tuple(voxel_size_nm)}")
    rng = np.random.default_rng([seed, 0])
    extent_nm = np.array(shape) * np.array(voxel_size_nm)
    tubes = pack_tubes(rng, extent_nm, settings.packing)
    labels, instances = build_anatomy(
        rng, tubes, shape, voxel_size_nm, settings.shell_nm, settings.roughness_nm, settings.cristae
    )
    image, low_signal = render(labels, seed, voxel_size_nm, settings.imaging)
    return Phantom(image, labels, low_signal, instances, tuple(voxel_size_nm))
