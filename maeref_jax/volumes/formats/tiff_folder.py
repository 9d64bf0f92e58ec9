"""A folder of numbered TIFF slices as one stack; a slice is opened when a box needs it."""

import itertools
import re
from pathlib import Path

import numpy as np
import tifffile

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.stored import Stored
from maeref_jax.volumes.formats.tiff import end_of_data, open_tiff

SUFFIXES = (".tif", ".tiff")


def is_tiff_folder(path: Path | str) -> bool:
    """Whether there are TIFF files in the folder `path` (a URL cannot be listed)."""
    return isinstance(path, Path) and path.is_dir() and bool(_files(path))


def open_tiff_folder(path: Path) -> Stored:
    """The TIFF files of the folder, one slice each, in the order of the one number in which their names differ.

    Raises:
        BadInput: names that differ in more than one number or in words, numbers twice or missing, files that are
            no single plane, truncated, or not of the first one's shape and dtype.
    """
    files = _numbered(path, _files(path))
    first = open_tiff(files[0])
    if first.axes not in ("YX", "YXS"):
        raise BadInput(f"{files[0]} has shape {first.shape} (axes {first.raw_axes}), expected one plane per file")
    for file in files[1:]:
        _check_like(first, file)

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        return np.stack([open_tiff(file, decode=False).read(slices[1:]) for file in files[slices[0]]])

    return Stored(
        path,
        (len(files), *first.shape),
        first.dtype,
        f"Z{first.axes}",
        f"Z{first.raw_axes}",
        first.voxel_size_nm,
        read,
    )


def _files(path: Path) -> list[Path]:
    return [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]


def _numbered(path: Path, files: list[Path]) -> list[Path]:
    parts = {file: re.split(r"(\d+)", file.name) for file in files}  # words at even places, numbers at odd ones
    words = {tuple(part[::2]) for part in parts.values()}
    if len(words) > 1:
        one, two = ("#".join(names) for names in sorted(words)[:2])
        raise BadInput(f"{path} holds TIFF files of several names ({one} and {two}), expected one series of slices")
    numbers = np.array([[int(n) for n in parts[file][1::2]] for file in files]).reshape(len(files), -1)
    differ = [place for place in range(numbers.shape[1]) if len(set(numbers[:, place])) > 1]
    if len(differ) > 1 or numbers.shape[1] == 0:
        found = "more than one number" if differ else "no number"
        raise BadInput(f"{path}: the names of its TIFF files differ in {found}, expected the slice's alone")
    if len(files) == 1:
        return files
    if not differ:
        raise BadInput(f"{path} holds {sorted(file.name for file in files)[:2]}, the same number twice")
    order = numbers[:, differ[0]]
    found = sorted(order.tolist())
    if len(set(found)) < len(found):
        twice = next(a for a, b in itertools.pairwise(found) if a == b)
        raise BadInput(f"{path} holds slice {twice} twice, expected every number once")
    if found[-1] - found[0] >= len(found):
        gap = next(a + 1 for a, b in itertools.pairwise(found) if b > a + 1)
        raise BadInput(
            f"{path} holds {len(found)} slices numbered {found[0]} to {found[-1]}, but {gap} is missing; "
            "number them without gaps"
        )
    return [files[n] for n in np.argsort(order)]


def _check_like(first: Stored, file: Path) -> None:
    try:
        with tifffile.TiffFile(file) as tif:
            pages, shape, dtype = len(tif.pages), tif.pages[0].shape, tif.pages[0].dtype
            truncated = end_of_data(tif.pages) > file.stat().st_size
    except (tifffile.TiffFileError, IndexError) as error:
        raise BadInput(f"{file} is no readable TIFF, empty or truncated: {error}") from error
    if truncated:
        raise BadInput(f"{file} is truncated; copy it again")
    if (pages, shape, dtype) != (1, first.shape, first.dtype):
        raise BadInput(
            f"{file} has {pages} page(s) of {dtype} {shape}, but {first.path} has one of {first.dtype} {first.shape}; "
            "all slices must be alike"
        )
