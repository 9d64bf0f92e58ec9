"""Which files beside the OME-Zarr are ours: those that were noted, with their digest, before they got their name.

    {stem}.ome.zarr/progress/files/{name}.json    {"written": [fingerprints, the newest last], "check"}
    {stem}.json, "files"                          the newest of each, for when the folder is gone

Nothing else is ever replaced or removed; also not what was ours and was changed since. An output that was made before
digests were kept has no notes: there the names are all that there is.
"""

import glob
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maeref_jax.errors import BadInput
from maeref_jax.results import files
from maeref_jax.results.place import Output
from maeref_jax.volumes.formats.said import items, mapping
from maeref_jax.volumes.writing import remove_path

_SUMMARY = ("stem", "made_by", "voxels", "seconds", "versions", "device")


def summary_of(output: Output) -> dict[str, Any] | None:
    """What stands in the sidecar; None where there is none, or something else."""
    found = files.peek(output.sidecar)
    return found if found is not None and _is_made_by(found.get("made_by")) and found.keys() >= {*_SUMMARY} else None


def begun_by(output: Output) -> dict[str, Any] | None:
    """What an output was begun by; None where nobody knows."""
    found = files.peek(output.progress / "made_by.json")
    return found if _is_made_by(found) else None


def _is_made_by(found: Any) -> bool:
    return isinstance(mapping(found).get("inputs"), dict) and isinstance(found.get("settings"), dict)


def is_ours(output: Output) -> bool:
    """Whether the folder carries a trace of ours: its attributes, or what only we leave in it."""
    group = files.peek(output.folder / "zarr.json") or {"attributes": files.peek(output.folder / ".zattrs")}
    return (
        "maeref_jax" in mapping(group.get("attributes"))
        or (output.progress / "made_by.json").is_file()
        or output.notes.is_dir()
    )


def is_without_digests(output: Output) -> bool:
    """Whether it was made before digests were kept."""
    begun, summary = begun_by(output), summary_of(output)
    found = [*([begun.get("digests")] if begun else ()), *([summary.get("files")] if summary else ())]
    return bool(found) and not any(found)


def load_sealed(output: Output, path: Path) -> dict[str, Any]:
    """What `files.write_sealed` wrote among the progress. A file without a seal is believed where an earlier version,
    which sealed nothing, began the output. Raises BadInput where it is damaged, edited, or that of another name.
    """

    def is_of_earlier_version():
        begun = begun_by(output)
        return begun is not None and not begun.get("digests")

    return files.load_sealed(path, is_of_earlier_version)


def noted(output: Output) -> dict[str, list[dict[str, Any]]]:
    """The fingerprints of what was written beside the OME-Zarr, by name, the newest last."""
    within = f"{output.folder.name}/"
    listed = mapping((summary_of(output) or {}).get("files"))
    found = {name: [one] for name, one in listed.items() if not name.startswith(within)}
    for path in sorted(output.notes.glob("[!.]*.json")):
        try:
            found.setdefault(path.stem, []).extend(items(files.load_sealed(path).get("written")))
        except BadInput:
            continue  # what it told of is nobody's, then
    return found


def paths(output: Output) -> list[Path]:
    """All that may be ours beside the OME-Zarr: what was noted, and what this output would write, the sidecar last."""
    names = {*noted(output), *(path.name for path in output.beside)} - {output.sidecar.name}
    return [*(output.directory / name for name in sorted(names) if Path(name).name == name), output.sidecar]


def check(output: Output) -> None:
    """BadInput, by name, for what is in the way and not ours: to be called before any work begins."""
    known, by_name = noted(output), is_without_digests(output)
    for path in paths(output):
        if trouble := _trouble(output, path, known, by_name):
            raise BadInput(f"{trouble}; move it, or choose another --output")


def _trouble(output, path, known, by_name) -> str:
    """Why a file must not be replaced or removed, as a sentence; "" where it may be."""
    if not os.path.lexists(path):
        return ""
    is_sidecar = path == output.sidecar
    if by_name and (not is_sidecar or summary_of(output)):
        return ""
    if path.name not in known and not (is_sidecar and summary_of(output)):
        return f"{path} is there already and was not made by refine.py, so it is never replaced"
    if path.name in known and files.fingerprint(path) not in known[path.name]:
        holds = ", or files were added to it" if path.is_dir() else ""
        return f"{path} was damaged or changed after refine.py made it{holds}, so it is never replaced"
    return ""


@contextmanager
def written(output: Output, path: Path) -> Iterator[Path]:
    """A place to write a file or folder of that name to. When all of it is there it is noted as ours and takes the
    place of `path`. May be killed at any moment. Raises BadInput where something that is not ours lies there.
    """
    temporary = files.temporary_of(path)
    temporary.mkdir()
    try:
        yield temporary / path.name
        known = noted(output)
        if trouble := _trouble(output, path, known, is_without_digests(output)):
            raise BadInput(f"{trouble}; move it, or choose another --output")
        # The old one stays ours, too: a kill may come before the new one has its name.
        earlier = [files.fingerprint(path)] if os.path.lexists(path) else []
        output.notes.mkdir(parents=True, exist_ok=True)
        note = {"written": [*earlier, files.fingerprint(temporary / path.name)]}
        files.write_sealed(output.notes / f"{path.name}.json", note)
        if path.is_dir():  # a folder is never replaced in one step
            remove_path(path)
        (temporary / path.name).replace(path)
    finally:
        remove_path(temporary)


def newest(output: Output) -> dict[str, dict[str, Any]]:
    """What the sidecar says of the files beside it that are there: the fingerprint of each, by name."""
    beside = {name: found[-1] for name, found in noted(output).items() if found and name != output.sidecar.name}
    return {name: found for name, found in sorted(beside.items()) if os.path.lexists(output.directory / name)}


def lost(output: Output, summary: dict[str, Any]) -> list[str]:
    """The names of what a sidecar says belongs to the output, and is not there any more."""
    return [name for name in mapping(summary.get("files")) if not (output.directory / name).exists()]


def resized(output: Output, summary: dict[str, Any]) -> list[str]:
    """The names of files that have another size than a sidecar says."""
    listed = ((output.directory / name, mapping(found)) for name, found in mapping(summary.get("files")).items())
    return [path.name for path, found in listed if path.is_file() and path.stat().st_size != found.get("bytes")]


def leftovers(output: Output) -> Iterable[Path]:
    """What killed runs left, under names that end in .partial."""
    for name in (output.folder.name, *(path.name for path in paths(output))):
        yield from output.directory.glob(f".{glob.escape(name)}.*.partial")
