"""Which of several processes does a piece of work that must be done once: the one that claims it.

A claim is a file, {name}_1, that one process alone can create. It is touched every few seconds while its owner works;
when its owner is gone, {name}_2 may be created, and so on. The highest number counts. It is never removed but by a
higher one, and who has created one looks again whether it is the highest, so there is no moment at which two can win.
Needs nothing of the file system but that a file is created once. An owner that was only asleep for longer than STALE_S
goes on beside the new one: what is claimed must bear being done twice.
"""

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from maeref_jax.errors import BadInput, CannotGoOn, tell
from maeref_jax.volumes.json_files import read_object

BEAT_S = 5.0
STALE_S = 60.0
KEPT = 8  # earlier claims that stay: some file systems list a folder late


@contextmanager
def alone(folder: Path, name: str, what: str) -> Iterator[None]:
    """The work is ours while inside; `folder` is made. Raises as `check_free` does."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        check_free(folder, name, what)
        with claimed(folder, name) as ours:  # if not, somebody was faster by a moment
            if ours:
                yield
                return


def check_free(folder: Path, name: str, what: str) -> None:
    """Raises CannotGoOn, "{what}, by process …", where a living process has the work. Changes nothing.

    Of one on another machine nobody knows at first: it lives if it touches its claim within STALE_S, so this waits.
    """
    seen = None
    while (path := _highest(folder, name)) and not _gone(path):
        owner, touched = _owner(path), _touched(path)
        if _is_here(owner) or seen not in (None, touched):
            process = f"process {owner.get('process', '?')} on {owner.get('host', 'an unknown machine')}"
            raise CannotGoOn(f"{what}, by {process}; let it end, or stop it, before you give this command")
        if seen is None:
            tell(f"waiting whether {path} is of a process that still works on another machine: {STALE_S:g} s at most")
        seen = touched
        time.sleep(min(1.0, BEAT_S))


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[bool]:
    """Whether the work is ours, while inside; not if a living process has it. Claim again after it was given up.

    An owner on this machine is gone when its process is; one on another machine, whose processes cannot be seen, when
    its file has not been touched for STALE_S.
    """
    latest = _highest(folder, name)
    if latest and not _gone(latest):
        yield False
        return
    number = _number(latest) + 1 if latest else 1
    path = folder / f"{name}_{number}"
    if not _created(path):
        yield False
        return
    if (highest := _highest(folder, name)) and _number(highest) > number:
        # What we went on from had been given up, claimed again and tidied away since we looked.
        path.unlink()
        yield False
        return
    for earlier in _claims(folder, name):
        if _number(earlier) < number - KEPT:
            earlier.unlink(missing_ok=True)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, ended), daemon=True)
    beat.start()
    try:
        yield True
    finally:
        ended.set()
        beat.join()
        _give_up(path)


def _created(path: Path) -> bool:
    """Whether we made this claim; not if somebody else has."""
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(_self(), file)
    except FileExistsError:
        return False
    except OSError:  # a full disk: nobody has to wait until it is stale
        path.unlink(missing_ok=True)
        raise
    return True


def _give_up(path: Path) -> None:
    try:  # in words: a copy of the folder keeps them, and an archive knows no year 1970
        with path.open("r+", encoding="utf-8") as file:
            json.dump(_self() | {"ended": True}, file)
    except OSError:
        with suppress(OSError):
            os.utime(path, (0, 0))


def _claims(folder: Path, name: str) -> list[Path]:
    found = folder.glob(f"{name}_*") if folder.is_dir() else ()
    return [path for path in found if path.name.removeprefix(f"{name}_").isdecimal()]


def _number(path: Path) -> int:
    return int(path.name.rpartition("_")[2])


def _highest(folder: Path, name: str) -> Path | None:
    return max(_claims(folder, name), key=_number, default=None)


def _self() -> dict:
    process = os.getpid()
    return {"host": socket.gethostname(), "space": _space(), "process": process, "started": _started(process)}


def _space() -> str | None:
    """Containers of one name may see different processes; None where nobody says."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _started(process: int) -> str | None:
    """Tells a process from a later one of the same number; None if there is none, or nobody says."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return None


def _owner(path: Path) -> dict[str, Any]:
    """What the owner wrote; {} of one that was killed before, or is about to, and of what anybody else wrote."""
    try:
        found = read_object(path)
    except BadInput:
        return {}
    return found if isinstance(found.get("process"), int) else {"ended": found.get("ended")}


def _is_here(owner: dict[str, Any]) -> bool:
    """Whether its processes are those that we see."""
    known = owner.get("host") == socket.gethostname() and owner.get("space", _space()) == _space()
    return known and Path("/proc/self").exists()


def _gone(path: Path) -> bool:
    owner, touched = _owner(path), _touched(path)
    if touched == 0 or owner.get("ended"):
        return True
    if _is_here(owner):
        return _started(owner["process"]) != owner.get("started")
    # Both times are the file system's: clocks of machines differ.
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", suffix=".partial", dir=path.parent) as probe:
        return os.stat(probe.name).st_mtime - touched > STALE_S


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # tidied away by a higher one
        return float("inf")


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with suppress(OSError):  # of a folder that is gone, the work itself will tell
            os.utime(path)
