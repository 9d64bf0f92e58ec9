"""The folder of one refined volume: what made it, which blocks are finished, and when it is whole.

    {stem}.ome.zarr                                  the arrays, see maps.py
    {stem}.ome.zarr/progress/made_by.json            input, models and settings; another one is refused
    {stem}.ome.zarr/progress/grid.json               shape, block and passes, what was typed: for verifying.py
    {stem}.ome.zarr/progress/labels.json             what the ids of the labels and of a painted mask mean
    {stem}.ome.zarr/progress/said.json               warnings and notes from before, so that all parts say the same
    {stem}.ome.zarr/progress/{step}/{z}_{y}_{x}.json a finished block, see marks.py
    {stem}.ome.zarr/progress/files/{name}.json       what was written beside the OME-Zarr, see ownership.py
    {stem}.ome.zarr/progress/digests.json            of every array, the digest of each block, when all is done
    {stem}.ome.zarr/progress/finish_{n}              who writes the rest, see claim.py
    {stem}_{name}.tif, .nii.gz, …                    exports
    {stem}_repairs.csv                               the table of repaired blobs
    {stem}_objects.csv, {stem}_skeletons             the table of objects, a folder with a SWC file for each
    {stem}_on_file_grid.ome.zarr                     where voxels of another size were worked on, see file_grid.py
    {stem}.json                                      the sidecar, written last: there = complete
    report.html                                      of all volumes in the folder, see report/refinement.py

A process may be killed at any moment: every file appears whole under its name or not at all, and a block without a
mark is done again. Several processes may work on one output, each on its own blocks: the folder appears as one step,
with all arrays in it, and who comes second sees it.
"""

import json
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maeref_jax.errors import BadInput
from maeref_jax.results import digests, files, ownership
from maeref_jax.results.made_by import differences_of
from maeref_jax.results.place import Output
from maeref_jax.volumes.formats.ome_zarr import write_group
from maeref_jax.volumes.formats.zarr_store import metadata_of
from maeref_jax.volumes.label_ids import Reading
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.writing import remove_path


class CannotContinue(BadInput):
    """An output that is there is not what would be made now. what: why; said with what to do about it in maeref refine,
    see `instead`.
    """

    def __init__(self, what: str):
        super().__init__(f"{what}; choose another --output, or --overwrite to start anew")
        self.what = what


@contextmanager
def instead(advice: str):
    """What to do about an output that cannot be continued, where the command has other flags than maeref refine."""
    try:
        yield
    except CannotContinue as error:
        raise BadInput(f"{error.what}; {advice}") from error


def check_stem(stem: str) -> None:
    """BadInput for a stem that is no file name: results would lie outside the output; or for one that is no text, or
    not the same file for all libraries: bytes of another encoding, line breaks, backslashes.
    """
    if not stem or stem != Path(stem).name or stem == "..":
        raise BadInput(f"the stem '{stem}' is no file name")
    if "\\" in stem or any(unicodedata.category(sign) in ("Cc", "Cs") for sign in stem):
        raise BadInput(
            f"the name {stem!a} holds line breaks, backslashes, or bytes that are no text here, and would be that of "
            "the results; give the file another name, a link will do, or a stem in a --batch table (if letters like "
            "these are refused in all names, set the environment variable PYTHONUTF8=1)"
        )


def is_text(name: str) -> bool:
    """Whether a name is more than bytes that Python could not read."""
    return not any(unicodedata.category(sign) == "Cs" for sign in name)


def check_directory(directory: Path, flag: str = "--output") -> None:
    """BadInput where no folder can be made, or nothing written into it. flag: the one that named it."""
    what = f"the {flag.removeprefix('--')} {directory} cannot be made"
    if not is_text(str(directory)):
        raise BadInput(f"{what}: its name is not in UTF-8, and TensorStore knows no other; choose another {flag}")
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not there.is_dir():
        raise BadInput(f"{what}: {there} is a file; choose another {flag}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{what}: {there} must not be written to; choose another {flag}")


def check_apart(output: Output, inputs: Iterable[Volume]) -> None:
    """Raises BadInput if writing the output would destroy an input."""
    written = {path.resolve() for path in (output.sidecar, *output.beside)}
    for volume in inputs:
        if volume.source is None:
            continue
        source, folder = volume.source.resolve(), output.folder.resolve()
        if (
            written & {source, *source.parents}
            or folder == source
            or folder in source.parents
            or source in folder.parents
        ):
            raise BadInput(
                f"the output {output.folder} would overwrite the input {volume.path}; choose another --output"
            )


def check_removable(output: Output) -> None:
    """BadInput, by name, where something lies in the way of a new output that is not ours to remove."""
    if os.path.lexists(output.folder) and not (output.folder.is_dir() and ownership.is_ours(output)):
        raise BadInput(f"{output.folder} was not made by refine.py; move it, or choose another --output")
    ownership.check(output)


def state(output: Output, made_by: dict) -> str:
    """ "new", "partial" or "complete", and that is partial which lacks its tables.

    Raises:
        BadInput: the output was made by another input, model or setting (the differences are named), it is damaged, or
            something in its way is not ours. What to do is said.
    """
    summary = ownership.summary_of(output)
    if not output.folder.is_dir() or not ownership.is_ours(output):
        check_removable(output)
        if summary:
            raise CannotContinue(f"{output.folder} is gone, though {output.sidecar} says that it was complete")
        return "new"
    complete = summary is not None and not made_again(output, summary)
    if not complete:
        ownership.check(output)
    found = summary["made_by"] if summary else ownership.begun_by(output)
    if found is None:
        raise CannotContinue(f"{output.progress / 'made_by.json'} is missing or damaged: what made it is not known")
    found = {key: value for key, value in found.items() if key != "digests"}
    differences = list(differences_of(found, json.loads(json.dumps(made_by))))
    if differences:
        raise CannotContinue(f"{output.directory}/{output.stem} was made otherwise: {'; '.join(differences)}")
    return "complete" if complete else "partial"


def made_again(output: Output, summary: dict) -> list[str]:
    """The names of what a completed output lacks and the same command makes again: tables, skeletons, coarser levels,
    the folder on the file's grid.
    Exports may have been asked for once.
    """
    tables = {path.name for path in (output.objects, output.skeletons, output.repairs, output.on_file_grid)}
    return [name for name in ownership.lost(output, summary) if name in tables or _is_within(output, name)]


def create(
    output: Output, made_by: dict, version: str, attributes: dict, fill: Callable[[Output], Any] = lambda output: None
) -> None:
    """Makes the folder, an OME-Zarr group of that version and attributes, with its settings in it, as one step.

    fill: makes what else belongs into it, in the Output that it is given. Where another process was faster its folder
    stays: look at `state` again, it may have been made by something else.
    """
    output.directory.mkdir(parents=True, exist_ok=True)
    temporary = files.temporary_of(output.folder)
    try:
        new = Output(temporary, output.stem)
        new.notes.mkdir(parents=True)
        files.write_json(new.progress / "made_by.json", {"digests": "sha256", **made_by})
        write_group(new.folder, version, {}, attributes)
        fill(new)
        (new.progress / "made_by.json").stat()  # removed by whoever tidied up? some of it may have been made again
        new.folder.rename(output.folder)
    except OSError:
        # A folder that is there and not empty is never replaced; who finished in between may have tidied up ours.
        if not output.folder.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def restore(output: Output, version: str, attributes: dict) -> None:
    """Writes the folder's metadata as `create` does, where they are gone. Raises BadInput where they are damaged."""
    if metadata_of(output.folder)[0] is None:
        write_group(output.folder, version, {}, attributes)


def remove(output: Output) -> None:
    """Removes what refine.py made, and nothing else: `check_removable` says what stops it."""
    check_removable(output)
    for path in ownership.paths(output):
        remove_path(path)
    if output.folder.exists():  # last: it says that the others were ours
        output.folder.rename(files.temporary_of(output.folder))
    _remove_leftovers(output)


def note(output: Output, name: str, content: dict[str, Any]) -> None:
    """Writes down among the progress what every process that works on this output should know."""
    files.write_sealed(output.progress / f"{name}.json", content)


def notes(output: Output, name: str) -> dict[str, Any]:
    """What `note` wrote under that name; {} where an earlier version began the output. BadInput where it is damaged."""
    path = output.progress / f"{name}.json"
    try:
        return ownership.load_sealed(output, path) if path.exists() else {}
    except BadInput as error:
        raise CannotContinue(str(error)) from error


def readings(output: Output) -> dict[str, Reading]:
    """What the ids of the inputs mean, by role, as `note` wrote it as "labels"."""
    try:
        return {role: Reading(**found) for role, found in notes(output, "labels").items()}
    except TypeError as error:
        raise CannotContinue(f"{output.progress / 'labels.json'} is damaged") from error


def finish(
    output: Output, summary: dict, written: dict[str, dict[str, str]] | None = None, levels: Iterable[Path] = ()
) -> dict:
    """Writes the sidecar, when all else is done and nothing of killed runs is left, and returns it: the summary, with
    the names and digests of all that belongs to the output.

    written: by role, the digest of every block; levels: the folders of coarser levels. Neither of a summary that was in
    the sidecar before.
    """
    _remove_leftovers(output)
    if written is not None:
        note(output, "digests", written)
        summary = summary | {"arrays": {role: digests.over(found) for role, found in written.items()}, "files": {}}
    if "files" in summary:  # of one that an earlier version finished nobody knows them
        within = {name: found for name, found in summary["files"].items() if _is_within(output, name)}
        within |= {path.relative_to(output.directory).as_posix(): files.fingerprint(path) for path in levels}
        summary = summary | {"files": ownership.newest(output) | within}
    with ownership.written(output, output.sidecar) as path:
        files.write_json(path, summary)
    return load_sidecar(output)


def _is_within(output: Output, name: str) -> bool:
    return name.startswith(f"{output.folder.name}/")


def load_sidecar(output: Output) -> dict:
    """The summary that a completed run left. Raises BadInput where something else stands there."""
    found = ownership.summary_of(output)
    if found is None:
        raise BadInput(f"{output.sidecar} is missing or damaged, or was not made by refine.py; move it")
    return found


def sidecars(directory: Path) -> dict[str, dict]:
    """The summaries of all completed runs of maeref refine in a folder, by stem; other JSON files in it, those of masks
    of tissue as well, do not matter.
    """
    stems = sorted(path.stem for path in Path(directory).glob("*.json"))
    places = (Output(Path(directory), stem) for stem in stems)
    found = {place.stem: ownership.summary_of(place) for place in places if place.folder.is_dir()}
    return {stem: summary for stem, summary in found.items() if summary is not None and "hidden_share" in summary}


def _remove_leftovers(output: Output) -> None:
    for leftover in list(ownership.leftovers(output)):
        remove_path(leftover)
