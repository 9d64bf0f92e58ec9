"""Zarr arrays (v2 and v3) through TensorStore: read lazily, written as v3, durable when a write returns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from maeref_jax.errors import BadInput
from maeref_jax.volumes.stored import Stored, to_voxel_size
from maeref_jax.volumes.windows import Box

_MARKERS = ("zarr.json", ".zarray", ".zgroup")


class ZarrArray:
    """A (z, y, x) array on disk; `read` and `write` take boxes inside its shape."""

    def __init__(self, store: tensorstore.TensorStore):
        self._store = store
        self.shape = tuple(store.shape)
        self.dtype = store.dtype.numpy_dtype

    def read(self, box: Box) -> np.ndarray:
        """The voxels of `box`. Raises BadInput for a chunk that is damaged."""
        return _read(self._store, box.slices)

    def write(self, box: Box, array: np.ndarray) -> None:
        """Writes `box` and returns when it is on disk (TensorStore syncs and renames every chunk file)."""
        if array.shape != box.shape or array.dtype != self.dtype:
            raise ValueError(f"cannot write {array.dtype} {array.shape} to a {self.dtype} box of {box.shape}")
        try:
            self._store[box.slices].write(array).result()
        except ValueError as error:  # TensorStore's only exception: disk full, folder gone, no permission
            raise OSError(f"cannot write {self._store.kvstore.path}: {error}") from error


def is_zarr(path: Path) -> bool:
    """Whether the folder is a Zarr array or group."""
    return any((path / marker).is_file() for marker in _MARKERS)


def open_zarr(path: Path) -> Stored:
    """The Zarr array in folder `path`. Axes from dimension_names (v3), _ARRAY_DIMENSIONS or "axes"
    attributes.

    Raises:
        BadInput: no Zarr, a group (its arrays are named), or metadata that cannot be read.
    """
    if not is_zarr(path):
        raise BadInput(f"{path} is a folder but no Zarr array: none of {', '.join(_MARKERS)} in it")
    metadata, attributes = _metadata(path)
    if metadata is None:
        inner = sorted(str(child) for child in path.iterdir() if child.is_dir() and is_zarr(child))
        raise BadInput(f"{path} is a Zarr group, expected an array; give one of: {', '.join(inner) or 'none here'}")
    driver = "zarr3" if (path / "zarr.json").is_file() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path.absolute())}}
    try:
        store = tensorstore.open(spec, read=True).result()
    except ValueError as error:
        raise BadInput(f"{path} cannot be opened as a Zarr array: {error}") from error
    names = metadata.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS") or attributes.get("axes") or []
    letters = [str(name).upper() for name in names]
    known = len(letters) == store.rank and set(letters) <= set("TCZYX")
    axes = "".join(letters) if known else None
    raw_axes = ",".join(map(str, names)) or "?" * store.rank
    size = attributes.get("voxel_size_nm")
    voxel_size_nm = to_voxel_size(dict(zip("zyx", map(float, size), strict=True))) if size else None
    return Stored(
        path,
        tuple(store.shape),
        store.dtype.numpy_dtype,
        axes,
        raw_axes,
        voxel_size_nm,
        lambda slices: _read(store, slices),
    )


def create_zarr(
    path: Path, shape: tuple[int, int, int], dtype: Any, chunk: tuple[int, int, int], attributes: dict
) -> ZarrArray:
    """Creates the (z, y, x) array, or opens the one that is there with the same shape, type and chunks.

    Chunks are compressed and carry a checksum, so that a damaged one is an error and never wrong voxels.
    Voxels that were never written read as 0.

    Raises:
        BadInput: another array is there, or the folder cannot be written.
    """
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(Path(path).absolute())},
        "metadata": {
            "shape": list(shape),
            "data_type": np.dtype(dtype).name,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [min(c, s) for c, s in zip(chunk, shape, strict=True)]},
            },
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
                {"name": "crc32c"},
            ],
            "dimension_names": ["z", "y", "x"],
            "attributes": attributes,
        },
    }
    if np.dtype(dtype).itemsize == 1:
        spec["metadata"]["codecs"][0] = {"name": "bytes"}
    try:
        return ZarrArray(tensorstore.open(spec, open=True, create=True).result())
    except ValueError as error:
        raise BadInput(f"cannot create the array {path}: {error}") from error


def _metadata(path: Path) -> tuple[dict | None, dict]:
    """(array metadata, attributes); the first is None for a group."""
    try:
        if (path / "zarr.json").is_file():
            metadata = json.loads((path / "zarr.json").read_text())
            return (metadata if metadata["node_type"] == "array" else None), metadata.get("attributes", {})
        attributes = path / ".zattrs"
        attributes = json.loads(attributes.read_text()) if attributes.is_file() else {}
        if not (path / ".zarray").is_file():
            return None, attributes
        return json.loads((path / ".zarray").read_text()), attributes
    except (json.JSONDecodeError, KeyError) as error:
        raise BadInput(f"{path} has damaged Zarr metadata: {error}") from error


def _read(store: tensorstore.TensorStore, slices: tuple[slice, ...]) -> np.ndarray:
    try:
        return np.asarray(store[slices].read().result())
    except ValueError as error:
        raise BadInput(f"cannot read {store.kvstore.path}, is a chunk damaged? {error}") from error
