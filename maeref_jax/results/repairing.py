"""Makes room for what is damaged: after that the same command makes just this again, and ends in the same bytes.

Marks of damaged blocks are removed, those of blocks that read them, and what was derived inside the OME-Zarr. Files
beside it are put aside under another name, whoever changed them.
"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from maeref_jax.results import files, marks, ownership
from maeref_jax.results.digests import name_of
from maeref_jax.results.maps import KINDS, path_of, remove_block, step_of
from maeref_jax.results.place import Output
from maeref_jax.results.verifying import Grid, Part, Verdict, grid_of
from maeref_jax.volumes.windows import Box
from maeref_jax.volumes.writing import remove_path

_METADATA = ("zarr.json", ".zgroup", ".zattrs")
ANEW = "--overwrite"  # where it cannot be repaired
_FINAL = ("labels.json", "said.json")  # what nobody can make again


def can_be_repaired(verdict: Verdict) -> str:
    """Why not, as a sentence; "" where it can."""
    place, names = verdict.place, {Path(part.name).name for part in verdict.parts if part.damage}
    if not place.folder.is_dir():
        return f"{place.folder} is gone"
    if ownership.is_without_digests(place):
        return f"{place.folder} was made before digests were kept"
    if names & {*_FINAL} or (ownership.begun_by(place) or ownership.summary_of(place)) is None:
        return f"{place.folder} does not say any more how it was made"
    return ""


def repair(verdict: Verdict) -> list[str]:
    """Makes room for what the verdict found damaged. Returns what was done, a line each."""
    place, said = verdict.place, []
    damaged = [part for part in verdict.parts if part.damage]
    inside = [part for part in damaged if part.kind != "file"]
    for part in damaged:
        if part.kind == "file":
            said += _put_aside(place.directory / part.name)
    if not inside:
        return said
    begun, summary = ownership.begun_by(place), ownership.summary_of(place)
    if begun is None:
        files.write_json(place.progress / "made_by.json", {"digests": "sha256", **summary["made_by"]})
    # First of all: what is not whole must not look complete.
    place.sidecar.unlink(missing_ok=True)
    grid = grid_of(place)
    for part in inside:
        if part.kind == "array":
            _clear_array(place, part, grid)
        elif part.kind == "group":
            for name in _METADATA:
                (place.directory / part.name / name).unlink(missing_ok=True)
        elif part.kind == "marks":
            for name in part.damage:
                remove_path(place.progress / part.of / name)
        elif Path(part.name).name != "made_by.json":
            remove_path(place.directory / part.name)
    blocks = sum(len(part.damage) for part in inside if part.kind == "array")
    return [*said, f"{place.stem}: {blocks} damaged blocks, and what depends on them, count as not done"]


def _put_aside(path: Path) -> list[str]:
    if not path.exists():
        return []
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in itertools.count())
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    return [f"{path} is now {aside.name}"]


def _clear_array(place: Output, part: Part, grid: Grid | None) -> None:
    """Removes an array's damaged blocks and their marks; all, where it cannot be opened."""
    step, array = step_of(part.of, grid.steps if grid else ()), path_of(place, part.of)
    if "" in part.damage:
        remove_path(array / ("" if KINDS[part.of].path else "0"))
    boxes = grid.boxes if grid else []
    chosen = [box for box in boxes if "" in part.damage or name_of(box) in part.damage]
    for box in chosen:
        remove_block(place, part.of, box, grid.block)
    if step == "finish":
        return
    _unmark(place, step, chosen if grid else None)
    again = chosen
    for later, before in (grid.steps if grid else {"refine": {"before": "segment"}}).items():
        if before.get("before") == step:
            again = _within(boxes, again, before["reach"]) if grid else []
            _unmark(place, later, again if grid else None)
            step = later  # what is done again there changes what comes after it, too


def _within(boxes: Sequence[Box], chosen: Sequence[Box], reach: Sequence[int]) -> list[Box]:
    """The blocks that have a voxel within reach of one of the chosen."""
    return [box for box in boxes if any(not box.grow(reach).intersect(other).empty for other in chosen)]


def _unmark(place: Output, step: str, boxes: Iterable[Box] | None) -> None:
    """Removes the marks of blocks; None: of all, where nobody knows which."""
    for name in filter(None, (step, marks.AFTER.get(step))):
        if boxes is None:
            remove_path(place.progress / name)
        for box in boxes or ():
            marks.path_of(place, name, box).unlink(missing_ok=True)
