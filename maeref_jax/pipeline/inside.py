"""What a mask of what is worked on (Job.within) leaves out: counted once, before a volume is refined, and what to say.

Blocks without a voxel inside are not computed, nor are windows that show none. What lies outside becomes background,
entropy 0 and not hidden; the shares in the sidecar are those of what lies inside.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.pipeline.blockwise import decide, hold_any, whole_tokens, windows_around
from maeref_jax.pipeline.jobs import Job, as_read
from maeref_jax.pipeline.passes import Run
from maeref_jax.pipeline.segmenting import means_of
from maeref_jax.records import Refiner, Segmenter
from maeref_jax.volumes import progress, within
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.windows import Box, blocks, round_up, whole

MOST_DROPPED = 0.005  # of the foreground of given labels: more outside is warned of
COARSEST = 32  # voxels of the volume along a side of one of the mask: a larger one is warned of


class Left(NamedTuple):
    """What a mask leaves to be done, for a plan. blocks: those with a voxel inside, among so many that were looked at,
    all of them or some spread over the volume; every: how many there are; share: of the voxels, inside; inside: of a
    box, as Run.inside.
    """

    shape: tuple[int, int, int]
    blocks: list[Box]
    looked_at: int
    every: int
    share: float
    inside: Callable[[Box], np.ndarray]

    @property
    def line(self) -> str:
        """What a plan says of it."""
        some = "" if self.looked_at == self.every else f", as {self.looked_at:,} of them say"
        skipped = round((1 - len(self.blocks) / self.looked_at) * self.every)
        return f"  inside the mask: {self.share:.2%} of the voxels; {skipped:,} blocks are outside, skipped{some}"

    def windows(self, apply: Segmenter | Refiner, batch: int, around: Sequence[int]) -> tuple[int, int]:
        """Windows that the blocks with a voxel inside touch; and those of them that show one, and are to be computed at
        most, with what fills up the batches of every block. around: as in commands/plan.windows_of.
        """
        there = count = 0
        for box in self.blocks:
            grown = box.grow(around).intersect(whole(self.shape))
            wanted = self.inside(grown)
            if isinstance(apply, Refiner):
                wanted = whole_tokens(wanted, apply.token)
            windows = windows_around(apply, self.shape, grown)
            there += len(windows)
            count += round_up(int(hold_any(windows, wanted, grown).sum()), batch)
        return tuple(math.ceil(one * self.every / self.looked_at) for one in (there, count))


def left_by(job: Job, volumes: dict[str, Volume], block: tuple[int, int, int], most_vx: int) -> Left | None:
    """What the mask of a job leaves; None without one. volumes: of check_job; most_vx: so many voxels are looked at."""
    if job.within is None:
        return None
    mask = as_read(job, volumes, {"within": within.understand(job.within)}).within
    shape = next(iter(volumes.values())).shape
    every = blocks(shape, block)
    chosen = np.linspace(0, len(every) - 1, min(len(every), max(8, most_vx // math.prod(block)))).round().astype(int)
    boxes = [every[i] for i in np.unique(chosen)]
    counts = [np.count_nonzero(mask.read(box)) for box in boxes]
    share = sum(counts) / sum(math.prod(box.shape) for box in boxes)
    inner = [box for box, count in zip(boxes, counts, strict=True) if count]
    return Left(shape, inner, len(boxes), len(every), share, lambda box: mask.read(box) > 0)


def measure(run: Run, mask: Volume) -> dict[str, Any] | None:
    """What the mask of a run leaves out, block by block; None without one. mask: as it is on disk.

    Returns:
        "path"; "voxels", "outside": how many lie inside and outside; "mask_shape"; of given labels or probabilities
        "foreground", "foreground_outside": how many of their voxels are no background, and how many of these are
        outside.

    Raises:
        BadInput: nothing lies inside.
    """
    if run.job.within is None:
        return None
    means = None if run.segmenter else means_of(run)
    voxels = foreground = lost = 0
    with progress.showing(f"{run.job.stem}: what {mask.path} leaves out", len(run.boxes), "block") as shown:
        for box in run.boxes:
            inside = run.inside(box)
            voxels += int(np.count_nonzero(inside))
            if run.segmenter is None:
                labels = _labels(run, means, box)
                foreground, lost = foreground + int((labels > 0).sum()), lost + int((labels > 0)[~inside].sum())
            shown.advance()
    if not voxels:
        raise BadInput(
            f"{mask.path} excludes every voxel of {run.job.stem}: nothing is inside, nothing would be left; is it the "
            "right mask? Leave --within out to work on all of it"
        )
    found = {"path": mask.path, "voxels": voxels, "outside": math.prod(run.shape) - voxels}
    found["mask_shape"] = list(mask.shape)
    return found | ({} if run.segmenter else {"foreground": foreground, "foreground_outside": lost})


def _labels(run, means, box) -> np.ndarray:
    """The given labels of a block as the pass "segment" sees them, before the mask."""
    if means is None:
        return run.job.labels.read(box)
    kind = run.settings.entropy_kind
    return decide(means(box, kind)[0], run.scheme["ambiguous"], kind)[0]


def doubts(stem: str, shape: Sequence[int], found: dict[str, Any] | None) -> list[str]:
    """What to warn of. found: what `measure` gives of a volume of that shape."""
    if found is None:
        return []
    path, said = found["path"], []
    if not found["outside"]:
        said.append(f"{path} excludes nothing of {stem}: every voxel is inside; is it the right mask?")
    if found.get("foreground_outside", 0) > MOST_DROPPED * found.get("foreground", 0):
        said.append(f"{_dropped(stem, found)}; is it the right mask, and large enough?")
    side = max(n / m for n, m in zip(shape, found["mask_shape"], strict=True))
    if side > COARSEST:
        said.append(
            f"{path} is {side:.0f} times as coarse as {stem}: its border is known to so many voxels only; grow it by "
            "as much, or use a finer one"
        )
    return said


def notes(stem: str, found: dict[str, Any] | None) -> list[str]:
    """What to tell. found: as of `doubts`."""
    if found is None:
        return []
    share = found["voxels"] / (found["voxels"] + found["outside"])
    said = [f"{found['path']}: {share:.2%} of {stem} lies inside and is worked on; what is outside becomes background"]
    if 0 < found.get("foreground_outside", 0) <= MOST_DROPPED * found["foreground"]:
        said.append(_dropped(stem, found))
    return said


def _dropped(stem, found) -> str:
    lost, foreground = found["foreground_outside"], found["foreground"]
    return (
        f"{stem}: {lost:,} of {foreground:,} foreground voxels ({lost / foreground:.2%}) lie outside of "
        f"{found['path']} and become background"
    )


def summary(found: dict[str, Any] | None, segmented: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the sidecar says of it, {} without a mask. segmented: the records of the blocks of that pass."""
    if found is None:
        return {}
    windows = {
        "all": sum(one["all_windows"] for one in segmented),
        "computed": sum(one["windows"] for one in segmented),
    }
    skipped = sum(not one["voxels"] for one in segmented)
    share = found["voxels"] / (found["voxels"] + found["outside"])
    told = {"inside_share": share, "blocks": {"all": len(segmented), "skipped": skipped}, "segment_windows": windows}
    return {"within": found | told}
