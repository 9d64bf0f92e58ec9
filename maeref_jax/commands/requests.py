"""Which files belong together: globs, folders and name patterns, or a table with a row for every input."""

import csv
import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maeref_jax.errors import BadInput
from maeref_jax.results.output import check_stem
from maeref_jax.volumes.formats.store import is_url, join, split
from maeref_jax.volumes.formats.stored import split_inner
from maeref_jax.volumes.view import range_text
from maeref_jax.volumes.volume import FILES, FOLDERS, MAKERS, split_range, suffix_of
from maeref_jax.volumes.voxel_size import checked_size
from maeref_jax.volumes.within import AUTO

SUFFIXES = sorted({*FILES, *MAKERS, ".ome.tif", ".ome.tiff"}, key=len, reverse=True)
ROLES = ("image", "labels", "entropy", "hidden", "within", "probabilities")
COLUMNS = (*ROLES, "stem", "axes", "voxel_size_nm")


class Request(NamedTuple):
    """One input and what belongs to it: role -> path, "probabilities" -> tuple of paths. axes, voxel_size_nm (z, y, x):
    of this input alone, or empty. classes: of each class, the channels of the probabilities that are it; (): as they
    are. doubts: what to warn of, found where its files were looked for.
    """

    stem: str
    paths: dict[str, Any]
    axes: str = ""
    voxel_size_nm: tuple[float, ...] = ()
    classes: tuple[tuple[int, ...], ...] = ()
    doubts: tuple[str, ...] = ()


def check_sources(given: Sequence[str], mark: str = "", everywhere: bool = False) -> None:
    """Raises BadInput for sources that are missing or exclude one another.

    given: some of input (an image), labels, entropy, hidden, probabilities, ensemble; mark: put before such a name;
    everywhere: whether the refiner wants to know no hidden places.
    """
    given, image = set(given), f"{mark}{'input' if mark else 'image'}"
    sources = [name for name in ("ensemble", "labels", "probabilities") if name in given]
    if len(sources) != 1:
        raise BadInput(
            f"expected one of {mark}ensemble (with {image}), {mark}labels (with {mark}entropy or {mark}hidden) and "
            f"{mark}probabilities, found {' and '.join(mark + name for name in sources) or 'none of them'}"
        )
    if "ensemble" in given and "input" not in given:
        raise BadInput(f"{image} is missing: the ensemble needs an image")
    beside = [mark + name for name in ("entropy", "hidden") if name in given]
    if "labels" in given and not beside and not everywhere:
        raise BadInput(
            f"{mark}labels needs {mark}entropy, {mark}hidden or both beside it, found none of them; without these only "
            "a refiner that works everywhere can be used, such as continuity"
        )
    if beside and "labels" not in given:
        raise BadInput(f"{' and '.join(beside)} belongs to {mark}labels, which is missing")


def requests_of(
    images: tuple[str, ...], labels: str, entropy: str, hidden: str, probabilities: tuple[str, ...]
) -> list[Request]:
    """One Request per input; the labels take the place of the images where no image is given. Masks of what is worked
    on come with `with_masks`.
    """
    if not images and not labels:
        return [Request(stem_of(probabilities[0]), {"probabilities": probabilities})]
    leading, patterns = ("image", images) if images else ("labels", (labels,))
    paths = expand(patterns)
    several = len(paths) > 1
    requests = []
    for path in paths:
        found: dict[str, Any] = {leading: path}
        for role, pattern in (("labels", labels), ("entropy", entropy), ("hidden", hidden)):
            if pattern and role != leading:
                found[role] = fill_in(pattern, role, path, several)
        if probabilities:
            found["probabilities"] = tuple(fill_in(p, "probabilities", path, several) for p in probabilities)
        requests.append(Request(stem_of(path), found))
    twice = [stem for stem, count in Counter(request.stem for request in requests).items() if count > 1]
    if twice:
        raise BadInput(f"several inputs are called '{twice[0]}' and would share one result; give each its own --output")
    return requests


def with_masks(requests: list[Request], within: str) -> list[Request]:
    """The requests, each with its mask of what is worked on, where it has none yet. within: a path, a name pattern,
    within.AUTO, or "" for none.
    """
    if not within:
        return requests

    def path_for(request):
        if within == AUTO:
            return AUTO
        # Of nnU-Net's cases the predictions are called as the case is, and the image is not.
        paths = [leading_path(request.paths), *request.paths.get("probabilities", ())]
        called = next((path for path in paths if stem_of(path) == request.stem), paths[0])
        return fill_in(within, "within", called, len(requests) > 1)

    return [one._replace(paths={"within": path_for(one)} | one.paths) for one in requests]


def leading_path(paths: dict[str, Any]) -> str:
    """The path that an input goes by: that of its image, else of its labels, else of its first probabilities."""
    return paths.get("image") or paths.get("labels") or paths["probabilities"][0]


def read_table(table: str | Path, ensemble: bool, everywhere: bool = False) -> tuple[list[Request], dict[str, str]]:
    """One Request per row of a CSV file whose first line names some of COLUMNS; paths are relative to the file.
    ensemble, everywhere: whether there is one, and whether the refiner works so, see `check_sources`.

    Returns:
        The requests, and what is wrong with the other rows, by "line N" (the file's first line is 1).

    Raises:
        BadInput: no such file, no table with such columns, or no rows.
    """
    table = Path(table)
    if not table.is_file():
        raise BadInput(f"no such file: {table}")
    requests, wrong, lines = [], {}, {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # Excel puts a mark before UTF-8
            rows = csv.DictReader(file, strict=True)
            _check_columns(table, rows.fieldnames or [])
            for row in rows:
                try:
                    request = _request_of(row, table.parent, ensemble, everywhere)
                    if request.stem in lines:
                        raise BadInput(
                            f"another input, of line {lines[request.stem]}, is called '{request.stem}' too; name them "
                            "apart in a column 'stem'"
                        )
                except BadInput as error:
                    wrong[f"{table.name} line {rows.line_num}"] = str(error)
                else:
                    lines[request.stem] = rows.line_num
                    requests.append(request)
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadInput(f"{table} is no CSV file in UTF-8: {error}") from error
    if not requests and not wrong:
        raise BadInput(f"{table} has no rows below its first line")
    return requests, wrong


def _check_columns(table: Path, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or not names or len(set(names)) < len(names):
        hint = "; separate them by commas" if any(sign in "".join(names) for sign in ";\t") else ""
        raise BadInput(
            f"{table} has the columns {', '.join(names) or 'none'} in its first line, expected some of "
            f"{', '.join(COLUMNS)}, each once{hint}"
        )


def _request_of(row: dict, folder: Path, ensemble: bool, everywhere: bool) -> Request:
    if None in row or None in row.values():
        raise BadInput("another number of cells than the first line has")
    cells = {name: cell.strip() for name, cell in row.items() if cell.strip()}
    given = ["input" if name == "image" else name for name in cells if name in ROLES]
    check_sources([*given, *["ensemble"] * ensemble], everywhere=everywhere)

    def path_of(cell):
        return cell if is_url(cell) or cell == AUTO else str(folder / cell)

    paths: dict[str, Any] = {role: path_of(cells[role]) for role in ROLES[:-1] if role in cells}
    if "probabilities" in cells:
        paths["probabilities"] = tuple(path_of(part.strip()) for part in cells["probabilities"].split(";"))
    stem = cells.get("stem") or stem_of(leading_path(paths))
    check_stem(stem)
    typed = cells.get("voxel_size_nm", "")
    size = checked_size(typed, "voxel_size_nm (quoted, or with semicolons)") if typed else ()
    return Request(stem, paths, cells.get("axes", ""), size)


def expand(patterns: tuple[str, ...]) -> list[str]:
    """Paths, with globs resolved, and folders that are no volume but hold some; a z range or dataset behind a glob
    stays with every path.
    """
    paths = []
    for pattern in patterns:
        base, z_range = split_range(pattern)
        base, inner = (base, None) if is_url(base) else split_inner(base)
        if not is_url(base) and inner is None and z_range is None and (held := _volumes_in(base)):
            paths += held
            continue
        if is_url(base) or base.exists() or not glob.has_magic(str(base)):
            paths.append(str(pattern))
            continue
        found = sorted(glob.glob(str(base), recursive=True))
        if not found:
            one = re.search(r"\[(\d+)\]$", str(base))
            hint = f"; slice {one[1]} alone is written [{one[1]}:{int(one[1]) + 1}]" if one else ""
            raise BadInput(f"no file matches {base}{hint}")
        ending = (f":/{inner}" if inner else "") + range_text(z_range)
        paths += [f"{path}{ending}" for path in found]
    return paths


def stem_of(path: str) -> str:
    """The name of the input without its format: "mito.ome.tif[0:8]" and "mito.h5:/raw" -> "mito"."""
    name = split(place_of(path))[1]
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def place_of(path: str) -> str | Path:
    """The file, folder or URL, without z range and dataset."""
    base = split_range(path)[0]
    return base if is_url(base) else split_inner(base)[0]


def fill_in(pattern: str, role: str, path: str, several: bool) -> str:
    """The path of `role` that belongs to the input `path`: beside it, unless the pattern names a folder."""
    if "{stem}" not in pattern:
        if several:
            example = f"'{{stem}}_{role}.tif'"
            raise BadInput(f"--{role} {pattern}: with several inputs a name pattern is needed, such as {example}")
        return pattern
    name = pattern.replace("{stem}", stem_of(path))
    place = place_of(path)
    dataset = None if is_url(name) else split_inner(split_range(name)[0])[1]
    in_a_folder = is_url(name) or bool(os.path.dirname(name))
    if in_a_folder if dataset is None else not name.startswith(place_of(name).name):
        return name
    return join(split(place)[0], name) if is_url(place) else str(Path(place).parent / name)


def _volumes_in(folder: Path) -> list[str]:
    """The volumes in a folder that is none itself. One with TIFF or PNG files in it is one: a stack of slices."""
    if not folder.is_dir() or any(belongs(folder) for belongs, _ in FOLDERS.values()):
        return []

    def readable(path):
        if path.name.startswith("."):
            return False
        if path.is_dir():
            return any(belongs(path) for belongs, _ in FOLDERS.values())
        return bool(suffix_of(path.name))

    return sorted(str(path) for path in folder.iterdir() if readable(path))
