"""MRC (.mrc, .rec, .map, .st; .gz too) through mrcfile, an optional extra: axes as mapc, mapr, maps; voxels in Å."""

import io
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.packed import DAMAGE, array_in, content_of, is_packed
from maeref_jax.volumes.formats.stored import Placement, Stored, extra, joined
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust

# IMOD's mark in the space that the standard leaves free, and the bit that says that its bytes have a sign.
_IMOD_STAMP, _IMOD_SIGNED = 1146047817, 1
# Without what follows the header, which may be of any length, and the number that says so (nsymbt).
_HEAD_BYTES, _LONGER = 1024, slice(92, 96)
DTYPES = ("int8", "int16", "uint16", "float32")


def open_mrc(path: Path, trust: Trust = CAUTIOUS) -> Stored:
    """The volume of an MRC file.

    Raises:
        BadInput: mrcfile is missing; no MRC file, or truncated; a mode that is no real number.
    """
    mrcfile = extra("mrcfile", path)
    try:
        with warnings.catch_warnings(record=True) as told:  # what it doubts is a note
            warnings.simplefilter("always")
            with content_of(path) as content:
                head = bytearray(content.read(_HEAD_BYTES))
            longer, head[_LONGER] = bytes(head[_LONGER]), bytes(4)
            header = mrcfile.mrcinterpreter.MrcInterpreter(io.BytesIO(head), permissive=True, header_only=True).header
        shape = tuple(map(int, mrcfile.utils.data_shape_from_header(header)))
        dtype = np.dtype(mrcfile.utils.data_dtype_from_header(header))
        offset = _HEAD_BYTES + max(0, int(np.frombuffer(longer, header.nsymbt.dtype)[0]))
    except (*DAMAGE, *said.MALFORMED) as error:
        raise BadInput(f"{path} is no readable MRC file, empty, truncated or damaged: {error}") from error
    if min(shape, default=0) < 1:
        raise BadInput(f"{path} is no readable MRC file: its header says shape {shape}")
    # What numpy says to mrcfile's authors is not about the file.
    about_file = (warning for warning in told if not issubclass(warning.category, DeprecationWarning))
    warned = "; ".join(str(warning.message) for warning in about_file)
    unsigned = dtype == np.int8 and _is_unsigned(header)
    dtype = np.dtype(np.uint8) if unsigned else dtype
    axes, raw_axes = _axes(header, len(shape))
    lengths = {axis: _length(header, axis) for axis in "xyz"}
    size, doubt = said.voxel_size({axis: (length, "angstrom") for axis, length in lengths.items() if length}, 6)
    return Stored(
        path,
        shape,
        dtype.newbyteorder("="),
        axes,
        raw_axes,
        size,
        array_in(path, dtype, shape, offset=offset, trust=trust, packed_from=0 if is_packed(path) else None),
        note=joined(warned, "its bytes have no sign, as IMOD writes them" * unsigned),
        size_doubt=doubt,
    )


def write_mrc(
    path: Path,
    slices: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    dtype: np.dtype,
    *,
    voxel_size_nm: tuple[float, float, float] | None,
    placement: Placement | None = None,
) -> None:
    """An MRC file, slice by slice; uint8 becomes uint16 (mode 6), as MRC's bytes have a sign. `placement` is not kept.

    Raises:
        BadInput: mrcfile is missing, or a type that MRC does not hold.
    """
    mrcfile = extra("mrcfile", path)
    held = np.dtype(np.uint16) if dtype == np.uint8 else np.dtype(dtype)
    if held.name not in DTYPES:
        raise BadInput(f"cannot write {dtype} to {path}: MRC holds {', '.join(DTYPES)}; convert first")
    with mrcfile.new(path, np.zeros((1, 1, 1), held), overwrite=True) as content:  # whose header is the standard's
        header = content.header.copy()
    for axis, count, length in zip("zyx", shape, voxel_size_nm or (0, 0, 0), strict=True):
        header[f"n{axis}"], header[f"m{axis}"] = count, count
        header.cella[axis] = count * length / said.NANOMETRES["angstrom"]
    header.dmin, header.dmax, header.dmean, header.rms = 0, -1, -2, -1  # which say that nobody has looked
    with path.open("wb") as file:
        file.write(header.tobytes())
        for plane in slices:
            file.write(np.ascontiguousarray(plane, held).tobytes())


def _axes(header: Any, rank: int) -> tuple[str | None, str]:
    order = [int(header[name]) for name in ("maps", "mapr", "mapc")]  # the slowest first
    if order == [0, 0, 0]:  # never filled in, which means the usual order
        order = [3, 2, 1]
    names = [" XYZ"[number] if number in (1, 2, 3) else "?" for number in order]
    return said.axes([*"C" * (rank - 3), *names][-rank:], rank)


def _length(header: Any, axis: str) -> float | None:
    """Å along one axis; None where nothing is said."""
    cell, count = said.number(header.cella[axis]), said.number(header[f"m{axis}"])
    return cell / count if cell and count and math.isfinite(cell / count) else None


def _is_unsigned(header: Any) -> bool:
    stamp, flags = (int(value) for value in np.frombuffer(header.tobytes(), header.mode.dtype, 2, 152))
    return stamp == _IMOD_STAMP and not flags & _IMOD_SIGNED
