"""Pictures of where a refined volume changed most. No truth is known.

Counted block by block, so memory is bounded by a block; of the volume only what is shown is read besides.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.report.methods_section import NOTHING
from maeref_jax.report.page import Picture, Slider
from maeref_jax.report.panels import Slice, busiest_window, overlays, panels
from maeref_jax.results import maps
from maeref_jax.results.output import Output
from maeref_jax.volumes.volume import Volume, labels_from_disk, open_volume
from maeref_jax.volumes.windows import Box, blocks

MOST_SLICES = 3  # that are pictured of a volume
WINDOW = 160  # voxels a side of what is shown of a slice
APART = 4  # slices between two pictures of a volume, so that they show different things


def volume_pictures(
    directory: Path, stem: str, summary: dict, image: Volume | None, classes: Mapping[str, Any]
) -> list:
    """What `html_page` shows of one finished volume: a heading; of each slice a Slider, if it was refined, and panels.

    summary: its sidecar; image: to be shown, None for none; classes: {"names", "colours"}. Only what is shown is read,
    and once, block by block, where something changed.
    """
    place = Output(Path(directory), stem)
    block = summary["made_by"]["settings"]["block"]
    roles = ("initial", "entropy", "hidden", *(("refined", "was") if summary["made_by"]["refiner"] else ()))
    arrays = {role: open_volume(maps.path_of(place, role)) for role in roles}
    # Where nothing changed, what was hidden is looked at.
    weights = (arrays[role] for role in ("was", "hidden") if role in arrays)
    weight, counts = next(((v, n) for v in weights if (n := counts_by_block(v, block)).any()), (None, None))
    if weight is None:
        return [f"{stem}: nothing was hidden{', nothing changed' * bool(summary.get('everywhere'))}"]
    found: list = [stem]
    for z in choose_slices(counts.sum((1, 2))):
        box = _window(weight, z, counts[z], block)
        shown, parts = _read(arrays, image, box), []
        at = f"{stem}, slice {z}, rows from {box.start[1]}, columns from {box.start[2]}"
        if shown.refined is not None:
            here = int((shown.initial != shown.refined).sum())
            said = f"{at}. {here:,} of the voxels in view were relabelled, {counts[z].sum():,} in the whole slice"
            said = f"{said if weight is arrays['was'] else f'{at}. No voxel was relabelled'}. Pink: hidden tokens."
            parts.append(Slider(*overlays(shown, classes["colours"]), said))
        size = arrays["initial"].voxel_size_nm
        parts.append(Picture(panels(shown, classes["names"], classes["colours"], size, doubt_of(summary)), f"{at}."))
        found.append(tuple(parts))
    return found


def doubt_of(summary: dict) -> str:
    """Where the doubt of a finished volume comes from: one of methods_section.DOUBTS. summary: its sidecar."""
    inputs = summary["made_by"]["inputs"]
    own = [name for role, name in (("entropy", "given"), ("hidden", "painted")) if role in inputs]
    if "labels" in inputs:
        return " and ".join(own) or NOTHING
    return summary["made_by"]["settings"]["entropy_kind"]


def counts_by_block(volume: Volume, block: Sequence[int]) -> np.ndarray:
    """int64 (z, rows, columns) of blocks: how many voxels of each slice of a block are not 0; a block is in memory."""
    depth, height, width = volume.shape
    counts = np.zeros((depth, -(-height // block[1]), -(-width // block[2])), np.int64)
    for box in blocks(volume.shape, block):
        row, column = box.start[1] // block[1], box.start[2] // block[2]
        counts[box.slices[0], row, column] = np.count_nonzero(volume.read(box), axis=(1, 2))
    return counts


def choose_slices(totals: np.ndarray) -> list[int]:
    """The slices where most is, the earlier of equal ones, at least APART from each other; none where nothing is."""
    chosen: list[int] = []
    for z in np.argsort(-totals, kind="stable"):
        if len(chosen) == MOST_SLICES or not totals[z]:
            break
        if all(abs(int(z) - other) >= APART for other in chosen):
            chosen.append(int(z))
    return chosen


def _window(weight, z, counts, block) -> Box:
    """What to show of the slice: around where most is, in its block that has most."""
    row, column = np.unravel_index(np.argmax(counts), counts.shape)
    start = (z, int(row) * block[1], int(column) * block[2])
    stop = (z + 1, *(min(a + b, n) for a, b, n in zip(start[1:], block[1:], weight.shape[1:], strict=True)))
    busy = busiest_window(weight.read(Box(start, stop))[0] != 0, WINDOW)
    corner, end = [z], [z + 1]
    for part, first, size in zip(busy, start[1:], weight.shape[1:], strict=True):
        side = min(WINDOW, size)
        at = min(max(first + (part.start + part.stop) // 2 - side // 2, 0), size - side)
        corner, end = [*corner, at], [*end, at + side]
    return Box(tuple(corner), tuple(end))


def _read(arrays, image, box) -> Slice:
    read = {role: array.read(box)[0] for role, array in arrays.items() if role != "was"}
    refined = labels_from_disk(read["refined"]) if "refined" in read else None
    image = None if image is None else image.read(box)[0].astype(np.float32)
    initial = labels_from_disk(read["initial"])
    return Slice(image, read["entropy"] / 255, read["hidden"] != 0, initial, refined, None)
