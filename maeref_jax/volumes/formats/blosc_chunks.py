"""Chunks packed with blosc: each says how much it becomes, up to 2 GB, and so much is set aside for it, whatever the
array says of its chunks. So it is looked at before a chunk is read; of local arrays without shards.
"""

import itertools
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.stored import Stored


class Named(NamedTuple):
    """How the files of chunks are called: the prefix, then their numbers. of_n5: a file begins with N5's own header."""

    prefix: str
    separator: str
    of_n5: bool = False


def named(metadata: dict[str, Any]) -> Named | None:
    """How an array's files with blosc chunks are called, by its metadata: Zarr 2, Zarr 3 or N5. None where its chunks
    are packed otherwise, or lie in shards.
    """
    if said.mapping(metadata.get("compressor")).get("id") == "blosc":
        return Named("", said.text(metadata.get("dimension_separator")) or ".")
    if said.mapping(metadata.get("compression")).get("type") == "blosc":
        return Named("", "/", of_n5=True)
    if not any(said.mapping(codec).get("name") == "blosc" for codec in said.items(metadata.get("codecs"))):
        return None
    encoding = said.mapping(metadata.get("chunk_key_encoding"))
    first, usual = ("", ".") if encoding.get("name") == "v2" else ("c", "/")
    separator = said.text(said.mapping(encoding.get("configuration")).get("separator")) or usual
    return Named(first and first + separator, separator)


def checked(stored: Stored, folder: Path, store: tensorstore.TensorStore, names: Named) -> Stored:
    """The same array, whose `read` raises BadInput for a chunk that becomes more than the array's chunks are."""
    chunk = store.chunk_layout.read_chunk.shape
    most = math.prod(chunk) * store.dtype.numpy_dtype.itemsize

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        boxes = zip(slices, store.shape, chunk, strict=True)
        at = [range(one.indices(n)[0] // c, -(-one.indices(n)[1] // c)) for one, n, c in boxes]
        for numbers in itertools.product(*at):
            file = folder / (names.prefix + names.separator.join(map(str, numbers)))
            if file.is_file() and (found := _becomes(file, names.of_n5)) > most:
                raise BadInput(
                    f"{file} is damaged: it says that it becomes {found} bytes, a chunk is {most}; copy it again"
                )
        return stored.read(slices)

    return stored._replace(read=read)


def _becomes(file: Path, of_n5: bool) -> int:
    with file.open("rb") as content:
        if of_n5:
            mode, rank = struct.unpack(">2H", content.read(4).ljust(4, b"\0"))
            content.seek(4 + 4 * rank + 4 * (mode == 1))
        return int.from_bytes(content.read(8)[4:], "little")
