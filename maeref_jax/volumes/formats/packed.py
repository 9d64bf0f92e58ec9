"""One array in a file as it is, or packed with gzip: read from the file itself, or from a temporary copy (TMPDIR),
which is unpacked when it is first needed and gone with whoever reads it. It needs disk, not memory.
"""

import contextlib
import functools
import gzip
import math
import tempfile
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import trust as trusted
from maeref_jax.volumes.formats.raw import read_box
from maeref_jax.volumes.formats.trust import Trust

_COPIED_BYTES = 1 << 24
DAMAGE = (OSError, EOFError, zlib.error)


@dataclass(frozen=True, eq=False)
class Copy:
    """A nameless file of unpacked bytes, and who reads it: it has one position."""

    content: BinaryIO
    one_reader: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self):
        weakref.finalize(self, self.content.close)


def is_packed(path: Path) -> bool:
    """Whether a file says by its name that it is packed with gzip."""
    return path.name.lower().endswith(".gz")


@contextlib.contextmanager
def content_of(path: Path):
    """The bytes of a file, unpacked where its name says that it is packed; to read its head."""
    with gzip.open(path) if is_packed(path) else path.open("rb") as content:
        yield content


def array_in(
    path: Path,
    dtype: np.dtype,
    shape: tuple[int, ...],
    *,
    offset: int,
    trust: Trust,
    order: str = "C",
    packed_from: int | None = None,
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """What reads the slices of an array that begins at byte `offset`, as its dtype in the machine's byte order.

    Args:
        order: "C" where the last axis is the fastest, "F" where the first is.
        packed_from: the byte from which on the file is packed with gzip, `offset` being one of what comes out; None
            where nothing is packed.

    Raises:
        BadInput: the file is too short, or becomes more than it may; from what is returned: it cannot be unpacked.
    """
    native, needed, size = dtype.newbyteorder("="), bytes_of(path, dtype, shape, offset), path.stat().st_size
    if packed_from is None and size < needed:
        raise BadInput(
            f"{path} ({size} bytes) is truncated or damaged: an array of {native} {shape} ends at byte {needed}; copy "
            "it again"
        )
    if packed_from is None:
        return lambda slices: read_array(path, path, dtype, shape, offset, order, slices)
    held = size - packed_from
    trusted.check_possible(path, needed, held)
    trusted.check_unpacked(path, needed, held, trust)

    @functools.cache
    def unpacked() -> Copy:
        with path.open("rb") as file:
            file.seek(packed_from)
            with gzip.open(file) as content:
                return temporary_copy(path, content, needed, held, trust)

    return lambda slices: read_array(unpacked(), path, dtype, shape, offset, order, slices)


def bytes_of(path: str | Path, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> int:
    """The byte at which an array ends that begins at byte `offset`. Raises BadInput for numbers that cannot be."""
    if min((*shape, offset)) < 0:
        raise BadInput(f"{path} is damaged: an array of shape {shape} at byte {offset} is not possible")
    return offset + math.prod(map(int, shape)) * dtype.itemsize


def temporary_copy(path: Path, content: BinaryIO, needed: int, held: int, trust: Trust) -> Copy:
    """A nameless file with the first `needed` bytes of the unpacked `content` of a file of `held` bytes; its disk is
    freed when it is closed. The content is read to its end, where its checksum is.

    Raises:
        BadInput: a damaged file, one that becomes more than it may, or no room.
    """
    trusted.room_for(path, needed)
    most, count = trusted.most_unpacked(held, trust), 0
    with contextlib.ExitStack() as made:
        try:
            copy = made.enter_context(tempfile.TemporaryFile())
            while data := content.read(_COPIED_BYTES):
                copy.write(data[: max(0, needed - count)])
                count += len(data)
                if count > max(most, needed):
                    trusted.check_unpacked(path, count, held, trust)
            copy.flush()
        except BadInput:
            raise
        except (*DAMAGE, ValueError) as error:
            raise BadInput(f"{path} cannot be unpacked, is it damaged, or is the disk full? {error}") from error
        if count < needed:
            raise BadInput(f"{path} is truncated or damaged: {count} bytes in it, expected {needed}; copy it again")
        made.pop_all()
        return Copy(copy)


@contextlib.contextmanager
def _opened(place: Path | Copy) -> Iterator[BinaryIO]:
    if isinstance(place, Path):
        with place.open("rb", buffering=0) as content:
            yield content
    else:
        with place.one_reader:
            yield place.content


def read_array(
    place: Path | Copy, name: str | Path, dtype: np.dtype, shape: tuple, offset: int, order: str, slices: tuple
) -> np.ndarray:
    """The voxels in `slices` of an array as of `array_in`, in a file or a copy of one; `name` is what it is called."""
    if order == "F":  # which is C, the axes the other way round
        return read_array(place, name, dtype, shape[::-1], offset, "C", slices[::-1]).T
    with _opened(place) as content:
        return np.asarray(read_box(content, name, dtype, shape, offset, slices), dtype.newbyteorder("="))
