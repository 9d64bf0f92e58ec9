"""An array that lies in a file as it is, read and written box by box, with few reads and without mapping it: a file
that is cut off while it is read is an error here, where a memory map ends the process.
"""

import itertools
import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from maeref_jax.errors import BadInput

# One more read costs about as much as so many bytes more in one that is done anyway.
_READ_BYTES = 1 << 15


def read_box(
    content: BinaryIO, name: str | Path, dtype: np.dtype, shape: tuple[int, ...], offset: int, slices: tuple[slice, ...]
) -> np.ndarray:
    """The voxels in `slices` (step 1) of an array in C order that begins at byte `offset`, of its dtype.

    Raises:
        BadInput: the file ends before them; `name` is what it is called.
    """
    ranges = [range(*one.indices(count)) for one, count in zip(slices, shape, strict=True)]
    lengths = [len(one) for one in ranges]
    found = np.empty(lengths, dtype)
    if not found.size:
        return found
    strides = [math.prod(shape[axis + 1 :]) * dtype.itemsize for axis in range(len(shape))]
    cut = _cut(lengths, shape, strides)
    # Of the axes behind the cut everything is read, and what is not asked for dropped.
    run = np.empty((lengths[cut], *shape[cut + 1 :]), dtype)
    inside = (slice(None), *slices[cut + 1 :])
    for at in itertools.product(*ranges[:cut]):
        place = sum(index * stride for index, stride in zip((*at, ranges[cut].start), strides[: cut + 1], strict=True))
        content.seek(offset + place)
        _fill(content, run, name)
        found[tuple(index - one.start for index, one in zip(at, ranges, strict=False))] = run[inside]
    return found


def write_box(
    content: BinaryIO, array: np.ndarray, shape: tuple[int, ...], offset: int, slices: tuple[slice, ...]
) -> None:
    """Writes `array` into `slices` (step 1) of an array in C order of its dtype that begins at byte `offset`.

    Raises:
        OSError: the disk is full or gone.
    """
    ranges = [range(*one.indices(count)) for one, count in zip(slices, shape, strict=True)]
    strides = [math.prod(shape[axis + 1 :]) * array.itemsize for axis in range(len(shape))]
    # Behind the last axis that is not whole everything lies together.
    cut = max((axis for axis, one in enumerate(ranges) if len(one) < shape[axis]), default=0)
    for at in itertools.product(*ranges[:cut]):
        place = sum(index * stride for index, stride in zip((*at, ranges[cut].start), strides[: cut + 1], strict=True))
        content.seek(offset + place)
        piece = array[tuple(index - one.start for index, one in zip(at, ranges, strict=False))]
        content.write(np.ascontiguousarray(piece).tobytes())


def _cut(lengths: list[int], shape: tuple[int, ...], strides: list[int]) -> int:
    """The axis up to which every index is a read of its own."""

    def cost(axis: int) -> int:
        return math.prod(lengths[:axis]) * (_READ_BYTES + lengths[axis] * strides[axis])

    return min(reversed(range(len(shape))), key=cost)


def _fill(content: BinaryIO, run: np.ndarray, name: str | Path) -> None:
    view = memoryview(run.reshape(-1).view(np.uint8))
    done = 0
    while done < len(view):
        count = content.readinto(view[done:])
        if not count:
            raise BadInput(f"{name} ends before its voxels do: was it cut off while it was read? copy it again")
        done += count
