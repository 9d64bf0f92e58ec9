"""Volumes written: box by box in the formats of MAKERS, or whole, slice by slice, in those of WRITERS."""

import os
import shutil
from pathlib import Path

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.hdf5 import create_hdf5
from maeref_jax.volumes.formats.mrc import write_mrc
from maeref_jax.volumes.formats.n5 import create_n5
from maeref_jax.volumes.formats.nifti import write_nifti
from maeref_jax.volumes.formats.nrrd_files import write_nrrd
from maeref_jax.volumes.formats.numpy_files import create_npy
from maeref_jax.volumes.formats.ome_tiff import write_ome_tiff
from maeref_jax.volumes.formats.ome_zarr import create_ome_zarr
from maeref_jax.volumes.formats.precomputed import create_precomputed
from maeref_jax.volumes.formats.store import is_url
from maeref_jax.volumes.formats.stored import Placement, extra, split_inner
from maeref_jax.volumes.formats.tiff import LARGEST_BYTES, write_tiff_stack
from maeref_jax.volumes.formats.zarr_store import create_bare_zarr
from maeref_jax.volumes.view import Volume, array_volume, select
from maeref_jax.volumes.windows import Box, blocks

UNKNOWN_ON_DISK = 255
# How a format is made, by suffix. Makers take path, shape (z, y, x), dtype, and what `create_volume` names; writers
# path, slices (y, x), shape, dtype, voxel size and placement.
MAKERS = {
    ".ome.zarr": create_ome_zarr,
    ".zarr": create_bare_zarr,
    ".h5": create_hdf5,
    ".hdf5": create_hdf5,
    ".npy": create_npy,
    ".n5": create_n5,
    ".precomputed": create_precomputed,
}
WRITERS = {
    ".nii": write_nifti,
    ".nii.gz": write_nifti,
    ".mrc": write_mrc,
    ".rec": write_mrc,
    ".nrrd": write_nrrd,
}
_TIFFS = (".tif", ".tiff", ".ome.tif", ".ome.tiff")
WRITTEN = (*WRITERS, *_TIFFS, *MAKERS)
PACKAGES = dict.fromkeys((".nii", ".nii.gz"), "nibabel") | dict.fromkeys((".mrc", ".rec"), "mrcfile")
PACKAGES |= dict.fromkeys((".h5", ".hdf5"), "h5py")
_SLAB = (32, 1024, 1024)


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


def check_written(suffix: str) -> None:
    """Raises BadInput for a suffix of no format that `write_volume` writes, or whose package is missing."""
    if suffix not in WRITTEN:
        names = ", ".join(name.lstrip(".") for name in WRITTEN)
        raise BadInput(f"cannot write the format '{suffix.lstrip('.')}', expected one of {names}")
    if suffix in PACKAGES:
        extra(PACKAGES[suffix], f"writing {suffix}")


def write_volume(
    path: str | Path,
    volume: Volume,
    voxel_size_nm: tuple[float, float, float] | None,
    placement: Placement | None = None,
) -> None:
    """Writes a whole volume in the format that its name says, whole or not at all, in bounded memory.

    Args:
        volume: (z, y, x); bool is written as 0 and 1, in TIFF as 0 and 255.
        placement: where it lies in the world, of formats that hold that (NIfTI).

    Raises:
        BadInput: a format that is not written, a type or size that it does not hold, or its package is missing.
    """
    path = Path(path)
    suffix = max((s for s in WRITTEN if path.name.endswith(s)), key=len, default=path.suffix)
    check_written(suffix)
    if suffix in _TIFFS:
        write_tiff(path, volume, voxel_size_nm)
        return
    dtype = np.dtype(np.uint8) if volume.dtype == np.bool_ else np.dtype(volume.dtype)
    depth, height, width = volume.shape
    planes = (volume.read(Box((z, 0, 0), (z + 1, height, width)))[0].astype(dtype) for z in range(depth))
    # Its end tells the format, so the mark of what is not whole stands in front.
    temporary = path.with_name(f".partial.{os.getpid()}.{path.name}")
    try:
        if suffix in WRITERS:
            given = {"voxel_size_nm": voxel_size_nm, "placement": placement}
            WRITERS[suffix](temporary, planes, volume.shape, dtype, **given)
        else:
            made = create_volume(temporary, volume.shape, dtype, voxel_size_nm=voxel_size_nm)
            for box in blocks(volume.shape, _SLAB):
                made.write(box, volume.read(box).astype(dtype))
        remove_path(path)
        temporary.replace(path)
    finally:
        remove_path(temporary)


def remove_path(path: Path) -> None:
    """Removes a file, or a folder with all in it; nothing where nothing is."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def labels_to_disk(labels: np.ndarray) -> np.ndarray:
    """int labels, -1 unknown -> uint8, 255 unknown. BadInput beyond 0..254."""
    if labels.min() < -1 or labels.max() >= UNKNOWN_ON_DISK:
        raise BadInput(f"labels {labels.min()} to {labels.max()} found, expected -1 (unknown) to 254")
    return np.where(labels < 0, UNKNOWN_ON_DISK, labels).astype(np.uint8)


def labels_from_disk(labels: np.ndarray) -> np.ndarray:
    """Whole-numbered labels of any type, 255 or -1 unknown -> int16, -1 unknown."""
    labels = labels.astype(np.int16)
    return np.where(labels == UNKNOWN_ON_DISK, np.int16(-1), labels)
