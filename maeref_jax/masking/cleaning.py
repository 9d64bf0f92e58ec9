"""Clean-up of a mask: closed, holes filled, opened, pieces kept, grown; lengths in nm, voxels of any proportions.

A voxel stands for its centre: to grow by a length takes all voxels whose centre is no further than that from a centre
inside, to shrink leaves those that are further from every centre outside. What lies beyond the array is not known, and
neither inside nor outside: nothing shrinks from the border. Arrays are bool (z, y, x).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from maeref_jax.errors import BadInput

FILL = ("none", "2d", "3d")
_ROUNDING = 1 + 1e-9  # of lengths: equally far is equally far, whichever way it was computed
_PLANE = np.array([[[0, 0, 0]] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0, 0, 0]] * 3], bool)


class Cleaning(NamedTuple):
    """What is done to a mask, in this order; the defaults do nothing.

    close_nm: gaps up to twice that wide are closed (grow, then shrink)
    fill_holes: "2d", what the mask encloses in a slice; "3d", cavities from which no way leads to the border; "none"
    open_nm: what is less than twice that wide goes (shrink, then grow)
    keep: "all" pieces, the "largest", or the n largest; smallest_vx: of those, the ones with as many voxels
    grow_nm: in the end, by how much the mask grows; a negative length shrinks it
    """

    close_nm: float = 0.0
    fill_holes: str = "none"
    open_nm: float = 0.0
    keep: str = "all"
    smallest_vx: int = 0
    grow_nm: float = 0.0

    @property
    def most(self) -> int | None:
        """How many pieces are kept at most, None for all."""
        return {"all": None, "largest": 1}.get(self.keep) if not self.keep.isdecimal() else int(self.keep)

    @property
    def pieces_matter(self) -> bool:
        return self.keep != "all" or self.smallest_vx > 1

    @property
    def lengths(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("close_nm", "open_nm", "grow_nm")}


def check(cleaning: Cleaning, voxel_size_nm: Sequence[float] | None, name: str = "the mask") -> None:
    """BadInput for settings that mean nothing, or lengths where nobody says how long a voxel is."""
    if cleaning.fill_holes not in FILL:
        raise BadInput(f"fill_holes is {cleaning.fill_holes}, expected one of {', '.join(FILL)}")
    if cleaning.keep not in ("all", "largest") and not (cleaning.keep.isdecimal() and int(cleaning.keep)):
        raise BadInput(f"keep is {cleaning.keep}, expected all, largest, or how many of the largest pieces, 1 or more")
    if cleaning.smallest_vx < 0:
        raise BadInput(f"smallest_vx is {cleaning.smallest_vx}, expected a number of voxels, 0 or more")
    for setting, length in cleaning.lengths.items():
        if not math.isfinite(length) or (length < 0 and setting != "grow_nm"):
            raise BadInput(f"{setting} is {length:g}, expected a length in nm, 0 or more")
        if length and voxel_size_nm is None:
            raise BadInput(
                f"{setting} is {length:g} nm, but no file says how large a voxel of {name} is; give --voxel_size_nm "
                "Z,Y,X, or leave lengths out"
            )


def reach(length_nm: float, voxel_size_nm: Sequence[float]) -> tuple[int, int, int]:
    """How many voxels (z, y, x) around a voxel decide whether something is within that length of it."""
    return tuple(math.floor(abs(length_nm) * _ROUNDING / size) + 1 for size in voxel_size_nm)


def grown(mask: np.ndarray, length_nm: float, voxel_size_nm: Sequence[float]) -> np.ndarray:
    """The mask larger by a length, or smaller by a negative one: by the distance transform, exact in any direction."""
    if length_nm < 0:
        return ~grown(~mask, -length_nm, voxel_size_nm)
    return grown_by_each(mask, (length_nm,), voxel_size_nm)[0] if length_nm else mask


def grown_by_each(mask: np.ndarray, lengths_nm: Sequence[float], voxel_size_nm: Sequence[float]) -> list[np.ndarray]:
    """`grown` by several lengths, each 0 or more: distances are measured once."""
    if not mask.any():
        return [mask] * len(lengths_nm)
    distance = scipy.ndimage.distance_transform_edt(~mask, sampling=voxel_size_nm)
    return [distance <= length * _ROUNDING for length in lengths_nm]


def opened(mask: np.ndarray, length_nm: float, voxel_size_nm: Sequence[float]) -> np.ndarray:
    """What balls of that radius inside the mask cover; part of the mask."""
    return grown(grown(mask, -length_nm, voxel_size_nm), length_nm, voxel_size_nm)


def closed(mask: np.ndarray, length_nm: float, voxel_size_nm: Sequence[float]) -> np.ndarray:
    """The mask and what no ball of that radius outside of it covers."""
    return ~opened(~mask, length_nm, voxel_size_nm)


def filled_slices(mask: np.ndarray) -> np.ndarray:
    """The mask and, slice by slice, what it encloses: background that is not connected with the slice's border, along
    its sides.
    """
    pieces, count = scipy.ndimage.label(~mask, _PLANE)
    outside = np.zeros(count + 1, bool)
    for border in (pieces[:, :1], pieces[:, -1:], pieces[:, :, :1], pieces[:, :, -1:]):
        outside[np.unique(border)] = True
    outside[0] = False
    return ~outside[pieces]


def filled(mask: np.ndarray) -> np.ndarray:
    """The mask and its cavities: background that is not connected with the border of the array, along faces."""
    return scipy.ndimage.binary_fill_holes(mask)


def kept(mask: np.ndarray, most: int | None, smallest_vx: int) -> np.ndarray:
    """The pieces, connected along faces, that are among the `most` largest (of equal ones the first) and have at least
    `smallest_vx` voxels.
    """
    pieces, _ = scipy.ndimage.label(mask)
    return chosen(np.bincount(pieces.ravel())[1:], most, smallest_vx)[pieces]


def chosen(sizes: np.ndarray, most: int | None, smallest_vx: int) -> np.ndarray:
    """Bool (n + 1): which pieces of these sizes, numbered from 1, are kept; [0] is not."""
    large = np.argsort(-sizes.astype(np.int64), kind="stable")[:most]
    found = np.zeros(len(sizes) + 1, bool)
    found[1 + large] = sizes[large] >= max(smallest_vx, 1)
    return found


def cleaned(mask: np.ndarray, cleaning: Cleaning, voxel_size_nm: Sequence[float] | None) -> np.ndarray:
    """All of a `Cleaning`, of a mask that fits in memory. Raises BadInput as `check`."""
    check(cleaning, voxel_size_nm)
    mask = closed(mask, cleaning.close_nm, voxel_size_nm)
    mask = {"none": np.asarray, "2d": filled_slices, "3d": filled}[cleaning.fill_holes](mask)
    mask = opened(mask, cleaning.open_nm, voxel_size_nm)
    mask = kept(mask, cleaning.most, cleaning.smallest_vx) if cleaning.pieces_matter else mask
    return grown(mask, cleaning.grow_nm, voxel_size_nm)
