"""Blocks of resin with tissue in it, whose truth is known: drawn tissue, or patches of a real image pasted into resin.

They are made at the coarse voxel sizes at which masks of tissue are made. The truth is 1 in tissue and 0 in resin, in
tracheae with their walls, and in what cutting and charging left outside of tissue.
"""

from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.smooth_noise import smooth_noise
from maeref_jax.phantoms.tissue_imaging import Microscope, seen
from maeref_jax.phantoms.tissue_places import Surroundings, ragged, specks, tracheae
from maeref_jax.phantoms.tissue_stain import CellSettings, cells

# What a block is: tissue in resin; no tissue, but tracheae and dirt; not even these, so that only cutting, charging and
# noise leave traces; tissue alone, but for tracheae.
KINDS = ("mixed", "resin", "bare", "tissue")
SHARES = {"mixed": (0.15, 0.75), "resin": (0.0, 0.0), "bare": (0.0, 0.0), "tissue": (1.0, 1.0)}


class TissueSettings(NamedTuple):
    """resin: stain of it, as a share of the way from no stain to that of cytoplasm (of real texture: to the median)."""

    resin: tuple[float, float] = (0.0, 0.9)
    resin_grain: float = 0.006  # standard deviation of its slow unevenness
    cells: CellSettings = CellSettings()
    surroundings: Surroundings = Surroundings()
    microscope: Microscope = Microscope()


class TissueBlock(NamedTuple):
    """image: float32 (z, y, x) in [0, 255]; tissue: int16, 1 tissue, 0 none; voxel_size_nm: z, y, x."""

    image: np.ndarray
    tissue: np.ndarray
    voxel_size_nm: tuple[float, float, float]


def tissue_block(
    seed: int,
    shape: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    kind: str = "mixed",
    texture: np.ndarray | None = None,
    shift: str = "",
    settings: TissueSettings = TissueSettings(),
) -> TissueBlock:
    """A block of a kind of KINDS; the same arguments give the same one, and shifts (tissue_imaging.SHIFTS) change how
    it looks, not what it is.

    texture: of tissue that is real: an image (z, y, x) of nothing but tissue at this voxel size, dark where stained, of
    any size: it is turned, and mirrored at its faces until it fills the block. None: tissue is drawn.

    Raises BadInput for another kind or shift, an empty shape, a voxel size that is not positive, or a constant texture.
    """
    if kind not in KINDS:
        raise BadInput(f"no block of kind '{kind}'; expected one of {', '.join(KINDS)}")
    if len(shape) != 3 or min(shape) < 1:
        raise BadInput(f"a block needs a shape (z, y, x) of at least one voxel each, got {tuple(shape)}")
    if len(voxel_size_nm) != 3 or min(voxel_size_nm) <= 0:
        raise BadInput(f"a block needs a positive voxel size (z, y, x) in nm, got {tuple(voxel_size_nm)}")
    rng = np.random.default_rng([seed, 4])
    place, around = (rng, shape, voxel_size_nm), settings.surroundings
    if kind == "bare":
        around = around._replace(tracheae_per_1000_um3=0.0, specks_per_1000_um3=0.0)
    tissue = ragged(*place, rng.uniform(*SHARES[kind]))
    wall, lumen = tracheae(*place, around)
    stain = cells(*place, settings.cells) if texture is None else spread(stain_of(texture), rng, shape)
    # Real tissue has darker and lighter regions; resin may be as grey as its lighter half.
    level = rng.uniform(*settings.resin) * float(np.median(stain))
    level = 0.0 if shift == "fluorescence" else level  # no dye stays in resin
    resin = level + settings.resin_grain * smooth_noise(*place, 700.0)
    hollow = rng.uniform(0, 1.3) * level  # a trachea may be empty, or hold resin
    tissue &= ~lumen & (wall < 0.5)
    stain = np.where(tissue, stain, resin)
    stain[lumen] = hollow
    stain = np.maximum(stain, wall * rng.uniform(0.6, 1.0))
    dirt = np.where(tissue, 0, specks(*place, around))
    stain = np.clip(np.maximum(stain, dirt * rng.uniform(0.5, 1.0)), 0, 1).astype(np.float32)
    looks = np.random.default_rng([seed, 5])  # its own: a shift changes no draw of what the block is
    image = seen(stain, looks, voxel_size_nm, shift, settings.microscope)
    return TissueBlock(image, tissue.astype(np.int16), tuple(voxel_size_nm))


def stain_of(image: np.ndarray) -> np.ndarray:
    """Stain float32 in [0, 1] of an image (z, y, x) of tissue: its bright 1 % has none, its dark 1 % has 0.85.

    Raises BadInput for a constant image.
    """
    dark, bright = np.quantile(image, (0.01, 0.99))
    if not bright > dark:
        raise BadInput(
            f"the texture of shape {image.shape} is {bright:g} nearly everywhere, expected an image of tissue"
        )
    return np.clip(0.85 * (bright - image) / (bright - dark), 0, 1).astype(np.float32)


def spread(texture: np.ndarray, rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """A texture (z, y, x) turned by one of the 16 symmetries of a stack and mirrored at its faces, over and over, from
    a random place on, until it fills `shape`.
    """
    if rng.random() < 0.5:
        texture = texture.swapaxes(1, 2)
    for axis in range(3):
        size = texture.shape[axis]
        at = rng.integers(2 * size) + np.arange(shape[axis])
        phase = at % (2 * size)
        texture = np.take(texture, np.where(phase < size, phase, 2 * size - 1 - phase), axis)
    return texture
