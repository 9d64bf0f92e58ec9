"""HDF5 through h5py, an optional extra: ilastik's and CREMI's conventions for axes and voxel size."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.stored import NANOMETRES, Stored, split_inner, to_voxel_size


def open_hdf5(path: Path) -> Stored:
    """A dataset of an HDF5 file, read box by box.

    Axes: ilastik's `axistags`, else labels of dimensions (dimension scales), else, where CREMI's `resolution` or
    `element_size_um` has one number for every axis of three, z y x, the order of both conventions.
    Voxel size: `resolution` in nm (CREMI), `element_size_um` in µm, both z y x.

    Args:
        path: "a.h5:/volumes/raw" or "a.h5/volumes/raw"; "a.h5" is enough where the file holds one dataset.

    Raises:
        BadInput: h5py is missing; no HDF5 file, or truncated; no such dataset, or several and none named (they are
            listed); axes that do not fit the dataset's shape.
    """
    file, name = split_inner(path)
    with _file(file, "r") as content:
        name = name or _only_dataset(file, content)
        dataset = content.get(name)
        if dataset is None or not hasattr(dataset, "shape"):
            raise BadInput(f"{file} has no dataset '{name}', it holds {', '.join(_datasets(content)) or 'none'}")
        shape, dtype = dataset.shape, dataset.dtype
        attributes = dict(dataset.attrs)
        labels = [dimension.label for dimension in dataset.dims]
    label = f"{file}:/{name}"
    axes, raw_axes = _axes(label, shape, attributes, labels)
    native = dtype.newbyteorder("=")

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        with _file(file, "r") as content:
            return np.asarray(content[name][slices], native)

    return Stored(Path(label), shape, native, axes, raw_axes, _voxel_size(attributes), read)


def create_hdf5(
    path: str | Path,
    shape: tuple[int, int, int],
    dtype: np.dtype,
    *,
    voxel_size_nm: tuple[float, float, float] | None = None,
    classes: int | None = None,
    chunk: tuple[int, int, int] = (32, 128, 128),
) -> Stored:
    """A gzip-compressed dataset (z, y, x) or (c, z, y, x) with ilastik's axistags and CREMI's resolution.

    Several datasets may go into one file, one after the other: HDF5 has one writer at a time. Voxels never written
    are 0; the same dataset is opened again.

    Args:
        path: "a.h5:/volumes/raw"; "a.h5" makes "a.h5:/data".

    Raises:
        BadInput: h5py is missing, or another dataset of that name is there.
        OSError: from `write`: the disk is full or gone.
    """
    file, name = split_inner(path)
    name = name or "data"
    full, axes = (tuple(shape), "ZYX") if classes is None else ((classes, *shape), "CZYX")
    with _file(file, "a") as content:
        if name not in content:
            lead = () if classes is None else (1,)
            chunks = (*lead, *(min(c, n) for c, n in zip(chunk, shape, strict=True)))
            dataset = content.create_dataset(
                name, full, dtype, chunks=chunks, compression="gzip", compression_opts=1, shuffle=True
            )
            tags = [{"key": axis.lower(), "typeFlags": 1 if axis == "C" else 2} for axis in axes]
            dataset.attrs["axistags"] = json.dumps({"axes": [t | {"resolution": 0, "description": ""} for t in tags]})
            if voxel_size_nm is not None:
                dataset.attrs["resolution"] = np.array(voxel_size_nm, float)
    stored = open_hdf5(Path(f"{file}:/{name}"))
    found = (stored.dtype, stored.shape, stored.voxel_size_nm)
    if found != (np.dtype(dtype), full, voxel_size_nm):
        raise BadInput(
            f"{stored.path} is there: {found[0]} {found[1]}, voxels of {found[2]} nm; "
            f"expected {dtype} {full}, {voxel_size_nm}"
        )

    def write(slices: tuple[slice, ...], array: np.ndarray) -> None:
        with _file(file, "r+") as content:
            content[name][slices] = array

    return stored._replace(write=write)


def _h5py(file: Path) -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise BadInput(f"{file} needs one more package: pip install h5py (or maeref_jax[hdf5])") from error
    return h5py


@contextlib.contextmanager
def _file(file: Path, mode: str) -> Iterator[Any]:
    # Opened for every box: a file left open is damaged by a kill, and cannot be shared with other processes.
    h5py = _h5py(file)
    try:
        with h5py.File(file, mode) as content:
            yield content
        if mode != "r":
            with file.open("rb") as written:
                os.fsync(written.fileno())
    except (OSError, RuntimeError) as error:
        if mode == "r":
            raise BadInput(f"{file} cannot be read as HDF5, is it truncated or damaged? {error}") from error
        raise OSError(f"cannot write {file}: {error}") from error


def _datasets(content: Any) -> list[str]:
    found = []
    content.visititems(lambda name, item: found.append(f"/{name}") if hasattr(item, "shape") else None)
    return found


def _only_dataset(file: Path, content: Any) -> str:
    found = _datasets(content)
    if len(found) != 1:
        example = f"; choose one, e.g. {file}:{found[0]}" if found else ""
        raise BadInput(f"{file} holds {len(found)} datasets ({', '.join(found[:8])}){example}")
    return found[0].strip("/")


def _axes(label: str, shape: tuple[int, ...], attributes: dict, labels: list[str]) -> tuple[str | None, str]:
    names = [name for name in labels if name]
    if "axistags" in attributes:
        try:
            names = [axis["key"] for axis in json.loads(attributes["axistags"])["axes"]]
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{label} has damaged axistags: {error!r}") from error
    elif (
        not names
        and len(shape) == 3
        and any(np.shape(attributes.get(key)) == (3,) for key in ("resolution", "element_size_um"))
    ):
        names = ["z", "y", "x"]
    if names and len(names) != len(shape):
        raise BadInput(f"{label} names the axes {','.join(names)}, but has shape {shape}; its metadata are damaged")
    letters = "".join(name.upper() for name in names)
    known = bool(names) and len(letters) == len(shape) and set(letters) <= set("TCZYX")
    return letters if known else None, ",".join(names) or "?" * len(shape)


def _voxel_size(attributes: dict) -> tuple[float, float, float] | None:
    for key, scale in (("resolution", 1.0), ("element_size_um", NANOMETRES["um"])):
        size = attributes.get(key)
        if np.shape(size) == (3,):
            values = (float(f"{float(length) * scale:.12g}") for length in size)
            return to_voxel_size(dict(zip("zyx", values, strict=True)))
    return None
