"""Results on the grid of the user's file, where it was worked at another voxel size: --at_voxel_size_nm.

    {stem}_on_file_grid.ome.zarr    labels/initial, labels/refined, labels/hidden, entropy, disagreement, error,
                                    confidence and probability_N, as in {stem}.ome.zarr; from it come the exports

It is written whole or not at all, when all blocks are there. Where labels were given, every voxel that nothing changed
is as the file has it: to a coarser grid and back they would lose what is smaller than its voxels.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.errors import CannotGoOn
from maeref_jax.pipeline.jobs import Job, file_of
from maeref_jax.results import files, maps, ownership
from maeref_jax.results.place import Output, way_out
from maeref_jax.volumes import progress
from maeref_jax.volumes.formats.ome_zarr import write_group
from maeref_jax.volumes.resolution import onto
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.volume import open_volume
from maeref_jax.volumes.voxel_size import size_text
from maeref_jax.volumes.windows import Box, blocks
from maeref_jax.volumes.writing import labels_to_disk

# How each is brought back: see HOWS of resolution.py. Confidence is 0 where nothing was replaced, so it has no mean.
HOW = {"initial": "mode", "refined": "mode", "hidden": "largest", "entropy": "mean", "disagreement": "mean"}
HOW |= {"confidence": "nearest", "error": "mean"} | dict.fromkeys(maps.probabilities(maps.MOST), "mean")
BACKGROUND = "probability_0"
_IN_WORDS = (
    "labels, hidden and confidence by the nearest voxel, entropy linearly, and so what is kept of probabilities; where "
    "the file's voxels are larger, labels by vote, and hidden where any of it is"
)
_KEPT = np.uint16(256)  # no label: it is that of the user's own labels


def as_output(output: Output) -> Output:
    """The folder as an Output of its own, for what opens and makes arrays."""
    return Output(output.directory, output.on_file_grid.name.removesuffix(".ome.zarr"))


def facts(job: Job, roles: Iterable[str]) -> dict[str, Any]:
    """What the sidecar says of it; {} where the file's own grid was worked on. roles: of all arrays."""
    file = file_of(job)
    if file is None:
        return {}
    sizes = {"voxel_size_nm": file.voxel_size_nm, "worked_at_nm": _size(job)}
    found = {"shape": list(file.shape)} | {name: [float(one) for one in size] for name, size in sizes.items()}
    return {"file_grid": found | {"brought_back_by": {role: HOW[role] for role in HOW if role in roles}}}


def note(job: Job) -> str:
    """What a user should know of it, as a sentence; "" where the file's own grid is worked on."""
    file = file_of(job)
    if file is None:
        return ""
    kept = "; labels that the refiner leaves are as in the file" if job.labels is not None else ""
    return (
        f"{job.stem}: worked at {size_text(_size(job))} nm (z y x), brought back to the file's "
        f"{size_text(file.voxel_size_nm)} nm: {_IN_WORDS}{kept}"
    )


def _size(job):
    return (job.image or job.labels or job.probabilities[0]).voxel_size_nm


def open_result(directory: str | Path, stem: str, role: str) -> Volume:
    """As refining.open_result, on the grid of what was given."""
    place = Output(Path(directory), stem)
    return open_volume(maps.path_of(as_output(place) if place.on_file_grid.exists() else place, role))


def brought_back(job: Job, arrays: Mapping[str, Volume]) -> dict[str, Volume]:
    """The arrays, by role, on the grid of the job's file, to be read. job.labels: classes, see label_ids.as_classes."""
    file = file_of(job)

    def back(array, how):
        return onto(array, file.shape, file.voxel_size_nm, how)

    found = {role: back(arrays[role], how) for role, how in HOW.items() if role in arrays}
    if job.labels is not None:
        found |= _with_own(job, arrays, back)
    if job.within is None:
        return found
    mask = back(job.within, "nearest")

    def only_inside(role, array):
        """Nothing of it lies outside: no label of the file is kept there, entropy does not reach across, and what is
        there is background.
        """
        outside = np.uint8(255 if role == BACKGROUND else 0)

        def read(box):
            return np.where(mask.read(box) > 0, array.read(box), outside)

        return dataclasses.replace(array, _read=read)

    return {role: only_inside(role, array) for role, array in found.items()}


def _with_own(job, arrays, back) -> dict[str, Volume]:
    """The maps of labels brought back, the user's own where nothing became of them."""
    own = back(job.labels.file or job.labels, "mode")

    def with_own(array):
        def changed(box):
            labels = array.read(box)
            return np.where(labels == labels_to_disk(job.labels.read(box)), _KEPT, labels)

        def read(box):
            became = changes.read(box)
            return np.where(became == _KEPT, labels_to_disk(own.read(box)), became).astype(np.uint8)

        changes = back(dataclasses.replace(array, dtype=_KEPT.dtype, _read=changed), "mode")
        return dataclasses.replace(changes, dtype=array.dtype, _read=read)

    return {role: with_own(arrays[role]) for role in ("initial", "refined") if role in arrays}


def write(
    place: Output, job: Job, arrays: Mapping[str, Volume], block: tuple[int, int, int], scheme: dict, version: str
) -> None:
    """Writes the folder, unless it is there: block by block, a block and what it covers in memory.

    arrays: of the finished output by role; block: of the chunks; scheme, version: as of maps.create_arrays.
    """
    if place.on_file_grid.exists():  # it got its name when it was whole
        return
    file, found = file_of(job), brought_back(job, arrays)
    boxes: list[Box] = blocks(file.shape, block)
    with ownership.written(place, place.on_file_grid) as whole:
        made = Output(whole.parent, whole.name.removesuffix(".ome.zarr"))
        write_group(made.folder, version, {}, {"brought_back": {"from": place.folder.name} | facts(job, arrays)})
        written = maps.create_arrays(made, found, file.shape, block, file.voxel_size_nm, scheme, version)
        with progress.showing(f"{place.stem}: bringing back", len(boxes), "block") as shown:
            for box in boxes:
                for role, volume in found.items():
                    written[role].write(box, volume.read(box))
                shown.advance()
        maps.write_pyramids(made, found)


def open_arrays(place: Output, roles: Iterable[str]) -> dict[str, Volume]:
    """The arrays in the folder, by role. Raises CannotGoOn where it is not as it was written."""
    path = place.on_file_grid
    told = ownership.noted(place).get(path.name, [])
    if files.fingerprint(path) not in told:
        raise CannotGoOn(f"{path} was damaged or changed after it was made; {way_out(place)}")
    return maps.open_arrays(as_output(place), roles)
