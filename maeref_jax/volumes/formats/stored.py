"""What a file format hands to `volume.py`: an array on disk with its own axes, read box by box.

Axis letters on disk: T time, C channel (or class), Z Y X, S colour samples; any other letter is an unknown
    axis.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

NANOMETRES = {
    "nm": 1.0, "nanometer": 1.0, "nanometre": 1.0, "nanometers": 1.0, "nanometres": 1.0,
    "um": 1e3, "µm": 1e3, "μm": 1e3, "\\u00b5m": 1e3, "micron": 1e3, "microns": 1e3,
    "micrometer": 1e3, "micrometre": 1e3, "micrometers": 1e3, "micrometres": 1e3,
    "mm": 1e6, "millimeter": 1e6, "millimetre": 1e6, "cm": 1e7, "m": 1e9,
    "pm": 1e-3, "å": 0.1, "angstrom": 0.1,
}  # fmt: skip


class Stored(NamedTuple):
    """An array in a file.

    path: where it is, for messages: a file or folder, a URL, or "file.h5:/the/dataset"
    shape, dtype: as stored
    axes: one letter per stored axis, or None where the file does not say what its axes are
    raw_axes: what the file itself calls its axes, for messages
    voxel_size_nm: (z, y, x), or None where the file does not say
    read: tuple of one slice per stored axis (within the shape, step 1) -> array with all axes kept
    channels: names of the entries of the channel axis, in order, or ()
    note: what a user should hear about the file, or ""
    write: as `read`, with the array behind the slices; None where nothing can be written. Durable when it returns.
    """

    path: Path | str
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str | None
    raw_axes: str
    voxel_size_nm: tuple[float, float, float] | None
    read: Callable[[tuple[slice, ...]], np.ndarray]
    channels: tuple[str, ...] = ()
    note: str = ""
    write: Callable[[tuple[slice, ...], np.ndarray], None] | None = None


def to_voxel_size(sizes: dict[str, float | None]) -> tuple[float, float, float] | None:
    """(z, y, x) in nm from {"z": ..., "y": ..., "x": ...}; None unless all three are positive numbers."""
    values = tuple(sizes.get(axis) for axis in "zyx")
    if any(value is None or not math.isfinite(value) or value <= 0 for value in values):
        return None
    return values


def split_inner(path: str | Path) -> tuple[Path, str | None]:
    """The file and what is meant inside it: "a.h5:/volumes/raw" or "a.h5/volumes/raw" -> a.h5, "volumes/raw".

    Files that hold several arrays are .h5, .hdf5, .hdf and .npz. (path, None) for everything else.
    """
    match = re.fullmatch(r"(.+?\.(?:h5|hdf5|hdf|npz))(?::/?|/)(.+)", str(path), re.IGNORECASE)
    if match is None or Path(path).exists() or Path(match[1]).is_dir():
        return Path(path), None
    return Path(match[1]), match[2].strip("/")
