"""nnU-Net's class probabilities where they belong in the image, by the CASE.pkl that it writes beside CASE.npz.

Version 1 ("softmax") keeps the region alone that it had cropped; early versions of 2 ("probabilities") have 0 for every
class outside of theirs. Either was never looked at, so that it is background, as in nnU-Net's own segmentation.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.plain_pickle import read_plain_pickle
from maeref_jax.volumes.formats.stored import Placement, Stored, joined

NAMES = ("probabilities", "softmax")  # of version 2 and version 1; both are (class, z, y, x)


def in_place(stored: Stored, file: Path, name: str) -> Stored:
    """The array `name` of an .npz file, axes CZYX, as large as the image was, with its voxel size and its place, where
    the .pkl beside it says so. ITK's spacing is in mm.
    """
    beside = file.with_suffix(".pkl")
    known = said.mapping(read_plain_pickle(beside)) if beside.is_file() else {}
    classes, *inner = stored.shape
    start, shape = (0, 0, 0), tuple(inner)
    note = ""
    if name == "softmax":
        found = _cropped_from(known, inner)
        start, shape = found or (start, shape)
        if found is None:
            note = f"{beside.name} does not say where it was cropped from: it is taken as the whole image"
    size, doubt = _voxel_size(known)
    read = _reader(stored.read, start, tuple(inner), shape)
    told = {"note": joined(stored.note, note), "size_doubt": doubt, "placement": _placement(known)}
    return stored._replace(shape=(classes, *shape), voxel_size_nm=size, read=read, **told)


def _cropped_from(known: Mapping[str, Any], inner: list[int]) -> tuple[tuple, tuple] | None:
    """First voxel of the crop, and shape of the image, both (z, y, x); None where they are not said or not possible."""
    whole = said.numbers(known.get("original_size_of_raw_data"), 3)
    pairs = [said.numbers(pair, 2) for pair in said.items(known.get("crop_bbox"))]
    if known.get("crop_bbox") is None and whole is not None:
        pairs = [[0.0, 0.0]] * 3
    if whole is None or len(pairs) != 3 or None in pairs:
        return None
    start, shape = tuple(int(first) for first, _ in pairs), tuple(map(int, whole))
    fits = all(a >= 0 and a + n <= size for a, n, size in zip(start, inner, shape, strict=True))
    return (start, shape) if fits else None


def _voxel_size(known: Mapping[str, Any]) -> tuple[tuple[float, float, float] | None, str]:
    xyz = said.items(said.mapping(known.get("sitk_stuff")).get("spacing", known.get("itk_spacing")))
    if "nibabel_stuff" in known:
        xyz = said.items(known.get("spacing"))[::-1]
    if len(xyz) != 3:  # of other readers nobody says the unit
        return None, ""
    return said.voxel_size({axis: (length, "mm") for axis, length in zip("xyz", xyz, strict=True)}, 9)


def _placement(known: Mapping[str, Any]) -> Placement | None:
    """Where ITK says that the image lies, None where it does not. Its x and y count to the left and to the back, those
    of NIfTI the other way.
    """
    stuff, found = said.mapping(known.get("sitk_stuff")), []
    for name, count in (("spacing", 3), ("origin", 3), ("direction", 9)):
        found.append(said.numbers(stuff.get(name, known.get(f"itk_{name}")), count))
    if None in found:
        return None
    spacing, origin, direction = map(np.array, found)
    steps = direction.reshape(3, 3) * spacing  # a column for each of x, y, z
    if not (np.isfinite([*steps.flat, *origin]).all() and np.linalg.det(steps)):
        return None
    turned = np.array([-1.0, -1.0, 1.0])
    columns = {axis: tuple((turned * step).tolist()) for axis, step in zip("XYZ", steps.T, strict=True)}
    columns = {"C": (0.0, 0.0, 0.0), **dict(reversed(columns.items()))}  # as the axes are stored
    return Placement(columns, tuple((turned * origin).tolist()), "mm")


def _reader(read: Callable, start: tuple, inner: tuple, shape: tuple) -> Callable[[tuple[slice, ...]], np.ndarray]:
    def placed(slices: tuple[slice, ...]) -> np.ndarray:
        wanted = [range(*one.indices(size)) for one, size in zip(slices[1:], shape, strict=True)]
        inside = [
            (max(part.start, at), min(part.stop, at + size))
            for part, at, size in zip(wanted, start, inner, strict=True)
        ]
        source = tuple(slice(low - at, max(high, low) - at) for (low, high), at in zip(inside, start, strict=True))
        found = read((slice(None), *(source if all(a < b for a, b in inside) else (slice(0, 0),) * 3)))
        whole = np.zeros((len(found), *(len(part) for part in wanted)), found.dtype)
        if found.size:
            target = zip(wanted, inside, strict=True)
            whole[(slice(None), *(slice(low - at.start, high - at.start) for at, (low, high) in target))] = found
        whole[0][(whole == 0).all(0)] = 1
        return whole[slices[0]]

    return placed
