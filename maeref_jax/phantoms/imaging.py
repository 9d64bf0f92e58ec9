"""The imaging model: how a pan-stained label volume looks under the microscope, and what an annotator draws.

A pan-stain shows everything: bright matrix, darker cristae, a dark halo of intermembrane space, textured cytoplasm.
Order of events: stain, blur, loss of signal, artefact if any, photons, read-out. It is a function of any label volume,
so that real shapes can be rendered too; of other classes than mitochondria's the settings say how each one looks.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.artefacts import add_artefact
from maeref_jax.phantoms.cytoplasm import (
    DARK_ORGANELLE,
    LUMEN,
    ORGANELLE_RIM,
    RETICULUM,
    VESICLE,
    CytoplasmSettings,
    distractors,
)
from maeref_jax.phantoms.low_signal import LowSignalSettings, lower_signal
from maeref_jax.phantoms.smooth_noise import smooth_noise

AMBIGUOUS = 4


class ImagingSettings(NamedTuple):
    """Grey values are of 0 … 255, lengths in nanometres. stain, texture and membrane have a value for every class, that
    of the cytoplasm first.
    """

    stain: tuple[float, ...] = (105.0, 62.0, 100.0, 178.0)
    stain_spread: float = 0.08  # between mitochondria regions: slow change of each class's stain
    texture: tuple[float, ...] = (12.0, 6.0, 6.0, 6.0)  # standard deviation of the grain
    # Grey value of the line along the border of every object, inside of it; (): no class has one.
    membrane: tuple[float, ...] = ()
    membrane_nm: float = 15.0  # what lies less than this behind the outermost voxels belongs to the line
    blur_nm: tuple[float, float, float] = (22.0, 11.0, 11.0)  # standard deviation of the point spread
    staining_field: float = 0.08  # standard deviation of the slow field's logarithm
    staining_field_nm: float = 450.0
    photons: float = 4.0  # counts per grey value
    read_noise: float = 2.0
    cytoplasm: CytoplasmSettings = CytoplasmSettings()
    low_signal: LowSignalSettings = LowSignalSettings()
    artefact: str = ""  # one of artefacts.ARTEFACTS, for tests on what no training image had


def render(
    labels: np.ndarray,
    seed: int,
    voxel_size_nm: tuple[float, float, float],
    settings: ImagingSettings = ImagingSettings(),
) -> tuple[np.ndarray, np.ndarray]:
    """Image float32 (z, y, x) in [0, 255] of labels, and the mask of the low-signal regions.

    Raises BadInput for labels that are not 3-D, empty, or of classes that settings.stain has no grey value for.
    """
    if labels.ndim != 3 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise BadInput(f"render needs integer labels (z, y, x), got shape {labels.shape}, dtype {labels.dtype}")
    looks = {"texture": settings.texture, **({"membrane": settings.membrane} if settings.membrane else {})}
    classes = len(settings.stain)
    for name, values in looks.items():
        if len(values) != classes:
            raise BadInput(f"{name} has {len(values)} values, stain {classes}; expected one of each for every class")
    if labels.min() < 0 or labels.max() >= classes:
        raise BadInput(
            f"render needs labels 0 … {classes - 1}, found {labels.min()} … {labels.max()}: map them first, or give "
            "every class its look (stain)"
        )
    rng = np.random.default_rng([seed, 1])
    stained = _stain(labels, rng, voxel_size_nm, settings)
    sigmas = [blur / size for blur, size in zip(settings.blur_nm, voxel_size_nm, strict=True)]
    blurred = ndimage.gaussian_filter(stained, sigmas)
    slow = smooth_noise(rng, labels.shape, voxel_size_nm, settings.staining_field_nm)
    blurred *= np.exp(settings.staining_field * slow)
    signal, low_signal = lower_signal(blurred, labels, rng, settings.low_signal)
    signal = add_artefact(settings.artefact, signal, seed, voxel_size_nm)
    counts = rng.poisson(np.maximum(signal, 0) * settings.photons)
    image = counts / settings.photons + rng.normal(0, settings.read_noise, labels.shape)
    return np.clip(image, 0, 255).astype(np.float32), low_signal


def _stain(labels, rng, voxel_size_nm, settings) -> np.ndarray:
    def noise(length_nm):
        return smooth_noise(rng, labels.shape, voxel_size_nm, length_nm)

    stained = np.array(settings.stain, np.float32)[labels]
    cytoplasm = labels == 0
    grain = 0.7 * noise(18.0) + 0.7 * noise(45.0)
    stained += np.array(settings.texture)[labels] * grain
    stained *= 1 + settings.stain_spread * np.where(cytoplasm, 0, noise(200.0))
    if settings.membrane:
        line = _borders(labels, voxel_size_nm, settings.membrane_nm) & ~cytoplasm
        stained[line] = np.array(settings.membrane, np.float32)[labels[line]]
    kinds = distractors(labels, rng, voxel_size_nm, settings.cytoplasm)
    membrane = np.isin(kinds, (RETICULUM, VESICLE))
    stained[membrane] = 76.0
    stained[kinds == LUMEN] = 125.0
    # Dark organelles wear a mitochondrion's halo, the darkest stain, but have a coarse, structureless inside.
    stained[kinds == ORGANELLE_RIM] = min(settings.stain)
    organelle = kinds == DARK_ORGANELLE
    stained[organelle] = (88.0 + 26.0 * noise(28.0))[organelle]
    return np.clip(stained, 5.0, 250.0)


def _borders(labels, voxel_size_nm, depth_nm) -> np.ndarray:
    """Voxels less than depth_nm from one whose neighbour has another label, bool; the faces of the volume are none."""
    border = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        low, high = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        other = labels[low] != labels[high]
        border[low] |= other
        border[high] |= other
    if not border.any():
        return border
    return ndimage.distance_transform_edt(~border, sampling=voxel_size_nm) < depth_nm


def annotate(
    labels: np.ndarray, low_signal: np.ndarray, seed: int, share: float = 0.8, undecided: int = AMBIGUOUS
) -> np.ndarray:
    """What an annotator draws: int16 (z, y, x), the true labels; where he cannot decide, the class `undecided`, or -1.

    He decides per low-signal region: of the connected regions that touch a mitochondrion, `share` are marked, each one
    whole, but for cytoplasm further than 3 voxels in the plane from the mitochondrion.
    """
    if labels.shape != low_signal.shape:
        raise BadInput(f"labels {labels.shape} and low_signal {low_signal.shape} must have the same shape")
    if not 0 <= share <= 1:
        raise BadInput(f"share must lie in [0, 1], got {share}")
    rng = np.random.default_rng([seed, 2])
    drawn = labels.astype(np.int16)
    mitochondria = labels > 0
    regions, _ = ndimage.label(low_signal)
    touching = np.unique(regions[mitochondria & low_signal])
    touching = rng.permutation(touching[touching > 0])
    marked = touching[: int(share * len(touching) + rng.random())]
    near = ndimage.binary_dilation(mitochondria, ndimage.generate_binary_structure(3, 1)[1:2], iterations=3)
    drawn[np.isin(regions, marked) & near] = undecided
    return drawn
