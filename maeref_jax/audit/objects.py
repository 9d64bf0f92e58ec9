"""One row per object of a volume, initial and refined: what biologists count and measure, and how far to trust it.

An object is a connected piece of the foreground, by faces, in 3-D. Volumes and shares are counted block by block; a
skeleton needs the bool mask of the object's bounding box, as many at a time as threads.in_order does, one large one.
"""

import csv
import functools
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from maeref_jax.errors import BadInput
from maeref_jax.metrics import skeleton
from maeref_jax.results.output import Output, whole_folder, write_text
from maeref_jax.volumes import threads
from maeref_jax.volumes.class_scheme import MITOCHONDRIA, is_mitochondria
from maeref_jax.volumes.components import Components, extend_boxes, find_components, pieces_of
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.volume import UNKNOWN_ON_DISK
from maeref_jax.volumes.windows import Box, blocks

# A bounding box of more voxels gets no skeleton: about 8 bytes of memory are needed for each.
LARGEST_VX = 2**26
_LARGE_VX = 2**22  # of those with more, one at a time has its skeleton made
_large = threading.Lock()
_PART = (64, 512, 512)  # read at once
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
    rows, summary = [], {}
    if rules.shaped and voxel_size_nm is None:
        say(f"{output.stem}: no voxel size is known, so objects have no volumes and lengths in nm and no SWC files")
    with whole_folder(output.skeletons) as folder:
        for name in _MAPS:
            if name not in arrays:
                continue
            found, *counted = _count(output, arrays, name, block, rules)
            row_of = functools.partial(_row, arrays, name, counted, voxel_size_nm, names, rules, folder)
            rows += (own := list(threads.in_order(row_of, range(1, found.count + 1))))
            summary[name] = {"objects": found.count, "flagged": sum(bool(row["flag"]) for row in own)}
            summary[name] |= {"too_small": found.small, "too_small_voxels": found.small_voxels}
    write_text(output.objects, _as_csv(rows, _columns(names, rules)))
    return summary


def _row(arrays, name, counted, voxel_size_nm, names, rules, folder, number):
    counts, per_class, low, high = counted
    box = Box(tuple(map(int, low[number])), tuple(map(int, high[number])))
    sums = {key: int(counts[key][number]) for key in _COUNTS}
    row = {"map": name, "object": number} | _shares(sums, "refined" in arrays, rules)
    row |= _sizes(sums["voxels"], per_class[number], voxel_size_nm, names, rules)
    row |= _place(box, arrays[name].shape)
    if rules.shaped:
        row |= _shape(arrays, name, number, box, voxel_size_nm, rules, folder / f"{name}_{number:05}.swc")
    return row


def _count(output, arrays, name, block, rules):
    """The components, and by their number: sums, voxels of each class, first and last + 1 voxel of the box."""
    labels = arrays[name]
    found, mask = _components(output, arrays, name, block, rules)
    counts = {key: np.zeros(found.count + 1, np.int64) for key in _COUNTS}
    per_class = np.zeros((found.count + 1, len(rules.classes)), np.int64)
    low, high = np.full((found.count + 1, 3), np.iinfo(np.int64).max), np.zeros((found.count + 1, 3), np.int64)
    for box, pieces, number in pieces_of(found, mask):
        arrays[f"objects_{name}"].write(box, number[pieces].astype(np.uint32))
        inside = pieces > 0
        owner, here = pieces[inside], labels.read(box)[inside]
        weights = {"voxels": None, "hidden": arrays["hidden"].read(box)[inside]}
        if "refined" in arrays:
            weights["changed"] = arrays["was"].read(box)[inside] > 0
            weights["sure"] = arrays["confidence"].read(box)[inside]
        for key, weight in weights.items():
            np.add.at(counts[key], number, np.bincount(owner, weight, len(number)).astype(np.int64))
        for column, label in enumerate(rules.classes):
            if (at := here == label).any():
                np.add.at(per_class[:, column], number, np.bincount(owner[at], minlength=len(number)))
        extend_boxes(low, high, pieces, number, box.start)
    return found, counts, per_class, low, high


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
    for box, pieces, number in pieces_of(found, mask):
        np.add.at(voxels, number, np.bincount(pieces.ravel(), minlength=len(number)))
        covered = arrays["hidden"].read(box) != 0
        np.add.at(hidden, number, np.bincount(pieces.ravel(), covered.ravel(), len(number)).astype(np.int64))
    flagged = hidden / np.maximum(voxels, 1) > rules.flag_hidden_share
    flagged[0] = False
    for box, pieces, number in pieces_of(found, mask):
        yield box, flagged[number[pieces]]


def _shares(sums, refined, rules):
    hidden = sums["hidden"] / sums["voxels"]
    row = {"hidden_share": hidden, "flag": "hidden" if hidden > rules.flag_hidden_share else ""}
    if refined:
        row["changed_share"] = sums["changed"] / sums["voxels"]
        row["confidence"] = sums["sure"] / sums["hidden"] / 255 if sums["hidden"] else None
    return row


def _sizes(voxels, per_class, voxel_size_nm, names, rules):
    row = {"voxels": voxels}
    if voxel_size_nm is not None:
        one = float(np.prod(voxel_size_nm))
        row["volume_nm3"] = voxels * one
        row |= {_volume(names, i): int(n) * one for i, n in zip(rules.classes, per_class, strict=True)}
    return row


def _place(box, shape):
    row = {f"start_{axis}": at for axis, at in zip("zyx", box.start, strict=True)}
    row |= {f"stop_{axis}": at for axis, at in zip("zyx", box.stop, strict=True)}
    return row | {"cut": int(min(box.start) == 0 or any(a == b for a, b in zip(box.stop, shape, strict=True)))}


def _shape(arrays, name, number, box, voxel_size_nm, rules, swc: Path):
    size = np.prod(box.shape, dtype=float)
    if size > LARGEST_VX:
        return {"note": f"bounding box of {box.shape} voxels is too large for a skeleton"}
    with _large if size > _LARGE_VX else nullcontext():
        return _measured_shape(arrays, name, number, box, voxel_size_nm, rules, swc)


def _measured_shape(arrays, name, number, box, voxel_size_nm, rules, swc):
    mask, cristae = np.zeros(box.shape, bool), np.zeros(box.shape, bool)
    for part in blocks(box.shape, _PART):
        there = part.shift(box.start)
        mask[part.slices] = arrays[f"objects_{name}"].read(there) == number
        if rules.cristae >= 0:
            cristae[part.slices] = mask[part.slices] & (arrays[name].read(there) == rules.cristae)
    row: dict[str, Any] = {}
    if rules.cristae >= 0:
        row["cristae_count"] = int(ndimage.label(cristae)[1])
    del cristae
    found = skeleton.skeleton_of(mask)
    position, size = None, voxel_size_nm or (1.0, 1.0, 1.0)
    found, radii = skeleton.pruned(found, skeleton.radii_nm(found, mask, size), size)
    if voxel_size_nm is not None:
        position = skeleton.positions_nm(found, radii, voxel_size_nm)
        lines = skeleton.swc_lines(found, position + np.array(box.start) * voxel_size_nm, radii)
        swc.write_text("# nm; number type x y z radius parent\n" + "\n".join(lines) + "\n", encoding="utf-8")
    measured = skeleton.measure(found, position)
    return row | {"skeleton_nm": measured.pop("length_nm")} | measured


def _columns(names, rules):
    columns = ["map", "object", "flag", "voxels", "volume_nm3"]
    columns += [_volume(names, label) for label in rules.classes] if names else []
    if rules.shaped:
        columns += ["cristae_count"] * (rules.cristae >= 0)
        columns += ["skeleton_nm", "branches", "end_points", "cycles"]
    columns += ["hidden_share", "changed_share", "confidence", "cut"]
    return [*columns, *(f"{end}_{axis}" for end in ("start", "stop") for axis in "zyx"), "note"]


def _volume(names, label):
    return f"{names[label].replace(' ', '_') if names else label}_nm3"


def _as_csv(rows, columns):
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()
