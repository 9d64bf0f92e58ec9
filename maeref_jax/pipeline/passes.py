"""The passes of the pipeline: what each does with one block of a volume, and marks as done once it is durable."""

import dataclasses
import functools
import itertools
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from maeref_jax.audit import changes, objects, trust
from maeref_jax.masking import exact
from maeref_jax.pipeline import asked_back
from maeref_jax.pipeline.blockwise import (
    decide,
    halo,
    likelihoods,
    refine_block,
    whole_tokens,
    windows_around,
)
from maeref_jax.pipeline.jobs import Job, Model, Settings, keeps_probabilities
from maeref_jax.pipeline.parts import needed
from maeref_jax.pipeline.segmenting import (
    kept,
    kept_probabilities,
    means_of,
    probabilities_again,
    segmented,
    stored_probabilities,
)
from maeref_jax.pipeline.shown import seen_by
from maeref_jax.results import marks
from maeref_jax.results.digests import digest_of
from maeref_jax.results.place import Output
from maeref_jax.uncertainty.gain import doubted
from maeref_jax.volumes.volume import Volume, labels_from_disk, labels_to_disk
from maeref_jax.volumes.windows import Box, blocks

UNDECIDED = 0.5  # of the threshold: an entropy above that is near it


class Said(NamedTuple):
    """What is found and told before a volume is refined. warnings, notes: sentences; asked: what asking.ask found, None
    where the refiner was not asked; within: what inside.measure found, None without a mask of what is worked on;
    statistics: of the image, for a segmenter that needs them.
    """

    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    asked: dict | None = None
    within: dict | None = None
    statistics: dict | None = None


class Run(NamedTuple):
    """One volume on its way: what to make of what, and the arrays to write to. kept: by segmenting.kept, of every kind
    of entropy.
    """

    place: Output
    job: Job
    segmenter: Model | None
    refiner: Model | None
    settings: Settings
    scheme: dict
    made_by: dict
    arrays: dict[str, Volume]
    voxel_size_nm: tuple[float, float, float] | None
    rounds: int  # how many slices above and below a voxel its refined label agrees with
    said: Said = Said()
    checked: marks.Checked | None = None  # against the marks, of the arrays
    kept: dict[str, np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.job.image or self.job.labels or self.job.probabilities[0]).shape

    @property
    def boxes(self) -> list[Box]:
        """The blocks."""
        return blocks(self.shape, self.settings.block)

    @property
    def steps(self) -> tuple[str, ...]:
        """The passes over all blocks, in order."""
        judged = self.refiner is not None and self.refiner.judge is not None
        copied, refined = ("copy",) * self.settings.copy_image, ("refine",) * (self.refiner is not None)
        return (*copied, "segment", *("judge",) * judged, *refined)

    def before(self, step: str) -> dict:
        """The pass whose blocks must be finished as far as `reach` voxels around a block of `step`; {} for none."""
        if step == "judge":
            return {"before": "segment", "reach": halo(self.refiner.judge.apply)}
        if step != "refine":
            return {}
        earlier = self.steps[self.steps.index(step) - 1]
        if self.refiner.apply.slices:
            reach, _ = self.refiner.apply.slices(self.voxel_size_nm)
            return {"before": earlier, "reach": (min(reach, self.shape[0]), *self.shape[1:])}
        beside = self.settings.token * self.settings.foreignness  # which tokens are tested, their neighbours decide
        reach = np.add(halo(self.refiner.apply), (self.rounds, beside, beside))
        return {"before": earlier, "reach": tuple(reach.tolist())}

    def inside(self, box: Box) -> np.ndarray:
        """Bool (z, y, x): which voxels of the box are worked on; the others are background, and nobody doubts it."""
        return np.ones(box.shape, bool) if self.job.within is None else self.job.within.read(box) > 0

    def labelled(self, box: Box) -> np.ndarray:
        """Bool (z, 1, 1): which slices of the box have labels that are the truth."""
        return np.isin(np.arange(box.start[0], box.stop[0]), self.settings.labelled_slices)[:, None, None]


def passes(run: Run) -> dict[str, Callable[[Box], None]]:
    """What each of `run.steps` does with a block, mark included; several blocks may be done beside each other."""
    run = run._replace(job=read_by_one(run.job))
    found = {"copy": functools.partial(_copy, run)}
    means = kept(run, means_of(run))
    found["segment"] = functools.partial(_segment, run, means)
    if run.refiner is not None:
        variables = jax.device_put((run.refiner.params, run.refiner.state))
        key = jax.random.key(run.settings.seed)
        volumes = _seen_by(run.refiner, run, means)
        if judge := run.refiner.judge:
            given = jax.device_put((judge.params, judge.state)), _seen_by(judge, run, means)
            found["judge"] = functools.partial(_judge, run, *given)
        filled = functools.partial(_filled, run, variables, key, volumes)
        if run.refiner.apply.slices:
            filled = _WholeSlices(run, volumes["labels"]).filled
        found["refine"] = functools.partial(_refine, run, filled, variables, key, volumes)
    return {step: found[step] for step in run.steps}


def read_by_one(job: Job) -> Job:
    """The job with inputs of which one box is read at a time: not every reader bears threads."""
    turn = threading.Lock()

    def guarded(volume):
        def read(box):
            with turn:
                return volume.read(box)

        return dataclasses.replace(volume, _read=read)

    own = {name: getattr(job, name) for name in ("image", "labels", "entropy", "hidden", "within")}
    found = {name: guarded(volume) for name, volume in own.items() if volume is not None}
    return job._replace(**found, probabilities=tuple(guarded(volume) for volume in job.probabilities))


def _copy(run, box) -> None:
    started = time.monotonic()
    image = run.job.image.read(box).astype(run.arrays["image"].dtype)  # of another byte order at most
    _done(run, "copy", box, {"image": image}, {}, started)


def _done(run, step, box, written: dict[str, np.ndarray], record: dict, started: float) -> None:
    """Writes the block of the arrays, by role, and marks it when all of them are durable."""
    for role, array in written.items():
        run.arrays[role].write(box, array)
    marks.mark(run.place, step, box, record | {"seconds": time.monotonic() - started}, _digests(written))


def _digests(written: dict[str, np.ndarray]) -> dict[str, str]:
    return {role: digest_of(array) for role, array in written.items()}


def _segment(run, means, box) -> None:
    arrays, started = run.arrays, time.monotonic()
    said, inside = segmented(run, means, box), run.inside(box)
    hidden, windows = said.hidden & inside, said.windows
    stored = np.round(said.entropy * 255).astype(np.uint8)
    written = {"initial": labels_to_disk(said.labels), "entropy": stored, "hidden": hidden.astype(np.uint8)}
    if "judge" in run.steps:
        written.pop("hidden")  # that pass will say
    written |= kept_probabilities(run, said.mean, inside)
    if "disagreement" in arrays:
        written["disagreement"] = np.zeros(box.shape, np.uint8)
    if "disagreement" in arrays and inside.any():
        # Not from the same call: with another number of channels the last bit of a mean may be another one.
        found, more = means(box, "mutual_information", inside)
        _, disagreement, _ = decide(found, run.scheme["ambiguous"], "mutual_information")
        written["disagreement"] = np.round(disagreement * 255 * inside).astype(np.uint8)
        windows += more
    record = {"voxels": int(inside.sum()), "windows": windows}
    record |= {"hidden": int(hidden.sum()), "hidden_tokens": said.tokens} if "hidden" in written else {}
    if run.job.hidden is None:  # a painted mask is no doubt of anybody's
        record["undecided"] = int(np.count_nonzero(stored > 255 * UNDECIDED * run.settings.threshold))
    if run.job.within is not None:
        network = run.segmenter is not None and not run.segmenter.apply.statistics
        there = len(windows_around(run.segmenter.apply, run.shape, box)) if network else 0
        record["all_windows"] = there * (1 + ("disagreement" in arrays))
    _done(run, "segment", box, written, record, started)


def _seen_by(refiner, run, means) -> dict[str, Volume]:
    """The volumes that `refine_block` reads for a refiner's Model, by its names."""

    def view(name, dtype, convert):
        array = run.arrays[name]
        return Volume(name, run.shape, np.dtype(dtype), None, None, None, lambda box: convert(array.read(box)))

    volumes = {
        "labels": view("initial", np.int16, lambda labels: known_to_refiner(labels_from_disk(labels), run.scheme)),
        "entropy": view("entropy", np.float32, lambda entropy: entropy.astype(np.float32) / 255),
        # A token that is hidden in part, where a mask of what is worked on cuts it, is hidden to the refiner.
        "hidden": view("hidden", bool, lambda hidden: whole_tokens(hidden != 0, run.settings.token)),
    }
    if "image" in refiner.apply.needs:
        volumes["image"] = seen_by(refiner, run.job.image)
    if "probabilities" in refiner.apply.needs:
        volumes["probabilities"] = probabilities_again(run, means)
    if keeps_probabilities(run.refiner):
        # Who works on them, or is told by them what is hidden, agrees by them, too.
        volumes["stored_probabilities"] = stored_probabilities(run)
    return volumes


def _judge(run, variables, volumes, box) -> None:
    """Writes what is probably wrong in a block, and hides the tokens where another label is worth more than the one
    that is there: where the mean of its probability, minus that of the label, is above `gain`. In steps of 1/255 that
    number is the same whatever the block.
    """
    started, inside, judge = time.monotonic(), run.inside(box), run.refiner.judge
    error, hidden, tokens = np.zeros(box.shape, np.uint8), np.zeros(box.shape, bool), 0
    if inside.any():
        for box_read in _boxes(run, needed(box, run.shape, run.settings.block, run.before("judge")["reach"])):
            run.checked.compare("segment", box_read)
        given = judge.apply, variables, jax.random.key(run.settings.seed), volumes
        likely, _, _ = likelihoods(*given, box, inside, run.settings.batch)
        wrong, gain = doubted(likely, labels_from_disk(run.arrays["initial"].read(box)))
        error = np.where(inside, wrong, error)
        chosen = exact.above(gain.astype(np.float32) / 255 * inside, run.settings.token, run.settings.gain)
        hidden, tokens = exact.spread(chosen, run.settings.token, box.shape) & inside, int(chosen.sum())
    record = {"hidden": int(hidden.sum()), "hidden_tokens": {"error": tokens}}
    _done(run, "judge", box, {"error": error, "hidden": hidden.astype(np.uint8)}, record, started)


def known_to_refiner(labels: np.ndarray, scheme: dict) -> np.ndarray:
    """Labels int16 as a refiner is given them: "ambiguous" is no class to it, so where a user's labels have it nothing
    is known.
    """
    return np.where(labels == scheme["ambiguous"], np.int16(-1), labels)


def _filled(run, variables, key, volumes, box) -> tuple[np.ndarray, np.ndarray, int, int]:
    """What `refine_block` gives."""
    how = run.settings.batch, run.refiner.calibration, run.rounds, run.inside
    return refine_block(run.refiner.apply, variables, key, volumes, box, *how)


class _WholeSlices:
    """The same of a refiner that works on whole slices. Blocks side by side share them, and the stream goes on where it
    was for the blocks behind: asked in order, every slice is made once.
    """

    def __init__(self, run, labels: Volume):
        plane = labels.shape[1:]
        _, stream = run.refiner.apply.slices(run.voxel_size_nm)

        def read(z):
            return labels.read(Box((z, 0, 0), (z + 1, *plane)))[0]

        self._begin = functools.partial(stream, read, labels.shape[0], run.settings.labelled_slices)
        self._turn, self._span, self._slices, self._stream = threading.Lock(), (0, 0), None, self._begin(0)

    def filled(self, box: Box) -> tuple[np.ndarray, np.ndarray, int, int]:
        span = box.start[0], box.stop[0]
        with self._turn:
            if span != self._span:
                stream = self._stream if self._span[1] == span[0] else self._begin(span[0])
                self._span = (0, 0)  # one that fails is begun again
                self._slices = np.stack(list(itertools.islice(stream, span[1] - span[0])))
                self._span, self._stream = span, stream
            labels = self._slices[:, *box.slices[1:]]
        # A rule is as sure of everything that it says.
        return labels, np.where(labels >= 0, np.uint8(255), np.uint8(0)), 0, 0


def _refine(run, filled, variables, key, volumes, box) -> None:
    arrays, started, inside = run.arrays, time.monotonic(), run.inside(box)
    if inside.any():
        for box_read in _boxes(run, needed(box, run.shape, run.settings.block, run.before("refine")["reach"])):
            for earlier in run.steps[run.steps.index("segment") : -1]:
                run.checked.compare(earlier, box_read)
        found, sure, computed, windows = filled(box)
    else:
        found, sure, computed = np.full(box.shape, -1, np.int16), np.zeros(box.shape, np.uint8), 0
        windows = 0 if run.refiner.apply.slices else len(windows_around(run.refiner.apply, run.shape, box, run.rounds))
    initial = arrays["initial"].read(box)
    replaced = arrays["hidden"].read(box) != 0
    if run.refiner.apply.everywhere:
        replaced = ~run.labelled(box) & inside
    replaced &= found >= 0
    refined, sure = np.where(replaced, labels_to_disk(found), initial), np.where(replaced, sure, np.uint8(0))
    written = _refined_maps(initial, refined) | {"confidence": sure}
    if "tested" in arrays:
        written["tested"] = asked_back.tested(run, variables, key, volumes, box)
    record = _changes(run, box, initial, refined, sure) | {"windows": windows, "computed": computed}
    _done(run, "refine", box, written, record, started)


def _changes(run, box, *maps) -> dict[str, list]:
    """changes.changes of what is worked on."""
    inside = run.inside(box)
    return changes.changes(*(one[inside] for one in maps))


def _boxes(run, starts) -> list[Box]:
    """The blocks that begin there."""
    block, shape = run.settings.block, run.shape
    return [Box(s, tuple(min(a + b, n) for a, b, n in zip(s, block, shape, strict=True))) for s in sorted(starts)]


def _refined_maps(initial, refined) -> dict[str, np.ndarray]:
    """What is written of refined labels, by role."""
    changed, none = initial != refined, np.uint16(0)
    was, became = (np.where(changed, labels + np.uint16(1), none) for labels in (initial, refined))
    return {"refined": refined, "was": was, "became": became}


def leave_as_they_were(run: Run, rules: objects.Rules) -> list[dict]:
    """Gives voxels that shall not be repaired their initial labels again; may be repeated. What changed, per block."""
    arrays, settings, found = run.arrays, run.settings, []
    parts_of = ((box, np.zeros(box.shape, bool)) for box in run.boxes)
    if "flagged" in settings.leave:
        parts_of = objects.flagged_voxels(run.place, arrays, settings.block, rules)
    for box, left in parts_of:
        if "red" in settings.leave:
            left = left | (arrays["trust"].read(box) == trust.RED)
        initial, refined = (arrays[name].read(box) for name in ("initial", "refined"))
        refined = np.where(left, initial, refined)
        written = _refined_maps(initial, refined)
        marks.mark(run.place, "leave", box, {}, _digests(written))  # before: a kill finds the old block or this one
        for role, array in written.items():
            arrays[role].write(box, array)
        found.append(_changes(run, box, initial, refined, arrays["confidence"].read(box)))
    return found
