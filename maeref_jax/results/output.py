"""The folder of one refined volume: what made it, which blocks are finished, and when it is whole.

    {stem}.ome.zarr                                  the arrays, see maps.py
    {stem}.ome.zarr/progress/made_by.json            input, models and settings; another one is refused
    {stem}.ome.zarr/progress/labels.json             what the ids of the labels and of a painted mask mean
    {stem}.ome.zarr/progress/said.json               warnings and notes from before, so that all parts say the same
    {stem}.ome.zarr/progress/{step}/{z}_{y}_{x}.json a finished block, written after its data is durable
    {stem}.ome.zarr/progress/exported.json           in which formats there are exports
    {stem}.ome.zarr/progress/finish_{n}              who writes the rest, see claim.py
    {stem}_{name}.tif, .nii.gz, …                    exports
    {stem}_repairs.csv                               the table of repaired blobs
    {stem}_objects.csv, {stem}_skeletons             the table of objects, a folder with a SWC file for each
    {stem}.json                                      the sidecar, written last: there = complete
    report.html                                      of all volumes in the folder, see report/refinement.py

A process may be killed at any moment: every file appears whole under its name or not at all, and a block without a
mark is done again. Several processes may work on one output, each on its own blocks: the folder appears as one step,
with all arrays in it, and who comes second sees it.
"""

import glob
import json
import os
import shutil
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.ome_zarr import write_group
from maeref_jax.volumes.label_ids import Reading
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.windows import Box

EXPORTS = ("initial", "refined", "entropy", "hidden")


class Output(NamedTuple):
    """Where the results of the input `stem` go: `directory`, the user's --output; `formats`: suffixes of exports."""

    directory: Path
    stem: str
    formats: tuple[str, ...] = (".tif",)

    @property
    def folder(self) -> Path:
        return self.directory / f"{self.stem}.ome.zarr"

    @property
    def sidecar(self) -> Path:
        return self.directory / f"{self.stem}.json"

    @property
    def progress(self) -> Path:
        return self.folder / "progress"

    @property
    def objects(self) -> Path:
        return self.directory / f"{self.stem}_objects.csv"

    @property
    def repairs(self) -> Path:
        return self.directory / f"{self.stem}_repairs.csv"

    @property
    def skeletons(self) -> Path:
        return self.directory / f"{self.stem}_skeletons"

    @property
    def beside(self) -> tuple[Path, ...]:
        """All that is made beside the OME-Zarr and the sidecar."""
        exports = (self.export(name, suffix) for suffix in self.formats for name in EXPORTS)
        return (*exports, self.objects, self.skeletons, self.repairs)

    def export(self, name: str, suffix: str = ".tif") -> Path:
        return self.directory / f"{self.stem}_{name}{suffix}"


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


def check_directory(directory: Path) -> None:
    """BadInput where no folder can be made, or nothing written into it."""
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not there.is_dir():
        raise BadInput(f"the output {directory} cannot be made: {there} is a file; choose another --output")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(
            f"the output {directory} cannot be made: {there} must not be written to; choose another --output"
        )


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


def state(output: Output, made_by: dict) -> str:
    """ "new", "partial" or "complete".

    Raises:
        BadInput: the output was made by another input, model or setting (the differences are named), or the folder is
            not ours.
    """
    if output.sidecar.is_file():
        _check_ours(output)
        found, answer = _load(output.sidecar).get("made_by", {}), "complete"
    elif output.folder.exists():
        settings = output.progress / "made_by.json"
        if not settings.is_file():
            raise BadInput(f"{output.folder} is there but was not made by refine.py; choose another --output")
        found, answer = _load(settings), "partial"
    else:
        foreign = [path for path in output.beside if path.exists()]
        if foreign:
            raise BadInput(
                f"{foreign[0]} is there already and would be replaced; choose another --output, or --overwrite"
            )
        return "new"
    differences = list(differences_of(found, _as_json(made_by)))
    if differences:
        raise BadInput(
            f"{output.directory}/{output.stem} was made otherwise: {'; '.join(differences)}. "
            "Choose another --output, or --overwrite to start anew"
        )
    return answer


def create(
    output: Output, made_by: dict, version: str, attributes: dict, fill: Callable[[Output], Any] = lambda output: None
) -> None:
    """Makes the folder, an OME-Zarr group of that version and attributes, with its settings in it, as one step.

    fill: makes what else belongs into it, in the Output that it is given. Where another process was faster its folder
    stays: look at `state` again, it may have been made by something else.
    """
    output.directory.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(output.folder)
    try:
        new = Output(temporary, output.stem)
        new.progress.mkdir(parents=True)
        write_json(new.progress / "made_by.json", made_by)
        write_group(new.folder, version, {}, attributes)
        fill(new)
        new.folder.rename(output.folder)
    except OSError:
        # A folder that is there and not empty is never replaced; who finished in between may have tidied up ours.
        if not output.folder.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove(output: Output) -> None:
    """Removes what refine.py made, and nothing else. Raises BadInput if the folder is not ours."""
    output = output._replace(formats=tuple({*output.formats, *exported(output)}))
    _check_ours(output)
    output.sidecar.unlink(missing_ok=True)  # first: what follows is no longer complete
    for path in output.beside:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if output.folder.exists():  # last: it says that the exports were ours
        output.folder.rename(_temporary(output.folder))
    _remove_leftovers(output)


def write_readings(output: Output, readings: dict[str, Reading]) -> None:
    """Notes what the ids of the inputs mean, by role, for every process that works on this output."""
    write_json(output.progress / "labels.json", {role: reading._asdict() for role, reading in readings.items()})


def readings(output: Output) -> dict[str, Reading]:
    """What `write_readings` noted; {} of an output that an earlier version began."""
    path = output.progress / "labels.json"
    return {role: Reading(**found) for role, found in _load(path).items()} if path.is_file() else {}


def exported(output: Output) -> tuple[str, ...]:
    """The formats that were ever exported, by this or an earlier command."""
    path = output.progress / "exported.json"
    return tuple(_load(path)["formats"]) if path.is_file() else (".tif",)


def note_exported(output: Output) -> None:
    """Notes the formats of the output, before the first of them is written."""
    formats = sorted({*output.formats, *exported(output)})
    write_json(output.progress / "exported.json", {"formats": formats})


def finish(output: Output, summary: dict) -> None:
    """Writes the sidecar, when all else is done and nothing of killed runs is left."""
    _remove_leftovers(output)
    write_json(output.sidecar, summary)


def load_sidecar(output: Output) -> dict:
    """The summary that a completed run left."""
    return _load(output.sidecar)


def load_json(path: Path, missing: Any) -> Any:
    """What `write_json` wrote, `missing` where it did not. Raises BadInput where it is damaged."""
    return _load(path) if path.exists() else missing


def sidecars(directory: Path) -> dict[str, dict]:
    """The summaries of all completed runs in a folder, by stem."""
    found = {path.stem: path for path in sorted(Path(directory).glob("*.json"))}
    return {stem: _load(path) for stem, path in found.items() if Output(Path(directory), stem).folder.is_dir()}


def mark(output: Output, step: str, box: Box, record: dict) -> None:
    """Records that `step` of the block `box` is done and durable; `record` is summed up at the end."""
    folder = output.progress / step
    folder.mkdir(exist_ok=True)
    write_json(folder / _mark_name(box), record)


def is_finished(output: Output, step: str, box: Box) -> bool:
    """Whether the block has its mark."""
    return (output.progress / step / _mark_name(box)).exists()


def finished(output: Output, step: str) -> set[tuple[int, ...]]:
    """The starts of the finished blocks of `step`."""
    return {tuple(map(int, file.stem.split("_"))) for file in (output.progress / step).glob("[0-9]*.json")}


def marks(output: Output, step: str) -> dict[tuple[int, ...], dict]:
    """The records of the finished blocks of `step`, by the block's start."""
    files = sorted((output.progress / step).glob("[0-9]*.json"))
    return {tuple(map(int, file.stem.split("_"))): _load(file) for file in files}


def write_json(path: Path, content: Any) -> None:
    """Writes the file whole or not at all, and durably."""
    write_text(path, json.dumps(content, indent=1))


def write_text(path: Path, content: str) -> None:
    """Writes the file whole or not at all, and durably; UTF-8."""
    write_lines(path, (content,))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes lines, each with its end, as `write_text` does, one at a time."""
    temporary = _temporary(path)
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `path` when everything in it is written."""
    temporary = _temporary(path)
    temporary.mkdir()
    yield temporary
    if path.exists():  # of a run that was killed before its sidecar
        shutil.rmtree(path)
    temporary.rename(path)


def _mark_name(box: Box) -> str:
    return f"{'_'.join(map(str, box.start))}.json"


def _temporary(path: Path) -> Path:
    """A name beside it that no other process has, on this or any other machine."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")


def _remove_leftovers(output: Output) -> None:
    for name in (path.name for path in (output.folder, *output.beside)):
        for leftover in output.directory.glob(f".{glob.escape(name)}.*.partial"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _load(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise BadInput(f"{path} is damaged ({error}); remove it") from error
    if not isinstance(found, dict):
        raise BadInput(
            f"{path} is damaged, or not one of ours: it holds no object; remove it, or choose another --output"
        )
    return found


def _check_ours(output: Output) -> None:
    """BadInput where what stands at the place of the folder or of the sidecar was made by somebody else."""
    begun = (output.progress / "made_by.json").is_file()
    ours = {
        output.folder: begun,
        output.sidecar: begun or "made_by" in (_load(output.sidecar) if output.sidecar.is_file() else ()),
    }
    for path, is_ours in ours.items():
        if path.exists() and not is_ours:
            raise BadInput(
                f"{path} was not made by refine.py, so --overwrite will not remove it; choose another --output"
            )


def _as_json(content: dict) -> dict:
    return json.loads(json.dumps(content))


def differences_of(found: Any, wanted: Any, name: str = "") -> Iterable[str]:
    """What is not the same in two things that say what made a result, read from JSON; a line for each."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            # What an earlier version could not be asked for was off in it: 0, false or none. Where it was not,
            # another "format" says so.
            one, other = found.get(key), wanted.get(key)
            if (key in found and key in wanted) or one or other:
                yield from differences_of(one, other, f"{name}.{key}" if name else key)
    elif found != wanted:
        yield f"{name} was {_short(found)} and is now {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
