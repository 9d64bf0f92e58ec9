"""Connected components of a volume of any size, block by block.

Voxels are connected by faces. Components are numbered by their first voxel (in z, y, x order), so that the numbers do
not depend on the blocks. Memory: a block, and a few numbers per piece of a component in a block. The last slice of
every block is kept in a temporary file until the block behind it comes: scratch_bytes in all. It is written and read,
never mapped into memory: a full disk is an error then, and not the end of the process.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy

from maeref_jax.volumes import progress
from maeref_jax.volumes.windows import Box, blocks

Mask = Callable[[Box], np.ndarray]


def scratch_bytes(shape: tuple[int, int, int], block: tuple[int, int, int]) -> int:
    """What the temporary file of `find_components` holds at most."""
    return 0 if shape[0] <= block[0] else math.prod(shape[1:]) * np.dtype(np.int32).itemsize


class Components(NamedTuple):
    """What `find_components` found: the components 1 … `count`, and those that were too small.

    boxes: the blocks, in order; first_piece: of each block, how many pieces the blocks before have
    number: int64, of each piece, its component, 0 for one that is too small
    """

    count: int
    small: int
    small_voxels: int
    boxes: list[Box]
    first_piece: list[int]
    number: np.ndarray


def find_components(
    mask: Mask, shape: tuple[int, int, int], block: tuple[int, int, int], smallest_vx: int, scratch: Path
) -> Components:
    """Numbers the components of `mask` that have at least `smallest_vx` voxels.

    mask: bool array of a Box, always the same for the same box; scratch: folder for a temporary file.

    Raises:
        OSError: the disk is full.
    """
    boxes, first_piece, total = blocks(shape, block), [], 0
    first, sizes, edges = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
    with (
        tempfile.TemporaryFile(dir=scratch) as file,
        progress.showing("connected pieces", len(boxes), "block") as shown,
    ):
        layer = sum(box.start[0] == 0 for box in boxes)  # blocks
        before = np.zeros((block[0], shape[2]), np.int64)
        beside = np.zeros((0, 0), np.int64)
        for box in boxes:
            pieces, count = scipy.ndimage.label(mask(box))
            first_piece.append(total)
            first.append(_first_voxels(pieces, count, box, shape))
            sizes.append(np.bincount(pieces.ravel(), minlength=count + 1)[1:])
            ids, columns = _ids(pieces, total), box.slices[2]
            file.seek(4 * (box.start[1] * shape[2] + box.start[2] * box.shape[1]))  # of this place (y, x)
            if box.start[0]:
                below = np.frombuffer(file.read(4 * ids[0].size), np.int32).reshape(ids[0].shape)
                edges.append(_touching(_ids(below, first_piece[-1 - layer]), ids[0]))
                file.seek(-below.nbytes, os.SEEK_CUR)
            if box.start[1]:
                edges.append(_touching(before[: len(ids), columns], ids[:, 0]))
            if box.start[2]:
                edges.append(_touching(beside, ids[:, :, 0]))
            if box.stop[0] < shape[0]:
                file.write(pieces[-1].tobytes())
            before[: len(ids), columns], beside = ids[:, -1], ids[:, :, -1]
            total += count
            shown.advance()
    return _number(boxes, first_piece, np.concatenate(first), np.concatenate(sizes), edges, smallest_vx)


def pieces_of(
    found: Components, mask: Mask, what: str = "connected pieces"
) -> Iterator[tuple[Box, np.ndarray, np.ndarray]]:
    """Every block again: its box, its pieces int32 (z, y, x), 0 outside, and the component of each piece; [0] is 0.

    what: is done with them, for whoever waits.
    """
    with progress.showing(what, len(found.boxes), "block") as shown:
        for box, start in zip(found.boxes, found.first_piece, strict=True):
            pieces, count = scipy.ndimage.label(mask(box))
            yield box, pieces, np.concatenate([[0], found.number[start : start + count]])
            shown.advance()


def extend_boxes(low: np.ndarray, high: np.ndarray, pieces: np.ndarray, number: np.ndarray, start) -> None:
    """Makes the bounding boxes of components, first voxels `low` and last + 1 `high` (int64 (count + 1, 3)), hold the
    pieces of a block that begins at `start`.
    """
    found = [[(axis.start, axis.stop) for axis in slices] for slices in scipy.ndimage.find_objects(pieces)]
    bounds = np.array(found, np.int64).reshape(-1, 3, 2) + np.array(start)[:, None]
    np.minimum.at(low, number[1:], bounds[..., 0])
    np.maximum.at(high, number[1:], bounds[..., 1])


def _ids(pieces: np.ndarray, first: int) -> np.ndarray:
    """Numbers in the whole volume, int64, of pieces int32 of a block before which there are `first`; 0 outside."""
    return np.where(pieces, pieces + np.int64(first), 0)


def _first_voxels(pieces, count, box, shape):
    """Index in the whole volume of each piece's first voxel."""
    inside = np.flatnonzero(pieces)
    first = np.zeros(count + 1, np.int64)
    first[pieces.ravel()[inside[::-1]]] = inside[::-1]  # the last one assigned stays
    at = np.unravel_index(first[1:], box.shape)
    return np.ravel_multi_index([i + start for i, start in zip(at, box.start, strict=True)], shape)


def _touching(one, other):
    both = (one > 0) & (other > 0)
    pairs = np.stack([one[both], other[both]], -1)
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(1)  # most repeat their neighbour: fewer to sort
    return np.unique(pairs[new], axis=0)


def _number(boxes, first_piece, first, sizes, edges, smallest_vx):
    pieces = len(first)
    pairs = np.concatenate([*edges, np.zeros((0, 2), np.int64)]) - 1
    graph = scipy.sparse.coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(pieces, pieces))
    count, joined = 0, np.zeros(0, np.int64)
    if pieces:
        count, joined = scipy.sparse.csgraph.connected_components(graph, directed=False)
    earliest, voxels = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
    np.minimum.at(earliest, joined, first)
    np.add.at(voxels, joined, sizes)
    large = voxels >= smallest_vx
    order = np.argsort(np.where(large, earliest, np.iinfo(np.int64).max), kind="stable")[: large.sum()]
    number = np.zeros(count, np.int64)
    number[order] = np.arange(1, len(order) + 1)
    small = count - len(order)
    return Components(len(order), int(small), int(voxels[~large].sum()), boxes, first_piece, number[joined])
