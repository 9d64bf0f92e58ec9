"""Clean-up of masks of any size, block by block: the same as masking/cleaning.py does to one that fits in memory.

What depends on a neighbourhood reads as far around a block as that reaches. What depends on all of it, holes and
pieces, is found by connected components of the blocks (volumes/components.py). Both are written to a folder meanwhile.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from maeref_jax.masking import cleaning as rules
from maeref_jax.masking.cleaning import Cleaning
from maeref_jax.volumes import progress, threads
from maeref_jax.volumes.components import Mask, find_components, pieces_of
from maeref_jax.volumes.resolution import onto
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.windows import Box, blocks, whole
from maeref_jax.volumes.writing import create_volume

AT_ONCE = 2**21  # voxels of a block
_SLICES = 2**24  # voxels of whole slices, where there is more than one


def block_of(shape: Sequence[int]) -> tuple[int, int, int]:
    """The blocks that a mask is cleaned in: all of a small one."""
    if math.prod(shape) <= AT_ONCE:
        return tuple(shape)
    return tuple(min(n, b) for n, b in zip(shape, (32, 256, 256), strict=True))


def cleaned(mask: Volume, cleaning: Cleaning, scratch: Path, block: Sequence[int] | None = None) -> Volume:
    """The mask (bool) after a clean-up, to be read by boxes while `scratch`, an empty folder, is there: it holds what
    was found in between. The result does not depend on `block`.

    Raises:
        BadInput: settings that mean nothing, or lengths where the mask's voxel size is not known.
        OSError: the disk is full.
    """
    rules.check(cleaning, mask.voxel_size_nm, mask.path)
    shape, size, block = mask.shape, mask.voxel_size_nm, tuple(block or block_of(mask.shape))
    read, store = mask.read, functools.partial(_stored, shape, block, scratch)
    if cleaning.close_nm:
        read = store("closed", _around(read, shape, rules.closed, cleaning.close_nm, size, 2))
    if cleaning.fill_holes == "2d":
        read = _filled_slices(read, shape, block, scratch)
    elif cleaning.fill_holes == "3d":
        read = _chosen(read, shape, block, scratch, "filled", _cavities)
    if cleaning.open_nm:
        read = store("opened", _around(read, shape, rules.opened, cleaning.open_nm, size, 2))
    if cleaning.pieces_matter:
        how = functools.partial(_pieces, most=cleaning.most, smallest_vx=cleaning.smallest_vx)
        read = _chosen(read, shape, block, scratch, "kept", how)
    if cleaning.grow_nm:
        read = _around(read, shape, rules.grown, cleaning.grow_nm, size, 1)
    return replace(mask, dtype=np.dtype(bool), _read=read, _write=None, levels=tuple)


def finer(mask: Volume, shape: tuple[int, int, int], voxel_size_nm: Sequence[float]) -> Volume:
    """The mask on a finer grid (z, y, x) of the same extent, bool, its border smooth: where more than half of what is
    interpolated linearly between the centres of voxels is inside. Raises BadInput as `resolution.onto`.
    """

    def read(box):
        return (mask.read(box) != 0).astype(np.float32)

    found = onto(replace(mask, dtype=np.dtype(np.float32), _read=read, levels=tuple), shape, voxel_size_nm, "mean")
    return replace(found, dtype=np.dtype(bool), _read=lambda box: found.read(box) > 0.5)


def _around(read: Mask, shape, function, length_nm, size, times) -> Mask:
    """A function of the mask, a length and the voxel size, that depends on what lies within `times` the length."""
    reach = [times * n for n in rules.reach(length_nm, size)]
    return _grown_read(read, shape, reach, lambda array: function(array, length_nm, size))


def _grown_read(read, shape, reach, function) -> Callable[[Box], np.ndarray]:
    def wider(box):
        around = box.grow(reach).intersect(whole(shape))
        return function(read(around))[box.within(around).slices]

    return wider


def _stored(shape, block, scratch, name, read: Mask) -> Mask:
    """The mask, once computed."""
    made = create_volume(scratch / f"{name}.zarr", shape, np.uint8, chunk=tuple(block))
    boxes = blocks(shape, block)

    def work(box):
        made.write(box, read(box).astype(np.uint8))

    with progress.showing(f"clean-up: {name}", len(boxes), "block") as shown:
        for _ in threads.as_done(work, boxes):
            shown.advance()
    return lambda box: made.read(box) != 0


def _filled_slices(read, shape, block, scratch) -> Mask:
    """Of whole slices, a few at a time; one has to fit in memory."""
    depth = max(1, min(block[0], _SLICES // math.prod(shape[1:])))
    made = create_volume(scratch / "slices.zarr", shape, np.uint8, chunk=(depth, *block[1:]))
    boxes = blocks(shape, (depth, *shape[1:]))
    with progress.showing("clean-up: filled slices", len(boxes), "slab") as shown:
        for box in boxes:
            made.write(box, rules.filled_slices(read(box)).astype(np.uint8))
            shown.advance()
    return lambda box: made.read(box) != 0


def _chosen(read, shape, block, scratch, name, choose) -> Mask:
    """The mask of what `choose` takes of the pieces of connected components, once computed."""
    made = create_volume(scratch / f"{name}.zarr", shape, np.uint8, chunk=tuple(block))
    for box, found in choose(read, shape, block, scratch):
        made.write(box, found.astype(np.uint8))
    return lambda box: made.read(box) != 0


def _cavities(read, shape, block, scratch):
    """The mask with all background but that which is connected with the volume's border."""

    def background(box):
        return ~read(box)

    found = find_components(background, shape, block, 0, scratch)
    outside = np.zeros(found.count + 1, bool)
    for box, pieces, number in pieces_of(found, background, "background at the border"):
        for axis, (start, stop, size) in enumerate(zip(box.start, box.stop, shape, strict=True)):
            for at in [0] * (start == 0) + [-1] * (stop == size):
                outside[number[np.unique(pieces.take(at, axis))]] = True
    outside[0] = False
    for box, pieces, number in pieces_of(found, background, "clean-up: holes"):
        yield box, ~outside[number][pieces]


def _pieces(read, shape, block, scratch, most, smallest_vx):
    """Those pieces of the mask that are kept."""
    found = find_components(read, shape, block, 0, scratch)
    sizes = np.zeros(found.count + 1, np.int64)
    for _, pieces, number in pieces_of(found, read, "sizes of pieces"):
        np.add.at(sizes, number, np.bincount(pieces.ravel(), minlength=len(number)))
    kept = rules.chosen(sizes[1:], most, smallest_vx)
    for box, pieces, number in pieces_of(found, read, "clean-up: pieces"):
        yield box, kept[number][pieces]
