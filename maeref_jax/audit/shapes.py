"""The shape of every object: its cristae, its skeleton, an SWC file of it.

Objects that lie near each other are read together, and cut out of what was read: a block of the volume is not unpacked
once for every object in it.
"""

import itertools
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import scipy

from maeref_jax.metrics import skeleton
from maeref_jax.volumes import threads
from maeref_jax.volumes.progress import Shown
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.windows import Box, blocks

# A bounding box of more voxels gets no skeleton: about 8 bytes of memory are needed for each.
LARGEST_VX = 2**26
_LARGE_VX = 2**22  # of those with more, one at a time has its skeleton made
_TOGETHER_VX, _TOGETHER = 2**22, 512  # voxels, and objects, that are read together
_large = threading.Lock()
_PART = (64, 512, 512)  # read at once
COLUMNS = ("cristae_count", "skeleton_nm", "branches", "end_points", "cycles", "note")


def measure_shapes(
    ids: Volume,
    labels: Volume,
    boxes: np.ndarray,
    block: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float] | None,
    cristae: int,
    swc: Path,
    shown: Shown,
) -> dict[str, list]:
    """COLUMNS of the objects 1, 2, … in their order, None where there is nothing to say.

    ids: the objects by their numbers; labels: of the same voxels, uint8; boxes: int64 (objects, 2, 3), first and
    last + 1 voxel; cristae: their class, -1 for none; swc: what the files are called, before _00001.swc.
    """
    columns = {name: [None] * len(boxes) for name in COLUMNS}
    given = voxel_size_nm, cristae, swc

    def work(group):
        return group, list(_together(ids, labels, [Box(*box) for box in boxes[group].tolist()], group, *given))

    for group, found in threads.in_order(work, _groups(boxes, block)):
        for index, row in zip(group, found, strict=True):
            for name, value in row.items():
                columns[name][index] = value
        shown.advance(len(group))
    return columns


def _groups(boxes: np.ndarray, block: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Indices of objects that are read together: those that begin in one block, as far as their hull is small."""
    first = boxes[:, 0] // block
    order = np.lexsort((np.arange(len(boxes)), *first.T[::-1]))
    for _, found in itertools.groupby(order.tolist(), lambda index: tuple(first[index])):
        group, low, high = [], None, None
        for index in found:
            start, stop = boxes[index]
            hull = (start, stop) if low is None else (np.minimum(low, start), np.maximum(high, stop))
            if group and (len(group) == _TOGETHER or np.prod(hull[1] - hull[0], dtype=float) > _TOGETHER_VX):
                yield np.array(group)
                group, hull = [], (start, stop)
            group, (low, high) = [*group, index], hull
        yield np.array(group)


def _together(ids, labels, boxes, group, voxel_size_nm, cristae, swc) -> Iterator[dict]:
    """What is to be said of each object of the group."""
    low, high = (end([box[which] for box in boxes], 0) for which, end in enumerate((np.min, np.max)))
    hull = Box(tuple(low.tolist()), tuple(high.tolist()))
    size = np.prod(hull.shape, dtype=float)
    if size > LARGEST_VX:  # which is one object
        yield {"note": f"bounding box of {hull.shape} voxels is too large for a skeleton"}
        return
    alone = len(boxes) == 1  # as large ones are, which take a byte for each voxel
    with _large if size > _LARGE_VX else nullcontext():
        owner = np.zeros(hull.shape, bool if alone else np.uint32)
        on_cristae = np.zeros(hull.shape if cristae >= 0 else (0, 0, 0), bool)
        for part in blocks(hull.shape, _PART):
            there = part.shift(hull.start)
            numbers = ids.read(there)
            owner[part.slices] = numbers == group[0] + 1 if alone else numbers
            if cristae >= 0:
                on_cristae[part.slices] = labels.read(there) == cristae
        for index, box in zip(group, boxes, strict=True):
            here, row = box.within(hull).slices, {}
            mask = owner if alone else owner[here] == index + 1
            if cristae >= 0:
                row["cristae_count"] = int(scipy.ndimage.label(on_cristae[here] & mask, np.ones((3, 3, 3)))[1])
            on_cristae = None if alone else on_cristae
            yield row | _shape(mask, box, voxel_size_nm, swc.with_name(f"{swc.name}_{index + 1:05}.swc"))


def _shape(mask, box, voxel_size_nm, swc: Path) -> dict:
    found = skeleton.skeleton_of(mask)
    position, size = None, voxel_size_nm or (1.0, 1.0, 1.0)
    found, radii = skeleton.pruned(found, skeleton.radii_nm(found, mask, size), size)
    if voxel_size_nm is not None:
        position = skeleton.positions_nm(found, radii, voxel_size_nm)
        lines = skeleton.swc_lines(found, position + np.array(box.start) * voxel_size_nm, radii)
        swc.write_text("# nm; number type x y z radius parent\n" + "\n".join(lines) + "\n", encoding="utf-8")
    measured = skeleton.measure(found, position)
    return {"skeleton_nm": measured.pop("length_nm")} | measured
