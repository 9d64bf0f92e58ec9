"""A whole volume, block by block: image -> member probabilities -> labels, entropy, hidden tokens -> refined labels.

Two passes, "segment" and "refine"; every finished block is recorded after its data is durable and never redone.
Blocks are the unit of memory, writing and resuming, results do not depend on them (blockwise.py). A voxel outside
the hidden tokens keeps its initial label, bit for bit.
"""

import functools
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import maeref_jax.refiners.mae
import maeref_jax.segmenters.ensemble
from maeref_jax import audit, objects, parts, trust
from maeref_jax.blockwise import decide, halo, hide, refine_block, segment_block
from maeref_jax.entropy import member_means
from maeref_jax.errors import BadInput
from maeref_jax.jobs import (
    Job,
    Model,
    Settings,
    check_job,
    identity,
    object_rules,
    scheme_of,
    settled,
)
from maeref_jax.training.checkpoint import load_model_variables
from maeref_jax.training.workdir import read_config
from maeref_jax.volumes import inputs, output, results
from maeref_jax.volumes.claim import claimed
from maeref_jax.volumes.output import Output
from maeref_jax.volumes.volume import Volume, labels_from_disk, labels_to_disk, open_volume
from maeref_jax.volumes.windows import Box, blocks

SEGMENTERS = {"ensemble": maeref_jax.segmenters.ensemble}
REFINERS = {"mae": maeref_jax.refiners.mae}
METHODS = SEGMENTERS | REFINERS
_KINDS = {"segmenter": SEGMENTERS, "refiner": REFINERS}


def load_model(workdir: str | Path, kind: str) -> Model:
    """The model in `workdir`. kind: "segmenter" or "refiner".

    Raises:
        BadInput: no workdir of train.py, nothing saved in it yet, or a model of the other kind.
    """
    config = read_config(workdir)
    name, methods = config["method"], _KINDS[kind]
    if name not in methods:
        raise BadInput(f"{workdir} holds a model of method '{name}', expected a {kind}: {', '.join(methods)}")
    module, settings = methods[name], config["config"]
    apply = module.segmenter(settings) if kind == "segmenter" else module.refiner(settings)
    params, state = load_model_variables(workdir)
    return Model(str(workdir), name, settings, params, state, apply, config["facts"])


def open_result(directory: str | Path, stem: str, role: str) -> Volume:
    """The result array `role` of a finished volume as stored, its finest level: initial, refined, entropy (0 to 255
    for 0 to 1), hidden (0 or 1), … see volumes/results.py.
    """
    return open_volume(results.path_of(Output(Path(directory), stem), role))


class Run(NamedTuple):
    """One volume on its way: what to make of what, and the arrays to write to."""

    place: Output
    job: Job
    segmenter: Model | None
    refiner: Model | None
    settings: Settings
    scheme: dict
    made_by: dict
    arrays: dict[str, Volume]
    voxel_size_nm: tuple[float, float, float] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.arrays["initial"].shape

    @property
    def steps(self) -> tuple[str, ...]:
        """The passes over all blocks, in order."""
        return ("copy",) * self.settings.copy_image + ("segment",) + ("refine",) * (self.refiner is not None)

    def before(self, step: str) -> dict:
        """The pass whose blocks must be finished as far as `reach` voxels around a block of `step`; {} for none."""
        if step != "refine":
            return {}
        beside = self.settings.token * self.settings.foreignness  # which tokens are tested, their neighbours decide
        return {"before": "segment", "reach": tuple(np.add(halo(self.refiner.apply), (0, beside, beside)).tolist())}


def refine_volume(
    job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings, say: Callable[[str], None] = print
) -> dict | None:
    """Refines one volume; continues where an interrupted run stopped; does nothing where a run was completed.

    Without a refiner the volume is only segmented: no refined labels. `say` hears what a user should know.

    Returns:
        The summary that is also written as `{stem}.json`; None if other parts of it are not done yet.

    Raises:
        BadInput: inputs that cannot be used or do not fit together or the models, or an output that was made by
            something else. Nothing has been written then.
        CannotGoOn: other parts did not do in time what this one needs.
        OSError: the output cannot be written.
    """
    run = open_run(job, segmenter, refiner, settings, say)
    if run is None:
        return load_summary(job)
    given = run.settings
    others = {"part": (given.part_id, given.num_parts), "wait_minutes": given.wait_minutes, "say": say}
    for step, work in passes(run).items():
        parts.run_pass(run.place, step, run.shape, given.block, work, **others, **run.before(step))
    return finish(run, say)


def open_run(
    job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings, say: Callable[[str], None] = print
) -> Run | None:
    """Checks everything and makes the output, or opens it again; None where it is complete. Raises as
    `refine_volume` does. Several processes may do this at the same time.
    """
    settings = settled(settings, refiner)
    volumes = check_job(job, segmenter, refiner, settings)
    place = Output(Path(job.output), job.stem)
    output.check_apart(place, volumes.values())
    made_by = identity(job, volumes, segmenter, refiner, settings)
    scheme = scheme_of(segmenter, refiner)
    shape = next(iter(volumes.values())).shape
    voxel_size_nm = next((v.voxel_size_nm for v in volumes.values() if v.voxel_size_nm), None)
    made = (settings.block, voxel_size_nm, scheme, settings.ome_zarr, job.image.dtype if settings.copy_image else None)

    def arrays_in(place):
        return results.create_arrays(place, roles_of(settings, refiner), shape, *made)

    state = "new" if settings.overwrite else output.state(place, made_by)
    if state == "new":
        inputs.check_values(volumes, len(scheme["names"]) or None)
        output.remove(place) if settings.overwrite else None
        image = {"path": job.image.path, "copied": settings.copy_image} if job.image else None
        output.create(place, made_by, settings.ome_zarr, {"maeref_jax": {"image": image}}, arrays_in)
        state = output.state(place, made_by)  # another part may have been faster
    if state == "complete":
        say(f"{place.sidecar} is complete already, nothing to do")
        return None
    for volume in volumes.values():
        if volume.note:
            say(f"{volume.path}: {volume.note}")
    if job.entropy is not None and job.entropy.dtype == np.uint8:
        say(f"{job.entropy.path}: uint8 entropy is read as value / 255")
    return Run(place, job, segmenter, refiner, settings, scheme, made_by, arrays_in(place), voxel_size_nm)


def load_summary(job: Job) -> dict:
    """The summary of a completed run."""
    return output.load_sidecar(Output(Path(job.output), job.stem))


def block_grid(run: Run) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
    """Number of blocks along z, y, x; and of each pass, how many blocks around a block it reads of the one before."""
    grid = tuple(-(-n // b) for n, b in zip(run.shape, run.settings.block, strict=True))
    steps = {}
    for step in run.steps:
        reach = run.before(step).get("reach", (0, 0, 0))
        steps[step] = tuple(min(-(-r // b), n) for r, b, n in zip(reach, run.settings.block, grid, strict=True))
    return grid, steps


def roles_of(settings: Settings, refiner: Model | None) -> tuple[str, ...]:
    """The arrays that are made."""
    roles = ("image",) * settings.copy_image + results.SEGMENTED + (results.REFINED if refiner else ())
    if refiner:
        roles += ("trust",) * settings.trust + ("tested",) * settings.foreignness
    if settings.objects:
        roles += ("objects_initial",) + ("objects_refined",) * (refiner is not None)
    return roles


def passes(run: Run) -> dict[str, Callable[[Box], None]]:
    """What each of `run.steps` does with a block, mark included."""
    found = {"copy": functools.partial(_copy, run)}
    variables = run.segmenter and jax.device_put((run.segmenter.params, run.segmenter.state))
    found["segment"] = functools.partial(_segment, run, variables)
    if run.refiner is not None:
        variables = jax.device_put((run.refiner.params, run.refiner.state))
        key = jax.random.key(run.settings.seed)
        found["refine"] = functools.partial(_refine, run, variables, key, _seen_by_refiner(run))
    return {step: found[step] for step in run.steps}


def finish(run: Run, say: Callable[[str], None] = print) -> dict | None:
    """Objects, exports, coarser levels and the sidecar, once every block is there: done by one process, which others
    leave alone. None if blocks are missing or another process does it.
    """
    place, settings = run.place, run.settings
    for step in run.steps:
        missing = parts.missing_parts(place, step, run.shape, settings.block, settings.num_parts)
        if missing:
            others = ", ".join(f"{part} ({count} blocks)" for part, count in sorted(missing.items()))
            mine = f"part {settings.part_id} of {settings.num_parts} is done"
            say(f"{place.stem}: {mine}; the pass '{step}' waits for the parts {others}")
            return None
    with claimed(place.progress, "finish") as ours:
        if not ours:
            say(f"{place.stem}: all blocks are done, another process writes the rest; if it died, run this in a minute")
            return None
        if output.state(place, run.made_by) == "complete":  # it was faster
            return output.load_sidecar(place)
        return _finish(run, say)


def _finish(run, say) -> dict:
    place, settings, arrays = run.place, run.settings, run.arrays
    started, found, blobs = time.monotonic(), None, None
    rules = object_rules(run.scheme, settings)
    if "trust" in arrays:
        rated = (settings.token, run.voxel_size_nm, settings.trust_limits)
        blobs = trust.rate_blobs(place, arrays, settings.block, *rated)
    changes = _leave(run, rules) if settings.leave else None
    if settings.objects:
        told = (run.voxel_size_nm, run.scheme["names"], rules, say)
        found = objects.measure_objects(place, arrays, settings.block, *told)
    if settings.tiff_export:
        results.export(place, arrays, run.voxel_size_nm, run.scheme["colours"])
    results.write_pyramids(place, arrays)
    summary = _summary(place, run.scheme, run.segmenter, run.refiner, run.made_by, time.monotonic() - started)
    summary |= audit.table(changes, run.scheme["names"]) if changes else {}
    summary |= {"objects": found} if settings.objects else {}
    if blobs:
        summary["repairs"] = trust.write_table(place, arrays, blobs, "red" in settings.leave)
    output.finish(place, summary)
    return summary


def _leave(run, rules) -> list[dict]:
    """Gives voxels that shall not be repaired their initial labels again; may be repeated. What changed, per block."""
    arrays, settings, found = run.arrays, run.settings, []
    parts_of = ((box, np.zeros(box.shape, bool)) for box in blocks(run.shape, settings.block))
    if "flagged" in settings.leave:
        parts_of = objects.flagged_voxels(run.place, arrays, settings.block, rules)
    for box, left in parts_of:
        if "red" in settings.leave:
            left = left | (arrays["trust"].read(box) == trust.RED)
        initial, refined = (arrays[name].read(box) for name in ("initial", "refined"))
        refined = np.where(left, initial, refined)
        _write_refined(arrays, box, initial, refined)
        found.append(audit.changes(initial, refined, arrays["confidence"].read(box)))
    return found


def _copy(run, box) -> None:
    copied = run.arrays["image"]
    copied.write(box, run.job.image.read(box).astype(copied.dtype))  # of another byte order at most
    output.mark(run.place, "copy", box, {})


def _segment(run, variables, box) -> None:
    job, segmenter, settings, scheme, arrays = run.job, run.segmenter, run.settings, run.scheme, run.arrays
    started, windows, kind = time.monotonic(), 0, settings.entropy_kind
    painted = np.zeros(box.shape, bool)
    if segmenter is not None:
        source = segmenter.apply, variables, job.members, job.image
        means, windows = segment_block(*source, box, settings.batch, kind)
        labels, entropy, ambiguous = decide(means, scheme["ambiguous"], kind)
    elif job.probabilities:
        members = np.stack([np.moveaxis(v.read(box), 0, -1).astype(np.float32) for v in job.probabilities])
        labels, entropy, ambiguous = decide(np.asarray(member_means(members, kind)), scheme["ambiguous"], kind)
    else:
        labels = labels_from_disk(job.labels.read(box))
        ambiguous = ((labels == scheme["ambiguous"]) & (labels >= 0)).astype(np.float32)
        entropy = np.zeros(box.shape, np.float32)
        if job.entropy is not None:
            entropy = job.entropy.read(box).astype(np.float32) / (255 if job.entropy.dtype == np.uint8 else 1)
        else:
            # One painted voxel hides its token; the refiner hears full entropy there, none elsewhere.
            painted = hide(job.hidden.read(box) != 0, ambiguous * 0, settings.token, 0.0, 1.0)
            entropy = painted.astype(np.float32)
    hidden = hide(entropy, ambiguous, settings.token, settings.threshold, settings.ambiguous_threshold) | painted
    arrays["initial"].write(box, labels_to_disk(labels))
    arrays["entropy"].write(box, np.round(entropy * 255).astype(np.uint8))
    arrays["hidden"].write(box, hidden.astype(np.uint8))
    record = {"voxels": hidden.size, "hidden": int(hidden.sum()), "windows": windows}
    output.mark(run.place, "segment", box, record | {"seconds": time.monotonic() - started})


def _seen_by_refiner(run) -> dict[str, Volume]:
    """The volumes that `refine_block` reads, by its names."""

    def view(name, dtype, convert):
        array = run.arrays[name]
        return Volume(name, run.shape, np.dtype(dtype), None, None, None, lambda box: convert(array.read(box)))

    def known_labels(labels):
        labels = labels_from_disk(labels)
        # "Ambiguous" is no class to a refiner: where the user's labels have it, nothing is known.
        return np.where(labels == run.scheme["ambiguous"], np.int16(-1), labels)

    volumes = {
        "labels": view("initial", np.int16, known_labels),
        "entropy": view("entropy", np.float32, lambda entropy: entropy.astype(np.float32) / 255),
        "hidden": view("hidden", bool, lambda hidden: hidden != 0),
    }
    return volumes | ({"image": run.job.image} if "image" in run.refiner.apply.needs else {})


def _refine(run, variables, key, volumes, box) -> None:
    arrays, started = run.arrays, time.monotonic()
    filled, sure, computed, windows = refine_block(run.refiner.apply, variables, key, volumes, box, run.settings.batch)
    initial = arrays["initial"].read(box)
    refined = np.where(arrays["hidden"].read(box) != 0, labels_to_disk(filled), initial)
    _write_refined(arrays, box, initial, refined)
    arrays["confidence"].write(box, sure)
    if "tested" in arrays:
        tested = trust.tested_volume(volumes["hidden"], volumes["labels"], run.settings.token)
        _test(run, variables, key, volumes, tested, box)
    record = {"windows": windows, "computed": computed, "seconds": time.monotonic() - started}
    output.mark(run.place, "refine", box, audit.changes(initial, refined, sure) | record)


def _write_refined(arrays, box, initial, refined) -> None:
    arrays["refined"].write(box, refined)
    for name, labels in (("was", initial), ("became", refined)):
        arrays[name].write(box, np.where(initial != refined, labels + np.uint16(1), np.uint16(0)))


def _test(run, variables, key, volumes, tested, box) -> None:
    """Hides visible tokens beside the hidden ones too, and writes where the refiner gets them wrong."""

    def both(box):
        return volumes["hidden"].read(box) | tested.read(box)

    more = volumes | {"hidden": Volume("hidden", run.shape, np.dtype(bool), None, None, None, both)}
    filled, *_ = refine_block(run.refiner.apply, variables, key, more, box, run.settings.batch)
    labels = volumes["labels"].read(box)
    found = np.where(tested.read(box) & (labels >= 0), 1 + (filled != labels), 0)
    run.arrays["tested"].write(box, found.astype(np.uint8))


def _summary(place, scheme, segmenter, refiner, made_by, export_seconds) -> dict:
    segmented, refined = (list(output.marks(place, step).values()) for step in ("segment", "refine"))
    voxels, hidden = (sum(record[name] for record in segmented) for name in ("voxels", "hidden"))
    seconds = {"segment": sum(r["seconds"] for r in segmented), "refine": sum(r["seconds"] for r in refined)}
    packages = ("jax", "jaxlib", "flax", "numpy", "tensorstore", "tifffile")
    return {
        "stem": place.stem,
        "made_by": json.loads(json.dumps(made_by)),
        "workdirs": {"segmenter": segmenter and segmenter.workdir, "refiner": refiner and refiner.workdir},
        "classes": scheme["names"],
        "voxels": voxels,
        "hidden_share": hidden / voxels,
        **audit.table(refined, scheme["names"]),
        "windows": {"refine": sum(r["windows"] for r in refined), "computed": sum(r["computed"] for r in refined)},
        "seconds": {name: round(value, 3) for name, value in (seconds | {"export": export_seconds}).items()},
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "device": jax.devices()[0].device_kind,
    }
