"""Whether all that belongs to an output is there as it was written; nothing is changed.

Every block of every array is read and compared with its digest, every file beside the OME-Zarr and every coarser level
with the fingerprint in the sidecar. Of an output that is not complete, what is finished is. repairing.py makes room for
what is found damaged to be made again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from maeref_jax.errors import BadInput
from maeref_jax.results import digests, files, marks, ownership
from maeref_jax.results.maps import KINDS, path_of, step_of
from maeref_jax.results.place import Output
from maeref_jax.volumes import progress, threads
from maeref_jax.volumes.formats.said import mapping
from maeref_jax.volumes.formats.zarr_store import metadata_of
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.volume import open_volume
from maeref_jax.volumes.windows import Box, blocks

WHOLE, DAMAGED, UNFINISHED, UNKNOWN = "whole", "damaged", "not finished", "made before digests were kept"
_STEPS = ("copy", "segment", "judge", "refine")
_SEALED = ("grid", "labels", "said", "digests")  # among the progress


class Part(NamedTuple):
    """Something that belongs to an output.

    kind: "array", "level" of an array, "group" of arrays, "marks" of a pass, "note" among the progress, "file" beside
    name: as it is called below the output's directory; count: of its blocks or files
    damage: why it is not as it was written, by block ("z_y_x") or mark, by "" of all of it
    of: the role of an array, the pass of marks
    """

    kind: str
    name: str
    count: int
    damage: dict[str, str]
    of: str = ""


class Verdict(NamedTuple):
    """What was found. state: one of those above; parts: of it; untold: blocks whose digest nobody noted; waiting:
    blocks that are not done yet; typed: the command that began it, word by word, () where nobody knows.
    """

    place: Output
    state: str
    parts: list[Part]
    untold: int
    waiting: int
    typed: tuple[str, ...]


class Grid(NamedTuple):
    """The blocks of an output, what was typed, and by pass what it reads of an earlier one ({} for nothing)."""

    shape: tuple[int, int, int]
    block: tuple[int, int, int]
    steps: dict[str, dict[str, Any]]
    typed: tuple[str, ...]

    @property
    def boxes(self) -> list[Box]:
        return blocks(self.shape, self.block)


def grid_of(place: Output) -> Grid | None:
    """The grid of an output, as it was noted when it was begun; None where it was not, or is damaged."""
    try:
        found = files.load_sealed(place.progress / "grid.json")
        return Grid(tuple(found["shape"]), tuple(found["block"]), found["steps"], tuple(found["typed"]))
    except (BadInput, LookupError):
        return None


def places_in(path: Path) -> list[Output]:
    """The outputs in a folder; or the one of a STEM.json or STEM.ome.zarr. BadInput where there is none of ours."""
    path = Path(path)
    for ending in (".ome.zarr", ".json"):
        if path.name.endswith(ending):
            found = [Output(path.parent, path.name.removesuffix(ending))]
            break
    else:
        stems = {file.name.removesuffix(".ome.zarr") for file in path.glob("*.ome.zarr")}
        stems |= {file.stem for file in path.glob("*.json")}
        found = [Output(path, stem) for stem in sorted(stems)]
    found = [place for place in found if ownership.is_ours(place) or ownership.summary_of(place)]
    if not found:
        raise BadInput(f"{path} is no output of maeref refine, and holds none; give its --output, or a STEM.json in it")
    return found


def verify(place: Output) -> Verdict:
    """Reads all of an output, and says what is damaged. Raises OSError where it cannot be read at all."""
    summary, grid = ownership.summary_of(place), grid_of(place)
    parts, untold, waiting = list(_notes(place, summary)), 0, 0
    arrays, broken = _arrays(place, list(grid.steps) if grid else _STEPS)
    parts += [Part("array", _name_of(place, role), 1, {"": why}, role) for role, why in broken.items()]
    if arrays:
        boxes = grid.boxes if grid else _boxes(place, summary, next(iter(arrays.values())).shape)
        steps = list(grid.steps) if grid else [step for step in _STEPS if (place.progress / step).is_dir()]
        parts += _marks(place, steps, boxes)
        expected = _expected(place, summary, steps, boxes)
        found, untold = _blocks(place, arrays, boxes, expected, steps, summary is not None)
        parts += found
        if summary is None:
            waiting = sum(len({box.start for box in boxes} - marks.finished(place, step)) for step in steps)
    parts += list(_files(place, summary))
    state = WHOLE if summary else UNFINISHED
    state = UNKNOWN if state == WHOLE and (untold or ownership.is_without_digests(place)) else state
    state = DAMAGED if any(part.damage for part in parts) else state
    return Verdict(place, state, parts, untold, waiting, grid.typed if grid else ())


def _notes(place, summary) -> Iterator[Part]:
    """What is damaged of what the folder says of itself."""
    if not place.folder.is_dir():
        yield Part("note", place.folder.name, 1, {"": "is gone"})
        return
    for folder in (place.folder, place.folder / "labels"):
        if why := _group(folder, folder == place.folder and not ownership.is_without_digests(place)):
            yield Part("group", folder.relative_to(place.directory).as_posix(), 1, {"": why})
    inside = f"{place.folder.name}/{place.progress.name}"
    if ownership.begun_by(place) is None:
        yield Part("note", f"{inside}/made_by.json", 1, {"": "is missing or damaged"})
    if not ownership.is_without_digests(place):
        wanted = _SEALED if summary else _SEALED[:-1]
        for path in (place.progress / f"{name}.json" for name in wanted):
            found = _sealed(place, path)
            told = mapping(summary).get("arrays", {})
            if found is None or (path.stem == "digests" and not _agree(found, told)):
                yield Part("note", f"{inside}/{path.name}", 1, {"": "is missing or damaged"})


def _group(folder, with_attributes) -> str:
    """Why the metadata of a group are not as they were written, "" where they are."""
    try:
        is_array, _, attributes = metadata_of(folder)
    except BadInput as error:
        return f"cannot be opened: {error}"
    whole = is_array is False and ("maeref_jax" in attributes or not with_attributes)
    return "" if whole else "has lost its metadata"


def _agree(found, told) -> bool:
    return isinstance(told, dict) and {role: digests.over(mapping(of)) for role, of in found.items()} == told


def _sealed(place, path) -> dict[str, Any] | None:
    try:
        return ownership.load_sealed(place, path)
    except BadInput:
        return None


def _arrays(place, steps) -> tuple[dict[str, Volume], dict[str, str]]:
    """The arrays by role, and why those of which there is a trace cannot be opened. steps: the passes that there are,
    which tell whether what lies in the folder itself is an image or a mask.
    """
    found, broken = {}, {}
    told = mapping(mapping(ownership.summary_of(place)).get("arrays"))
    for role, kind in KINDS.items():
        there = path_of(place, role).exists()
        if not kind.path:
            there = kind.step in steps and (path_of(place, role) / "0").exists()
        if role in told or there:
            try:
                found[role] = open_volume(path_of(place, role))
            except BadInput as error:
                broken[role] = f"cannot be opened: {error}"
    return found, broken


def _name_of(place, role) -> str:
    return f"{place.folder.name}/{KINDS[role].path or '0'}"


def _boxes(place, summary, shape) -> list[Box]:
    """The blocks as the settings have them; one, where these are not known either."""
    made_by = summary["made_by"] if summary else ownership.begun_by(place) or {"settings": {}}
    block = made_by["settings"].get("block")
    known = isinstance(block, list) and len(block) == 3 and all(isinstance(n, int) and n > 0 for n in block)
    return blocks(shape, block if known else shape)


def _marks(place, steps, boxes) -> Iterator[Part]:
    for step in steps:
        named = {path.name: "belongs to no block" for path in marks.strange(place, step, boxes)}
        damaged = (box for box in boxes if marks.is_finished(place, step, box) and not marks.load(place, step, box))
        named |= {f"{digests.name_of(box)}.json": "is damaged, so its block counts as not done" for box in damaged}
        if named:
            yield Part("marks", f"{place.folder.name}/{place.progress.name}/{step}", len(boxes), named, step)


def _expected(place, summary, steps, boxes) -> dict[str, dict[str, set[str]]]:
    """By role and block, the digests of what may be there; where all is done, of what is."""
    final = _sealed(place, place.progress / "digests.json") if summary else None
    if final is not None and _agree(final, mapping(summary).get("arrays")):
        return {role: {name: {digest} for name, digest in found.items()} for role, found in final.items()}
    found = {}
    for step in steps:
        for box in boxes:
            for role, wanted in marks.digests(place, step, box).items():
                found.setdefault(role, {})[digests.name_of(box)] = wanted
    return found


def _blocks(place, arrays, boxes, expected, steps, complete) -> tuple[list[Part], int]:
    """The arrays, and of how many blocks that should be there nobody noted a digest; these are read all the same."""
    work, untold = [], 0
    for role, volume in arrays.items():
        for box in boxes:
            wanted = expected.get(role, {}).get(digests.name_of(box))
            untold += wanted is None and (complete or marks.is_finished(place, step_of(role, steps), box))
            work.append((role, volume, box, wanted))  # also one that is not done: it must be readable to be written
    damage = {role: {} for role in arrays}

    def compare(one):
        role, volume, box, wanted = one
        return role, digests.name_of(box), _damage(volume, box, wanted)

    with progress.showing(f"{place.stem}: comparing with digests", len(work), "block") as shown:
        for role, name, why in threads.in_order(compare, work):
            damage[role] |= {name: why} if why else {}
            shown.advance()
    counts = {role: sum(one[0] == role for one in work) for role in arrays}
    return [Part("array", _name_of(place, role), n, damage[role], role) for role, n in counts.items() if n], untold


def _damage(volume, box, wanted) -> str:
    try:
        why = digests.damage(volume, box, wanted or ())
    except ValueError as error:  # of another shape
        return f"cannot be read: {error}"
    return why if wanted or why.startswith("cannot") else ""


def _files(place, summary) -> Iterator[Part]:
    """The sidecar, what lies beside it, and the coarser levels."""
    known = ownership.noted(place)
    listed = mapping(mapping(summary).get("files"))
    if place.sidecar.name in known or place.sidecar.exists():
        known.setdefault(place.sidecar.name, [])
    for name in sorted({*listed, *known}):
        path, told = place.directory / name, [listed[name]] if name in listed else known[name]
        kind = "level" if name.startswith(f"{place.folder.name}/") else "file"
        if path == place.sidecar:
            yield Part(kind, name, 1, _sidecar(place, summary, told))
        elif path.exists():
            with progress.showing(f"{place.stem}: comparing {name}"):
                same = files.fingerprint(path) in told
            yield Part(kind, name, 1, {} if same else {"": "was changed after it was made"})
        elif name in listed:
            yield Part(kind, name, 1, {"": "is gone"})


def _sidecar(place, summary, told) -> dict[str, str]:
    if not place.sidecar.exists():
        return {}  # not complete; or it was removed to have it made again
    if summary is None:
        return {"": "is damaged, or was not made by refine.py"}
    changed = told and files.fingerprint(place.sidecar) not in told
    return {"": "was changed after it was made"} if changed else {}
