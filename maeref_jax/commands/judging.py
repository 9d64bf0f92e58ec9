"""Labels against a truth, from Python: numpy in, numbers out; what looks wrong with the ids of either is said."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from maeref_jax.errors import MARK, BadInput, tell
from maeref_jax.metrics import overlap
from maeref_jax.volumes.volume import UNKNOWN_ON_DISK, labels_from_disk


class Judgement(NamedTuple):
    """How well labels agree with a truth; voxels whose truth is unknown count nowhere.

    dice, iou: {class: float in [0, 1]}, NaN for a class that neither has; mean_dice: of the classes above 0;
    voxels: how many were judged; repairs: {"wrong_to_right", "right_to_wrong", …: voxels} against the initial labels,
    None without these
    """

    dice: dict[str, float]
    iou: dict[str, float]
    mean_dice: float
    voxels: int
    repairs: dict[str, int] | None


def judge(
    truth: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str] = (),
    region: np.ndarray | None = None,
    initial: np.ndarray | None = None,
) -> Judgement:
    """How well labels agree with the truth, by the definitions of docs/metrics.md.

    Args:
        truth: integers of any shape, -1 or 255 unknown; where there are two classes at most, 0 and 255 alone are a
            mask.
        labels: integers of that shape; never unknown where the truth is known.
        classes: their names; numbers without.
        region: bool of that shape, such as `Refinement.hidden`: only there; None for everywhere.
        initial: integers of that shape, the labels before they were refined: counts what was repaired and broken.

    Raises:
        BadInput: shapes that differ, labels that are no whole numbers, or beyond the classes.
    """
    classes = names_of(classes)
    maps = {"truth": truth, "labels": labels} | ({} if initial is None else {"initial": initial})
    maps = {name: _whole_numbers(name, array) for name, array in maps.items()}
    ids = {name: set(np.unique(array).tolist()) for name, array in maps.items()}
    count = len(classes) or 1 + max(set().union(*ids.values(), {0}) - {UNKNOWN_ON_DISK})
    for name, found in ids.items():
        if beyond := found - set(range(-1, UNKNOWN_ON_DISK + 1)):
            raise BadInput(f"{name} holds {min(beyond)}, expected classes from 0 to 254; ids of objects are no classes")
        if found == {-1, 0}:
            raise BadInput(f"{name} holds 0 and -1 alone, 255 in signed bytes? give {name}.astype(np.uint8)")
    for name, found in ids.items():
        if found - {-1} == {0, UNKNOWN_ON_DISK}:
            maps[name], count = _mask(name, maps[name], count), max(count, 2)
            ids[name] = {0, 1}
    if not ids["truth"] - {-1, UNKNOWN_ON_DISK}:
        raise BadInput("truth holds no known class: all of it is unknown, -1 or 255")
    for text in _doubts_about_ids(ids):
        tell(f"{MARK}{text}")
    maps = {name: labels_from_disk(array) for name, array in maps.items()}
    counted = overlap.confusion(maps["truth"], maps["labels"], count, region)
    names = list(classes) or [str(i) for i in range(count)]
    repairs = None
    if initial is not None:
        repairs = overlap.repairs(maps["truth"], maps["initial"], maps["labels"], region)
    return Judgement(
        dice=dict(zip(names, map(float, overlap.dice(counted)), strict=True)),
        iou=dict(zip(names, map(float, overlap.iou(counted)), strict=True)),
        mean_dice=overlap.macro_dice(counted, range(1, count)),
        voxels=int(counted.sum()),
        repairs=repairs,
    )


def _doubts_about_ids(ids: dict[str, set[int]]) -> list[str]:
    """What looks as if the numbers of one array meant other classes than those of the truth. ids: by array."""
    known = {name: found - {-1, UNKNOWN_ON_DISK} for name, found in ids.items()}
    found, truth = [], known["truth"]
    for name, here in known.items():
        both = f"truth holds {sorted(truth)}, {name} {sorted(here)}"
        if (0 in truth) != (0 in here) and len(truth | here) > 2:
            found.append(f"{both}: one of them has no 0; does it count classes from 1?")
        elif truth - {0} and here - {0} and not (truth & here) - {0}:
            found.append(f"{both}, no class in common but 0: do they number classes alike?")
    return found


def _mask(name: str, array: np.ndarray, count: int) -> np.ndarray:
    """Labels of 0 and 255 alone, in the classes 0 and 1 where there are no others. Raises BadInput where there are."""
    if count > 2:
        raise BadInput(
            f"{name} holds 0 and 255 alone, but there are {count} classes: write the class for 255, or -1 for unknown"
        )
    return np.where(array == UNKNOWN_ON_DISK, 1, array)


def names_of(classes: Any) -> tuple[str, ...]:
    """Names of classes as they are given, each once. Raises BadInput for a text in place of several."""
    if isinstance(classes, str):
        raise BadInput(f"classes is the text {classes!r}, expected several names, like ('background', 'mitochondria')")
    names = tuple(map(str, classes))
    if len(set(names)) < len(names):
        raise BadInput(f"classes are {names}: a name stands there twice")
    return names


def _whole_numbers(name: str, array: np.ndarray) -> np.ndarray:
    array = array_of(name, array)
    if array.dtype.kind not in "bui":
        raise BadInput(f"{name} holds {array.dtype}, expected labels of an integer type")
    return array


def array_of(name: str, given: Any) -> np.ndarray:
    """What is given as an array. Raises BadInput for what is none, and where it hides a mask of its own."""
    if isinstance(given, np.ma.MaskedArray):
        raise BadInput(f"{name} is a masked array, whose mask says nothing here; fill it: {name}.filled(VALUE)")
    try:
        return np.asarray(given)
    except ValueError as error:
        raise BadInput(f"{name} is no array: {error}") from error
