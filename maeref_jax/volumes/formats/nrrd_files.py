"""NRRD (.nrrd, and .nhdr beside its data) through pynrrd, an optional extra; the fastest axis is stored first."""

import gzip
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.packed import DAMAGE, array_in, bytes_of
from maeref_jax.volumes.formats.stored import Placement, Stored, extra
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust, check_inside

_TYPES = {
    "int8": "signed char, int8, int8_t", "uint8": "uchar, unsigned char, uint8, uint8_t",
    "int16": "short, short int, signed short, signed short int, int16, int16_t",
    "uint16": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "int32": "int, signed int, int32, int32_t", "uint32": "uint, unsigned int, uint32, uint32_t",
    "int64": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "uint64": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "float32": "float", "float64": "double",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, names in _TYPES.items() for name in names.split(", ")}
# What says where the voxels are; every other field is optional.
_NEEDED = (
    "type", "dimension", "sizes", "encoding", "endian", "data file", "datafile",
    "line skip", "lineskip", "byte skip", "byteskip",
)  # fmt: skip
# Far beyond any header, and any line that is to be skipped.
_LONGEST_LINE, _MOST_LINES = 1 << 20, 1000
_SPATIAL_KINDS = ("domain", "space")


def open_nrrd(path: Path, trust: Trust = CAUTIOUS) -> Stored:
    """The array of a NRRD file, unpacked to disk when it is first read where it is gzip.

    Axes: `labels`, else x y z where `space`, `space directions` or `kinds` say that there are three axes of space.
    Voxel size: lengths of `space directions` in `space units`, else `spacings` in `units`.

    Raises:
        BadInput: pynrrd is missing; no NRRD file, or truncated; data in several files, in another folder, or in another
            encoding; what packed.py refuses.
    """
    nrrd = extra("nrrd", path, "pynrrd")
    try:
        head, begin = _head(path)
        needed = [line for line in head if _field(line) in _NEEDED]
        fields = nrrd.read_header([head[0], *needed])
        shape = tuple(int(n) for n in fields["sizes"])
        dtype = np.dtype(_DTYPES[fields["type"].lower()])
        dtype = dtype.newbyteorder(">" if fields.get("endian", "little").lower() == "big" else "<")
        place, encoding = _data(path, fields, begin, trust), fields["encoding"].lower()
    except BadInput:  # a ValueError as well, but no damage
        raise
    except (*DAMAGE, *said.MALFORMED, nrrd.NRRDError) as error:
        raise BadInput(f"{path} is no readable NRRD file, empty, truncated or damaged: {error}") from error
    if not shape or min(shape) < 1:
        raise BadInput(f"{path} is no readable NRRD file: its header says sizes {shape}")
    told = {_field(line): _read(nrrd, head[0], line) for line in head[1:] if _field(line) not in _NEEDED}
    axes, raw_axes = _axes(told, len(shape))
    size, doubt = said.voxel_size(_lengths(told, axes or ""), 12)
    values = _values(*place, dtype, shape, trust, encoding=encoding)
    notes = {"note": _orientation(told, axes), "size_doubt": doubt}
    return Stored(path, shape, dtype.newbyteorder("="), axes, raw_axes, size, values, **notes)


def write_nrrd(
    path: Path,
    slices: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    dtype: np.dtype,
    *,
    voxel_size_nm: tuple[float, float, float] | None,
    placement: Placement | None = None,
) -> None:
    """A gzip-compressed NRRD file x y z, slice by slice; `placement` is not kept.

    Raises:
        BadInput: a type that NRRD does not hold.
    """
    dtype = np.dtype(dtype).newbyteorder("<")
    if dtype.name not in _TYPES:
        raise BadInput(f"cannot write {dtype} to {path}: NRRD holds {', '.join(_TYPES)}; convert first")
    sizes = " ".join(map(str, reversed(shape)))
    head = ["NRRD0004", f"type: {_TYPES[dtype.name].split(', ')[-1]}", "dimension: 3", f"sizes: {sizes}"]
    head += ["kinds: domain domain domain", 'labels: "x" "y" "z"', "endian: little", "encoding: gzip"]
    if voxel_size_nm is not None:
        lengths = " ".join(repr(float(length)) for length in reversed(voxel_size_nm))
        head += [f"spacings: {lengths}", 'units: "nm" "nm" "nm"']
    with path.open("wb") as file:
        file.write("\n".join([*head, "", ""]).encode())
        with gzip.open(file, "wb", compresslevel=1) as packed:
            for plane in slices:
                packed.write(np.ascontiguousarray(plane, dtype).tobytes())


def _head(path: Path) -> tuple[list[str], int]:
    """(lines of the header, the first one being the magic; the byte behind it)."""
    lines = []
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE).decode("utf-8", "replace").strip():
            lines.append(line)
            if len(lines) > _MOST_LINES:
                raise ValueError(f"its header has over {_MOST_LINES} lines")
            if not lines[0].startswith("NRRD"):
                raise ValueError("it does not begin with NRRD")
        return ([*lines] or [""]), file.tell()


def _field(line: str) -> str:
    return line.partition(":")[0].strip().lower()


def _read(nrrd: ModuleType, magic: str, line: str) -> Any:
    """An optional field as pynrrd reads it, None where it cannot."""
    try:
        return nrrd.read_header([magic, line]).get(line.partition(":")[0].strip())
    except (*said.MALFORMED, nrrd.NRRDError):
        return None


def _data(path: Path, fields: dict[str, Any], begin: int, trust: Trust) -> tuple[Path, int, int]:
    """(file with the data; byte at which lines were skipped; bytes to be skipped then, -1: all but the data)."""
    name = fields.get("data file", fields.get("datafile"))
    if name is not None and re.match(r"LIST\b|.*%\d*d", name):
        raise BadInput(f"{path} has its data in several files ({name[:40]}); save it as one file")
    file = path if name is None else path.parent / name
    if name is not None:
        check_inside(path.parent, file, trust, f"{name[:200]} for its data")
    lines = int(fields.get("line skip", fields.get("lineskip", 0)))
    with file.open("rb") as content:
        content.seek(begin if name is None else 0)
        for _ in range(lines):
            if not content.readline(_LONGEST_LINE).endswith(b"\n"):
                raise ValueError(f"there are no {lines} lines to be skipped")
        return file, content.tell(), int(fields.get("byte skip", fields.get("byteskip", 0)))


def _values(file: Path, begin: int, skip: int, dtype, shape, trust: Trust, *, encoding: str):
    needed = bytes_of(file, dtype, shape, 0)
    if encoding in ("gzip", "gz"):
        return array_in(file, dtype, shape, offset=max(skip, 0), trust=trust, order="F", packed_from=begin)
    if encoding != "raw":
        raise BadInput(f"{file} has the encoding {encoding[:20]}; save it with the encoding raw or gzip")
    offset = max(0, file.stat().st_size - needed) if skip == -1 else begin + skip
    return array_in(file, dtype, shape, offset=offset, trust=trust, order="F")


def _axes(told: dict[str, Any], rank: int) -> tuple[str | None, str]:
    labels = said.items(told.get("labels"))
    if any(labels):
        return said.axes(labels, rank)
    kinds = [said.text(kind).lower() for kind in said.items(told.get("kinds"))]
    if len(kinds) == rank:
        spatial = iter("XYZ")
        names = [next(spatial, "?") if k in _SPATIAL_KINDS else "T" if k == "time" else "C" for k in kinds]
        return said.axes(names, rank)
    known = rank == 3 and any(told.get(key) is not None for key in ("space", "space dimension", "space directions"))
    return said.axes(list("XYZ") if known else [], rank)


def _directions(told: dict[str, Any], axes: str | None) -> dict[str, np.ndarray]:
    """The direction of each axis of space, of those whose direction is said."""
    found = said.items(told.get("space directions"))
    if not axes or len(found) != len(axes):
        return {}
    rows = {axis: said.numbers(row, 3) for axis, row in zip(axes, found, strict=True)}
    return {axis: np.array(row) for axis, row in rows.items() if row and axis in "ZYX"}


def _lengths(told: dict[str, Any], axes: str) -> dict[str, tuple[Any, Any]]:
    if directions := _directions(told, axes):
        units = said.items(told.get("space units"))
        unit = dict(zip("XYZ", units, strict=False)) if len(units) == 3 else {}
        # Each unit belongs to a direction of space: of an axis it is the one that it mostly follows.
        return {
            axis.lower(): (float(np.linalg.norm(row)), unit.get("XYZ"[int(np.abs(row).argmax())]))
            for axis, row in directions.items()
        }
    lengths, units = said.items(told.get("spacings")), said.items(told.get("units"))
    units = units if len(units) == len(axes) else [None] * len(axes)
    if len(lengths) != len(axes):
        return {}
    return {a.lower(): (length, unit) for a, length, unit in zip(axes, lengths, units, strict=True) if a in "ZYX"}


def _orientation(told: dict[str, Any], axes: str | None) -> str:
    rows = _directions(told, axes)
    straight = all(row.argmax() == "XYZ".index(axis) and np.count_nonzero(row) == 1 for axis, row in rows.items())
    return "" if straight else "its space directions flip or turn the axes; voxels are kept as stored"
