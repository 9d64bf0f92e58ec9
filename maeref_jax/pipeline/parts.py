"""The blocks of a pass, shared between processes that know of each other only through the marks of finished blocks.

Part i of N does every N-th block, beginning with block i. A block that reads what an earlier pass made of its
neighbours waits until they are marked. One process is part 0 of 1 and never waits.
"""

import itertools
import time
from collections.abc import Callable, Sequence

from maeref_jax.errors import CannotGoOn, tell
from maeref_jax.results import marks
from maeref_jax.results.place import Output
from maeref_jax.volumes import progress, threads
from maeref_jax.volumes.windows import Box, blocks

POLL_S = 1.0


def run_pass(
    place: Output,
    step: str,
    shape: Sequence[int],
    block: Sequence[int],
    work: Callable[[Box], None],
    part: tuple[int, int] = (0, 1),
    before: str = "",
    reach: Sequence[int] = (0, 0, 0),
    wait_minutes: float = 0.0,
    say: Callable[[str], None] = tell,
) -> None:
    """Does the part's blocks of the pass `step` that have no mark yet, showing how far they are.

    work: does one block and marks it; several blocks are at work beside each other (threads.py); part: which of how
        many; before: the pass whose blocks must be marked as far as `reach` voxels around a block.

    Raises:
        CannotGoOn: blocks of other parts are missing, and none became ready for `wait_minutes`.
    """
    index, parts = part
    boxes, done = blocks(shape, block), marks.finished(place, step)
    own = boxes[index::parts]
    waits = bool(before) and parts > 1
    todo = {box: needed(box, shape, block, reach) if waits else set() for box in own if box.start not in done}
    idle_since, told = time.monotonic(), False
    with progress.showing(f"{place.stem}: {step}", len(own), "block", done=len(own) - len(todo)) as shown:
        while todo:
            there = marks.finished(place, before) if waits else set()
            for box in threads.as_done(work, [box for box, wanted in todo.items() if wanted <= there]):
                shown.advance()
                del todo[box]
                idle_since = time.monotonic()
            if not todo or marks.finished(place, before) != there:
                continue
            missing = set().union(*todo.values()) - there
            names = ", ".join(str(i) for i in sorted({i % parts for i, b in enumerate(boxes) if b.start in missing}))
            if time.monotonic() - idle_since >= 60 * wait_minutes:
                raise CannotGoOn(
                    f"{place.stem}: part {index} of {parts} waited {wait_minutes:g} minutes for {len(missing)} blocks "
                    f"of the pass '{before}'; run the same command again when the parts {names} are done with them"
                )
            if not told:
                say(f"{place.stem}: part {index} of {parts} waits for blocks of the parts {names}")
                told = True
            shown.note(f"waiting for parts {names}")
            time.sleep(POLL_S)


def needed(box: Box, shape: Sequence[int], block: Sequence[int], reach: Sequence[int]) -> set[tuple[int, ...]]:
    """The starts of those blocks of the volume that have a voxel within `reach` of `box`."""
    around = box.grow(reach)
    axes = zip(around.start, around.stop, shape, block, strict=True)
    return set(itertools.product(*(range(max(a, 0) // b * b, min(z, size), b) for a, z, size, b in axes)))


def missing_parts(place: Output, step: str, shape: Sequence[int], block: Sequence[int], parts: int) -> dict[int, int]:
    """How many blocks of the pass each part has still to do; parts that are done are not in it."""
    done, missing = marks.finished(place, step), {}
    for i, box in enumerate(blocks(shape, block)):
        if box.start not in done:
            missing[i % parts] = missing.get(i % parts, 0) + 1
    return missing
