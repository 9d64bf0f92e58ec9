"""A mask of the tissue in a volume: segmented at coarse voxels, or given, then cleaned up. What comes out is an output
like those of refining, block by block, resumable and verified:

    {stem}_tissue.ome.zarr             the mask, 1 tissue and 0 resin, with its voxel size, names and colours
    {stem}_tissue.ome.zarr/labels/found    the same before clean-up
    {stem}_tissue.json                 how it was made, how much is tissue, what is doubted

Two passes, "segment" and "clean". The clean-up looks at all of what was found, so where it was interrupted it is begun
again, but for blocks that are written.
"""

import dataclasses
import json
import math
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from maeref_jax.errors import MARK, CannotGoOn, tell
from maeref_jax.masking import cleaning as rules
from maeref_jax.masking.cleaning import Cleaning
from maeref_jax.pipeline import cleaning as clean_up
from maeref_jax.pipeline import doubts, parts, space
from maeref_jax.pipeline.blockwise import decide
from maeref_jax.pipeline.identity import identity
from maeref_jax.pipeline.jobs import Job, Model, Settings, settled
from maeref_jax.pipeline.passes import Run, Said, read_by_one
from maeref_jax.pipeline.segmenting import means_of
from maeref_jax.results import digests, maps, marks, output
from maeref_jax.results.claim import claimed
from maeref_jax.results.place import Output
from maeref_jax.volumes import inputs, progress
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.windows import Box

SCHEME = {"names": ("resin", "tissue"), "colours": ((0, 0, 0), (250, 220, 60)), "ambiguous": -1}
ACROSS = 512  # coarse voxels along the plane's shorter side, about
MOST = 2**26  # coarse voxels in all
USUAL_VX = 3  # of what is closed, opened and grown, in coarse voxels of the plane
VERSION = "0.5"


class Asked(NamedTuple):
    """What is made of what. volume: the image to be segmented, or, without a segmenter, the mask (0 is resin), on the
    grid of the result; texture: the segmenter that is asked whether there is anything but noise, where a network makes
    the mask; doubts, notes: what is known of it, sentences; typed: the command, word by word.
    """

    stem: str
    output: Path
    volume: Volume
    segmenter: Model | None
    cleaning: Cleaning
    batch: int = 16
    overwrite: bool = False
    strict: bool = False
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    typed: tuple[str, ...] = ()
    texture: Model | None = None

    @property
    def place(self) -> Output:
        return place_of(self.output, self.stem)


def place_of(directory: str | Path, stem: str) -> Output:
    """Where the mask of the input `stem` lies."""
    return Output(Path(directory), f"{stem}_tissue", ())


def coarse_size(shape: Sequence[int], voxel_size_nm: Sequence[float]) -> tuple[float, float, float]:
    """A voxel size (z, y, x) at which a volume is small: whole multiples of its own, near to cubes, so that the plane's
    shorter side has ACROSS voxels or somewhat more, and all of it at most MOST.
    """
    wanted = min(n * size for n, size in zip(shape[1:], voxel_size_nm[1:], strict=True)) / ACROSS
    while True:
        factors = [max(1, math.floor(wanted / size * (1 + 1e-9))) for size in voxel_size_nm]
        if math.prod(-(-n // f) for n, f in zip(shape, factors, strict=True)) <= MOST:
            return tuple(f * size for f, size in zip(factors, voxel_size_nm, strict=True))
        wanted *= 1.1


def usual(cleaning: dict, voxel_size_nm: Sequence[float] | None) -> Cleaning:
    """A clean-up whose lengths are USUAL_VX voxels of the plane where they are None, 0 where nobody knows a size."""
    length = USUAL_VX * max(voxel_size_nm[1:]) if voxel_size_nm else 0.0
    return Cleaning(**{name: length if value is None else value for name, value in cleaning.items()})


def make(asked: Asked, say: Callable[[str], None] = tell) -> dict:
    """Makes a mask, or goes on where it was interrupted; does nothing where it is complete.

    Returns:
        The summary that is also written as {stem}_tissue.json: "tissue_share", "found_share" (before clean-up),
        "warnings", "notes", "cleaning", "statistics" of a segmenter that learns nothing, …

    Raises:
        BadInput: a volume that cannot be used, settings that mean nothing, or an output that was made otherwise.
        CannotGoOn: another process is cleaning it up.
        OSError: the output cannot be written.
    """
    place, volume = asked.place, asked.volume
    rules.check(asked.cleaning, volume.voxel_size_nm, volume.path)
    output.check_apart(place, [volume])
    output.check_directory(place.directory)
    run = _run(asked)
    if asked.overwrite:
        output.check_removable(place)
    state = "new" if asked.overwrite else output.state(place, run.made_by)
    group = VERSION, {"maeref_jax": {"image": {"path": volume.path, "copied": False}}}
    if state == "new":
        size = (volume.shape, run.settings.block, volume.voxel_size_nm, None, ())
        space.check(place, space.needed(maps.MASK, *size), 0.0, say)
        _begin(asked, run, group)
        state = output.state(place, run.made_by)
    complete = state == "complete"
    said = output.load_sidecar(place) if complete else output.notes(place, "said")
    said = Said(**{name: said[name] for name in Said._fields if name in said})
    for line in (*said.notes, *(f"{MARK}{text}" for text in said.warnings)):
        say(line)
    if asked.strict:
        doubts.stop(asked.stem, said.warnings, f"it was {'made' if complete else 'begun'} without")
    if complete:
        say(f"{place.sidecar} is complete already, nothing to do")
        return output.load_sidecar(place)
    output.restore(place, *group)
    run = run._replace(said=said, arrays=_arrays(run, place))
    marks.sweep(place, ("segment", "clean"), run.boxes)
    _segment(run)
    # The clean-up has a folder for what it found in between: two processes would read what the other one removed.
    with claimed(place.progress, "finish") as ours:
        if not ours:
            raise CannotGoOn(f"{place.stem}: another process cleans it up; if it died, run this in a minute")
        _clean(run, asked.cleaning)
        return _finish(run, asked, say)


def _run(asked: Asked) -> Run:
    """The mask on its way. Everything that decides about it is in made_by."""
    volume = dataclasses.replace(asked.volume, file=None, bring=None)  # it stays at its voxels
    settings = settled(Settings(block=clean_up.block_of(volume.shape), batch=asked.batch, ask=0), None)
    job = Job(asked.place.stem, asked.output, image=volume, typed=asked.typed, doubts=asked.doubts)
    made_by = identity(job, {"image" if asked.segmenter else "mask": volume}, asked.segmenter, None, settings)
    made_by["settings"] = {"block": settings.block, "batch": settings.batch, **asked.cleaning._asdict()}
    made = asked.place, job, asked.segmenter, None, settings, SCHEME, made_by, {}, volume.voxel_size_nm, 0
    return Run(*made)


def _begin(asked, run, group) -> None:
    """Makes the output, after everything that can be said before was."""
    if asked.segmenter:
        with progress.showing(f"reading {asked.stem} to check its values"):
            inputs.check_image(asked.volume)
        said = doubts.before(run, {})
        said = said._replace(warnings=(*said.warnings, *_empty_to_texture(asked)))
        names = asked.segmenter.settings["classes"]["names"]
        if list(names[1:]) != ["tissue"]:
            other = f"{asked.segmenter.workdir} tells {', '.join(names)} apart: all but {names[0]} is taken as tissue"
            said = said._replace(notes=(*said.notes, other))
    else:
        said = Said(asked.doubts)
    said = said._replace(notes=(*said.notes, *asked.notes))
    if asked.strict:
        doubts.stop(asked.stem, said.warnings)
    if asked.overwrite:
        output.remove(asked.place)

    def fill(new):
        output.note(new, "labels", {})
        output.note(new, "said", said._asdict())
        steps = {"segment": {}, "clean": {"before": "segment", "reach": run.shape}}
        output.note(
            new, "grid", {"shape": run.shape, "block": run.settings.block, "steps": steps, "typed": asked.typed}
        )
        _arrays(run, new)

    output.create(asked.place, run.made_by, *group, fill)


def _empty_to_texture(asked) -> tuple[str, ...]:
    """What to warn of where texture sees nothing but noise: of resin alone networks take part for tissue, as they
    stretch its grey values until noise looks like contrast (docs/tissue.md).
    """
    if asked.texture is None:
        return ()
    with progress.showing(f"asking texture whether {asked.stem} is more than noise"):
        kind = asked.texture.apply.statistics(asked.volume)["kind"]
    if kind not in ("noise", "nothing"):
        return ()
    return (
        f"{asked.volume.path} looks like noise and nothing else, of which {asked.segmenter.workdir} may take part for "
        "tissue: look at the outline, or let texture decide: maeref tissue --model texture",
    )


def _arrays(run, place) -> dict[str, Volume]:
    return maps.create_arrays(place, maps.MASK, run.shape, run.settings.block, run.voxel_size_nm, SCHEME, VERSION)


def _write(run, step, role, box, array, started) -> None:
    run.arrays[role].write(box, array)
    record = {"voxels": array.size, "tissue": int(array.sum()), "seconds": time.monotonic() - started}
    marks.mark(run.place, step, box, record, {role: digests.digest_of(array)})


def _segment(run) -> None:
    """What is tissue before any clean-up: of all classes but the first, or what is not 0 of a mask."""
    run = run._replace(job=read_by_one(run.job))
    means = means_of(run)

    def work(box: Box) -> None:
        started = time.monotonic()
        if means is None:
            found = run.job.image.read(box) != 0
        else:
            found = decide(means(box, "mean")[0], run.segmenter.settings["classes"]["ambiguous"])[0] > 0
        _write(run, "segment", "found", box, found.astype(np.uint8), started)

    parts.run_pass(run.place, "segment", run.shape, run.settings.block, work)


def _clean(run, cleaning: Cleaning) -> None:
    place = run.place
    scratch = place.progress / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    if len(marks.finished(place, "clean")) == len(run.boxes):
        return
    scratch.mkdir()
    checked, stored = marks.Checked(place, run.arrays), run.arrays["found"]
    for box in run.boxes:
        checked.compare("segment", box)
    found = Volume(stored.path, run.shape, np.dtype(bool), run.voxel_size_nm, None, None, lambda b: stored.read(b) != 0)
    cleaned = clean_up.cleaned(found, cleaning, scratch, run.settings.block)

    def work(box: Box) -> None:
        started = time.monotonic()
        _write(run, "clean", "tissue", box, cleaned.read(box).astype(np.uint8), started)

    parts.run_pass(place, "clean", run.shape, run.settings.block, work)
    shutil.rmtree(scratch)


def _finish(run, asked, say) -> dict:
    place, started = run.place, time.monotonic()
    checked = marks.Checked(place, run.arrays)
    for step in ("segment", "clean"):
        for box in run.boxes:
            checked.compare(step, box)
    records = {step: marks.records(place, step, run.boxes) for step in ("segment", "clean")}
    shares = {step: sum(one["tissue"] for one in found) / math.prod(run.shape) for step, found in records.items()}
    later = _doubts_after(asked, shares)
    if asked.strict:
        doubts.stop(place.stem, later, "its blocks are done, but no result was written")
    for text in later:
        say(f"{MARK}{text}")
    written = {"found": "segment", "tissue": "clean"}
    written = {
        role: {digests.name_of(box): marks.load(place, step, box)["digests"][role] for box in run.boxes}
        for role, step in written.items()
    }
    levels = maps.write_pyramids(place, maps.MASK)
    seconds = {step: round(sum(one["seconds"] for one in found), 3) for step, found in records.items()}
    packages = ("jax", "numpy", "scipy", "tensorstore")
    summary = {
        "stem": place.stem,
        "tissue_share": shares["clean"],
        "found_share": shares["segment"],
        "warnings": [*run.said.warnings, *later],
        "notes": list(run.said.notes),
        "shape": run.shape,
        "voxel_size_nm": run.voxel_size_nm,
        "voxels": math.prod(run.shape),
        "classes": SCHEME["names"],
        "cleaning": asked.cleaning._asdict(),
        **({"statistics": run.said.statistics} if run.said.statistics else {}),
        "made_by": json.loads(json.dumps(run.made_by)),
        "workdirs": {"segmenter": asked.segmenter and asked.segmenter.workdir},
        "seconds": seconds | {"export": round(time.monotonic() - started, 3)},
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "device": jax.devices()[0].device_kind,
    }
    return output.finish(place, json.loads(json.dumps(summary)), written, levels)


def _doubts_after(asked, shares) -> list[str]:
    found, left = shares["segment"], shares["clean"]
    if not left:
        lost = f"the clean-up removed all of it ({found:.2%})" if found else "nothing was taken as tissue"
        return [f"{asked.stem}: the mask is empty, {lost}; whatever keeps to it does nothing"]
    if left == 1 and found < 1:
        return [f"{asked.stem}: the clean-up made all of it tissue, of {found:.1%} before; it saves nothing"]
    return []
