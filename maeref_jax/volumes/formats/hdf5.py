"""HDF5 through h5py, an optional extra: ilastik's and CREMI's conventions for axes and voxel size."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.hdf5_links import check_chunks, check_storage, item_at
from maeref_jax.volumes.formats.stored import Stored, extra, split_inner
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust

# CREMI's and ilastik's names of the voxel size, z y x, and the unit that each has.
_LENGTHS = {"resolution": "nm", "element_size_um": "um"}
_BUSY = re.compile("unable to lock file|already open for (write|read)|file locking", re.IGNORECASE)
_ATTRIBUTES = ("axistags", *_LENGTHS)


def open_hdf5(path: Path, trust: Trust = CAUTIOUS) -> Stored:
    """A dataset of an HDF5 file, read box by box.

    Axes: ilastik's `axistags`, else labels of dimensions (dimension scales), else, where CREMI's `resolution` or
    `element_size_um` has one number for every axis of three, z y x, the order of both conventions.
    Voxel size: `resolution` in nm (CREMI), `element_size_um` in µm, both z y x.

    Args:
        path: "a.h5:/volumes/raw" or "a.h5/volumes/raw"; "a.h5" is enough where the file holds one dataset.

    Raises:
        BadInput: h5py is missing; no HDF5 file, truncated, or open for writing elsewhere; no such dataset, or several
            and none named (they are listed); voxels that lie in other files; what hdf5_links.py refuses.
    """
    file, name = split_inner(path)
    with opened(file, "r") as content:
        name = name or _only_dataset(file, content)
        dataset = item_at(file, content, name, trust)
        if getattr(dataset, "shape", None) is None:
            raise BadInput(f"{file} has no dataset '{name}', it holds {', '.join(_datasets(content)) or 'none'}")
        check_storage(file, dataset, trust)
        shape, dtype = dataset.shape, dataset.dtype
        attributes, labels = _said_by(dataset)
    label = f"{file}:/{name}"
    axes, raw_axes = said.axes(_names(len(shape), attributes, labels), len(shape))
    size, doubt = _voxel_size(attributes)
    native = dtype.newbyteorder("=")

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        with opened(file, "r") as content:
            dataset = item_at(file, content, name, trust)
            check_chunks(file, dataset, slices, trust)
            return np.asarray(dataset[slices], native)

    return Stored(Path(label), shape, native, axes, raw_axes, size, read, size_doubt=doubt)


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
    with opened(file, "a") as content:
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
        with opened(file, "r+") as content:
            content[name][slices] = array

    return stored._replace(write=write)


@contextlib.contextmanager
def opened(file: Path, mode: str) -> Iterator[Any]:
    """An HDF5 file, for as long as it is needed. Raises BadInput where it cannot be read, OSError where not written."""
    # Opened for every box: a file left open is damaged by a kill, and cannot be shared with other processes.
    h5py = extra("h5py", file)
    try:
        with h5py.File(file, mode) as content:
            yield content
        if mode != "r":
            with file.open("rb") as written:
                os.fsync(written.fileno())
    except (OSError, RuntimeError, KeyError) as error:
        if mode == "r" and _BUSY.search(str(error)):
            raise BadInput(
                f"{file} is open for writing in another program (ilastik, a notebook), or was when that one died, or "
                "its disk has no file locks: close it there, or read a copy of the file; on a disk without locks set "
                f"the environment variable HDF5_USE_FILE_LOCKING=FALSE ({error})"
            ) from error
        if mode == "r":
            raise BadInput(f"{file} cannot be read as HDF5, is it truncated or damaged? {error}") from error
        raise OSError(f"cannot write {file}: {error}") from error


def _datasets(content: Any) -> list[str]:
    found = []

    def note(name, item):
        if getattr(item, "shape", None) is not None:  # a group has none, an empty dataset None
            found.append(f"/{name}")

    content.visititems(note)
    return found


def _only_dataset(file: Path, content: Any) -> str:
    found = _datasets(content)
    if len(found) != 1:
        example = f"; choose one, e.g. {file}:{found[0]}" if found else ""
        raise BadInput(f"{file} holds {len(found)} datasets ({', '.join(found[:8])}){example}")
    return found[0].strip("/")


def _said_by(dataset: Any) -> tuple[dict[str, Any], list[str]]:
    """The attributes and dimension labels that tell axes and voxel size, as far as they can be read."""
    attributes, labels = {}, []
    for key in _ATTRIBUTES:
        with contextlib.suppress(OSError, *said.MALFORMED):
            attributes[key] = dataset.attrs[key]
    with contextlib.suppress(OSError, *said.MALFORMED):
        labels = [dimension.label for dimension in dataset.dims]
    return attributes, labels


def _names(rank: int, attributes: dict, labels: list[str]) -> list:
    if "axistags" in attributes:
        return said.items(said.mapping(said.parsed(attributes["axistags"])).get("axes"))
    if any(labels):
        return [label for label in labels if label]
    conventional = rank == 3 and any(said.numbers(attributes.get(key), 3) for key in _LENGTHS)
    return ["z", "y", "x"] if conventional else []


def _voxel_size(attributes: dict) -> tuple[tuple[float, float, float] | None, str]:
    for key, unit in _LENGTHS.items():
        if key in attributes:
            lengths = said.items(attributes[key])
            lengths = lengths if len(lengths) == 3 else [attributes[key]] * 3
            return said.voxel_size({axis: (length, unit) for axis, length in zip("zyx", lengths, strict=True)})
    return None, ""
