"""A whole volume, block by block: image -> member probabilities -> labels, entropy, hidden tokens -> refined labels.

Its passes, "segment", "refine" and others, are in passes.py; every finished block is recorded after its data is durable
and never redone. Blocks are the unit of memory, writing and resuming, results do not depend on them (blockwise.py). A
voxel outside the hidden tokens keeps its initial label, bit for bit.
"""

import json
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import jax

from maeref_jax.audit import objects, trust
from maeref_jax.audit.changes import table
from maeref_jax.errors import MARK, BadInput, CannotGoOn, tell
from maeref_jax.pipeline import doubts, file_grid, inside, parts, space
from maeref_jax.pipeline.checks import check_chosen, check_job
from maeref_jax.pipeline.identity import identity
from maeref_jax.pipeline.jobs import (
    Job,
    Model,
    Settings,
    agreeing_slices,
    as_read,
    file_of,
    formats_of,
    meant_for,
    object_rules,
    placement_of,
    scheme_of,
    settled,
    voxel_size_of,
)
from maeref_jax.pipeline.passes import Run, Said, leave_as_they_were, passes
from maeref_jax.results import digests, maps, marks, output, ownership, verifying
from maeref_jax.results.claim import claimed
from maeref_jax.results.place import EXPORTS, Output, way_out
from maeref_jax.samples.labelled_slices import check_same_slices, numbers_of
from maeref_jax.volumes import inputs, progress, threads
from maeref_jax.volumes.volume import Volume, open_volume


def open_result(directory: str | Path, stem: str, role: str) -> Volume:
    """The result array `role` of a finished volume as stored, its finest level: initial, refined, entropy (0 to 255
    for 0 to 1), hidden (0 or 1), … see results/maps.py.
    """
    return open_volume(maps.path_of(Output(Path(directory), stem), role))


def refine_volume(
    job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings, say: Callable[[str], None] = tell
) -> dict | None:
    """Refines one volume; continues where an interrupted run stopped; does nothing where a run was completed.

    Without a refiner the volume is only segmented: no refined labels. `say` hears what a user should know.

    Returns:
        The summary that is also written as `{stem}.json`; None if other parts of it are not done yet.

    Raises:
        BadInput: inputs that cannot be used or do not fit together or the models, or an output that was made by
            something else. Nothing has been written then.
        CannotGoOn: other parts did not do in time what this one needs; see `finish`.
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
    job: Job,
    segmenter: Model | None,
    refiner: Model | None,
    settings: Settings,
    say: Callable[[str], None] = tell,
    serving: bool = False,
) -> Run | None:
    """Checks everything and makes the output, or opens it again; None where it is complete. Raises as
    `refine_volume` does. Several processes may do this at the same time. serving: this one is a worker, and whoever
    started it has looked at the disk.
    """
    given, refiner = refiner, meant_for(refiner, job.labels is not None)
    check_chosen(job, segmenter, refiner, settings)
    forgotten = settings.threshold is None and given is not refiner and job.entropy is not None
    settings = settled(settings, refiner)
    volumes = check_job(job, segmenter, refiner, settings)
    shape = next(iter(volumes.values())).shape
    if settings.labelled_slices:
        check_same_slices(job.labels)
        numbers = numbers_of(settings.labelled_slices, shape[0], job.labels.path)
        settings = settings._replace(labelled_slices=tuple(numbers))
    place = Output(Path(job.output), job.stem, formats_of(settings))
    output.check_apart(place, volumes.values())
    output.check_directory(place.directory)
    made_by = identity(job, volumes, segmenter, refiner, settings)
    scheme = scheme_of(segmenter, refiner, settings.classes)
    voxel_size_nm = voxel_size_of(volumes)
    rounds = agreeing_slices(settings, refiner, voxel_size_nm, shape[0])
    made = (settings.block, voxel_size_nm, scheme, settings.ome_zarr, job.image.dtype if settings.copy_image else None)
    run = Run(place, job, segmenter, refiner, settings, scheme, made_by, {}, voxel_size_nm, rounds, kept={})

    image = {"path": job.image.path, "copied": settings.copy_image} if job.image else None
    group = settings.ome_zarr, {"maeref_jax": {"image": image}}

    def arrays_in(place):
        return maps.create_arrays(place, roles_of(settings, refiner, scheme), shape, *made)

    if settings.overwrite:
        output.check_removable(place)
    state = "new" if settings.overwrite else output.state(place, made_by)
    if state != "complete" and not serving:
        size = (shape, settings.block, voxel_size_nm, job.image, place.formats, file_of(job))
        found = space.needed(roles_of(settings, refiner, scheme), *size)
        space.check(place, found, space.share_done(place, run.steps, math.prod(block_grid(run)[0])), say)
    if state == "new":
        with progress.showing(f"reading {job.stem} to check its values"):
            readings = inputs.check_values(volumes, scheme, settings.label_map)
        chosen = given.chosen["threshold"] if forgotten else None
        said = doubts.before(run._replace(job=as_read(job, volumes, readings)), readings, chosen, job.within)
        if settings.strict:
            doubts.stop(job.stem, said.warnings)  # an earlier output is still there
        output.remove(place) if settings.overwrite else None

        def fill(new):
            output.note(new, "labels", {role: reading._asdict() for role, reading in readings.items()})
            output.note(new, "said", said._asdict())
            output.note(new, "grid", grid_of(run))
            arrays_in(new)

        output.create(place, made_by, *group, fill)
        state = output.state(place, made_by)  # another part may have been faster
    said = output.load_sidecar(place) if state == "complete" else output.notes(place, "said")
    said = Said(**{name: said[name] for name in Said._fields if name in said})
    for line in (*said.notes, *(f"{MARK}{text}" for text in said.warnings)):
        say(line)
    if settings.strict:
        doubts.stop(job.stem, said.warnings, f"it was {'refined' if state == 'complete' else 'begun'} without")
    if state == "complete":
        _complete(run, say)
        return None
    readings = output.readings(place)  # what ids mean was found out once, by whoever made the output
    if job.labels is not None and "labels" not in readings:
        raise output.CannotContinue(f"{place.folder} was begun by an earlier version")
    said = said._replace(warnings=(*said.warnings, *_sweep(run, say)))
    with _damaged(place):
        output.restore(place, *group)
        arrays = arrays_in(place)
    checked = marks.Checked(place, arrays)
    return run._replace(job=as_read(job, volumes, readings), arrays=arrays, said=said, checked=checked)


@contextmanager
def _damaged(place) -> Iterator[None]:
    """What cannot be opened of an output can be made again: says how."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{error}; {way_out(place)}") from error


def _sweep(run, say) -> list[str]:
    """Says what an output that is continued lacks, and which of its blocks are done again; returns what to warn of."""
    place = run.place
    if verifying.grid_of(place) is None:
        output.note(place, "grid", grid_of(run))
    damaged, without = marks.sweep(place, run.steps, run.boxes)
    if damaged:
        say(f"{MARK}{place.stem}: {damaged} marks of finished blocks were damaged; these blocks are done again")
    trusted = f"{place.stem}: {without} blocks were made before digests were kept, so they are taken on trust"
    if without:
        say(f"{MARK}{trusted}")
    if summary := ownership.summary_of(place):
        lost = ", ".join(output.made_again(place, summary))
        say(f"{place.stem} is complete but for {lost}; what comes after the blocks is made again")
    return [trusted] if without else []


def _complete(run, say) -> None:
    """Looks whether a completed output is there as its sidecar says, and writes exports that are asked for now."""
    place, summary = run.place, output.load_sidecar(run.place)
    roles = [role for role in roles_of(run.settings, run.refiner, run.scheme) if role in EXPORTS]
    missing = maps.missing_exports(place, roles)
    if missing:
        with _damaged(place):
            arrays = maps.open_arrays(place, roles)
        _compare(marks.Checked(place, arrays), run)
        _export(run, arrays)
        summary = output.finish(place, summary)
    for name in ownership.lost(place, summary):
        say(f"{place.directory / name} is not there any more; --export with its format writes it again")
    for name in ownership.resized(place, summary):
        say(f"{MARK}{place.directory / name} was changed since it was made; remove or move it to have it made again")
    what = f"wrote {len(missing)} exports" if missing else "nothing to do"
    say(f"{place.sidecar} is complete already, {what}")


def _export(run: Run, arrays: dict[str, Volume]) -> None:
    """Writes the exports that are missing, on the grid of the file."""
    place, file, size = run.place, file_of(run.job), run.voxel_size_nm
    if file is not None:
        size = file.voxel_size_nm
        arrays = file_grid.open_arrays(place, [role for role in EXPORTS if role in arrays])
    maps.export(place, arrays, size, run.scheme["colours"], placement_of(run.job))


def _compare(checked: marks.Checked, run: Run) -> None:
    """Compares all blocks with the digests in their marks, but those that were compared before. Raises CannotGoOn."""

    def work(box):
        for step in run.steps:
            checked.compare(step, box)
        return box

    with progress.showing(f"{run.place.stem}: comparing with digests", len(run.boxes), "block") as shown:
        for _ in threads.in_order(work, run.boxes):
            shown.advance()


def grid_of(run: Run) -> dict:
    """What is needed to say which blocks are to be done again, where some are damaged: see results/verifying.py."""
    steps = {step: run.before(step) for step in run.steps}
    return {"shape": run.shape, "block": run.settings.block, "steps": steps, "typed": run.job.typed}


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


def roles_of(settings: Settings, refiner: Model | None, scheme: dict) -> tuple[str, ...]:
    """The arrays that are made. settings: settled; scheme: of the classes."""
    classes = len(scheme["names"])
    roles = ("image",) * settings.copy_image + maps.SEGMENTED + (maps.REFINED if refiner else ())
    roles += ("disagreement",) * settings.disagreement + maps.probabilities(classes) * settings.keep_probabilities
    roles += ("error",) * (refiner is not None and refiner.judge is not None)
    if refiner:
        # What is changed everywhere is not rated: ratings are those of hidden places.
        roles += ("trust",) * (settings.trust and not refiner.apply.everywhere) + ("tested",) * settings.foreignness
    if settings.objects:
        roles += ("objects_initial",) + ("objects_refined",) * (refiner is not None)
    return roles


def finish(run: Run, say: Callable[[str], None] = tell) -> dict | None:
    """Objects, exports, coarser levels and the sidecar, once every block is there: done by one process, which others
    leave alone. None if other parts have blocks to do, or another process does it.

    Raises:
        CannotGoOn: there are no other parts, and blocks are missing, or another process does it.
    """
    place, settings = run.place, run.settings
    for step in run.steps:
        missing = parts.missing_parts(place, step, run.shape, settings.block, settings.num_parts)
        if missing and settings.num_parts == 1:
            raise CannotGoOn(
                f"{place.stem}: {missing[0]} blocks of the pass '{step}' are not done, though all were gone through; "
                "give the same command again"
            )
        if missing:
            others = ", ".join(f"{part} ({count} blocks)" for part, count in sorted(missing.items()))
            mine = f"part {settings.part_id} of {settings.num_parts} is done"
            say(f"{place.stem}: {mine}; the pass '{step}' waits for the parts {others}")
            return None
    with claimed(place.progress, "finish") as ours:
        if not ours:
            told = (
                f"{place.stem}: all blocks are done, another process writes the rest; if it died, run this in a minute"
            )
            if settings.num_parts == 1:
                raise CannotGoOn(told)
            say(told)
            return None
        if output.state(place, run.made_by) == "complete":  # it was faster
            return output.load_sidecar(place)
        return _finish(run, say)


def _finish(run, say) -> dict:
    place, settings, started, blobs = run.place, run.settings, time.monotonic(), None
    _compare(run.checked, run)
    arrays, written = digests.recorded(run.arrays)
    run = run._replace(arrays=arrays)
    rules = object_rules(run.scheme, settings)
    if "trust" in arrays:
        rated = (settings.token, run.voxel_size_nm, settings.trust_limits)
        blobs = trust.rate_blobs(place, arrays, settings.block, *rated)
    changes = leave_as_they_were(run, rules) if settings.leave else None
    summary = _summary(run)
    summary |= table(changes, run.scheme["names"]) if changes else {}
    summary |= {"repairs": trust.counts(blobs)} if blobs else {}
    later = doubts.after(summary, run.scheme, settings.leave, run.refiner is not None)
    if settings.strict:
        doubts.stop(place.stem, later, "its blocks are done, but no result was written")
    for text in later:
        say(f"{MARK}{text}")
    summary["warnings"] += later
    if settings.objects:
        told = (run.voxel_size_nm, run.scheme["names"], rules, say)
        summary["objects"] = objects.measure_objects(place, arrays, settings.block, *told)
    if file_of(run.job) is not None:
        file_grid.write(place, run.job, arrays, settings.block, run.scheme, settings.ome_zarr)
    _export(run, arrays)
    levels = maps.write_pyramids(place, arrays)
    if blobs:
        trust.write_table(place, arrays, blobs, "red" in settings.leave)
    summary["seconds"]["export"] = round(time.monotonic() - started, 3)
    return output.finish(place, summary, _of_all_blocks(run, written), levels)


def _of_all_blocks(run, written) -> dict[str, dict[str, str]]:
    """By role, the digest of every block: those in the marks, and where a block was `written` afterwards, that one."""
    found = {role: {} for role in run.arrays}
    for step in run.steps:
        for box in run.boxes:
            for role, digest in (marks.load(run.place, step, box) or {"digests": {}})["digests"].items():
                found[role][digests.name_of(box)] = digest
    return {role: found[role] | written[role] for role in found}


def _summary(run) -> dict:
    place, scheme, segmenter, refiner, said = run.place, run.scheme, run.segmenter, run.refiner, run.said
    segmented, judged, refined = (marks.records(place, step, run.boxes) for step in ("segment", "judge", "refine"))
    hiding = judged if "judge" in run.steps else segmented
    rules = tuple(hiding[0]["hidden_tokens"])
    voxels, hidden = sum(record["voxels"] for record in segmented), sum(record["hidden"] for record in hiding)
    undecided = sum(record.get("undecided", 0) for record in segmented)  # not of painted masks, nor by earlier versions
    done = {"segment": segmented, "judge": judged, "refine": refined}
    seconds = {step: sum(r["seconds"] for r in records) for step, records in done.items() if records or step != "judge"}
    packages = ("jax", "jaxlib", "flax", "numpy", "tensorstore", "tifffile")
    return {
        "stem": place.stem,
        **inside.summary(said.within, segmented),
        "warnings": list(said.warnings),
        "notes": list(said.notes),
        **({"asked": said.asked} if said.asked else {}),
        **({"statistics": said.statistics} if said.statistics else {}),
        "made_by": json.loads(json.dumps(run.made_by)),
        "workdirs": {
            "segmenter": segmenter and segmenter.workdir,
            "refiner": refiner and refiner.workdir,
            **({"hidden_by": refiner.judge.workdir} if refiner and refiner.judge else {}),
        },
        "classes": scheme["names"],
        **file_grid.facts(run.job, run.arrays),
        "voxels": voxels,
        "hidden_share": hidden / voxels,
        "undecided_share": undecided / voxels,
        "hidden_tokens": {rule: sum(record["hidden_tokens"][rule] for record in hiding) for rule in rules},
        **({"agreeing_slices": run.rounds, "everywhere": refiner.apply.everywhere} if refiner else {}),
        **({"caution": refiner.apply.caution} if refiner and refiner.apply.caution > 1 else {}),
        **({"labelled_slices": list(run.settings.labelled_slices)} if run.settings.labelled_slices else {}),
        **table(refined, scheme["names"]),
        "windows": {"refine": sum(r["windows"] for r in refined), "computed": sum(r["computed"] for r in refined)},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "device": jax.devices()[0].device_kind,
    }
