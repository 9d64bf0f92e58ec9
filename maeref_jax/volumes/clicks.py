"""Clicks: single voxels whose class somebody said, as a CSV file holds them, and as labels on the grid of their image.

Coordinates are voxels of the image's file, counted from 0 at the centre of the first one, as napari counts them. A
class is a class of the scheme, by its id or by its name; what ids mean in label volumes (label_ids.py) plays no part.
"""

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.class_scheme import listed
from maeref_jax.volumes.resolution import onto
from maeref_jax.volumes.view import Volume, range_text
from maeref_jax.volumes.volume import split_range
from maeref_jax.volumes.voxel_size import size_text
from maeref_jax.volumes.windows import blocks

SUFFIX = ".csv"
COLUMNS = ("z", "y", "x", "class")
NAPARI = ("axis-0", "axis-1", "axis-2")  # of a points layer; the fourth is that of a time series, or of channels
CLASS = ("class", "label")  # what the column of the classes may be called
# Clicks and thin scribbles are less than this share of those squares of so many voxels a side that hold some.
SCATTERED, SQUARE = 0.25, 32
_EXPECTED = f"expected a first line {','.join(COLUMNS)}, and a click in every line below it"


class Clicks(NamedTuple):
    """What a file holds. lines: int (n,), where each click stands, the file's first line is 1; places: float64 (n, 3),
    z, y, x; or (n, 2), y, x, where there is no z; classes: what stands there, n texts; read_as: the columns.
    """

    path: str
    lines: np.ndarray
    places: np.ndarray
    classes: list[str]
    read_as: str


def is_clicks(path: str | Path) -> bool:
    """Whether a path, with or without a range of slices behind it, is that of a file of clicks."""
    return str(split_range(path)[0]).lower().endswith(SUFFIX)


def read_clicks(path: str | Path) -> Clicks:
    """The clicks of a CSV file (UTF-8, commas) with the columns z, y, x, class, in any order, or those of a points
    layer that napari saved; other columns are not looked at.

    Raises:
        BadInput: no such file, no CSV file, missing columns, no clicks, and lines with what is no number or no class.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"no such file: {path}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark before UTF-8
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no CSV file in UTF-8: {error}") from error
    if not rows:
        raise BadInput(f"{path} is empty, {_EXPECTED}")
    (_, header), *rows = rows
    axes, said = _columns(path, [name.strip() for name in header])
    if not rows:
        raise BadInput(f"{path} has no clicks below its first line, {_EXPECTED}")
    lines, places, classes = [], [], []
    for line, row in rows:
        if len(row) != len(header):
            raise BadInput(f"{path}, line {line}: {len(row)} cells, but the first line has {len(header)}")
        lines.append(line)
        places.append([_number(row[axis], header[axis], path, line) for axis in axes])
        classes.append(row[said].strip())
        if not classes[-1]:
            raise BadInput(f"{path}, line {line}: the class is missing (column {header[said].strip()})")
    read_as = ", ".join(header[column].strip() for column in (*axes, said))
    return Clicks(str(path), np.array(lines), np.array(places, np.float64), classes, read_as)


def write_clicks(path: str | Path, places: np.ndarray, classes: Sequence[str]) -> None:
    """Writes voxels, int (n, 3), z, y, x, and their classes, ids or names, as a file that `read_clicks` reads; whole or
    not at all.
    """
    path = Path(path)
    temporary = path.with_name(f".partial.{os.getpid()}.{path.name}")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([*map(int, place), said] for place, said in zip(places, classes, strict=True))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def labels_of_clicks(path: str | Path, image: Volume, scheme: dict, say: Callable[[str], None]) -> np.ndarray:
    """The clicks of a file as labels of their image, int16 (z, y, x) of its shape, -1 where nothing was said.

    path: "clicks.csv[0:20]" are those of slices 0 to 19, of an image that was given so. image: where it is read on
    another grid than its file's, every click goes to the voxel that its place lies in; where clicks meet there, the
    most frequent class is taken, and none of several. say: hears what was found.

    Raises:
        BadInput: as `read_clicks`; clicks outside of the image, of unknown classes, on one voxel with two classes; none
            in the range of slices.
    """
    base, z_range = split_range(path)
    clicks, file = read_clicks(base), image.file or image
    voxels, kept = _in_range(_voxels(clicks, file), z_range, file, str(path))
    clicks = clicks._replace(lines=clicks.lines[kept], classes=[clicks.classes[i] for i in np.flatnonzero(kept)])
    _check_inside(clicks, voxels, file)
    ids = _ids(clicks, scheme)
    _check_agreement(clicks, voxels, ids, scheme)
    lines = [f"{path}: {_counted(len(ids))} (columns {clicks.read_as}): {_per_class(ids, scheme)}"]
    if len(voxels) < len(kept):
        lines.append(f"{path}: the other {len(kept) - len(voxels):,} of {len(kept):,} clicks lie in other slices")
    for line in lines:
        say(line)
    return _on_grid(voxels, ids, file.voxel_size_nm, image, str(path), say)


def brought_labels(classes: Volume, say: Callable[[str], None]) -> np.ndarray | None:
    """Labels, int16 (z, y, x), of classes that are read in larger voxels than their file's, along any axis, where
    clicks or scribbles are all that the file says: each goes to the voxel that its place lies in, as those of
    `labels_of_clicks` do, while in a vote with what is unknown all of them would be lost. Along axes that become finer
    it is as long as it was. None for a volume that is labelled or read otherwise.
    """
    size, file = classes.voxel_size_nm, classes.file
    finer = np.less(size, file.voxel_size_nm)
    if not np.greater(size, file.voxel_size_nm).any():
        return None
    at_once = (8, 32 * SQUARE, 32 * SQUARE)
    if not is_scattered(plane >= 0 for box in blocks(file.shape, at_once) for plane in file.read(box)):
        return None
    # First cut where voxels become smaller, and left as they are where they become larger.
    shape, cut_nm = (
        np.where(finer, *pair).tolist() for pair in ((classes.shape, file.shape), (size, file.voxel_size_nm))
    )
    cut = onto(file, shape, cut_nm, "nearest")
    voxels, ids = [], []
    for box in blocks(cut.shape, at_once):
        labels = cut.read(box)
        found = np.argwhere(labels >= 0)
        voxels.append(found + box.start)
        ids.append(labels[tuple(found.T)].astype(np.int64))
    return _on_grid(np.concatenate(voxels), np.concatenate(ids), cut.voxel_size_nm, classes, classes.path, say)


def is_scattered(known: Iterable[np.ndarray]) -> bool:
    """Whether the known voxels of slices, bool (y, x), are clicks or thin scribbles: no slice, nor a part of one, was
    labelled as a whole.
    """
    count = area = 0
    for plane in known:
        rows, columns = (np.arange(0, size, SQUARE) for size in plane.shape)
        squares = np.add.reduceat(np.add.reduceat(plane, rows, 0, np.int64), columns, 1)
        heights, widths = (np.minimum(SQUARE, size - np.arange(0, size, SQUARE)) for size in plane.shape)
        count += int(squares.sum())
        area += int(np.outer(heights, widths)[squares > 0].sum())
    return 0 < count < SCATTERED * area


def _on_grid(voxels, ids, size_nm, volume, path, say):
    """Labels int16, -1 unknown, of the shape of a volume, of voxels int (n, 3) of its file, or of a size of their own,
    and their classes int (n,): of several in one voxel the most frequent class, and none where there are several such.
    """
    if volume.file is not None:
        scale = np.divide(size_nm, volume.voxel_size_nm)
        voxels = np.minimum(np.floor((voxels + 0.5) * scale).astype(np.int64), np.array(volume.shape) - 1)
    labels, classes = np.full(volume.shape, -1, np.int16), int(ids.max()) + 1
    places, which = np.unique(np.ravel_multi_index(tuple(voxels.T), volume.shape), return_inverse=True)
    votes = np.bincount(which * classes + ids, minlength=len(places) * classes).reshape(len(places), classes)
    torn = (votes == votes.max(1, keepdims=True)).sum(1) > 1
    labels.flat[places] = np.where(torn, -1, votes.argmax(1))
    if volume.file is not None:
        at = f"{path}: at {size_text(volume.voxel_size_nm)} nm its labels are {np.count_nonzero(~torn):,} voxels"
        say(at + f"; {torn.sum():,} more are left out, where several classes meet" * bool(torn.any()))
    return labels


def _columns(path, names):
    """The columns of z, y, x (or y, x), and that of the class. Raises BadInput where they are not there."""
    lower = [name.lower() for name in names]
    what = f"{path} has the columns {', '.join(filter(None, names)) or 'none'} in its first line"
    if len(set(lower)) < len(lower):
        raise BadInput(f"{what}, one of them twice; {_EXPECTED}")
    if "axis-3" in lower:
        raise BadInput(f"{what}: four axes, expected the three of a (z, y, x) stack; click on one channel, of one time")
    given = [axes for axes in (COLUMNS[:3], NAPARI, COLUMNS[1:3], NAPARI[:2]) if set(axes) <= set(lower)]
    if not given:
        hint = "; separate them by commas" if any(sign in "".join(names) for sign in ";\t") else ""
        hint = "; ImageJ's Slice counts from 1, z is one less" if "slice" in lower else hint
        raise BadInput(f"{what}, {_EXPECTED}, or napari's {', '.join(NAPARI)} and a class{hint}")
    axes = given[0]
    others = [name for name in lower if name not in (*axes, "index", "") and name not in (*COLUMNS[:3], *NAPARI)]
    called = [name for name in CLASS if name in lower] or others[:2]
    if len(called) != 1 and called[:1] != ["class"]:
        found = f"{' and '.join(called)} could be it" if called else "none is there"
        raise BadInput(
            f"{what}: the class of a click stands in a column named class, and {found}; in napari, give the points "
            "layer a feature class before clicking (docs/clicks.md)"
        )
    return [lower.index(axis) for axis in axes], lower.index(called[0])


def _number(text, column, path, line):
    try:
        found = float(text)
    except ValueError:
        found = np.nan
    if not np.isfinite(found):
        raise BadInput(f"{path}, line {line}: {column.strip()} is {text.strip()!r}, expected a voxel, counted from 0")
    return found


def _voxels(clicks, image):
    """Whole voxels int64 (n, 3): of decimals the nearest, whose centre is the whole number."""
    if clicks.places.shape[1] == 2 and image.shape[0] > 1:
        raise BadInput(
            f"{clicks.path} has the columns {clicks.read_as} and no z, but {image.path} has {image.shape[0]} slices; "
            "add a column z, counted from 0"
        )
    far = 2.0**40  # no volume is so large, and an integer holds it
    found = np.floor(np.clip(clicks.places, -far, far) + 0.5).astype(np.int64)
    return found if found.shape[1] == 3 else np.insert(found, 0, 0, axis=1)


def _in_range(voxels, z_range, image, path):
    """The voxels of a range of slices, z counted from its first one, and which of all these are, bool (n,)."""
    if z_range is None:
        return voxels, np.ones(len(voxels), bool)
    start, stop, step = z_range.start, z_range.stop, z_range.step or 1
    if stop is not None and len(range(start, stop, step)) != image.shape[0]:
        raise BadInput(
            f"{path} names {len(range(start, stop, step))} slices, but {image.path} has {image.shape[0]}; give clicks "
            "and image the same range"
        )
    z = voxels[:, 0]
    last = start + step * (image.shape[0] - 1)
    kept = (z >= start) & (z <= last) & ((z - start) % step == 0) | (z < 0)
    kept |= (z > last) if stop is None else False  # beyond the end of the stack, which is told
    if not (kept & (z >= 0)).any():
        raise BadInput(f"no click lies in the slices {range_text(z_range)} of {path}, which {image.path} shows")
    found = voxels[kept]
    found[:, 0] = np.where(found[:, 0] < 0, found[:, 0], (found[:, 0] - start) // step)
    return found, kept


def _check_inside(clicks, voxels, image):
    outside = np.flatnonzero(((voxels < 0) | (voxels >= image.shape)).any(1))
    if not len(outside):
        return
    first = outside[0]
    place = tuple(map(int, voxels[first]))
    shown = range_text(split_range(image.path)[1])
    way = f"; clicks on the whole stack are given as the image is, {clicks.path}{shown}" if shown else ""
    raise BadInput(
        f"{clicks.path}: {len(outside):,} of {_counted(len(voxels))} {'lie' if len(outside) > 1 else 'lies'} outside "
        f"of {image.path} of shape {image.shape}; the first is in line {clicks.lines[first]}, (z, y, x) = {place}. "
        f"Coordinates are voxels, counted from 0{way}"
    )


def _ids(clicks, scheme):
    """The classes of clicks, int64 (n,)."""
    known = {text: class_said(text, scheme) for text in set(clicks.classes)}
    wrong = [i for i, text in enumerate(clicks.classes) if known[text] is None]
    if wrong:
        texts = sorted({clicks.classes[i] for i in wrong})
        more = f", and of {len(texts) - 1} more such" if len(texts) > 1 else ""
        raise BadInput(
            f"{clicks.path}: {_counted(len(wrong))} of class {clicks.classes[wrong[0]]!r}{more}, the first in line "
            f"{clicks.lines[wrong[0]]}; expected one of {listed(scheme)}, by number or by name (--classes names them)"
        )
    return np.array([known[text] for text in clicks.classes], np.int64)


def class_said(text: str, scheme: dict) -> int | None:
    """The id of the class that a text says, its name in any case, or its id ("2", "2.0"); None for neither."""
    names = [name.casefold() for name in scheme["names"]]
    if text and text.casefold() in names:
        return names.index(text.casefold())
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number in range(len(names)) else None


def _check_agreement(clicks, voxels, ids, scheme):
    order = np.lexsort(voxels.T)
    same = (np.diff(voxels[order], axis=0) == 0).all(1)
    torn = np.flatnonzero(same & (np.diff(ids[order]) != 0))
    if len(torn):
        one, other = sorted(order[torn[0] : torn[0] + 2])
        named = [f"{scheme['names'][ids[i]]} ({ids[i]})".strip() for i in (one, other)]
        more = f", and so {'are' if len(torn) > 2 else 'is'} {len(torn) - 1:,} more" if len(torn) > 1 else ""
        raise BadInput(
            f"{clicks.path}: voxel (z, y, x) = {tuple(map(int, voxels[one]))} is said to be {named[0]} in line "
            f"{clicks.lines[one]} and {named[1]} in line {clicks.lines[other]}{more}; keep one of them"
        )


def _counted(number):
    return f"{number:,} click{'s' * (number != 1)}"


def _per_class(ids, scheme):
    counts = np.bincount(ids, minlength=len(scheme["names"])).tolist()
    return ", ".join(f"{name or i} {counts[i]:,}" for i, name in enumerate(scheme["names"]))
