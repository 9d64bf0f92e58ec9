"""OME-TIFF: its XML read, and stacks of any size written (BigTIFF where they need it)."""

import os
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.stored import NANOMETRES, to_voxel_size

DTYPES = ("uint8", "uint16", "uint32", "int32", "float32", "float64")


def parse_ome(xml: str) -> tuple[tuple[float, float, float] | None, tuple[str, ...], bool]:
    """(voxel size (z, y, x) in nm or None, names of the channels, whether the distance of slices is stated)."""
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    if pixels is None:
        return None, (), False
    sizes = {}
    for axis in "zyx":
        size = pixels.get(f"PhysicalSize{axis.upper()}")
        scale = NANOMETRES.get(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm").lower())
        sizes[axis] = float(f"{float(size) * scale:.12g}") if size and scale else None
    names = tuple(channel.get("Name", "") for channel in pixels.findall("{*}Channel"))
    return to_voxel_size(sizes), names, pixels.get("PhysicalSizeZ") is not None


def write_ome_tiff(
    path: Path,
    slices: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    dtype: np.dtype,
    *,
    voxel_size_nm: tuple[float, float, float] | None,
    big: bool,
) -> None:
    """An uncompressed OME-TIFF (z, y, x), slice by slice, under a temporary name until it is whole.

    Args:
        big: with offsets of 64 bits (BigTIFF).

    Raises:
        BadInput: a type that OME-TIFF does not hold.
    """
    if np.dtype(dtype).name not in DTYPES:
        raise BadInput(f"cannot write {dtype} to {path}: OME-TIFF holds {', '.join(DTYPES)}; convert first")
    metadata = {"axes": "ZYX"}
    for axis, size in zip("ZYX", voxel_size_nm or (), strict=False):
        metadata |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": "nm"}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    options = {"ome": True, "bigtiff": big, "photometric": "minisblack", "metadata": metadata}
    try:
        tifffile.imwrite(temporary, iter(slices), shape=shape, dtype=dtype, **options)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
