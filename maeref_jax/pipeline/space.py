"""How much disk a refinement takes, and whether it is there: said before work begins, not when the disk is full.

How far arrays can be compressed nobody knows before, so what is counted is the most: nothing compressed. A disk that
does not hold the most is doubted; one that does not hold what is written without compression is refused. Quotas are not
seen: whoever meets one, or a disk that filled up meanwhile, stops, and the same command goes on.
"""

import itertools
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import MARK, CannotGoOn
from maeref_jax.pipeline import file_grid
from maeref_jax.results import maps, marks
from maeref_jax.results.place import EXPORTS, Output
from maeref_jax.volumes.components import scratch_bytes
from maeref_jax.volumes.formats.packed import is_packed
from maeref_jax.volumes.pyramid import level_factors
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.windows import blocks

# Exports that are as large as they are, and bytes of a voxel in them.
UNCOMPRESSED = dict.fromkeys((".tif", ".tiff", ".ome.tif", ".ome.tiff", ".nii", ".npy", ".precomputed"), 1)
UNCOMPRESSED |= {".mrc": 2, ".rec": 2}
_FILE = 4096  # bytes that a file takes at least: every chunk and every mark is one
_SKELETON = 1  # byte of SWC files for each voxel: a line of 60 for every 60th, which no anatomy has
_REST = 4 << 20  # tables, logs of workers, pictures in the report
_UNPACKED = (".npz", ".nrrd")  # beside .gz: of NRRD only some are packed


class Needed(NamedTuple):
    """Bytes at most: of the arrays with their coarser levels, the exports by name and suffix, and what is beside."""

    arrays: int
    exports: dict[tuple[str, str], int]
    beside: int

    @property
    def most(self) -> int:
        return self.arrays + sum(self.exports.values()) + self.beside

    @property
    def least(self) -> int:
        """Bytes of the exports that are not compressed: they are what they are."""
        return sum(size for (_, suffix), size in self.exports.items() if suffix in UNCOMPRESSED)


def needed(
    roles: Sequence[str],
    shape: tuple[int, int, int],
    block: tuple[int, int, int],
    voxel_size_nm: tuple | None,
    image: Volume | None,
    formats: Iterable[str],
    file: Volume | None = None,
) -> Needed:
    """What refining a volume of that shape writes. roles: of the arrays, see maps.KINDS; formats: suffixes; file: what
    the result is brought back to the grid of, None where it is the same.
    """
    arrays = _arrays(roles, shape, block, voxel_size_nm, image)
    made = itertools.product((name for name in EXPORTS if name in roles), formats)
    exported = math.prod(file.shape if file is not None else shape)
    exports = {one: exported * UNCOMPRESSED.get(one[1], 1) for one in made}
    steps = 2 + ("image" in roles)
    beside = _FILE * steps * len(blocks(shape, block)) + scratch_bytes(shape, block) + _REST
    if file is not None:
        back = [role for role in file_grid.HOW if role in roles]
        beside += _arrays(back, file.shape, block, file.voxel_size_nm, None)
    return Needed(arrays, exports, beside + _SKELETON * math.prod(shape) * ("objects_initial" in roles))


def _arrays(roles, shape, block, voxel_size_nm, image) -> int:
    """Bytes of arrays of that shape with their coarser levels."""
    levels = [
        tuple(-(-n // f) for n, f in zip(shape, factor, strict=True))
        for factor in level_factors(tuple(shape), voxel_size_nm, 64)
    ]
    voxels, files = (sum(math.prod(of(level)) for level in levels) for of in (tuple, lambda n: _files(n, block)))
    found = 0
    for role in roles:
        dtype = maps.KINDS[role].dtype or (image.dtype if image is not None else "uint8")
        found += voxels * np.dtype(dtype).itemsize + _FILE * files
    return found


def temporary_bytes(volumes: Iterable[Volume]) -> int:
    """What packed inputs take in the folder for temporary files (TMPDIR) while one process reads them, at most."""
    filed = [volume.file or volume for volume in volumes]
    packed = (v for v in filed if v.source and (is_packed(v.source) or v.source.suffix.lower() in _UNPACKED))
    return sum(math.prod(v.shape) * (v.classes or 1) * np.dtype(v.dtype).itemsize for v in packed)


def free_in(directory: Path) -> tuple[int, Path]:
    """Bytes that are free where a folder is, or will be made, and the folder that was asked."""
    there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free, there


def check(place: Output, found: Needed, share_done: float, say: Callable[[str], None]) -> None:
    """Says where the disk may not hold what is still to be written. share_done: of the blocks.

    Raises:
        CannotGoOn: it does not hold the exports alone, which are not compressed.
    """
    free, there = free_in(place.directory)
    exports = {one: size for one, size in found.exports.items() if not place.export(*one).exists()}
    left = found._replace(arrays=round((1 - share_done) * found.arrays), exports=exports)
    if left.least > free:
        raise CannotGoOn(
            f"{place.stem}: the exports, which are not compressed, take {size(left.least)}, and {size(free)} are free "
            f"in {there}; make room, choose another --output, or leave out --export and set --config.tiff_export=false"
        )
    if left.most > free:
        say(
            f"{MARK}{place.stem}: {size(left.most)} are written if nothing can be compressed (usually a fraction), and "
            f"{size(free)} are free in {there}; if the disk is full before the end, make room and give the same "
            "command again: it goes on"
        )


def share_done(place: Output, steps: Sequence[str], count: int) -> float:
    """Which share of the blocks of all passes is finished. count: of the blocks."""
    return sum(len(marks.finished(place, step)) for step in steps) / (len(steps) * count)


def size(count: float) -> str:
    """Bytes as a person reads them."""
    unit, name = next((one for one in ((1e9, "GB"), (1e6, "MB")) if count >= one[0]), (1e3, "kB"))
    return f"{count / unit:.3g} {name}"


def _files(shape: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-n // c) for n, c in zip(shape, chunk, strict=True))
