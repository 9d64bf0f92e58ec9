"""NumPy's files: .npy memory-mapped, read and written; arrays in .npz, such as nnU-Net's class probabilities, read."""

import functools
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import nnunet
from maeref_jax.volumes.formats.stored import Stored, split_inner

_DAMAGE = (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error)
_COPIED_BYTES = 1 << 24


def open_npy(path: Path) -> Stored:
    """The array of a .npy file, memory-mapped. Its axes and voxel size are not in the file.

    Raises:
        BadInput: no .npy file, truncated, or one of Python objects.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        raise BadInput(f"{path} is no readable .npy file, empty or truncated: {error}") from error
    if not isinstance(mapped, np.memmap):  # np.load looks at the content, not at the name
        raise BadInput(f"{path} is no .npy file by its content; rename it to .npz if it holds several arrays")
    native = mapped.dtype.newbyteorder("=")
    return Stored(
        path,
        mapped.shape,
        native,
        None,
        "?" * mapped.ndim,
        None,
        lambda slices: np.array(mapped[slices], native),
    )


def create_npy(
    path: str | Path,
    shape: tuple[int, int, int],
    dtype: np.dtype,
    *,
    voxel_size_nm: tuple[float, float, float] | None = None,
    classes: int | None = None,
    chunk: tuple[int, int, int] | None = None,
) -> Stored:
    """A .npy file (z, y, x) or (c, z, y, x), C order, zero where it was never written; the same one is opened again.

    The format has no chunks and no room for a voxel size: whoever opens it gives axes and size.

    Raises:
        BadInput: a file of another shape or type is there.
    """
    path = Path(path)
    full = tuple(shape) if classes is None else (classes, *shape)
    if path.exists():
        found = open_npy(path)
        if (found.shape, found.dtype) != (full, dtype):
            raise BadInput(f"{path} is there with {found.dtype} {found.shape}, expected {dtype} {full}")
    else:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        npy.open_memmap(temporary, "w+", dtype, full).flush()
        temporary.rename(path)
    mapped = npy.open_memmap(path, "r+")

    def write(slices: tuple[slice, ...], array: np.ndarray) -> None:
        mapped[slices] = array
        mapped.flush()

    axes = "ZYX" if classes is None else "CZYX"
    return Stored(path, full, np.dtype(dtype), axes, axes, None, lambda slices: np.array(mapped[slices]), write=write)


def open_npz(path: Path) -> Stored:
    """One array of an .npz file; nnU-Net's class probabilities have axes CZYX, see nnunet.py.

    A compressed array is unpacked into a temporary file (TMPDIR) when it is first read, and memory-mapped from there:
    it needs disk, not memory.

    Args:
        path: "a.npz", or "a.npz:/name" where it holds several arrays.

    Raises:
        BadInput: no .npz file, truncated, no array of that name, or several and none named.
    """
    file, name = split_inner(path)
    try:
        with zipfile.ZipFile(file) as archive:
            member = _member(file, name, archive.namelist())
            with archive.open(member) as content:
                shape, fortran, dtype = _header(content)
    except BadInput:  # a ValueError as well, but no damage
        raise
    except _DAMAGE as error:
        raise BadInput(f"{file} is no readable .npz file, empty or truncated: {error}") from error
    native = dtype.newbyteorder("=")

    @functools.cache
    def unpacked() -> np.ndarray:
        try:
            with (
                zipfile.ZipFile(file) as archive,
                archive.open(member) as content,
                tempfile.TemporaryFile() as copy,
            ):
                _header(content)
                while data := content.read(_COPIED_BYTES):  # zip's checksum is compared at its end
                    copy.write(data)
                copy.flush()
                # The mapping outlives the nameless file, and frees its disk when nobody holds it any more.
                return np.memmap(copy, dtype, "r", shape=shape, order="F" if fortran else "C")
        except _DAMAGE as error:
            raise BadInput(f"{path} cannot be unpacked, is it damaged, or is the disk full? {error}") from error

    probabilities = member.removesuffix(".npy") in nnunet.NAMES and len(shape) == 4
    stored = Stored(
        path,
        shape,
        native,
        "CZYX" if probabilities else None,
        "CZYX" if probabilities else "?" * len(shape),
        None,
        lambda slices: np.array(unpacked()[slices], native),
    )
    return nnunet.in_place(stored, file, member.removesuffix(".npy")) if probabilities else stored


def _member(file: Path, name: str | None, names: list[str]) -> str:
    names = [entry.removesuffix(".npy") for entry in names]
    known = [entry for entry in nnunet.NAMES if entry in names]
    if name is None and len(names) > 1 and len(known) != 1:
        raise BadInput(f"{file} holds the arrays {', '.join(names)}; choose one, e.g. {file}:/{names[0]}")
    wanted = name or (known or names or [""])[0]
    if wanted not in names:
        raise BadInput(f"{file} has no array '{wanted}', it holds {', '.join(names) or 'none'}")
    return f"{wanted}.npy"


def _header(content: BinaryIO | Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(content)
    return npy.read_array_header_1_0(content) if version == (1, 0) else npy.read_array_header_2_0(content)
