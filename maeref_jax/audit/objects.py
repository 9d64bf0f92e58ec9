"""One row per object of a volume, initial and refined: what biologists count and measure, and how far to trust it.

An object is a connected piece of the foreground, by faces, in 3-D. Volumes and shares are counted block by block, for
all objects of a block at once: memory is a block, a few numbers per object, and what shapes.py says of skeletons.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from maeref_jax.audit import shapes
from maeref_jax.errors import BadInput
from maeref_jax.results.files import write_lines
from maeref_jax.results.ownership import written
from maeref_jax.results.place import Output
from maeref_jax.volumes import progress
from maeref_jax.volumes.class_scheme import MITOCHONDRIA, is_mitochondria
from maeref_jax.volumes.components import Components, extend_boxes, find_components, pieces_of
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.volume import UNKNOWN_ON_DISK
from maeref_jax.volumes.windows import Box

_ROWS = 4096  # of the table, made into text at a time
_MAPS = ("initial", "refined")
_COUNTS = ("voxels", "hidden", "changed", "sure")


class Rules(NamedTuple):
    """What an object is: ids of its classes; the id of cristae, -1 for none; whether its shape means anything; the
    smallest number of voxels; the hidden share above which it is flagged.
    """

    classes: tuple[int, ...]
    cristae: int
    shaped: bool
    smallest_vx: int
    flag_hidden_share: float


def rules(scheme: dict, classes: Sequence[int], cristae: int | None, smallest_vx: int, flag: float) -> Rules:
    """The rules for a class scheme, as given or, for `classes` () and `cristae` None, as the class names say.

    Without classes given, objects are made of all classes but 0, and have a shape in the scheme of mitochondria and
    where there is one class beside background: in another one they may be anything.

    Raises:
        BadInput: ids that are no foreground class, or numbers out of range.
    """
    names = list(scheme["names"])
    known = range(1, len(names)) if names else range(1, UNKNOWN_ON_DISK)
    given = [*classes, *(() if cristae is None else (cristae,))]
    if any(not isinstance(label, int) or label not in known for label in given):
        said = ", ".join(f"{i} {names[i]}" for i in known) if names else f"1 to {UNKNOWN_ON_DISK - 1}"
        raise BadInput(f"objects of the classes {tuple(classes)} and cristae {cristae}, expected some of: {said}")
    if smallest_vx < 1 or not 0 <= flag <= 1:
        raise BadInput(
            f"smallest_object_vx is {smallest_vx}, expected at least 1; flag_hidden_share is {flag}, expected 0 to 1"
        )
    mitochondria = is_mitochondria(names)
    shaped = bool(classes) or mitochondria or (bool(names) and real_classes(scheme) == 2)
    if cristae is None:
        cristae = MITOCHONDRIA.index("cristae") if mitochondria else -1
    return Rules(tuple(classes) or tuple(known), cristae, shaped, smallest_vx, flag)


def measure_objects(
    output: Output,
    arrays: dict[str, Volume],
    block: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float] | None,
    names: Sequence[str],
    rules: Rules,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Writes the table, the numbered objects ("objects_initial", "objects_refined" of `arrays`) and the SWC files.

    arrays: as `results.create_arrays` gives them, full; without "refined" there is only the initial map.

    Returns:
        {map: {"objects", "flagged", "too_small", "too_small_voxels"}} for the sidecar.
    """
    tables, summary = [], {}
    if rules.shaped and voxel_size_nm is None:
        say(f"{output.stem}: no voxel size is known, so objects have no volumes and lengths in nm and no SWC files")
    with written(output, output.skeletons) as folder:
        folder.mkdir()
        for name in _MAPS:
            if name not in arrays:
                continue
            found, counts, per_class, boxes = _count(output, arrays, name, block, rules)
            table = {"map": np.full(found.count, name), "object": np.arange(1, found.count + 1)}
            table |= _shares(counts, "refined" in arrays, rules)
            table |= _sizes(counts["voxels"], per_class, voxel_size_nm, names, rules)
            table |= _places(boxes, arrays[name].shape)
            if rules.shaped:
                ids, what = arrays[f"objects_{name}"], f"{output.stem}: skeletons, {name}"
                with progress.showing(what, found.count, "object") as shown:
                    given = boxes, block, voxel_size_nm, rules.cristae, folder / name, shown
                    table |= shapes.measure_shapes(ids, arrays[name], *given)
            tables.append(table)
            summary[name] = {"objects": found.count, "flagged": int((table["flag"] != "").sum())}
            summary[name] |= {"too_small": found.small, "too_small_voxels": found.small_voxels}
    with written(output, output.objects) as path:
        write_lines(path, _lines(tables, _columns(names, rules)))
    return summary


def _count(output, arrays, name, block, rules):
    """The components; and of each: its sums, voxels of each class (n, classes), first and last + 1 voxel (n, 2, 3)."""
    labels = arrays[name]
    found, mask = _components(output, arrays, name, block, rules)
    counts = {key: np.zeros(found.count + 1, np.int64) for key in _COUNTS}
    per_class = np.zeros((found.count + 1, len(rules.classes)), np.int64)
    low, high = np.full((found.count + 1, 3), np.iinfo(np.int64).max), np.zeros((found.count + 1, 3), np.int64)
    for box, pieces, number in pieces_of(found, mask, f"{output.stem}: objects, {name}"):
        arrays[f"objects_{name}"].write(box, number[pieces].astype(np.uint32))
        inside = pieces > 0
        owner, here = pieces[inside], labels.read(box)[inside]
        weights = {"voxels": None, "hidden": arrays["hidden"].read(box)[inside]}
        if "refined" in arrays:
            weights["changed"] = arrays["was"].read(box)[inside] > 0
            # Of hidden voxels, which a refiner that works everywhere is not alone sure of.
            weights["sure"] = arrays["confidence"].read(box)[inside] * (weights["hidden"] > 0)
        for key, weight in weights.items():
            np.add.at(counts[key], number, np.bincount(owner, weight, len(number)).astype(np.int64))
        for column, label in enumerate(rules.classes):
            if (at := here == label).any():
                np.add.at(per_class[:, column], number, np.bincount(owner[at], minlength=len(number)))
        extend_boxes(low, high, pieces, number, box.start)
    return found, {key: sums[1:] for key, sums in counts.items()}, per_class[1:], np.stack([low, high], 1)[1:]


def _components(output, arrays, name, block, rules) -> tuple[Components, Callable[[Box], np.ndarray]]:
    wanted = np.zeros(256, bool)  # labels are uint8
    wanted[list(rules.classes)] = True

    def mask(box):
        return wanted[arrays[name].read(box)]

    return find_components(mask, arrays[name].shape, block, rules.smallest_vx, output.progress), mask


def flagged_voxels(
    output: Output, arrays: dict[str, Volume], block: tuple[int, int, int], rules: Rules
) -> Iterator[tuple[Box, np.ndarray]]:
    """Every block, in order, with a bool array: where the objects of the initial map are that are flagged."""
    found, mask = _components(output, arrays, "initial", block, rules)
    voxels, hidden = (np.zeros(found.count + 1, np.int64) for _ in range(2))
    for box, pieces, number in pieces_of(found, mask, f"{output.stem}: flagged objects"):
        np.add.at(voxels, number, np.bincount(pieces.ravel(), minlength=len(number)))
        covered = arrays["hidden"].read(box) != 0
        np.add.at(hidden, number, np.bincount(pieces.ravel(), covered.ravel(), len(number)).astype(np.int64))
    flagged = hidden / np.maximum(voxels, 1) > rules.flag_hidden_share
    flagged[0] = False
    for box, pieces, number in pieces_of(found, mask, f"{output.stem}: flagged objects"):
        yield box, flagged[number[pieces]]


def _shares(counts, refined, rules):
    hidden = counts["hidden"] / counts["voxels"]
    table = {"hidden_share": hidden, "flag": np.where(hidden > rules.flag_hidden_share, "hidden", "")}
    if refined:
        table["changed_share"] = counts["changed"] / counts["voxels"]
        with np.errstate(invalid="ignore"):  # NaN where nothing is hidden
            table["confidence"] = counts["sure"] / counts["hidden"] / 255
    return table


def _sizes(voxels, per_class, voxel_size_nm, names, rules):
    table = {"voxels": voxels}
    if voxel_size_nm is not None:
        one = float(np.prod(voxel_size_nm))
        table["volume_nm3"] = voxels * one
        table |= {_volume(names, label): per_class[:, i] * one for i, label in enumerate(rules.classes)}
    return table


def _places(boxes, shape):
    table = {f"{end}_{axis}": boxes[:, i, j] for i, end in enumerate(("start", "stop")) for j, axis in enumerate("zyx")}
    return table | {"cut": ((boxes[:, 0] == 0) | (boxes[:, 1] == shape)).any(1).astype(int)}


def _columns(names, rules):
    columns = ["map", "object", "flag", "voxels", "volume_nm3"]
    columns += [_volume(names, label) for label in rules.classes] if names else []
    if rules.shaped:
        columns += ["cristae_count"] * (rules.cristae >= 0)
        columns += ["skeleton_nm", "branches", "end_points", "cycles"]
    columns += ["hidden_share", "changed_share", "confidence", "cut"]
    return [*columns, *(f"{end}_{axis}" for end in ("start", "stop") for axis in "zyx"), "note"]


def _volume(names, label):
    """The column of a class; that of a class called "volume" is not the one of the whole object."""
    name = f"{names[label].replace(' ', '_') if names else label}_nm3"
    return f"class_{name}" if name == "volume_nm3" else name


def _lines(tables, columns) -> Iterator[str]:
    """The CSV file of tables {column: an entry for each object}; what a table lacks, None and NaN are left empty."""
    yield _as_csv([columns])
    for table in tables:
        for start in range(0, len(table["object"]), _ROWS):
            rows = slice(start, start + _ROWS)
            empty = [""] * len(table["object"][rows])
            yield _as_csv(
                zip(*(_texts(table[name][rows]) if name in table else empty for name in columns), strict=True)
            )


def _texts(entries):
    entries = entries.tolist() if isinstance(entries, np.ndarray) else entries
    return [(f"{e:.6g}" if e == e else "") if isinstance(e, float) else e for e in entries]


def _as_csv(rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue()


def _harmless(cell):
    """A cell that no spreadsheet takes for a formula, which may run programs: names of classes are anybody's words."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
