"""How far a file is believed: how much may be unpacked of it, whether it may lead to other files, and what it means
that a reader stumbles over it.

Sizes that a file states are compared with its bytes and with the limits before anything is allocated or unpacked. What
is packed less tightly than 20:1 is no bomb and needs no limit; label maps are packed 1000:1, so tightness alone is no
sign of one.
"""

import contextlib
import lzma
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from maeref_jax.errors import BadInput, CannotGoOn

# zlib, gzip, zip and PNG: no more comes out of a byte.
DEFLATE = 1032
_NO_BOMB = 20
_GB = 1e9
_LOOKED_AT_BYTES, _FED_BYTES = 1 << 24, 1 << 20
_LZMA = 10_000  # that come out of a byte, about
_LONGEST = 1000  # characters of a message


class Trust(NamedTuple):
    """Settings, and flags, of every command that reads a user's files.

    follow_links: whether a file or folder may lead to files outside of itself
    unpacked_gb: what a packed file may become on disk (TMPDIR)
    piece_gb: memory for what is unpacked at once: a chunk, a plane
    """

    follow_links: bool = False
    unpacked_gb: float = 16.0
    piece_gb: float = 0.5


CAUTIOUS = Trust()


@contextlib.contextmanager
def stumbling_means_bad_input(path: Path | str) -> Iterator[None]:
    """A reader, ours or a library's, that stumbles over the bytes of a file, by whatever exception, says that they are
    not what it expected. No list of exceptions is complete; what can be told better is told where it is known.
    """
    try:
        yield
    except CannotGoOn:
        raise
    except BadInput as error:
        if "\n" not in str(error) and len(str(error)) <= _LONGEST:
            raise
        raise BadInput(_one_line(error)) from error  # libraries say some things in several lines, and repeat the file
    except Exception as error:
        reason = f"{type(error).__name__}: {_one_line(error)}"
        raise BadInput(
            f"{path} cannot be read, is it damaged? If other programs open it, please report this, with the file "
            f"({reason})"
        ) from error


def check_possible(path: str | Path, needed: int, held: int, ratio: int = DEFLATE) -> None:
    """Raises BadInput where `needed` bytes cannot come out of the `held` bytes that are there."""
    if needed > held * ratio:
        raise BadInput(
            f"{path} is truncated or damaged: it says that {needed} bytes are packed in it, but no more than "
            f"{held * ratio} can come out of its {held} bytes; copy it again"
        )


def most_unpacked(held: int, trust: Trust) -> int:
    """The bytes that a packed file of `held` bytes may become on disk."""
    return max(int(trust.unpacked_gb * _GB), _NO_BOMB * held)


def check_unpacked(path: str | Path, needed: int, held: int, trust: Trust) -> None:
    """Raises BadInput where `held` packed bytes become more than may be on disk."""
    if needed > most_unpacked(held, trust):
        raise BadInput(
            f"{path} ({held} bytes) says that it becomes {needed / _GB:.3g} GB when it is unpacked; if you know where "
            f"it is from, allow it with --unpacked_gb {_enough(needed)} (it is {trust.unpacked_gb:g})"
        )


def check_piece(path: str | Path, what: str, needed: int, held: int, trust: Trust) -> None:
    """Raises BadInput where what is unpacked at once takes too much memory.

    what: "its chunks", "its planes"; held: packed bytes of one, 0 where that is not known.
    """
    if needed > max(trust.piece_gb * _GB, _NO_BOMB * held):
        raise BadInput(
            f"{path}: {what} take {needed / _GB:.3g} GB of memory each; if you know where it is from, allow it with "
            f"--piece_gb {_enough(needed)} (it is {trust.piece_gb:g})"
        )


def check_stream(
    path: str | Path, packed: Callable[[], bytes], held: int, trust: Trust, *, by_lzma: bool = False
) -> None:
    """Raises BadInput where the `held` bytes that `packed` gives, packed by zlib or gzip, or by LZMA, become more than
    may be unpacked at once. Libraries unpack all of them, whatever size is stated elsewhere. They are looked at only
    where they could.
    """
    most, count = max(int(trust.piece_gb * _GB), _NO_BOMB * held), 0
    if held * (_LZMA if by_lzma else DEFLATE) <= most:
        return
    stream = lzma.LZMADecompressor() if by_lzma else zlib.decompressobj(zlib.MAX_WBITS | 32)
    data = memoryview(packed())
    with contextlib.suppress(zlib.error, lzma.LZMAError, EOFError):  # damage, which is told by who reads it
        for start in range(0, len(data), _FED_BYTES):
            given = data[start : start + _FED_BYTES]
            while given is not None and not stream.eof:
                count += len(stream.decompress(given, _LOOKED_AT_BYTES))
                if count > most:
                    raise BadInput(
                        f"{path}: a piece of it becomes more than {most / _GB:.3g} GB when it is unpacked, whatever it "
                        "says of itself; if you know where it is from, allow it with --piece_gb N"
                    )
                left = b"" if by_lzma else stream.unconsumed_tail
                given = left if left or (by_lzma and not stream.needs_input) else None


def room_for(path: str | Path, needed: int) -> None:
    """Raises BadInput where there is no folder for temporary files, or not enough room in it."""
    try:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise BadInput(
            f"{path} has to be unpacked, and there is no folder for temporary files: set TMPDIR to one with "
            f"{needed / _GB:.3g} GB of room ({error})"
        ) from error
    if needed > free:
        raise BadInput(
            f"{path} has to be unpacked to {needed / _GB:.3g} GB, but {folder} has room for {free / _GB:.3g} GB; set "
            "TMPDIR to a folder with more"
        )


def check_inside(container: Path, target: Path, trust: Trust, named: str = "") -> None:
    """Raises BadInput where a file or folder that a container names lies outside of it. named: as it is written."""
    if not trust.follow_links and not target.resolve().is_relative_to(container.resolve()):
        raise BadInput(
            f"{container} leads out of itself, to {named or target.resolve()}; if that is meant, allow it with "
            "--follow_links"
        )


def check_links(folder: Path, trust: Trust) -> None:
    """Raises BadInput where a link in a folder leads out of it. A folder may be a link itself."""
    waiting = [] if trust.follow_links else [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    check_inside(folder, Path(entry.path), trust, f"{os.path.realpath(entry.path)}, by {entry.path}")
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))


def _one_line(error: Exception) -> str:
    line = " ".join(str(error).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"


def _enough(needed: int) -> str:
    """So many GB as are enough for `needed` bytes, to be typed."""
    return f"{needed / _GB * 1.05:.2g}"
