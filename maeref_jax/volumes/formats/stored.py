"""What a file format hands to `volume.py`: an array on disk with its own axes, read box by box.

Axis letters on disk: T time, C channel (or class), Z Y X, S colour samples; any other letter is an unknown
    axis.
"""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput


class Placement(NamedTuple):
    """Where voxels lie in the world: `columns`, one step along each stored axis (x, y, z of the world), `origin`, both
    in `unit`."""

    columns: dict[str, tuple[float, float, float]]
    origin: tuple[float, float, float]
    unit: str


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
    size_doubt: what to hear where nobody gives a voxel size, as the file's own cannot be used, or ""
    placement: where its voxels lie in the world, of formats that say so
    write: as `read`, with the array behind the slices; None where nothing can be written. Durable when it returns.
    levels: what opens its coarser levels, where they are means of this one
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
    size_doubt: str = ""
    write: Callable[[tuple[slice, ...], np.ndarray], None] | None = None
    placement: Placement | None = None
    levels: tuple[Callable[[], "Stored"], ...] = ()


def joined(*notes: str) -> str:
    """Notes as one."""
    return "; ".join(filter(None, notes))


def split_inner(path: str | Path) -> tuple[Path, str | None]:
    """The file and what is meant inside it: "a.h5:/volumes/raw" or "a.h5/volumes/raw" -> a.h5, "volumes/raw".

    Files that hold several arrays are .h5, .hdf5, .hdf and .npz. (path, None) for everything else. A folder may have
    such a name too: the file is the first on the way that is none.
    """
    if Path(path).exists():
        return Path(path), None
    for match in re.finditer(r"\.(?:h5|hdf5|hdf|npz)(?=:/?.|/.)", str(path), re.IGNORECASE):
        file, inner = str(path)[: match.end()], str(path)[match.end() :].lstrip(":").strip("/")
        if inner and not Path(file).is_dir():
            return Path(file), inner
    return Path(path), None


def extra(package: str, path: str | Path, name: str = "") -> ModuleType:
    """An optional package, imported when a file needs it; `name`: what pip calls it, if not as it is imported.

    Raises:
        BadInput: it is not installed; says how to do it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise BadInput(f"{path} needs one more package: pip install {name or package} ({error})") from error
