"""One array in a file as it is, or packed with gzip: memory-mapped when it is first read, from the file itself or from
a temporary copy (TMPDIR) that is unpacked then and gone with whoever reads it. It needs disk, not memory."""

import contextlib
import functools
import gzip
import math
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from maeref_jax.errors import BadInput

_COPIED_BYTES = 1 << 24
DAMAGE = (OSError, EOFError, zlib.error)


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
    order: str = "C",
    packed_from: int | None = None,
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """What reads the slices of an array that begins at byte `offset`, as its dtype in the machine's byte order.

    Args:
        order: "C" where the last axis is the fastest, "F" where the first is.
        packed_from: the byte from which on the file is packed with gzip, `offset` being one of what comes out; None
            where nothing is packed.

    Raises:
        BadInput: the file is too short; from what is returned: it cannot be unpacked.
    """
    native, needed = dtype.newbyteorder("="), offset + math.prod(shape) * dtype.itemsize
    if packed_from is None and path.stat().st_size < needed:
        raise BadInput(
            f"{path} ({path.stat().st_size} bytes) is truncated or damaged: an array of {native} {shape} ends at byte "
            f"{needed}; copy it again"
        )

    @functools.cache
    def mapped() -> np.ndarray:
        content = path.open("rb") if packed_from is None else _unpacked(path, packed_from, needed)
        with content:  # the mapping outlives the file handle, and a nameless copy's disk is freed with it
            return np.memmap(content, dtype, "r", offset=offset, shape=shape, order=order)

    return lambda slices: np.array(mapped()[slices], native)


def _unpacked(path: Path, start: int, needed: int) -> BinaryIO:
    with contextlib.ExitStack() as made:
        copy = made.enter_context(tempfile.TemporaryFile())
        try:
            with path.open("rb") as file:
                file.seek(start)
                with gzip.open(file) as content:
                    while data := content.read(_COPIED_BYTES):  # gzip's checksum is compared at its end
                        copy.write(data)
        except DAMAGE as error:
            raise BadInput(f"{path} cannot be unpacked, is it damaged, or is the disk full? {error}") from error
        copy.flush()
        if copy.tell() < needed:
            raise BadInput(
                f"{path} is truncated or damaged: {copy.tell()} bytes in it, expected {needed}; copy it again"
            )
        made.pop_all()
        return copy
