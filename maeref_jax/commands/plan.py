"""What a refinement will take, before it is begun: blocks, windows, disk, memory, hours. Nothing is written.

Disk is an upper bound: all that is written, without compression (pipeline/space.py). Hours are those of the networks
alone, with one process, on this machine as measured with a few windows; on others they are the count of multiplications
and additions divided by a rate that is an assumption, not a measurement. Reading, writing, objects and exports come on
top, and asking the refiner, which is bounded.
"""

import collections
import itertools
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from maeref_jax.commands.load_models import load_models
from maeref_jax.commands.opening import one_of_several
from maeref_jax.commands.speed import Speed, measure
from maeref_jax.errors import MARK, tell
from maeref_jax.pipeline import doubts, inside, refining, space
from maeref_jax.pipeline.blockwise import halo, hide, in_3d
from maeref_jax.pipeline.checks import check_chosen, check_job
from maeref_jax.pipeline.jobs import (
    Job,
    Model,
    Settings,
    agreeing_slices,
    as_read,
    file_of,
    formats_of,
    meant_for,
    scheme_of,
    settled,
    voxel_size_of,
)
from maeref_jax.pipeline.passes import Run, Said
from maeref_jax.pipeline.programs import calls_beside
from maeref_jax.records import Refiner, Segmenter
from maeref_jax.results.place import Output
from maeref_jax.volumes import threads
from maeref_jax.volumes.inputs import check_values, read_entropy
from maeref_jax.volumes.voxel_size import size_text
from maeref_jax.volumes.windows import blocks, lattice, round_up

# Assumed, not measured: floating-point operations a second that such networks, in float32 (on an H100 its TF32), keep
# up. Peaks are 8 TFLOP/s (T4) and 495 TFLOP/s (H100 SXM, dense TF32).
ASSUMED = {"Colab GPU (T4)": 2.5e12, "H100": 5e13}
READ_VX = 2**27  # voxels of all files of an input: so many are read by a dry run, in seconds
_SAMPLED_BLOCKS = 8


def tell_plans(jobs: Sequence[Job], config, failed: dict[str, str], several: bool) -> None:
    """Prints what refining takes, for each input and together; what cannot be refined is added to `failed`."""
    segmenter, refiner, settings = load_models(config)
    models = dict(_models(segmenter, refiner))
    found, speeds = [], {}
    for job in jobs:
        with one_of_several(job.stem, failed, several):
            meant = meant_for(refiner, job.labels is not None)
            check_chosen(job, segmenter, meant, settings)
            if not speeds:
                asked = settled(settings, meant)
                networks = {step: model for step, model in models.items() if model and not _is_a_rule(model)}
                speeds = {step: measure(model, asked) for step, model in networks.items()}
            said = said_before(job, segmenter, refiner, settings)
            found.append(plan(job, segmenter, refiner, settings, speeds))
            print("\n".join(described(job.stem, found[-1], config.num_parts)))
            for line in (*said.notes, *(f"{MARK}{text}" for text in said.warnings)):
                tell(line)
    if found:
        print("\n".join(described_total(found, Path(config.output), config.num_parts)))


def plan(
    job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings, speeds: dict[str, Speed]
) -> dict[str, Any]:
    """What refining `job` takes. speeds: `measure` of every pass that has a network: "segment", "judge", "refine".

    Returns:
        "shape", "voxel_size_nm", "blocks", "blocks_per_part"; "file": shape and voxel size of the file, None where they
        are the same; "windows": {pass: {"all", "computed"}}, the second where
        the labels' entropy or painted mask tells (`hidden_share` too, from up to 8 blocks), else all, and those of
        "segment again" where class probabilities are asked for once more; "within": inside.Left, None without a
        mask;
        "disk_bytes" at most, "export_bytes" of these not compressed, "temporary_bytes" in TMPDIR; "block_bytes";
        "seconds" of the networks here; "operations".

    Raises:
        BadInput: inputs that do not fit together or the models. Values are not checked.
    """
    settings = settled(settings, meant_for(refiner, job.labels is not None))
    volumes = check_job(job, segmenter, refiner, settings)
    shape = next(iter(volumes.values())).shape
    voxel_size_nm = voxel_size_of(volumes)
    left = inside.left_by(job, volumes, settings.block, READ_VX)
    count = len(blocks(shape, settings.block))
    found: dict[str, Any] = {"shape": shape, "voxel_size_nm": voxel_size_nm, "blocks": count, "windows": {}}
    found["blocks_per_part"] = -(-count // settings.num_parts)
    found |= {"hidden_share": None, "seconds": 0.0, "operations": 0.0, "within": left}
    rounds = agreeing_slices(settings, refiner, voxel_size_nm, shape[0])
    for step, model in _models(segmenter, refiner):
        if model is None:
            continue
        if _is_a_rule(model):  # no network
            continue
        more = rounds if step == "refine" else 0
        everything, computed = windows_of(model.apply, shape, settings.block, settings.batch, (more, 0, 0))
        touched = everything
        if left:
            touched, computed = left.windows(model.apply, settings.batch, (more, 0, 0))
        if step == "refine" and (job.entropy or job.hidden) is not None and not model.apply.everywhere:
            found["hidden_share"], share = _sampled(job, refiner, settings, shape, left)
            computed = math.ceil(touched * share)
        # The same windows once more, or a few more.
        if {"refine": settings.foreignness, "segment": settings.disagreement}.get(step):
            everything, computed = 2 * everything, 2 * computed
        found["windows"][step] = {"all": everything, "computed": computed}
    if _segments_again(segmenter, refiner) and not _is_a_rule(segmenter):
        around = np.add(halo(refiner.apply), (rounds, 0, 0)).tolist()
        counts = windows_of(segmenter.apply, shape, settings.block, settings.batch, around)
        counts = (counts[0], left.windows(segmenter.apply, settings.batch, around)[1]) if left else counts
        times = 2 if settings.foreignness else 1  # those of the test too
        found["windows"]["segment again"] = {"all": times * counts[0], "computed": times * counts[1]}
    for step, windows in found["windows"].items():
        speed = speeds[step.removesuffix(" again")]
        found["seconds"] += windows["computed"] * speed.seconds
        found["operations"] += windows["computed"] * speed.operations
    roles = refining.roles_of(settings, refiner, scheme_of(segmenter, refiner, settings.classes))
    disk = space.needed(roles, shape, settings.block, voxel_size_nm, job.image, formats_of(settings), file_of(job))
    found["file"] = file_of(job) and (file_of(job).shape, file_of(job).voxel_size_nm)
    found |= {"disk_bytes": disk.most, "temporary_bytes": space.temporary_bytes(volumes.values())}
    found["export_bytes"] = disk.least
    found["block_bytes"] = block_bytes(segmenter, refiner, settings, speeds, rounds, shape, voxel_size_nm)
    return found


def said_before(job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings) -> Said:
    """What the run would say before it begins, as far as that is known without asking the refiner; where the inputs are
    larger than READ_VX, also without reading them: then nobody has looked at their values, nor at the ids of labels.

    Raises:
        BadInput: inputs that do not fit together or the models, or values that cannot be used.
    """
    refiner = meant_for(refiner, job.labels is not None)
    settings = settled(settings, refiner)._replace(ask=0)
    volumes = check_job(job, segmenter, refiner, settings)
    size, shape, mask = voxel_size_of(volumes), next(iter(volumes.values())).shape, job.within
    scheme, readings = scheme_of(segmenter, refiner, settings.classes), {}
    if len(volumes) * math.prod(shape) <= READ_VX:
        readings = check_values(volumes, scheme, settings.label_map)
        job = as_read(job, volumes, readings)
    else:
        # Of which nobody knows whether it is a mask, and what it leaves out.
        job = job._replace(entropy=None, within=None)
    made = (Output(job.output, job.stem), job, segmenter, refiner, settings, scheme, {}, {}, size)
    return doubts.before(Run(*made, agreeing_slices(settings, refiner, size, shape[0])), readings, mask=mask)


def windows_of(
    apply: Segmenter | Refiner,
    shape: Sequence[int],
    block: Sequence[int],
    batch: int,
    around: Sequence[int] = (0, 0, 0),
) -> tuple[int, int]:
    """Windows that the blocks, with so many voxels around each, touch, one that lies in several counted for each; and
    how many that are when the batches of each block are filled up.
    """
    window, stride = in_3d(apply)
    inside = (shape[0], *(round_up(n, getattr(apply, "token", 1)) for n in shape[1:]))
    axes = []
    for size, real, w, step, b, more in zip(inside, shape, window, stride, block, around, strict=True):
        starts = lattice(size, w, step)
        touched = (sum(s < min(a + b + more, real) and s + w > a - more for s in starts) for a in range(0, real, b))
        axes.append(collections.Counter(touched))
    everything, computed = 0, 0
    for combination in itertools.product(*(axis.items() for axis in axes)):
        windows, times = (math.prod(numbers) for numbers in zip(*combination, strict=True))
        everything += windows * times
        computed += round_up(windows, batch) * times
    return everything, computed


def block_bytes(segmenter, refiner, settings, speeds: dict[str, Speed], rounds=0, shape=(), voxel_size_nm=None) -> int:
    """Memory of a process at work, about: what it takes now, and the larger pass's arrays of blocks, with `rounds`
    slices before and behind each to refine, and its call; of both passes, where refining segments again. shape,
    voxel_size_nm: of the volume, for a refiner of whole slices.
    """
    needed = [0]
    for step, model in _models(segmenter, refiner):
        if model is None:
            continue
        window, _ = in_3d(model.apply)
        depth, *plane = settings.block
        if step not in speeds and step == "segment":  # some numbers for every voxel and ballot
            needed.append(threads.AT_ONCE * 8 * (3 * model.settings["members"] + 16) * math.prod(settings.block))
            continue
        if step not in speeds:  # whole slices: labels and masks of those that are on their way
            reach, _ = model.apply.slices(voxel_size_nm)
            needed.append(2 * (depth + min(reach, shape[0])) * math.prod(shape[1:]))
            continue
        box = (depth + 2 * rounds * (step == "refine"), *plane)
        frame = math.prod(b + 2 * (w - 1) for b, w in zip(box, window, strict=True))
        classes = max(1, len(model.settings["classes"]["names"]))
        # Read: float32 image, or labels, entropy and hidden; blended: probabilities, their weights, and copies of them,
        # more where slices agree.
        copies = 6 if rounds and step == "refine" else 3
        arrays = frame * (4 if step == "segment" else 7) + copies * 4 * (classes + 1) * math.prod(box)
        needed.append(threads.AT_ONCE * arrays + calls_beside() * speeds[step].bytes)
    together = sum if _segments_again(segmenter, refiner) else max
    return together(needed) + held_bytes()


def _models(segmenter: Model | None, refiner: Model | None) -> list[tuple[str, Model | None]]:
    """The networks of every pass that has one."""
    return [("segment", segmenter), ("judge", refiner and refiner.judge), ("refine", refiner)]


def _is_a_rule(model: Model) -> bool:
    """Whether it works in numpy: slice after slice, or by the image's statistics."""
    return bool(getattr(model.apply, "slices", None) or getattr(model.apply, "statistics", None))


def held_bytes() -> int:
    """The most memory that this process has held so far; 0 where the system does not say: on Windows."""
    try:
        import resource
    except ModuleNotFoundError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _segments_again(segmenter: Model | None, refiner: Model | None) -> bool:
    """Whether the class probabilities of what is refined are computed a second time."""
    return segmenter is not None and refiner is not None and "probabilities" in refiner.apply.needs


def described(stem: str, found: dict[str, Any], num_parts: int) -> list[str]:
    """The plan of one input as lines for a person."""
    size = found["voxel_size_nm"]
    voxels = " x ".join(map(str, found["shape"]))
    nm = f"{size_text(size)} nm" if size else "unknown size"
    parts = f" in {num_parts} parts of up to {found['blocks_per_part']}" if num_parts > 1 else ""
    lines = [f"{stem}: {voxels} voxels of {nm} (z y x), {found['blocks']} blocks{parts}"]
    if found["file"]:
        shape, theirs = found["file"]
        own = f"{' x '.join(map(str, shape))} voxels of {size_text(theirs)} nm"
        lines.append(f"  the file has {own}: results are brought back to them, and exported so")
    lines += [found["within"].line] if found["within"] else []
    for step, windows in found["windows"].items():
        # What fills a last batch up takes time as well, but is no window of the volume.
        lines.append(f"  {step}: {min(windows['computed'], windows['all']):,} of {windows['all']:,} windows to compute")
    if found["hidden_share"] is not None:
        lines.append(f"  hidden, in {_SAMPLED_BLOCKS} blocks or fewer that were looked at: {found['hidden_share']:.2%}")
    elif "refine" in found["windows"]:
        lines.append("  what is hidden is not known before it is segmented: windows and hours of 'refine' are the most")
    needed = f"memory: about {space.size(found['block_bytes'])}, and at the end up to 0.8 GB for skeletons of objects"
    temporary = found["temporary_bytes"]
    unpacked = (
        f", and {space.size(temporary)} in {tempfile.gettempdir()} (TMPDIR) to unpack inputs" if temporary else ""
    )
    return [*lines, f"  disk: at most {space.size(found['disk_bytes'])}{unpacked}; {needed}"]


def described_total(found: Sequence[dict[str, Any]], directory: Path, num_parts: int) -> list[str]:
    """Disk and hours of all inputs together as lines for a person."""
    disk, seconds, work = (sum(one[name] for one in found) for name in ("disk_bytes", "seconds", "operations"))
    free, place = space.free_in(directory)
    short = "" if disk <= free else ": may NOT be enough"
    if sum(one["export_bytes"] for one in found) > free:
        short = ": NOT enough, already for the exports"
    together = f", shared by {num_parts} parts" if num_parts > 1 else ""
    lines = [f"all {len(found)}: disk at most {space.size(disk)}, {space.size(free)} free in {place}{short}"]
    if not any(one["windows"] for one in found):
        return [*lines, "hours: not estimated, as no network is at work"]
    more = "texture, rules for whole slices, reading, writing, objects, exports and asking come on top"
    lines.append(f"hours of the networks{together} ({more}):")
    lines.append(f"  {_hours(seconds):>9}  this machine ({jax.devices()[0].device_kind}), measured with a few windows")
    uncounted = not work and any(windows["computed"] for one in found for windows in one["windows"].values())
    if uncounted:
        lines.append("  elsewhere: not estimated, as what takes the time is no matrix product or convolution")
    for device, rate in () if uncounted else ASSUMED.items():
        said = f"estimate, not measured: {work:.2g} operations at an assumed {rate / 1e12:g} TFLOP/s"
        lines.append(f"  {_hours(work / rate):>9}  {device}, {said}")
    return lines


def _sampled(job: Job, refiner: Model, settings: Settings, shape, left: inside.Left | None) -> tuple[float, float]:
    """In a few blocks spread over what is worked on: the share of its voxels that are hidden, and of their windows that
    go through the network because they show one (or to fill a batch).
    """
    boxes = left.blocks if left else blocks(shape, settings.block)
    if not boxes:
        return 0.0, 0.0
    chosen = [boxes[i] for i in np.unique(np.linspace(0, len(boxes) - 1, _SAMPLED_BLOCKS).astype(int))]
    in_tokens = (shape[0], *(round_up(n, settings.token) for n in shape[1:]))
    hidden_vx = voxels = computed = windows = 0
    for box in chosen:
        none = np.zeros(box.shape, np.float32)
        hidden, shown = np.zeros(box.shape, bool), left.inside(box) if left else none == 0
        if job.hidden is not None:
            hidden |= hide((job.hidden.read(box) != 0) & shown, none, settings.token, 0.0, 1.0)
        if job.entropy is not None:
            hidden |= hide(read_entropy(job.entropy, box) * shown, none, settings.token, settings.threshold, 1.0)
        counts = hidden.astype(np.int32)
        for axis, (size, window, step) in enumerate(zip(in_tokens, *in_3d(refiner.apply), strict=True)):
            # The sums over every window's part of the block, one axis after the other.
            starts = np.array(lattice(size, window, step)) - box.start[axis]
            starts = starts[(starts < box.shape[axis]) & (starts + window > 0)]
            sums = np.insert(np.cumsum(counts, axis), 0, 0, axis)
            last = np.minimum(starts + window, box.shape[axis])
            counts = np.take(sums, last, axis) - np.take(sums, np.maximum(starts, 0), axis)
        hidden_vx, voxels = hidden_vx + int((hidden & shown).sum()), voxels + int(shown.sum())
        computed, windows = computed + round_up(int((counts > 0).sum()), settings.batch), windows + counts.size
    return hidden_vx / voxels, computed / windows


def _hours(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    return f"{seconds / 3600:.3g} h" if seconds >= 36 else f"{seconds:.2g} s"
