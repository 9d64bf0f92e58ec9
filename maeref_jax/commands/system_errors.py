"""What the system refuses a command, in one line: a full disk, a folder that is gone or must not be written to.

Libraries say it in words of their own, and from threads of their own: what an error came from is looked at as well.
"""

import errno
import os
import re
from collections.abc import Iterator

AGAIN = "give the same command again: it goes on where it was"
_DISK = f"make room, and {AGAIN}"
_RIGHTS = f"see to its permissions, and {AGAIN}"
_PLACE = f"see whether the disk or folder is still there, and {AGAIN}"
# What to do, by the number that the system gives.
ADVICE = {
    errno.ENOSPC: _DISK,
    errno.EDQUOT: _DISK,
    errno.EFBIG: f"no file may be so large there (the file system, or ulimit -f); change that, and {AGAIN}",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOENT: _PLACE,
    errno.ENOTDIR: _PLACE,
    errno.ESTALE: _PLACE,
    errno.ENODEV: _PLACE,
    errno.EIO: _PLACE,
    errno.ENOTCONN: _PLACE,
    errno.EMFILE: f"too many files are open; allow more (ulimit -n), and {AGAIN}",
    errno.ENFILE: f"too many files are open on this machine; {AGAIN}",
    errno.ENAMETOOLONG: "choose shorter names",
}
# In words, as libraries written in C++ pass it on.
_WORDS = {os.strerror(number): number for number in ADVICE if number not in (errno.ENOENT, errno.EPERM)}
_PATH = re.compile(r"[\"'](/[^\"']+)[\"']")


def explained(error: BaseException) -> str | None:
    """One line on an error that the system is the reason of; None for any other."""
    for one in _behind(error):
        if isinstance(one, OSError) and one.errno in ADVICE:
            where = f"{os.fsdecode(one.filename)}: " if isinstance(one.filename, str | bytes) else ""
            return f"{where}{os.strerror(one.errno)}; {ADVICE[one.errno]}"
        for words, number in _WORDS.items():
            if words in str(one):
                path = _PATH.search(str(one))
                return f"{f'{path[1]}: ' if path else ''}{words}; {ADVICE[number]}"
    return None


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The error, those that it holds, and what they came from; each once."""
    todo, seen = [error], set()
    while todo:
        one = todo.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [*getattr(one, "exceptions", ()), one.__cause__, one.__context__]
