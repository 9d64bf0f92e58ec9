"""Files that appear whole under their name or not at all, and what tells one from another that has its name."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from maeref_jax.errors import BadInput
from maeref_jax.volumes.json_files import read_object

_CHECK = "check"  # the entry of a sealed file that holds the digest of all others
_PIECE = 2**20  # bytes read at a time
_SEALED_BYTES = 2**28  # the digests of a million blocks


def write_json(path: Path, content: Any) -> None:
    """Writes the file whole or not at all, and durably."""
    write_text(path, json.dumps(content, indent=1))


def write_text(path: Path, content: str) -> None:
    """Writes the file whole or not at all, and durably; UTF-8."""
    write_lines(path, (content,))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes lines, each with its end, as `write_text` does, one at a time."""
    temporary = temporary_of(path)
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # the disk is full, or not there any more
            temporary.unlink()
        raise


def temporary_of(path: Path) -> Path:
    """A name beside it that no other process has, on this or any other machine."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")


def peek(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no such file, or something else is in it."""
    try:
        return read_object(path)
    except BadInput:
        return None


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object as `write_json` does, with a digest of what it holds and of its name."""
    write_json(path, {**content, _CHECK: _seal(path, content)})


def load_sealed(path: Path, may_lack_it: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """What `write_sealed` wrote there. may_lack_it: whether a file without a seal is believed. Raises BadInput where it
    was damaged, edited, or is the file of another name.
    """
    found = read_object(path, _SEALED_BYTES)
    if not (_CHECK not in found and may_lack_it()) and found.pop(_CHECK, None) != _seal(path, found):
        raise BadInput(f"{path} is damaged: it does not hold what was written")
    return found


def _seal(path: Path, content: dict[str, Any]) -> str:
    text = json.dumps([path.parent.name, path.name, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(path: Path) -> dict[str, Any] | None:
    """{"bytes", "sha256"} of a file, as sha256sum has it; of a folder, of the names and digests of all files in it, in
    their order. None where nothing is.
    """
    if path.is_file():
        return {"bytes": path.stat().st_size, "sha256": _digest_of_file(path)}
    if not path.is_dir():
        return None
    total, digest = 0, hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if not file.is_dir()):
        size, found = (file.stat().st_size, _digest_of_file(file)) if file.is_file() else (0, "no file")
        total += size
        digest.update(f"{file.relative_to(path).as_posix()}\0{found}\n".encode(errors="surrogateescape"))
    return {"bytes": total, "sha256": digest.hexdigest()}


def _digest_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
