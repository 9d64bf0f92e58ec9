"""What made a result, compared with what would make it now."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

# What earlier versions did not note of an input cannot be compared with theirs.
_NOT_NOTED = ("voxel_size_nm",)
_OF_FILES = ("bytes", "modified_ns")


def differences_of(found: Any, wanted: Any, name: str = "") -> Iterable[str]:
    """What is not the same in two things that say what made a result, read from JSON; a line for each."""
    if _is_file(found) and _is_file(wanted) and found["path"] == wanted["path"]:
        yield from _changed_file(found, wanted, name)
        found, wanted = ({k: v for k, v in one.items() if k not in _OF_FILES} for one in (found, wanted))
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            if key in _NOT_NOTED and key not in found:
                continue
            # What an earlier version could not be asked for was off in it: 0, false or none. Where it was not,
            # another "format" says so.
            one, other = found.get(key), wanted.get(key)
            if (key in found and key in wanted) or one or other:
                yield from differences_of(one, other, f"{name}.{key}" if name else key)
    elif found != wanted:
        yield f"{name} was {_short(found)} and is now {_short(wanted)}"


def _is_file(found: Any) -> bool:
    """Whether it is what Volume.identity says of files on disk."""
    return isinstance(found, dict) and "path" in found and all(isinstance(found.get(key), int) for key in _OF_FILES)


def _changed_file(found, wanted, name) -> Iterable[str]:
    if all(found[key] == wanted[key] for key in _OF_FILES):
        return
    sizes = [one["bytes"] for one in (found, wanted)]
    what = "was written anew" if sizes[0] == sizes[1] else f"had {sizes[0]:,} bytes and has {sizes[1]:,}"
    times = [one["modified_ns"] for one in (found, wanted)]
    when = "" if times[0] == times[1] else f", last changed {_when(times[0])} then, {_when(times[1])} now"
    yield f"{name}, the file {found['path']}, {what}{when}"


def _when(nanoseconds: int) -> str:
    """To the millisecond, in UTC."""
    try:
        return f"{datetime.fromtimestamp(nanoseconds / 1e9, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"
    except (ValueError, OverflowError, OSError):  # a year that there is not
        return f"{nanoseconds} ns"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
