"""The marks of finished blocks: a block without one is done again.

    {stem}.ome.zarr/progress/{step}/{z}_{y}_{x}.json     {…, "digests": {role: of what was written}, "check"}

A mark is written after its block's data is durable. It is sealed (files.write_sealed): one that was damaged, edited or
renamed counts as none. Those of the step "leave" alone come before the data, so that whoever finds a block in between
knows it by either digest.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.results import files, ownership
from maeref_jax.results.digests import damage, name_of
from maeref_jax.results.place import Output, way_out
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.windows import Box
from maeref_jax.volumes.writing import remove_path

AFTER = {"refine": "leave"}  # what may rewrite the blocks of a pass
_NAME = re.compile(r"(\d+)_(\d+)_(\d+)\.json")


def mark(output: Output, step: str, box: Box, record: dict[str, Any], digests: dict[str, str]) -> None:
    """Records that `step` of the block is done and durable. record: is summed up at the end; digests: of what was
    written, by role.
    """
    path = path_of(output, step, box)
    path.parent.mkdir(exist_ok=True)
    files.write_sealed(path, {**record, "digests": digests})


def path_of(output: Output, step: str, box: Box) -> Path:
    """Where the mark of a block is."""
    return output.progress / step / f"{name_of(box)}.json"


def is_finished(output: Output, step: str, box: Box) -> bool:
    """Whether the block has its mark."""
    return path_of(output, step, box).exists()


def finished(output: Output, step: str) -> set[tuple[int, ...]]:
    """The starts of the blocks of `step` that have a mark."""
    named = (_NAME.fullmatch(file.name) for file in (output.progress / step).glob("[0-9]*.json"))
    return {tuple(map(int, found.groups())) for found in named if found}


def strange(output: Output, step: str, boxes: Iterable[Box]) -> list[Path]:
    """What lies among the marks of `step` and is that of no block."""
    known = {f"{name_of(box)}.json" for box in boxes}
    return sorted(file for file in (output.progress / step).glob("[!.]*") if file.name not in known)


def load(output: Output, step: str, box: Box) -> dict[str, Any] | None:
    """The mark of a block; None where there is none, or one that counts as none. {} among its digests, where an earlier
    version wrote it.
    """
    try:
        found = ownership.load_sealed(output, path_of(output, step, box))
    except BadInput:
        return None
    if not ("digests" in found or "seconds" in found or step == "copy"):  # of no version
        return None
    return {"digests": {}} | found


def records(output: Output, step: str, boxes: Iterable[Box]) -> list[dict[str, Any]]:
    """The marks of those of the blocks that have one."""
    return [found for box in boxes if (found := load(output, step, box)) is not None]


def sweep(output: Output, steps: Iterable[str], boxes: Sequence[Box]) -> tuple[int, int]:
    """Removes marks that count as none, so that their blocks are done again. How many those were, and how many marks
    of an earlier version there are, which have no digests.
    """
    removed = without = 0
    for step in steps:
        for box in boxes:
            if not is_finished(output, step, box):
                continue
            found = load(output, step, box)
            if found is None:
                remove_path(path_of(output, step, box))
            removed, without = removed + (found is None), without + (found is not None and not found["digests"])
    return removed, without


def digests(output: Output, step: str, box: Box) -> dict[str, set[str]]:
    """By role, what a block may hold that the pass `step` is done with, as digests; {} where nobody noted them."""
    marked = [load(output, name, box) for name in (step, AFTER.get(step)) if name]
    found = {role: {digest} for role, digest in marked[0]["digests"].items()} if marked[0] else {}
    for later in filter(None, marked[1:]):
        for role, digest in later["digests"].items():
            found.setdefault(role, set()).add(digest)
    return found


class Checked:
    """Which blocks were compared with the digests in their marks: each once in a process. arrays: by role."""

    def __init__(self, output: Output, arrays: dict[str, Volume]):
        self.output, self.arrays, self._done = output, arrays, set()

    def compare(self, step: str, box: Box) -> None:
        """Raises CannotGoOn where a block does not hold what the pass `step` wrote."""
        if (step, box.start) in self._done:
            return
        for role, expected in digests(self.output, step, box).items():
            if role in self.arrays and (why := damage(self.arrays[role], box, expected)):
                what = f"{self.output.stem}: the block {box.start} of {self.arrays[role].path} {why}"
                raise CannotGoOn(f"{what}; {way_out(self.output)}")
        self._done.add((step, box.start))
