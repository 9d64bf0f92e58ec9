"""The one view of a volume that the rest of the house sees: (z, y, x), or (c, z, y, x), read and written box by box."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.axes import pick_channel
from maeref_jax.volumes.formats.store import is_url
from maeref_jax.volumes.formats.stored import Placement, Stored, joined, split_inner
from maeref_jax.volumes.windows import Box


@dataclass(frozen=True)
class Volume:
    """A (z, y, x) array, or (c, z, y, x) where `classes` is set, that is read box by box.

    path: what to call it in messages, with its z range if one was given
    source: the file or folder on disk; None for a URL and for an array in memory
    classes: length of the leading class axis, or None
    voxel_size_nm: (z, y, x), or None when nobody said
    view: which axes and channel of the file this is; note: what a user should hear about how it is read
    placement: where its voxels lie in the world, axes "X", "Y", "Z", None where the file does not say
    colours: of one sample of an RGB picture, what reads the other ones; labels are no colours (label_ids.py)
    levels: what opens the coarser levels of the same, where it has some: means of its voxels (resolution.py)
    file: the same on the grid of its file, where it is read on another one, and bring: what does that to a volume
    """

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    voxel_size_nm: tuple[float, float, float] | None
    source: Path | None
    classes: int | None
    _read: Callable[[Box], np.ndarray]
    view: str = ""
    note: str = ""
    _write: Callable[[Box, np.ndarray], None] | None = None
    placement: Placement | None = None
    colours: tuple[Callable[[Box], np.ndarray], ...] = ()
    levels: Callable[[], tuple["Volume", ...]] = tuple
    file: "Volume | None" = None
    bring: Callable[..., "Volume"] | None = None

    def read(self, box: Box) -> np.ndarray:
        """The voxels of `box`, (z, y, x) of `dtype`; probabilities (c, z, y, x) float32 in [0, 1].

        Raises:
            BadInput: NaN or Inf (the first such voxel is named), or a damaged file.
            ValueError: a box that is not inside the volume.
        """
        if not _inside(box, self.shape):
            raise ValueError(f"{box} is not inside {self.path} of shape {self.shape}")
        array = self._read(box)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = np.argwhere(~np.isfinite(array))[0]
            voxel = tuple(int(v) + start for v, start in zip(bad[-3:], box.start, strict=True))
            raise BadInput(
                f"{self.path} holds {array[tuple(bad)]} at voxel (z, y, x) = {voxel}; expected finite values"
            )
        return array

    def write(self, box: Box, array: np.ndarray) -> None:
        """Writes `array`, of the box's shape (with the classes in front, where there are any) and of `dtype`.

        Returns when it is on disk. Only for volumes that `create_volume` returned.

        Raises:
            ValueError: another shape or dtype (nothing is cast), a box outside, or a volume opened for reading.
            OSError: the disk is full or gone.
        """
        expected = (() if self.classes is None else (self.classes,)) + box.shape
        if self._write is None:
            raise ValueError(f"{self.path} was opened for reading")
        if array.shape != expected or array.dtype != self.dtype or not _inside(box, self.shape):
            raise ValueError(
                f"cannot write {array.dtype} {array.shape} to {box} of {self.path}: {self.dtype} {self.shape}"
            )
        self._write(box, array)

    def identity(self) -> dict:
        """What tells this input from another: path, bytes and modification time; of an array, its digest; of a URL,
        only its name, shape and type (nobody says when its chunks changed)."""
        if is_url(self.path):
            return {"path": self.path, "view": self.view, "shape": list(self.shape), "dtype": str(self.dtype)}
        if self.source is None:
            array = self._read(Box((0, 0, 0), self.shape))
            return {"path": self.path, "sha256": hashlib.sha256(np.ascontiguousarray(array)).hexdigest()}
        files = [self.source] if self.source.is_file() else sorted(self.source.rglob("*"))
        stats = [file.stat() for file in files if file.is_file()]
        resolved, suffix = self.source.resolve(), self.path.removeprefix(str(self.source))
        return {
            "path": f"{resolved}{suffix}",
            "view": self.view,
            "bytes": sum(stat.st_size for stat in stats),
            "modified_ns": max(stat.st_mtime_ns for stat in stats),
        }


def array_volume(array: np.ndarray, name: str, voxel_size_nm: tuple[float, float, float] | None = None) -> Volume:
    """A Volume over an array in memory: (z, y, x), or probabilities (c, z, y, x)."""
    if array.ndim not in (3, 4) or array.size == 0:
        raise BadInput(f"{name} has shape {array.shape}, expected (z, y, x) or (c, z, y, x) without empty axes")
    classes = array.shape[0] if array.ndim == 4 else None
    return Volume(
        name,
        array.shape[-3:],
        array.dtype,
        voxel_size_nm,
        None,
        classes,
        lambda box: array[(..., *box.slices)],
    )


def range_text(z_range: slice | None) -> str:
    """As it is written behind a path: "[2:8]", "[0:160:5]", "[3:]"; nothing for None."""
    if z_range is None:
        return ""
    step = f":{z_range.step}" if (z_range.step or 1) > 1 else ""
    return f"[{z_range.start}:{'' if z_range.stop is None else z_range.stop}{step}]"


def select(
    stored: Stored,
    axes: str,
    z_range: slice | None,
    *,
    voxel_size_nm: tuple[float, float, float] | None = None,
    channel: int | str | None = None,
    only_of_several: bool = False,
    keep_classes: bool = False,
    as_probabilities: bool = False,
) -> Volume:
    """The Volume of an array on disk whose stored axes are `axes`; with `as_probabilities` as float32 in [0, 1].

    Raises:
        BadInput: a time series, several channels and none chosen, a z range that is not there.

    Of every n-th slice the voxel size is n times as long along z, unless it is given.
    """
    sizes = dict(zip(axes, stored.shape, strict=True))
    if sizes.get("T", 1) != 1:
        raise BadInput(f"{stored.path} is a time series ({axes} {stored.shape}), expected one volume; split it")
    fixed = {"T": 0}
    if not keep_classes:
        fixed |= pick_channel(stored, axes, channel, only_of_several)
    elif "S" in axes:
        raise BadInput(f"{stored.path} has colour samples (axes {axes}), expected class probabilities CZYX")
    depth = sizes.get("Z", 1)
    chosen = range(*(z_range or slice(None)).indices(depth))
    if not chosen or (z_range is not None and (z_range.stop or 0) > depth):
        raise BadInput(f"{stored.path}{range_text(z_range)} is not a range of its {depth} slices")
    shape = (len(chosen), sizes["Y"], sizes["X"])
    order = ["C"] * keep_classes + ["Z", "Y", "X"]

    def stored_slices(box: Box, fixed: dict[str, int] = fixed) -> tuple[slice, ...]:
        at = dict(zip("ZYX", box.shift((chosen.start, 0, 0)).slices, strict=True))
        at |= {axis: slice(index, index + 1) for axis, index in fixed.items()}
        return tuple(at.get(axis, slice(0, sizes[axis])) for axis in axes)

    def read(box: Box, fixed: dict[str, int] = fixed) -> np.ndarray:
        if chosen.step == 1:
            return read_neighbours(box, fixed)
        return np.concatenate(
            [read_neighbours(one_slice(box, chosen.step * z), fixed) for z in range(box.start[0], box.stop[0])], axis=-3
        )

    def one_slice(box: Box, z: int) -> Box:
        return Box((z, *box.start[1:]), (z + 1, *box.stop[1:]))

    def read_neighbours(box: Box, fixed: dict[str, int]) -> np.ndarray:
        array = stored.read(stored_slices(box, fixed))
        # Named axes only: length-one T, C or S are dropped, a missing Z is added, the rest is put in order.
        kept = [axis for axis in axes if axis in order]
        array = array.reshape([n for n, axis in zip(array.shape, axes, strict=True) if axis in order])
        array = array.transpose([kept.index(axis) for axis in order if axis in kept])
        array = array if "Z" in kept else np.expand_dims(array, -3)
        if not as_probabilities:
            return array
        return array.astype(np.float32) / (255 if stored.dtype == np.uint8 else 1)

    def write(box: Box, array: np.ndarray) -> None:
        array = array.transpose([order.index(axis) for axis in axes if axis in order])
        missing = [n for n, axis in enumerate(axes) if axis not in order]
        stored.write(stored_slices(box), np.expand_dims(array, missing))

    def levels() -> tuple[Volume, ...]:
        asked = {"channel": channel, "only_of_several": only_of_several, "keep_classes": keep_classes}
        return tuple(
            select(level, axes, None, voxel_size_nm=scaled_size(level), as_probabilities=as_probabilities, **asked)
            for level in (opened() for opened in stored.levels)
            if level.voxel_size_nm and len(level.shape) == len(axes)
        )

    def scaled_size(level: Stored) -> tuple[float, float, float]:
        if voxel_size_nm is None:
            return level.voxel_size_nm
        coarser = zip(voxel_size_nm, level.voxel_size_nm, stored.voxel_size_nm, strict=True)
        return tuple(given * coarse / fine for given, coarse, fine in coarser)

    name = f"{stored.path}{range_text(z_range)}"
    size = voxel_size_nm or (
        stored.voxel_size_nm and (stored.voxel_size_nm[0] * chosen.step, *stored.voxel_size_nm[1:])
    )
    dtype = np.dtype(np.float32) if as_probabilities else np.dtype(stored.dtype)
    view = ", ".join([f"axes {axes}", *(f"{axis} {index}" for axis, index in fixed.items() if axis in axes)])
    quantised = as_probabilities and stored.dtype == np.uint8
    doubt = "" if size else stored.size_doubt
    note = joined(stored.note, doubt, "uint8 probabilities are read as value / 255" * quantised)
    return Volume(
        name,
        shape,
        dtype,
        size,
        None if is_url(stored.path) else split_inner(stored.path)[0],
        sizes["C"] if keep_classes else None,
        read,
        view,
        note,
        write if stored.write else None,
        _placed(stored.placement, axes, chosen),
        tuple(functools.partial(read, fixed=fixed | other) for other in _other_colours(stored, axes, fixed)),
        levels if stored.levels and stored.voxel_size_nm and z_range is None else tuple,
    )


def _placed(placement: Placement | None, axes: str, chosen: range) -> Placement | None:
    """Where the chosen slices lie, their axes called as `axes` calls those that are stored."""
    if placement is None or not set("XYZ") <= set(axes):
        return None
    stored = list(placement.columns.values())
    if any(axes.index(axis) >= len(stored) for axis in "XYZ"):
        return None
    columns = {axis: stored[axes.index(axis)] for axis in "XYZ"}
    origin = tuple(o + chosen.start * c for o, c in zip(placement.origin, columns["Z"], strict=True))
    columns["Z"] = tuple(c * chosen.step for c in columns["Z"])
    return Placement(columns, origin, placement.unit)


def _other_colours(stored: Stored, axes: str, fixed: dict[str, int]) -> list[dict[str, int]]:
    """Where the other two samples lie of an RGB picture of which one is chosen; [] for anything else. The fourth is no
    colour, but how opaque it is.
    """
    axis = axes[-1]
    if axis not in fixed or axis not in "CS" or not (axis == "S" or stored.raw_axes.endswith("S")):
        return []
    return [{axis: index} for index in range(min(stored.shape[-1], 3)) if index != fixed[axis]]


def _inside(box: Box, shape: tuple[int, int, int]) -> bool:
    return not box.empty and min(box.start) >= 0 and all(b <= s for b, s in zip(box.stop, shape, strict=True))
