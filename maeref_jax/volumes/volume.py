"""Voxels in and out: one lazy (z, y, x) view of whatever file the user has. Formats: tiff.py, zarr_store.py.

Nothing is guessed, cast, transposed or squeezed silently: a file whose axes are not said is refused with a
message that asks for them, and only axes that are named are selected or reordered.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.stored import Stored
from maeref_jax.volumes.tiff import open_tiff, write_tiff_stack
from maeref_jax.volumes.windows import Box
from maeref_jax.volumes.zarr_store import is_zarr, open_zarr

TIFF_SUFFIXES = (".tif", ".tiff")
UNKNOWN_ON_DISK = 255


@dataclass(frozen=True)
class Volume:
    """A (z, y, x) array, or (c, z, y, x) where `classes` is set, that is read box by box.

    path: what to call it in messages, with its z range if one was given
    source: the file or folder on disk; None for an array in memory
    classes: length of the leading class axis, or None
    voxel_size_nm: (z, y, x), or None when nobody said
    view: which axes and channel of the file this is; note: what a user should hear about how it is read
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

    def read(self, box: Box) -> np.ndarray:
        """The voxels of `box`, (z, y, x) of `dtype`; probabilities (c, z, y, x) float32 in [0, 1].

        Raises:
            BadInput: NaN or Inf (the first such voxel is named), or a damaged file.
            ValueError: a box that is not inside the volume.
        """
        if box.empty or min(box.start) < 0 or any(b > s for b, s in zip(box.stop, self.shape, strict=True)):
            raise ValueError(f"{box} is not inside {self.path} of shape {self.shape}")
        array = self._read(box)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = np.argwhere(~np.isfinite(array))[0]
            voxel = tuple(int(v) + start for v, start in zip(bad[-3:], box.start, strict=True))
            raise BadInput(
                f"{self.path} holds {array[tuple(bad)]} at voxel (z, y, x) = {voxel}; expected finite values"
            )
        return array

    def identity(self) -> dict:
        """What tells this input from another: path, bytes and modification time; of an array, its digest."""
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


def open_volume(
    path: str | Path,
    *,
    axes: str | None = None,
    voxel_size_nm: tuple[float, float, float] | None = None,
    channel: int | None = None,
) -> Volume:
    """Opens a TIFF stack or a Zarr array.

    Args:
        path: the file or folder; "image.tif[0:8]" means its slices 0 to 7 (a file of that very name wins).
        axes: the axes as stored, e.g. "ZYX"; wins over the file's own. "YX" makes a plane a stack of one
            slice.
        voxel_size_nm: (z, y, x); wins over the file's own.
        channel: index into the channel axis, needed where it is longer than one.

    Raises:
        BadInput: missing, empty, truncated or unreadable file; unknown axes; a plane without axes "YX";
            several channels without `channel`; a time series; values that are no numbers.
    """
    stored, z_range = _open(Path(path))
    axes = _resolve_axes(stored, axes)
    if "Z" not in axes[0] and not axes[1]:
        raise BadInput(
            f"{stored.path} is a plane of shape {stored.shape} (axes {axes[0]}), expected a (z, y, x) stack; "
            f"give --axes {axes[0]} to treat it as a stack of one slice"
        )
    return _select(stored, axes[0], z_range, voxel_size_nm=voxel_size_nm, channel=channel)


def open_probabilities(path: str | Path, *, axes: str | None = None) -> Volume:
    """Opens class probabilities: float in [0, 1], or uint8 that stands for 0 to 1; `read` gives (c, z, y,
    x) float32.

    Args:
        path: as in `open_volume`.
        axes: the axes as stored, e.g. "CZYX"; axes without a C are those of one class, which then leads.

    Raises:
        BadInput: as in `open_volume`; no class axis; another type.
    """
    stored, z_range = _open(Path(path))
    if axes is not None and "C" not in axes.upper():
        axes = f"C{axes}"
    names, _ = _resolve_axes(stored, axes)
    if "C" not in names:
        raise BadInput(
            f"{stored.path} has shape {stored.shape} (axes {names}), expected class probabilities with "
            "a class axis C, e.g. --axes CZYX"
        )
    if stored.dtype.kind != "f" and stored.dtype != np.uint8:
        raise BadInput(f"{stored.path} is {stored.dtype}, expected probabilities as float (0 to 1) or uint8 (0 to 255)")
    return _select(stored, names, z_range, keep_classes=True)


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


def write_tiff(
    path: str | Path,
    volume: Volume | np.ndarray,
    voxel_size_nm: tuple[float, float, float] | None,
    colours: list | None = None,
) -> None:
    """Writes an ImageJ hyperstack that Fiji opens with the right voxel size, slice by slice; whole or not
    at all.

    Args:
        volume: (z, y, x) uint8, uint16 or float32; bool is written as 0 and 255, int8 and int16 labels (-1
            unknown) as uint8 with 255 for unknown. Anything with shape, dtype and read(box) will do.
        voxel_size_nm: (z, y, x) or None.
        colours: [[r, g, b], ...] of values 0, 1, ... of a uint8 stack; values without a colour are white.

    Raises:
        BadInput: a type that ImageJ cannot hold, or labels beyond uint8.
    """
    if isinstance(volume, np.ndarray):
        volume = array_volume(volume, str(path), voxel_size_nm)
    dtype = np.dtype(volume.dtype)
    signed = dtype in (np.int8, np.int16)
    if not (signed or dtype in (np.bool_, np.uint8, np.uint16, np.float32)):
        raise BadInput(f"cannot write {dtype} to {path}: ImageJ holds uint8, uint16 and float32; convert first")
    written = np.dtype(np.uint8) if signed or dtype == np.bool_ else dtype
    depth, height, width = volume.shape

    def slices():
        for z in range(depth):
            plane = volume.read(Box((z, 0, 0), (z + 1, height, width)))[0]
            if signed:
                yield labels_to_disk(plane)
            else:
                yield plane * np.uint8(255) if dtype == np.bool_ else plane

    table = None
    if colours is not None:
        table = np.full((256, 3), 255, np.uint8)
        table[: len(colours)] = colours
    write_tiff_stack(Path(path), slices(), volume.shape, written, voxel_size_nm=voxel_size_nm, colours=table)


def labels_to_disk(labels: np.ndarray) -> np.ndarray:
    """int labels, -1 unknown -> uint8, 255 unknown. BadInput beyond 0..254."""
    if labels.min() < -1 or labels.max() >= UNKNOWN_ON_DISK:
        raise BadInput(f"labels {labels.min()} to {labels.max()} found, expected -1 (unknown) to 254")
    return np.where(labels < 0, UNKNOWN_ON_DISK, labels).astype(np.uint8)


def labels_from_disk(labels: np.ndarray) -> np.ndarray:
    """Whole-numbered labels of any type, 255 or -1 unknown -> int16, -1 unknown."""
    labels = labels.astype(np.int16)
    return np.where(labels == UNKNOWN_ON_DISK, np.int16(-1), labels)


def split_range(path: str | Path) -> tuple[Path, tuple[int, int] | None]:
    """The path and the z range of "image.tif[2:8]"; (path, None) without a range, or if that file exists."""
    match = re.fullmatch(r"(.+)\[(\d+):(\d+)\]", str(path))
    if match is None or Path(path).exists():
        return Path(path), None
    return Path(match[1]), (int(match[2]), int(match[3]))


def resolved(path: str | Path) -> str:
    """The path from the root, links followed; a z range stays. Two ways to type one path give the same."""
    base, z_range = split_range(path)
    return f"{base.resolve()}[{z_range[0]}:{z_range[1]}]" if z_range else str(base.resolve())


def share_slices(one: str | Path, other: str | Path) -> bool:
    """Whether two paths, each with or without a z range, name some slice of the same file."""
    (first, a), (second, b) = split_range(one), split_range(other)
    if first.resolve() != second.resolve():
        return False
    return a is None or b is None or max(a[0], b[0]) < min(a[1], b[1])


def _open(path: Path) -> tuple[Stored, tuple[int, int] | None]:
    path, z_range = split_range(path)
    if not path.exists():
        raise BadInput(f"no such file: {path}")
    if path.is_dir():
        stored = open_zarr(path)
    elif path.suffix.lower() in TIFF_SUFFIXES:
        stored = open_tiff(path)
    else:
        hint = f"; the Zarr array is its folder {path.parent}" if is_zarr(path.parent) else ""
        raise BadInput(f"{path} is of no known format, expected a TIFF stack (.tif, .tiff) or a Zarr folder{hint}")
    if 0 in stored.shape:
        raise BadInput(f"{path} is empty: shape {stored.shape}")
    if stored.dtype.kind not in "buif":
        raise BadInput(f"{path} holds {stored.dtype}, expected whole or real numbers")
    return stored, z_range


def _resolve_axes(stored: Stored, axes: str | None) -> tuple[str, bool]:
    """The axes as stored, and whether the user named them."""
    if axes is None:
        if stored.axes is None:
            example = {2: "YX", 3: "ZYX", 4: "CZYX"}.get(len(stored.shape), "TCZYX")
            raise BadInput(
                f"{stored.path} of shape {stored.shape} does not say what its axes are ('{stored.raw_axes}')"
                f"; give them, e.g. --axes {example}"
            )
        return stored.axes, False
    axes = axes.upper()
    if not {"Y", "X"} <= set(axes) <= set("TCZYXS") or len(set(axes)) != len(axes):
        raise BadInput(f"--axes {axes}: expected each of T C Z Y X at most once, and Y and X, e.g. ZYX")
    if len(axes) != len(stored.shape):
        raise BadInput(
            f"--axes {axes} names {len(axes)} axes, but {stored.path} has {len(stored.shape)}: shape "
            f"{stored.shape}, by its own account '{stored.raw_axes}'"
        )
    if stored.raw_axes.endswith("S") and axes[-1] not in "CS":
        raise BadInput(
            f"--axes {axes}: {stored.path} has shape {stored.shape} and its last axis holds colours; "
            f"name it, e.g. --axes {axes[:-1]}C --channel 0, or save the file as grey values"
        )
    return axes, True


def _select(stored, axes, z_range, *, voxel_size_nm=None, channel=None, keep_classes=False) -> Volume:
    sizes = dict(zip(axes, stored.shape, strict=True))
    if sizes.get("T", 1) != 1:
        raise BadInput(f"{stored.path} is a time series ({axes} {stored.shape}), expected one volume; split it")
    fixed = {"T": 0}
    channels = [axis for axis in "CS" if axis in axes]
    if not keep_classes:
        fixed |= _pick_channel(stored, axes, sizes, channels, channel)
    elif "S" in channels:
        raise BadInput(f"{stored.path} has colour samples (axes {axes}), expected class probabilities CZYX")
    depth = sizes.get("Z", 1)
    first, last = z_range or (0, depth)
    if not 0 <= first < last <= depth:
        raise BadInput(f"{stored.path}[{first}:{last}] is not a range of its {depth} slices")
    shape = (last - first, sizes["Y"], sizes["X"])
    order = ["C"] * keep_classes + ["Z", "Y", "X"]

    def read(box: Box) -> np.ndarray:
        at = dict(zip("ZYX", box.shift((first, 0, 0)).slices, strict=True))
        at |= {axis: slice(index, index + 1) for axis, index in fixed.items()}
        array = stored.read(tuple(at.get(axis, slice(0, sizes[axis])) for axis in axes))
        # Named axes only: length-one T, C or S are dropped, a missing Z is added, the rest is put in order.
        kept = [axis for axis in axes if axis in order]
        array = array.reshape([n for n, axis in zip(array.shape, axes, strict=True) if axis in order])
        array = array.transpose([kept.index(axis) for axis in order if axis in kept])
        array = array if "Z" in kept else np.expand_dims(array, -3)
        if not keep_classes:
            return array
        return array.astype(np.float32) / (255 if stored.dtype == np.uint8 else 1)

    name = f"{stored.path}[{first}:{last}]" if z_range else str(stored.path)
    size = voxel_size_nm or stored.voxel_size_nm
    dtype = np.dtype(np.float32) if keep_classes else np.dtype(stored.dtype)
    view = ", ".join([f"axes {axes}", *(f"{axis} {index}" for axis, index in fixed.items() if axis in axes)])
    note = "uint8 probabilities are read as value / 255" if keep_classes and stored.dtype == np.uint8 else ""
    return Volume(name, shape, dtype, size, stored.path, sizes["C"] if keep_classes else None, read, view, note)


def _pick_channel(stored, axes, sizes, channels, channel) -> dict[str, int]:
    if not channels:
        if channel is not None:
            raise BadInput(f"--channel {channel}: {stored.path} has no channel axis (axes {axes} {stored.shape})")
        return {}
    if len(channels) > 1:
        raise BadInput(f"{stored.path} has two channel axes (axes {axes} {stored.shape}); save one of them")
    (axis,) = channels
    if channel is None and sizes[axis] > 1:
        raise BadInput(
            f"{stored.path} has {sizes[axis]} channels (axes {axes} {stored.shape}), expected one; "
            f"choose with --channel 0 to {sizes[axis] - 1}"
        )
    if channel is not None and not 0 <= channel < sizes[axis]:
        raise BadInput(f"--channel {channel}: {stored.path} has channels 0 to {sizes[axis] - 1}")
    return {axis: channel or 0}
