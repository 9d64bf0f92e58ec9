"""Which of several processes does a piece of work that must be done once: the one that claims it.

A claim is a file, {name}_1, that one process alone can create. It is touched every few seconds while its owner works;
when its owner is gone, {name}_2 may be created, and so on: no claim is ever removed or replaced, so there is no moment
at which two can win one. Needs nothing of the file system but that a file is created once. An owner that was only
asleep for longer than STALE_S goes on beside the new one: what is claimed must bear being done twice.
"""

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maeref_jax.results.files import peek

BEAT_S = 5.0
STALE_S = 60.0


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[bool]:
    """Whether the work is ours, while inside; not if a living process has it. Claim again after it was given up.

    An owner on this machine is gone when its process is; one on another machine, whose processes cannot be seen, when
    its file has not been touched for STALE_S.
    """
    number = 1
    while (path := folder / f"{name}_{number}").exists():
        if not (folder / f"{name}_{number + 1}").exists() and not _gone(path):
            yield False
            return
        number += 1
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(_self(), file)
    except FileExistsError:
        yield False
        return
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, ended), daemon=True)
    beat.start()
    try:
        yield True
    finally:
        ended.set()
        beat.join()
        with suppress(OSError):
            os.utime(path, (0, 0))  # given up


def _self() -> dict:
    return {"host": socket.gethostname(), "process": os.getpid(), "started": _started(os.getpid())}


def _started(process: int) -> str | None:
    """Tells a process from a later one of the same number; None if there is none, or nobody says."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return None


def _gone(path: Path) -> bool:
    if path.stat().st_mtime == 0:
        return True
    owner = peek(path) or {}  # nothing, where it was killed before it had written its name, or is about to write it
    here = owner.get("host") == socket.gethostname() and isinstance(owner.get("process"), int)
    if here and Path("/proc/self").exists():
        return _started(owner["process"]) != owner.get("started")
    # Both times are the file system's: clocks of machines differ.
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", suffix=".partial", dir=path.parent) as probe:
        return os.stat(probe.name).st_mtime - path.stat().st_mtime > STALE_S


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with suppress(OSError):  # of a folder that is gone, the work itself will tell
            os.utime(path)
