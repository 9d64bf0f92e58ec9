"""Voxels in and out: one lazy (z, y, x) view of whatever file the user has. The formats are in docs/formats.md.

Nothing is guessed, cast, transposed or squeezed silently: a file whose axes are not said is refused with a
message that asks for them, and only axes that are named are selected or reordered.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes import public_data
from maeref_jax.volumes.axes import resolve_axes
from maeref_jax.volumes.formats.hdf5 import open_hdf5
from maeref_jax.volumes.formats.imaris import open_imaris
from maeref_jax.volumes.formats.microscopes import READERS, open_microscope
from maeref_jax.volumes.formats.mrc import open_mrc
from maeref_jax.volumes.formats.n5 import is_n5, open_n5
from maeref_jax.volumes.formats.nifti import open_nifti
from maeref_jax.volumes.formats.nrrd_files import open_nrrd
from maeref_jax.volumes.formats.numpy_files import open_npy, open_npz
from maeref_jax.volumes.formats.png import open_png
from maeref_jax.volumes.formats.precomputed import is_precomputed, open_precomputed
from maeref_jax.volumes.formats.slice_folder import is_slice_folder, open_slice_folder
from maeref_jax.volumes.formats.store import is_url
from maeref_jax.volumes.formats.stored import Stored, split_inner
from maeref_jax.volumes.formats.tiff import open_tiff
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust, stumbling_means_bad_input
from maeref_jax.volumes.formats.zarr_store import is_zarr, open_zarr
from maeref_jax.volumes.view import Volume, array_volume, range_text, select
from maeref_jax.volumes.writing import (
    MAKERS,
    UNKNOWN_ON_DISK,
    create_volume,
    labels_from_disk,
    labels_to_disk,
    write_tiff,
)

__all__ = [
    "FILES", "FOLDERS", "MAKERS", "UNKNOWN_ON_DISK", "Volume", "array_volume", "create_volume", "labels_from_disk",
    "labels_to_disk", "open_probabilities", "open_volume", "overlapping", "resolved", "share_slices", "split_range",
    "suffix_of", "write_tiff",
]  # fmt: skip
# A new format is one file and one line: how it is opened, by suffix or, for folders and URLs, by what lies in them.
# Openers take a path and a Trust. How formats are made: writing.py.
FILES = {
    ".tif": open_tiff,
    ".tiff": open_tiff,
    ".btf": open_tiff,
    ".tf8": open_tiff,
    ".png": open_png,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
    ".hdf": open_hdf5,
    ".ims": open_imaris,
    ".npy": open_npy,
    ".npz": open_npz,
    ".nrrd": open_nrrd,
    ".nhdr": open_nrrd,
}
FILES |= {f"{suffix}{gz}": open_nifti for suffix in (".nii",) for gz in ("", ".gz")}
FILES |= {f"{suffix}{gz}": open_mrc for suffix in (".mrc", ".rec", ".map", ".st") for gz in ("", ".gz")}
FILES |= dict.fromkeys(READERS, open_microscope)
FOLDERS = {
    "Zarr": (is_zarr, open_zarr),
    "N5": (is_n5, open_n5),
    "precomputed": (is_precomputed, open_precomputed),
    "numbered TIFF or PNG slices": (is_slice_folder, open_slice_folder),
}


def open_volume(
    path: str | Path,
    *,
    axes: str | None = None,
    voxel_size_nm: tuple[float, float, float] | None = None,
    channel: int | str | None = None,
    only_of_several: bool = False,
    trust: Trust = CAUTIOUS,
) -> Volume:
    """Opens a volume of any format, see docs/formats.md.

    Args:
        path: the file, folder or URL; "image.tif[0:8]" means its slices 0 to 7 (a file of that very name wins),
            "file.h5:/volumes/raw" an array inside a file.
        axes: the axes as stored, e.g. "ZYX"; wins over the file's own. "YX" makes a plane a stack of one
            slice.
        voxel_size_nm: (z, y, x); wins over the file's own.
        channel: index into the channel axis, or the channel's name; needed where that axis is longer than one.
        only_of_several: of a file with one channel it is taken, whatever `channel` says, and one without axes of
            channels and time needs no other `axes` than those that have them.
        trust: how much may be unpacked of it, and whether it may lead to other files.

    Raises:
        BadInput: missing, empty, truncated or unreadable file; one that is not to be trusted; unknown axes; a plane
            without axes "YX"; several channels without `channel`; a time series; values that are no numbers.
    """
    stored, z_range = _open(path, axes, trust)
    axes = resolve_axes(stored, axes, beside=only_of_several)
    if "Z" not in axes[0] and not axes[1]:
        raise BadInput(
            f"{stored.path} is a plane of shape {stored.shape} (axes {axes[0]}), expected a (z, y, x) stack; "
            f"give --axes {axes[0]} to treat it as a stack of one slice"
        )
    chosen = {"channel": channel, "only_of_several": only_of_several}
    return select(stored, axes[0], z_range, voxel_size_nm=voxel_size_nm, **chosen)


def open_probabilities(
    path: str | Path,
    *,
    axes: str | None = None,
    voxel_size_nm: tuple[float, float, float] | None = None,
    trust: Trust = CAUTIOUS,
) -> Volume:
    """Opens class probabilities: float in [0, 1], or uint8 that stands for 0 to 1; `read` gives (c, z, y,
    x) float32.

    Args:
        path: as in `open_volume`.
        axes: the axes as stored, e.g. "CZYX"; axes without a C are those of one class, which then leads.
        voxel_size_nm: (z, y, x); wins over the file's own.
        trust: as in `open_volume`.

    Raises:
        BadInput: as in `open_volume`; no class axis; another type.
    """
    if axes is not None and "C" not in axes.upper():
        axes = f"C{axes}"
    stored, z_range = _open(path, axes, trust)
    names, _ = resolve_axes(stored, axes)
    if "C" not in names:
        example = names.replace("T", "C") if "T" in names else f"C{names}"[: len(names)] if len(names) > 3 else "CZYX"
        raise BadInput(
            f"{stored.path} has shape {stored.shape} (axes {names}), expected class probabilities with "
            f"a class axis C, e.g. --axes {example}"
        )
    if stored.dtype.kind != "f" and stored.dtype != np.uint8:
        raise BadInput(f"{stored.path} is {stored.dtype}, expected probabilities as float (0 to 1) or uint8 (0 to 255)")
    return select(stored, names, z_range, voxel_size_nm=voxel_size_nm, keep_classes=True, as_probabilities=True)


def split_range(path: str | Path) -> tuple[Path | str, slice | None]:
    """The path (a URL as str) and the slices of "image.tif[2:8]", or of "image.tif[0:160:5]", every fifth; either end
    may be left out, "image.tif[::5]". No slice if a file of that very name exists.

    Raises:
        BadInput: numbers and colons in brackets that say no such range, "[-3:-1]" or "[0:160:0]".
    """
    keep = str if is_url(path) else Path
    match = re.fullmatch(r"(.+)\[(\d*):(\d*)(?::([1-9]\d*))?\]", str(path))
    if keep is Path and Path(path).exists():
        return keep(path), None
    if match is None and re.search(r"\[[-\d]*:[-\d:]*\]$", str(path)):
        raise BadInput(
            f"{path} ends in no range of slices, expected [START:STOP] or [START:STOP:STEP], counted from 0, STOP not "
            "included, STEP at least 1; START and STOP may be left out"
        )
    if match is None:
        return keep(path), None
    start, stop, step = (int(number) if number else None for number in match.groups()[1:])
    return keep(match[1]), slice(start or 0, stop, step)


def resolved(path: str | Path) -> str:
    """The path from the root, links followed, or the URL; a z range stays. Two ways to type one path give the same."""
    base, z_range = split_range(path)
    return _from_root(base) + range_text(z_range)


def share_slices(one: str | Path, other: str | Path) -> bool:
    """Whether two paths, each with or without a z range, name some slice of the same file."""
    (first, a), (second, b) = split_range(one), split_range(other)
    if _from_root(first) != _from_root(second):
        return False
    if a is None or b is None:
        return True
    starts, steps = (a.start, b.start), (a.step or 1, b.step or 1)
    # What two ranges share comes again after the least common multiple of their steps.
    last = max(starts) + math.lcm(*steps)
    last = min([last, *(z_range.stop for z_range in (a, b) if z_range.stop is not None)])
    shared = (z for z in range(max(starts), last) if all(not (z - s) % n for s, n in zip(starts, steps, strict=True)))
    return next(shared, None) is not None


def overlapping(paths: Sequence[str | Path]) -> set[tuple[int, int]]:
    """Pairs of numbers (i, j), i < j, of the paths that share slices."""
    files = {}
    for i, path in enumerate(paths):
        files.setdefault(_from_root(split_range(path)[0]), []).append(i)
    pairs = (pair for numbers in files.values() for pair in itertools.combinations(numbers, 2))
    return {(i, j) for i, j in pairs if share_slices(paths[i], paths[j])}


def _from_root(path: Path | str) -> str:
    return path if isinstance(path, str) else str(path.resolve())


def _open(path: str | Path, axes: str | None, trust: Trust) -> tuple[Stored, slice | None]:
    path, z_range = split_range(path)
    with stumbling_means_bad_input(path):
        stored = _stored(path, axes, trust)
    if 0 in stored.shape:
        raise BadInput(f"{path} is empty: shape {stored.shape}")
    if stored.dtype.kind not in "buif":
        raise BadInput(f"{path} holds {stored.dtype}, expected whole or real numbers")

    return _guarded(stored, path), z_range


def _guarded(stored: Stored, path: Path | str) -> Stored:
    """It, its levels included, where whatever stumbles over the file is bad input."""

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        with stumbling_means_bad_input(path):
            return stored.read(slices)

    def level(opener: Callable[[], Stored]) -> Stored:
        with stumbling_means_bad_input(path):
            return _guarded(opener(), path)

    return stored._replace(read=read, levels=tuple(functools.partial(level, opener) for opener in stored.levels))


def _stored(path: Path | str, axes: str | None, trust: Trust) -> Stored:
    opener = functools.partial(_opener(path), trust=trust)
    # What a TIFF says of itself also decides its shape. What the user says wins over that.
    plain = functools.partial(opener, plain=True) if opener.func is open_tiff and axes is not None else None
    try:
        stored = opener(path)
    except BadInput:
        if plain is None or len((stored := plain(path)).shape) != len(axes):
            raise
    return plain(path) if plain is not None and len(stored.shape) != len(axes) else stored


def suffix_of(name: str) -> str:
    """The longest suffix of FILES that a name ends in, "" for none."""
    return max((suffix for suffix in FILES if name.lower().endswith(suffix)), key=len, default="")


def _opener(path: Path | str) -> Callable[..., Stored]:
    file = path if is_url(path) else split_inner(path)[0]
    if not is_url(path):
        if not file.exists():
            raise BadInput(f"no such file: {path}{public_data.hint(path)}")
        if file.is_file() and suffix_of(file.name):
            return FILES[suffix_of(file.name)]
    if is_url(path) or file.is_dir():
        for belongs, opener in FOLDERS.values():
            if belongs(path):
                return opener
        raise BadInput(f"{path} is a folder but none of {', '.join(FOLDERS)}")
    hint = f"; the Zarr array is its folder {file.parent}" if is_zarr(file.parent) else ""
    hint += "; clicks are labels to train on: maeref train --labels" if file.suffix.lower() == ".csv" else ""
    hint += "; unpack it first, with gunzip" if file.suffix.lower() == ".gz" and suffix_of(file.stem) else ""
    raise BadInput(
        f"{path} is of no known format, expected {', '.join(FILES)}, or a folder: {', '.join(FOLDERS)}{hint}"
    )
