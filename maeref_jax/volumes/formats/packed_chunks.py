"""Chunk files of a local precomputed volume, as CloudVolume, igneous and chunkflow leave them: "NAME.gz" or "NAME.br"
beside or instead of "NAME". TensorStore sees the last only, and reads zeros for the others.

Chunks of a box are unpacked into memory under their own names, from where TensorStore decodes them.
"""

import gzip
import itertools
import json
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.store import exists, is_url, join
from maeref_jax.volumes.formats.stored import extra
from maeref_jax.volumes.formats.trust import Trust, check_stream

_CHUNK = re.compile("_".join([r"(-?\d{1,18})-(-?\d{1,18})"] * 3))
_DRIVER = "neuroglancer_precomputed"


class PackedChunks(NamedTuple):
    """One scale with packed chunks. info: metadata of that scale alone; files: name of a chunk -> its file; size,
    chunk, offset: (x, y, z) voxels.
    """

    folder: Path
    info: dict[str, Any]
    files: dict[str, Path]
    size: tuple[int, ...]
    chunk: tuple[int, ...]
    offset: tuple[int, ...]
    trust: Trust

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        """The voxels in slices of x, y, z and channel, counted from 0. Raises BadInput for a damaged chunk."""
        context = tensorstore.Context()
        memory = tensorstore.KvStore.open({"driver": "memory", "path": "v/"}, context=context).result()
        memory.write("info", json.dumps(self.info).encode()).result()
        key = self.info["scales"][0]["key"]
        for name in self._names(
            [range(s.start // c, -(-s.stop // c)) for s, c in zip(slices, self.chunk, strict=False)]
        ):
            if name in self.files:
                memory.write(f"{key}/{name}", _content(self.files[name], self.trust)).result()
        spec = {"driver": _DRIVER, "kvstore": {"driver": "memory", "path": "v/"}, "open": True}
        try:
            store = tensorstore.open(spec, context=context).result()
            return np.asarray(store[tensorstore.d[:].translate_to[0]][slices].read().result())
        except ValueError as error:
            raise BadInput(f"cannot read {self.folder}, is a chunk damaged? {error}") from error

    def missing(self) -> int:
        """How many chunks of the grid are no file."""
        return math.prod(self._grid()) - sum(map(self._is_chunk, self.files))

    def corners(self) -> set[str]:
        """The names of the first chunk, of the last and of one in the middle."""
        found = ([f(n) for n in self._grid()] for f in (lambda n: 0, lambda n: n // 2, lambda n: n - 1))
        return {name for at in found for name in self._names([range(i, i + 1) for i in at])}

    def _grid(self) -> list[int]:
        return [-(-n // c) for n, c in zip(self.size, self.chunk, strict=True)]

    def _is_chunk(self, name: str) -> bool:
        if not (match := _CHUNK.fullmatch(name)):
            return False
        firsts = [int(first) - start for first, start in zip(match.groups()[::2], self.offset, strict=True)]
        at = [range(first // c, first // c + 1) for first, c in zip(firsts, self.chunk, strict=True)]
        inside = all(0 <= one.start < count for one, count in zip(at, self._grid(), strict=True))
        return inside and name in self._names(at)

    def _names(self, numbers: list[range]) -> Iterator[str]:
        for at in itertools.product(*numbers):
            parts = []
            for number, count, chunk, first in zip(at, self.size, self.chunk, self.offset, strict=True):
                parts.append(f"{first + number * chunk}-{first + min((number + 1) * chunk, count)}")
            yield "_".join(parts)


def look_at_chunks(
    root: Path | str, info: dict[str, Any], store: tensorstore.TensorStore, trust: Trust
) -> tuple[PackedChunks | None, str]:
    """(how to read the chunks, None where TensorStore can by itself; a note where some are not on disk).

    info: metadata of the scale alone. Of scales with shards nothing can be said, and of URLs, which cannot be listed,
    only whether the chunks that are looked at are packed.

    Raises:
        BadInput: chunks packed with brotli where that package is missing; packed ones behind a URL.
    """
    scale = info["scales"][0]
    chunk = tuple(store.chunk_layout.read_chunk.shape[:3])
    size, offset = tuple(store.shape[:3]), tuple(store.domain.origin[:3])
    if scale.get("sharding"):
        return None, ""
    if is_url(root):
        looked_at = PackedChunks(Path(), info, {}, size, chunk, offset, trust).corners()
        _refuse_packed(join(root, said.text(scale.get("key"))), looked_at)
        return None, ""
    folder = Path(root) / said.text(scale.get("key"))
    if not folder.is_dir():
        return None, ""
    files: dict[str, Path] = {}
    packed = {".gz", ".br"}
    for file in sorted(folder.iterdir(), key=lambda file: file.suffix not in packed):  # not packed: the last, and wins
        files[file.stem if file.suffix in packed else file.name] = file
    chunks = PackedChunks(folder, info, files, size, chunk, offset, trust)
    if any(file.suffix == ".br" for file in files.values()):
        extra("brotli", folder)
    count, missing = math.prod(-(-n // c) for n, c in zip(size, chunk, strict=True)), chunks.missing()
    note = f"{missing} of {count} chunks are not on disk, their voxels read as 0" if missing else ""
    return chunks if any(file.suffix in packed for file in files.values()) else None, note


def _refuse_packed(location: str | Path, names: set[str]) -> None:
    """BadInput for a URL where some of these chunks are packed: TensorStore would read zeros."""
    for name in sorted(names):
        if not exists(location, name) and any(exists(location, name + suffix) for suffix in (".gz", ".br")):
            raise BadInput(
                f"{location} holds chunks packed as {name}.gz or .br, which are read from a folder only; copy it to one"
            )


def _content(file: Path, trust: Trust) -> bytes:
    content = file.read_bytes()
    if file.suffix == ".br":
        brotli = extra("brotli", file)
        try:
            return brotli.decompress(content)
        except brotli.error as error:
            raise BadInput(f"{file} cannot be unpacked, is it damaged? {error}") from error
    if file.suffix != ".gz":
        return content
    check_stream(file, lambda: content, len(content), trust)
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{file} cannot be unpacked, is it damaged? {error}") from error
