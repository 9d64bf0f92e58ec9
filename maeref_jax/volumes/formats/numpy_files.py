"""NumPy's files: .npy, read and written; arrays in .npz, such as nnU-Net's class probabilities, read."""

import contextlib
import functools
import io
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import nnunet
from maeref_jax.volumes.formats import trust as trusted
from maeref_jax.volumes.formats.packed import Copy, array_in, bytes_of, read_array, temporary_copy
from maeref_jax.volumes.formats.raw import write_box
from maeref_jax.volumes.formats.stored import Stored, split_inner
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust

_DAMAGE = (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, tokenize.TokenError)
# How numpy packs. Other methods have no bound on what comes out of a byte.
_METHODS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: trusted.DEFLATE}
# A header that is longer holds no numbers; without a bound it may say any length of itself.
_HEAD_BYTES = 1 << 16


class _Head(NamedTuple):
    shape: tuple[int, ...]
    order: str
    dtype: np.dtype
    length: int


def open_npy(path: Path, trust: Trust = CAUTIOUS) -> Stored:
    """The array of a .npy file. Its axes and voxel size are not in the file.

    Raises:
        BadInput: no .npy file, truncated, or one of Python objects.
    """
    try:
        with path.open("rb") as content:
            if content.read(4) == b"PK\x03\x04":
                raise BadInput(f"{path} is no .npy file by its content; rename it to .npz if it holds several arrays")
            content.seek(0)
            head = _header(content)
    except BadInput:  # a ValueError as well, but no damage
        raise
    except _DAMAGE as error:
        raise BadInput(f"{path} is no readable .npy file, empty or truncated: {error}") from error
    read = array_in(path, head.dtype, head.shape, offset=head.length, order=head.order, trust=trust)
    return Stored(path, head.shape, head.dtype.newbyteorder("="), None, "?" * len(head.shape), None, read)


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
        with temporary.open("wb") as content:
            npy.write_array_header_1_0(content, npy.header_data_from_array_1_0(np.empty(0, dtype)) | {"shape": full})
            content.truncate(content.tell() + math.prod(full) * np.dtype(dtype).itemsize)
        temporary.rename(path)
    with path.open("rb") as content:
        head = _header(content)

    def write(slices: tuple[slice, ...], array: np.ndarray) -> None:
        with path.open("r+b") as content:
            write_box(content, array, full, head.length, slices)
            content.flush()
            os.fsync(content.fileno())

    axes = "ZYX" if classes is None else "CZYX"
    read = array_in(path, head.dtype, full, offset=head.length, trust=CAUTIOUS)
    return Stored(path, full, np.dtype(dtype), axes, axes, None, read, write=write)


def open_npz(path: Path, trust: Trust = CAUTIOUS) -> Stored:
    """One array of an .npz file; nnU-Net's class probabilities have axes CZYX, see nnunet.py.

    It is unpacked into a temporary file (TMPDIR) when it is first read: it needs disk, not memory.

    Args:
        path: "a.npz", or "a.npz:/name" where it holds several arrays.

    Raises:
        BadInput: no .npz file, truncated, no array of that name, or several and none named; one that becomes more than
            it may, or that is not as long as its header says.
    """
    file, name = split_inner(path)
    with _opened(file) as archive:
        member = _member(file, name, archive.namelist())
        head, needed, held = _stated(archive, path, member)
    trusted.check_unpacked(path, needed, held, trust)

    @functools.cache
    def unpacked() -> Copy:
        with zipfile.ZipFile(file) as archive, archive.open(member) as content:
            return temporary_copy(file, content, needed, held, trust)

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        return read_array(unpacked(), path, head.dtype, head.shape, head.length, head.order, slices)

    probabilities = member.removesuffix(".npy") in nnunet.NAMES and len(head.shape) == 4
    axes = "CZYX" if probabilities else None
    stored = Stored(path, head.shape, head.dtype.newbyteorder("="), axes, axes or "?" * len(head.shape), None, read)
    return nnunet.in_place(stored, file, member.removesuffix(".npy")) if probabilities else stored


def read_npz(path: Path, trust: Trust = CAUTIOUS) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name, in memory. Raises BadInput as `open_npz` does, and where they need more of it
    than they may.
    """
    with _opened(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        heads = {member: _stated(archive, path, member) for member in members}
        total, held = (sum(stated[at] for stated in heads.values()) for at in (1, 2))
        trusted.check_piece(path, "its arrays together", total, min(held, path.stat().st_size), trust)
        return {member.removesuffix(".npy"): _values(archive.read(member), heads[member][0]) for member in members}


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except BadInput:  # a ValueError as well, but no damage
        raise
    except (*_DAMAGE, RuntimeError) as error:  # RuntimeError: encrypted, or packed in a way that is not known
        raise BadInput(f"{file} is no readable .npz file, empty or truncated: {error}") from error


def _stated(archive: zipfile.ZipFile, path: Path | str, member: str) -> tuple[_Head, int, int]:
    """(what a member's header says, its bytes, how many of the file they are packed in), which fit together."""
    stated = archive.getinfo(member)
    if stated.compress_type not in _METHODS:
        raise BadInput(f"{path}: {member} is packed in a way that numpy does not use; save it again with numpy")
    with archive.open(member) as content:
        head = _header(content)
    needed = bytes_of(path, head.dtype, head.shape, head.length)
    held = min(stated.compress_size, Path(archive.filename).stat().st_size)
    if needed != stated.file_size:
        raise BadInput(
            f"{path} is damaged: an array of {head.dtype} {head.shape} is {needed} bytes, but {stated.file_size} are "
            "packed; save it again"
        )
    trusted.check_possible(path, needed, held, _METHODS[stated.compress_type])
    return head, needed, held


def _values(content: bytes, head: _Head) -> np.ndarray:
    return np.frombuffer(content, head.dtype, offset=head.length).reshape(head.shape, order=head.order)


def _member(file: Path, name: str | None, names: list[str]) -> str:
    names = [entry.removesuffix(".npy") for entry in names if entry.endswith(".npy")]
    known = [entry for entry in nnunet.NAMES if entry in names]
    if name is None and len(names) > 1 and len(known) != 1:
        raise BadInput(f"{file} holds the arrays {', '.join(names)}; choose one, e.g. {file}:/{names[0]}")
    wanted = name or (known or names or [""])[0]
    if wanted not in names:
        raise BadInput(f"{file} has no array '{wanted}', it holds {', '.join(names) or 'none'}")
    return f"{wanted}.npy"


def _header(content: BinaryIO | Any) -> _Head:
    """What stands at the beginning of a .npy file. Raises ValueError where it is none, or one of Python objects."""
    start = io.BytesIO(content.read(_HEAD_BYTES))
    version = npy.read_magic(start)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(start)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return _Head(shape, "F" if fortran else "C", dtype, start.tell())
