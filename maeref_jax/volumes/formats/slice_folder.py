"""A folder of numbered TIFF or PNG slices as one stack; a slice is opened when a box needs it."""

import itertools
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.png import open_png
from maeref_jax.volumes.formats.stored import Stored, joined
from maeref_jax.volumes.formats.tiff import open_tiff
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust, check_inside

PLANES: dict[str, Callable[..., Stored]] = {".tif": open_tiff, ".tiff": open_tiff, ".png": open_png}
_NAMED = 6  # missing slices that a message names


def is_slice_folder(path: Path | str) -> bool:
    """Whether there are TIFF or PNG files in the folder `path` (a URL cannot be listed)."""
    return isinstance(path, Path) and path.is_dir() and bool(_files(path))


def open_slice_folder(path: Path, trust: Trust = CAUTIOUS) -> Stored:
    """The TIFF or PNG files of the folder, one slice each, in the order of the one number in which their names differ.

    Numbers may go up in steps, by tens say, which a note tells.

    Raises:
        BadInput: names that differ in more than one number or in words, numbers twice, slices that are missing (they
            are named), files that are no single plane, truncated, links out of the folder, or not of the first one's
            shape and dtype.
    """
    files, note = _numbered(path, _files(path))
    for file in files:
        check_inside(path, file, trust, f"{file.resolve()}, by {file}")
    opener = PLANES[files[0].suffix.lower()]
    first = opener(files[0], trust)
    if first.axes not in ("YX", "YXS"):
        raise BadInput(f"{files[0]} has shape {first.shape} (axes {first.raw_axes}), expected one plane per file")
    for file in files[1:]:
        found = opener(file, trust, decode=False)
        if (found.shape, found.dtype) != (first.shape, first.dtype):
            raise BadInput(
                f"{file} is {found.dtype} {found.shape}, but {first.path} is {first.dtype} {first.shape}; all slices "
                "must be alike"
            )

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        return np.stack([opener(file, trust, decode=False).read(slices[1:]) for file in files[slices[0]]])

    return Stored(
        path,
        (len(files), *first.shape),
        first.dtype,
        f"Z{first.axes}",
        f"Z{first.raw_axes}",
        first.voxel_size_nm,
        read,
        note=joined(note, first.note),
        size_doubt=first.size_doubt,
    )


def _files(path: Path) -> list[Path]:
    return [file for file in path.iterdir() if file.suffix.lower() in PLANES and not file.name.startswith(".")]


def _numbered(path: Path, files: list[Path]) -> tuple[list[Path], str]:
    """(the files in the order of their numbers, a note)."""
    parts = {file: re.split(r"(\d+)", file.name) for file in files}  # words at even places, numbers at odd ones
    words = {tuple(part[::2]) for part in parts.values()}
    if len(words) > 1:
        one, two = ("#".join(names) for names in sorted(words)[:2])
        raise BadInput(
            f"{path} holds slices of several names ({one} and {two}), expected one series; put each into its own folder"
        )
    numbers = np.array([[int(n) for n in parts[file][1::2]] for file in files]).reshape(len(files), -1)
    differ = [place for place in range(numbers.shape[1]) if len(set(numbers[:, place])) > 1]
    if len(differ) > 1 or numbers.shape[1] == 0:
        found = "more than one number" if differ else "no number"
        raise BadInput(f"{path}: the names of its slices differ in {found}, expected the slice's alone")
    if len(files) == 1:
        return files, ""
    if not differ:
        raise BadInput(f"{path} holds {sorted(file.name for file in files)[:2]}, the same number twice")
    order = [files[n] for n in np.argsort(numbers[:, differ[0]])]
    return order, _spacing(path, [parts[file][1::2][differ[0]] for file in order])


def _spacing(path: Path, written: list[str]) -> str:
    """A note on the numbers of the slices, in order, as written. Raises BadInput for a number twice, and for gaps."""
    found = [int(number) for number in written]
    apart = Counter(b - a for a, b in itertools.pairwise(found))
    if 0 in apart:
        twice = next(a for a, b in itertools.pairwise(found) if a == b)
        raise BadInput(f"{path} holds slice {twice} twice, expected every number once")
    step = min(apart, key=lambda distance: (-apart[distance], distance))  # the most frequent, of several the shortest
    if len(apart) == 1:
        return f"its {len(found)} slices are numbered in steps of {step} and taken as neighbours" if step > 1 else ""
    width = len(written[0]) if written[0].startswith("0") else 0
    gaps = [range(a + step, b, step) for a, b in itertools.pairwise(found)]
    count, missing = sum(map(_length, gaps)), itertools.islice(itertools.chain(*gaps), _NAMED)
    named = ", ".join(f"{n:0{width}d}" for n in missing)
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    what = f"{named}{more} missing" if count else "their steps differ"
    raise BadInput(
        f"{path} holds {len(found)} slices numbered {found[0]} to {found[-1]}, but {what}: for a slice that is lost "
        "copy its neighbour under its name, or, where those that are there are neighbours, number them without gaps"
    )


def _length(gap: range) -> int:
    """len() takes no range that is longer than memory can be."""
    return max(0, -(-(gap.stop - gap.start) // gap.step))
