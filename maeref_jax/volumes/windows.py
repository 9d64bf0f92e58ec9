"""Boxes of a volume: blocks to read, write and resume by, and the fixed lattice of a model's windows.

The lattice is anchored at the volume's origin and knows nothing of blocks, so results do not depend on how
a volume is cut into blocks, in what order, or by how many workers. Everything is in voxels, order z, y, x.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """The half-open box start <= voxel < stop. It may reach beyond a volume; whoever reads it then pads."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        return tuple(slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def empty(self) -> bool:
        return min(self.shape) <= 0

    def shift(self, offset: Sequence[int]) -> "Box":
        """The box moved by `offset`."""
        move = tuple(offset)
        return Box(
            tuple(a + b for a, b in zip(self.start, move, strict=True)),
            tuple(a + b for a, b in zip(self.stop, move, strict=True)),
        )

    def within(self, frame: "Box") -> "Box":
        """The same box in coordinates whose origin is `frame.start`."""
        return self.shift([-start for start in frame.start])

    def grow(self, reach: Sequence[int]) -> "Box":
        """The box with `reach` voxels more on both sides of each axis."""
        return Box(
            tuple(a - r for a, r in zip(self.start, reach, strict=True)),
            tuple(b + r for b, r in zip(self.stop, reach, strict=True)),
        )

    def intersect(self, other: "Box") -> "Box":
        """The common part; `empty` when there is none."""
        return Box(
            tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True)),
            tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True)),
        )

    def hull(self, other: "Box") -> "Box":
        """The smallest box that holds both."""
        return Box(
            tuple(min(a, b) for a, b in zip(self.start, other.start, strict=True)),
            tuple(max(a, b) for a, b in zip(self.stop, other.stop, strict=True)),
        )


def whole(shape: Sequence[int]) -> Box:
    """The box of a volume of this shape."""
    return Box((0, 0, 0), tuple(shape))


def lattice(size: int, window: int, stride: int) -> tuple[int, ...]:
    """Starts of the windows along one axis: 0, stride, 2 stride, ... and the last one flush with the border.

    A volume smaller than the window has the single start 0 (the window then reaches beyond it). Every voxel
    is covered.

    Raises:
        ValueError: stride > window, which would leave gaps, or a length below one.
    """
    if not 1 <= stride <= window or size < 1:
        raise ValueError(f"need size >= 1 and 1 <= stride <= window, found {size=}, {window=}, {stride=}")
    if size <= window:
        return (0,)
    return (*range(0, size - window, stride), size - window)


def shares(size: int, window: int, stride: int) -> list[tuple[int, int, int]]:
    """(start of the window, start and stop of its share) along one axis: the lattice's windows share out the voxels,
    each going to the window whose centre is nearest, the one that counts most where windows are blended.
    """
    starts = lattice(size, window, stride)
    borders = [0, *((a + b + window) // 2 for a, b in itertools.pairwise(starts)), size]
    return list(zip(starts, borders, borders[1:], strict=False))


def windows_touching(shape: Sequence[int], window: Sequence[int], stride: Sequence[int], box: Box) -> list[Box]:
    """The windows of the volume's lattice that share a voxel with `box`, in lexicographic order."""
    starts = [
        [s for s in lattice(size, w, step) if s < stop and s + w > start]
        for size, w, step, start, stop in zip(shape, window, stride, box.start, box.stop, strict=True)
    ]
    return [
        Box(start, tuple(s + w for s, w in zip(start, window, strict=True))) for start in itertools.product(*starts)
    ]


def blocks(shape: Sequence[int], block: Sequence[int]) -> list[Box]:
    """The volume cut into boxes of shape `block` (smaller at the far borders), in lexicographic order."""
    starts = [range(0, size, step) for size, step in zip(shape, block, strict=True)]
    return [
        Box(start, tuple(min(s + b, size) for s, b, size in zip(start, block, shape, strict=True)))
        for start in itertools.product(*starts)
    ]


def blending_weight(window: Sequence[int]) -> np.ndarray:
    """float32 of shape `window`: a Gaussian bump (sigma = window / 4 per axis), 1 at the centre, > 0
    everywhere.

    A model sees least context at its window's border, so that is where a neighbouring window counts more.
    """
    weight = np.ones((), np.float64)
    for size in window:
        distance = (np.arange(size) - (size - 1) / 2) / (size / 4)
        weight = weight[..., None] * np.exp(-0.5 * distance**2)
    return weight.astype(np.float32)


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is >= size."""
    return math.ceil(size / multiple) * multiple
