"""How a block of tissue and resin looks under the microscope: grey values of stain, and what cutting and charging add.

Order of events: stain, blur, uneven light, marks of the knife, folds, charging, photons. What no training volume had
(EVALUATION: shifts) is one of SHIFTS; all strengths were fixed before anything was measured with them.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.smooth_noise import smooth_noise

# Dark and bright exchanged; light that falls to a third across the plane; stain that shines, few photons.
SHIFTS = ("inverted", "gradient", "fluorescence")
GRADIENT = 1 / 3  # of the light that is left at the far end
PSF_NM = (300.0, 120.0, 120.0)  # standard deviation of fluorescence's blur
PHOTONS = 25.0  # of stain 1 in fluorescence
BACKGROUND = 1.5  # photons where there is no stain


class Microscope(NamedTuple):
    """Grey values are of 0 … 255; ranges are uniform draws, one for a volume."""

    white: tuple[float, float] = (175.0, 235.0)  # grey value without stain
    span: tuple[float, float] = (90.0, 170.0)  # … and how much darker stain 1 is
    blur_vx: float = 0.5  # standard deviation
    light: tuple[float, float] = (0.01, 0.08)  # standard deviation of slow changes of brightness
    noise: tuple[float, float] = (1.0, 7.0)  # standard deviation of white noise
    knife_marks: tuple[int, int] = (0, 12)  # how many, at most but one
    knife_grey: tuple[float, float] = (3.0, 18.0)
    folded_slices: float = 0.06  # share of the slices with a fold
    charged_rows: float = 0.01  # share of the rows that shine, or are dark


def seen(
    stain: np.ndarray,
    rng: np.random.Generator,
    voxel_size_nm: tuple[float, float, float],
    shift: str = "",
    settings: Microscope = Microscope(),
) -> np.ndarray:
    """The image, float32 (z, y, x) in [0, 255], of stain float32 in [0, 1]. shift: "" or one of SHIFTS.

    Raises BadInput for another shift.
    """
    if shift not in ("", *SHIFTS):
        raise BadInput(f"no shift '{shift}'; expected one of {', '.join(SHIFTS)}")
    if shift == "fluorescence":
        return _fluorescence(stain, rng, voxel_size_nm)
    white, span, noise = (rng.uniform(*range_) for range_ in (settings.white, settings.span, settings.noise))
    grey = white - span * ndimage.gaussian_filter(stain, settings.blur_vx)
    grey *= 1 + rng.uniform(*settings.light) * smooth_noise(rng, stain.shape, voxel_size_nm, 3000.0)
    if shift == "gradient":
        grey *= _falling(rng, stain.shape)
    grey += _knife_marks(rng, stain.shape, settings)
    grey -= _folds(rng, stain.shape, voxel_size_nm, settings.folded_slices) * 0.5 * span
    grey += _charging(rng, stain.shape, settings.charged_rows)
    grey += noise * rng.standard_normal(stain.shape, dtype=np.float32)
    grey = np.clip(grey, 0, 255).astype(np.float32)
    return 255 - grey if shift == "inverted" else grey


def _falling(rng, shape):
    """Light that falls from 1 to GRADIENT along one direction of the plane."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in shape[1:]), indexing="ij")
    place = y * np.sin(angle) + x * np.cos(angle)
    place = (place - place.min()) / max(np.ptp(place), 1e-6)
    return (GRADIENT**place).astype(np.float32)


def _knife_marks(rng, shape, settings):
    """Straight lines of one direction through the whole block, that come and go along z."""
    marks = np.zeros(shape, np.float32)
    angle = rng.uniform(0, np.pi)
    y, x = np.meshgrid(*(np.arange(n) for n in shape[1:]), indexing="ij")
    across = y * np.cos(angle) - x * np.sin(angle)
    for _ in range(rng.integers(settings.knife_marks[0], settings.knife_marks[1])):
        place = rng.uniform(across.min(), across.max())
        line = np.clip(1.2 - np.abs(across - place) / rng.uniform(0.7, 1.8), 0, 1)
        strength = rng.uniform(*settings.knife_grey) * rng.choice([-1, 1])
        along_z = np.clip(np.cumsum(rng.normal(0, 0.25, shape[0])) + 0.7, 0, 1)
        marks += (strength * along_z)[:, None, None].astype(np.float32) * line.astype(np.float32)
    return marks


def _folds(rng, shape, voxel_size_nm, share):
    """Dark bands across single slices, 0 … 1."""
    folds = np.zeros(shape, np.float32)
    y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape[1:], voxel_size_nm[1:], strict=True)), indexing="ij")
    for z in np.flatnonzero(rng.random(shape[0]) < share):
        angle, bend = rng.uniform(0, np.pi), rng.normal(0, 1e-5)
        along = y * np.sin(angle) + x * np.cos(angle)
        across = y * np.cos(angle) - x * np.sin(angle) + bend * along**2
        place, width = rng.uniform(across.min(), across.max()), rng.uniform(100, 350)
        folds[z] = np.exp(-0.5 * ((across - place) / width) ** 2)
    return folds


def _charging(rng, shape, share):
    """Rows of single slices that shine or are dark, and calm down to the right."""
    found = np.zeros(shape, np.float32)
    z, y = np.nonzero(rng.random(shape[:2]) < share)
    start = rng.integers(0, shape[2], len(z))
    strength = rng.normal(0, 25, len(z))
    columns = np.arange(shape[2]) - start[:, None]
    calm = np.exp(-columns / (0.2 * shape[2]), where=columns >= 0, out=np.zeros(columns.shape))
    found[z, y] = strength[:, None] * calm
    return found


def _fluorescence(stain, rng, voxel_size_nm):
    sigmas = [length / size for length, size in zip(PSF_NM, voxel_size_nm, strict=True)]
    light = PHOTONS * ndimage.gaussian_filter(stain, sigmas) + BACKGROUND
    return np.clip(rng.poisson(light) * (200 / PHOTONS), 0, 255).astype(np.float32)
