"""NIfTI (.nii, .nii.gz) through nibabel, an optional extra: stored x y z, units from its header, affine kept.

Voxels are never turned: where the affine flips or turns the axes, a note says so, and what is exported has it again.
"""

import gzip
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.packed import DAMAGE, array_in, content_of, is_packed
from maeref_jax.volumes.formats.stored import Placement, Stored, extra, joined
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust

_HEAD_BYTES = 540  # of NIfTI-2, of NIfTI-1 they are 348: the header itself begins with its length
_LONGEST_NIFTI1 = 32767


def open_nifti(path: Path, trust: Trust = CAUTIOUS) -> Stored:
    """The array of a NIfTI file; that of a .nii.gz is unpacked to disk when it is first read.

    Axes: x y z, then time, then channels (vectors, classes). Voxel size: pixdim in the unit of xyzt_units; without a
    unit it is not known. A slope and intercept make the values float64.

    Raises:
        BadInput: nibabel is missing; no NIfTI file, or truncated; values that it
            cannot describe.
    """
    nibabel = extra("nibabel", path)
    try:
        with content_of(path) as content:
            head = content.read(_HEAD_BYTES)
        header = _header(nibabel, head)
        shape, dtype = tuple(map(int, header.get_data_shape())), header.get_data_dtype()
        offset = max(int(header.get_data_offset()), int(header.single_vox_offset))
        slope, intercept = header.get_slope_inter()
    except (*DAMAGE, *said.MALFORMED, nibabel.spatialimages.HeaderDataError) as error:
        raise BadInput(f"{path} is no readable NIfTI file, empty, truncated or damaged: {error}") from error
    if not 2 <= len(shape) <= 5 or min(shape) < 1:
        raise BadInput(f"{path} is no readable NIfTI file: its header says shape {shape}")
    packed_from = 0 if is_packed(path) else None
    values = array_in(path, dtype, shape, offset=offset, trust=trust, order="F", packed_from=packed_from)
    scaled = dtype.kind in "uif" and slope is not None and (slope, intercept or 0) != (1, 0)
    unit = _attempt(nibabel, header.get_xyzt_units) or ("unknown", "unknown")
    lengths = said.items(_attempt(nibabel, header.get_zooms))[:3]
    # Stored as float32: seven digits are what it can promise.
    size, doubt = said.voxel_size({axis: (length, unit[0]) for axis, length in zip("xyz", lengths, strict=False)}, 6)
    placement = _placement(_attempt(nibabel, header.get_best_affine), unit[0])
    axes = "XYZTC"[: len(shape)]
    return Stored(
        path,
        shape,
        np.dtype(np.float64) if scaled else dtype.newbyteorder("="),
        axes,
        axes.lower(),
        size,
        (lambda slices: values(slices) * float(slope) + float(intercept)) if scaled else values,
        note=joined(_orientation(nibabel, placement), "its values are scaled by its header" * scaled),
        size_doubt=doubt,
        placement=placement,
    )


def write_nifti(
    path: Path,
    slices: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    dtype: np.dtype,
    *,
    voxel_size_nm: tuple[float, float, float] | None,
    placement: Placement | None = None,
) -> None:
    """A NIfTI file x y z, slice by slice, packed where the name ends in .gz.

    Its affine is that of `placement`, with columns as long as `voxel_size_nm`; without one voxels lie along the axes
    from 0. The unit is the placement's, else µm.
    """
    nibabel = extra("nibabel", path)
    header = (nibabel.Nifti2Header if max(shape) > _LONGEST_NIFTI1 else nibabel.Nifti1Header)()
    try:
        header.set_data_dtype(dtype)
    except nibabel.spatialimages.HeaderDataError as error:
        raise BadInput(f"cannot write {dtype} to {path}: {error}") from error
    header.set_data_shape(shape[::-1])
    affine, unit = _affine(placement, voxel_size_nm)
    header.set_xyzt_units(unit)
    header.set_sform(affine, code="scanner")
    _attempt(nibabel, lambda: header.set_qform(affine, code="scanner"))  # a sheared affine has none
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    with gzip.open(path, "wb", compresslevel=1) if is_packed(path) else path.open("wb") as file:
        file.write(header.binaryblock.ljust(header.single_vox_offset, b"\0"))
        for plane in slices:
            file.write(np.ascontiguousarray(plane, dtype).tobytes())


def _header(nibabel: ModuleType, head: bytes) -> Any:
    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        length = kind.template_dtype.itemsize
        if len(head) >= length and length in (int.from_bytes(head[:4], order) for order in ("little", "big")):
            return kind(head[:length], check=False)
    raise ValueError(f"no header of NIfTI in its first {len(head)} bytes")


def _attempt(nibabel: ModuleType, call) -> Any:
    try:
        return call()
    except (*said.MALFORMED, nibabel.spatialimages.HeaderDataError):
        return None


def _placement(affine: np.ndarray | None, unit: str) -> Placement | None:
    if affine is None or not np.isfinite(affine).all() or not np.linalg.norm(affine[:3, :3], axis=0).all():
        return None
    columns = {axis: tuple(map(float, affine[:3, i])) for i, axis in enumerate("XYZ")}
    return Placement(columns, tuple(map(float, affine[:3, 3])), unit)


def _orientation(nibabel: ModuleType, placement: Placement | None) -> str:
    if placement is None:
        return ""
    turned = np.array([placement.columns[axis] for axis in "XYZ"]).T
    if (turned == np.diag(np.diag(turned))).all() and (np.diag(turned) > 0).all():
        return ""
    affine = np.eye(4)
    affine[:3, :3] = turned
    towards = ", ".join(str(code) for code in _attempt(nibabel, lambda: nibabel.aff2axcodes(affine)) or "???")
    return f"its affine flips or turns the axes (x, y, z point to {towards}); voxels are kept as stored"


def _affine(placement: Placement | None, voxel_size_nm: tuple | None) -> tuple[np.ndarray, str]:
    """4 x 4, voxels (x, y, z) to the world, and its unit. One without a unit stays as it is, to lie over the input."""
    affine, unit = np.eye(4), placement.unit if placement else "micron"
    lengths = None
    if voxel_size_nm is not None and unit in said.NANOMETRES:
        lengths = np.array(voxel_size_nm[::-1]) / said.NANOMETRES[unit]
    if placement is None:
        return (affine, "unknown") if lengths is None else (np.diag([*lengths, 1.0]), unit)
    affine[:3, :3] = np.array([placement.columns[axis] for axis in "XYZ"]).T
    affine[:3, 3] = placement.origin
    if lengths is not None:
        affine[:3, :3] *= lengths / np.linalg.norm(affine[:3, :3], axis=0)
    return affine, unit
