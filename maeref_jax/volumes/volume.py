"""Voxels in and out: one lazy (z, y, x) view of whatever file the user has. The formats are in docs/formats.md.

Nothing is guessed, cast, transposed or squeezed silently: a file whose axes are not said is refused with a
message that asks for them, and only axes that are named are selected or reordered.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.axes import resolve_axes
from maeref_jax.volumes.formats.hdf5 import create_hdf5, open_hdf5
from maeref_jax.volumes.formats.n5 import create_n5, is_n5, open_n5
from maeref_jax.volumes.formats.numpy_files import create_npy, open_npy, open_npz
from maeref_jax.volumes.formats.ome_tiff import write_ome_tiff
from maeref_jax.volumes.formats.ome_zarr import create_ome_zarr
from maeref_jax.volumes.formats.precomputed import create_precomputed, is_precomputed, open_precomputed
from maeref_jax.volumes.formats.store import is_url
from maeref_jax.volumes.formats.stored import Stored, split_inner
from maeref_jax.volumes.formats.tiff import LARGEST_BYTES, open_tiff, write_tiff_stack
from maeref_jax.volumes.formats.tiff_folder import is_tiff_folder, open_tiff_folder
from maeref_jax.volumes.formats.zarr_store import create_bare_zarr, is_zarr, open_zarr
from maeref_jax.volumes.view import Volume, range_text, select
from maeref_jax.volumes.windows import Box

UNKNOWN_ON_DISK = 255
# A new format is one file and one line: how it is opened, by suffix or, for folders and URLs, by what lies in them;
# and how it is made. Openers take a path; makers path, shape (z, y, x), dtype, and what `create_volume` names.
FILES = {
    ".tif": open_tiff,
    ".tiff": open_tiff,
    ".btf": open_tiff,
    ".tf8": open_tiff,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
    ".hdf": open_hdf5,
    ".npy": open_npy,
    ".npz": open_npz,
}
FOLDERS = {
    "Zarr": (is_zarr, open_zarr),
    "N5": (is_n5, open_n5),
    "precomputed": (is_precomputed, open_precomputed),
    "numbered TIFF slices": (is_tiff_folder, open_tiff_folder),
}
MAKERS = {
    ".ome.zarr": create_ome_zarr,
    ".zarr": create_bare_zarr,
    ".h5": create_hdf5,
    ".hdf5": create_hdf5,
    ".npy": create_npy,
    ".n5": create_n5,
    ".precomputed": create_precomputed,
}


def open_volume(
    path: str | Path,
    *,
    axes: str | None = None,
    voxel_size_nm: tuple[float, float, float] | None = None,
    channel: int | str | None = None,
) -> Volume:
    """Opens a volume of any format, see docs/formats.md.

    Args:
        path: the file, folder or URL; "image.tif[0:8]" means its slices 0 to 7 (a file of that very name wins),
            "file.h5:/volumes/raw" an array inside a file.
        axes: the axes as stored, e.g. "ZYX"; wins over the file's own. "YX" makes a plane a stack of one
            slice.
        voxel_size_nm: (z, y, x); wins over the file's own.
        channel: index into the channel axis, or the channel's name; needed where that axis is longer than one.

    Raises:
        BadInput: missing, empty, truncated or unreadable file; unknown axes; a plane without axes "YX";
            several channels without `channel`; a time series; values that are no numbers.
    """
    stored, z_range = _open(path)
    axes = resolve_axes(stored, axes)
    if "Z" not in axes[0] and not axes[1]:
        raise BadInput(
            f"{stored.path} is a plane of shape {stored.shape} (axes {axes[0]}), expected a (z, y, x) stack; "
            f"give --axes {axes[0]} to treat it as a stack of one slice"
        )
    return select(stored, axes[0], z_range, voxel_size_nm=voxel_size_nm, channel=channel)


def open_probabilities(path: str | Path, *, axes: str | None = None) -> Volume:
    """Opens class probabilities: float in [0, 1], or uint8 that stands for 0 to 1; `read` gives (c, z, y,
    x) float32.

    Args:
        path: as in `open_volume`.
        axes: the axes as stored, e.g. "CZYX"; axes without a C are those of one class, which then leads.

    Raises:
        BadInput: as in `open_volume`; no class axis; another type.
    """
    stored, z_range = _open(path)
    if axes is not None and "C" not in axes.upper():
        axes = f"C{axes}"
    names, _ = resolve_axes(stored, axes)
    if "C" not in names:
        raise BadInput(
            f"{stored.path} has shape {stored.shape} (axes {names}), expected class probabilities with "
            "a class axis C, e.g. --axes CZYX"
        )
    if stored.dtype.kind != "f" and stored.dtype != np.uint8:
        raise BadInput(f"{stored.path} is {stored.dtype}, expected probabilities as float (0 to 1) or uint8 (0 to 255)")
    return select(stored, names, z_range, keep_classes=True, as_probabilities=True)


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
    at all. A name that ends in .ome.tif gives an OME-TIFF, of any size and of more types.

    Args:
        volume: (z, y, x) uint8, uint16 or float32 (.ome.tif: uint32, int32 and float64 too); bool is written
            as 0 and 255, int8 and int16 labels (-1 unknown) as uint8 with 255 for unknown. Anything with shape,
            dtype and read(box) will do.
        voxel_size_nm: (z, y, x) or None.
        colours: [[r, g, b], ...] of values 0, 1, ... of a uint8 stack; values without a colour are white.

    Raises:
        BadInput: a type or size that the format cannot hold, colours for an OME-TIFF, or labels beyond uint8.
    """
    if isinstance(volume, np.ndarray):
        volume = array_volume(volume, str(path), voxel_size_nm)
    dtype = np.dtype(volume.dtype)
    signed = dtype in (np.int8, np.int16)
    written = np.dtype(np.uint8) if signed or dtype == np.bool_ else dtype
    big = np.prod(volume.shape, dtype=float) * written.itemsize > LARGEST_BYTES
    ome = str(path).lower().endswith((".ome.tif", ".ome.tiff"))
    if not ome and written not in (np.uint8, np.uint16, np.float32):
        raise BadInput(f"cannot write {dtype} to {path}: ImageJ holds uint8, uint16 and float32; convert first")
    if not ome and big:
        raise BadInput(f"{path} of shape {volume.shape} is too large for ImageJ's TIFF; give it a name in .ome.tif")
    if ome and colours is not None:
        raise BadInput(f"{path}: OME-TIFF holds no label colours; write a plain .tif, or leave them out")
    depth, height, width = volume.shape

    def slices():
        for z in range(depth):
            plane = volume.read(Box((z, 0, 0), (z + 1, height, width)))[0]
            if signed:
                yield labels_to_disk(plane)
            else:
                yield plane * np.uint8(255) if dtype == np.bool_ else plane

    if ome:
        write_ome_tiff(Path(path), slices(), volume.shape, written, voxel_size_nm=voxel_size_nm, big=big)
        return
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


def split_range(path: str | Path) -> tuple[Path | str, range | None]:
    """The path (a URL as str) and the slices of "image.tif[2:8]", or of "image.tif[0:160:5]", every fifth; no range if
    a file of that very name exists.

    Raises:
        BadInput: numbers and colons in brackets that say no such range, "[::5]" or "[0:160:0]".
    """
    keep = str if is_url(path) else Path
    match = re.fullmatch(r"(.+)\[(\d+):(\d+)(?::([1-9]\d*))?\]", str(path))
    if keep is Path and Path(path).exists():
        return keep(path), None
    if match is None and re.search(r"\[[-\d]*:[-\d:]*\]$", str(path)):
        raise BadInput(
            f"{path} ends in no range of slices, expected [START:STOP] or [START:STOP:STEP], counted from 0, STOP not "
            "included, STEP at least 1"
        )
    if match is None:
        return keep(path), None
    return keep(match[1]), range(int(match[2]), int(match[3]), int(match[4] or 1))


def resolved(path: str | Path) -> str:
    """The path from the root, links followed, or the URL; a z range stays. Two ways to type one path give the same."""
    base, z_range = split_range(path)
    return _from_root(base) + range_text(z_range)


def share_slices(one: str | Path, other: str | Path) -> bool:
    """Whether two paths, each with or without a z range, name some slice of the same file."""
    (first, a), (second, b) = split_range(one), split_range(other)
    if _from_root(first) != _from_root(second):
        return False
    return a is None or b is None or bool({*a} & {*b})


def _from_root(path: Path | str) -> str:
    return path if isinstance(path, str) else str(path.resolve())


def create_volume(
    path: str | Path,
    shape: tuple[int, int, int],
    dtype: np.dtype | str,
    *,
    voxel_size_nm: tuple[float, float, float] | None = None,
    classes: int | None = None,
    chunk: tuple[int, int, int] = (32, 128, 128),
) -> Volume:
    """A volume on disk that is written box by box, made or, if the same is there, opened again; its suffix says the
    format. TIFF is written whole: `write_tiff`. More settings of a format: the function in MAKERS.

    Args:
        path: not replaced if something else is there.
        classes: length of a leading class axis.
        chunk: what is compressed and stored together (z, y, x).

    Raises:
        BadInput: an unknown suffix, something else at `path`, or what the format cannot hold.
    """
    for suffix in sorted(MAKERS, key=len, reverse=True):
        if str(path if is_url(path) else split_inner(path)[0]).lower().endswith(suffix):
            made = MAKERS[suffix](
                path, tuple(shape), np.dtype(dtype), voxel_size_nm=voxel_size_nm, classes=classes, chunk=tuple(chunk)
            )
            return select(made, made.axes, None, voxel_size_nm=voxel_size_nm, keep_classes=classes is not None)
    raise BadInput(f"cannot write {path} box by box, expected a name that ends in one of {', '.join(MAKERS)}")


def _open(path: str | Path) -> tuple[Stored, range | None]:
    path, z_range = split_range(path)
    stored = _opener(path)(path)
    if 0 in stored.shape:
        raise BadInput(f"{path} is empty: shape {stored.shape}")
    if stored.dtype.kind not in "buif":
        raise BadInput(f"{path} holds {stored.dtype}, expected whole or real numbers")
    return stored, z_range


def _opener(path: Path | str) -> Callable[[Path | str], Stored]:
    file = path if is_url(path) else split_inner(path)[0]
    if not is_url(path):
        if not file.exists():
            raise BadInput(f"no such file: {path}")
        if file.is_file() and file.suffix.lower() in FILES:
            return FILES[file.suffix.lower()]
    if is_url(path) or file.is_dir():
        for belongs, opener in FOLDERS.values():
            if belongs(path):
                return opener
        raise BadInput(f"{path} is a folder but none of {', '.join(FOLDERS)}")
    hint = f"; the Zarr array is its folder {file.parent}" if is_zarr(file.parent) else ""
    raise BadInput(
        f"{path} is of no known format, expected {', '.join(FILES)}, or a folder: {', '.join(FOLDERS)}{hint}"
    )
