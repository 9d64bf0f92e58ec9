"""OME-TIFF: its XML read, and stacks of any size written (BigTIFF where they need it)."""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said

DTYPES = ("uint8", "uint16", "uint32", "int32", "float32", "float64")


class Ome(NamedTuple):
    """What OME-XML says. channels: their names; stack: whether the distance of slices is stated; planes: how many the
    first image has, None where that cannot be read; size_doubt: what is said of the voxel size and cannot be used, or
    ""; note: why nothing is said; files: names of those that it consists of, where it says them.
    """

    voxel_size_nm: tuple[float, float, float] | None = None
    channels: tuple[str, ...] = ()
    stack: bool = False
    planes: float | None = None
    size_doubt: str = ""
    note: str = ""
    files: tuple[str, ...] = ()


def parse_ome(xml: str | None) -> Ome:
    """What the XML says of its first image; as good as nothing, with a note, where it is not well-formed."""
    try:
        tree = ElementTree.fromstring(xml or "")
    except (ElementTree.ParseError, ValueError) as error:
        return Ome(note=f"its OME-XML cannot be read and is left aside ({error})")
    pixels = tree.find(".//{*}Pixels")
    if pixels is None:
        return Ome(note="its OME-XML describes no pixels and is left aside")
    lengths = {
        axis: (pixels.get(f"PhysicalSize{axis.upper()}"), pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))
        for axis in "zyx"
    }
    size, doubt = said.voxel_size(lengths)
    names = tuple(channel.get("Name", "") for channel in pixels.findall("{*}Channel"))
    counts = [said.number(pixels.get(f"Size{axis}")) for axis in "XYZCT"]
    planes = None if None in counts or min(counts) < 1 else math.prod(counts[2:])
    if planes is not None and (steps := _steps(tree)) is not None:
        planes = max(planes, steps)
    files = tuple(filter(None, (uuid.get("FileName") for uuid in tree.iterfind(".//{*}UUID"))))
    return Ome(size, names, pixels.get("PhysicalSizeZ") is not None, planes, doubt, files=files)


def _steps(tree: ElementTree.Element) -> float | None:
    """The longest list of steps "along" an axis; tifffile makes an array of them. None where there is none."""
    found = []
    for element in tree.iter():
        first, last = said.number(element.get("Start")), said.number(element.get("End"))
        if None not in (first, last):
            found.append(abs(last - first) / (abs(said.number(element.get("Step", 1)) or 1)))
    return max(found, default=None)


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
