"""Zarr arrays (v2 and v3) and OME-Zarr groups through TensorStore: read lazily; arrays written as v3 or v2.

What is written is on disk when the write returns.
"""

import contextlib
import functools
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import blosc_chunks, said
from maeref_jax.volumes.formats.ome_metadata import dataset_paths, describe, images, paths_of
from maeref_jax.volumes.formats.store import (
    is_url,
    join,
    missing_chunks,
    open_bare,
    open_store,
    read_json,
    read_store,
    split,
    write_store,
)
from maeref_jax.volumes.formats.stored import Stored
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust, check_inside

_NO_MEANS = ("nearest", "mode")  # types of pyramid whose levels are no means of the finest, as pyramid.py writes them
_OPTIONAL = ("attributes", "dimension_names")  # of zarr.json
_MARKERS = ("zarr.json", ".zarray", ".zgroup")


def is_zarr(location: str | Path) -> bool:
    """Whether the folder or URL is a Zarr array or group."""
    return any(read_json(location, marker) is not None for marker in _MARKERS)


def open_zarr(location: str | Path, trust: Trust = CAUTIOUS) -> Stored:
    """A Zarr array, or the finest level of an OME-Zarr image.

    Axes and voxel size come from the OME metadata of the group that the array belongs to, or else from
    dimension_names (v3), _ARRAY_DIMENSIONS or "axes", and "voxel_size_nm" attributes.

    Raises:
        BadInput: no Zarr, a group that is no image (its arrays are named), an array that cannot be opened or
            leads out of itself, or an OME-Zarr level that is not there.
    """
    is_array, metadata, attributes = metadata_of(location)
    if is_array is None:
        raise BadInput(f"{location} is a folder but no Zarr array: none of {', '.join(_MARKERS)} in it")
    if is_array:
        return _open_array(location, location, metadata, attributes, *_group_of(location), trust)
    paths = dataset_paths(attributes, str(location))
    if not paths:
        raise BadInput(
            f"{location} is a Zarr group without OME metadata, expected an array or an OME-Zarr image; "
            f"give one of: {_inner(location)}"
        )
    inner = join(location, paths[0])
    if not is_url(location):
        check_inside(Path(location), Path(inner), trust, paths[0][:200])
    is_array, metadata, own = metadata_of(inner)
    if not is_array:
        raise BadInput(f"{location}: its OME metadata name the array '{paths[0]}', which is not there; copy it again")
    found = _open_array(location, inner, metadata, own, attributes, paths[0], trust)
    if said.text(images(attributes)[0].get("type")) in _NO_MEANS:
        return found
    return found._replace(levels=tuple(functools.partial(_open_level, location, path, trust) for path in paths[1:]))


def _open_level(location: str | Path, path: str, trust: Trust) -> Stored:
    inner = join(location, path)
    if not is_url(location):
        check_inside(Path(location), Path(inner), trust, path[:200])
    try:
        return open_zarr(inner, trust)
    except BadInput as error:
        finest = join(location, dataset_paths(metadata_of(location)[2], str(location))[0])
        raise BadInput(f"{error}; to do without coarser levels, give {finest}") from error


def create_bare_zarr(
    path: str | Path,
    shape: tuple[int, int, int],
    dtype: Any,
    *,
    voxel_size_nm: tuple[float, float, float] | None = None,
    classes: int | None = None,
    chunk: tuple[int, int, int] = (32, 128, 128),
) -> Stored:
    """A (z, y, x) array, (c, z, y, x) where `classes` is set, with the attribute "voxel_size_nm"; as `create_array`."""
    lead = () if classes is None else (classes,)
    axes = "ZYX" if classes is None else "CZYX"
    attributes = {} if voxel_size_nm is None else {"voxel_size_nm": [float(size) for size in voxel_size_nm]}
    chunk = (*(1 for _ in lead), *chunk)
    store = create_array(path, (*lead, *shape), dtype, chunk, names=axes.lower(), attributes=attributes)
    fields = {"axes": axes, "raw_axes": axes.lower(), "voxel_size_nm": voxel_size_nm}
    return stored_array(path, store, **fields, write=lambda slices, array: write_store(store, slices, array))


def create_array(
    location: str | Path,
    shape: tuple[int, ...],
    dtype: Any,
    chunk: tuple[int, ...],
    *,
    names: str,
    attributes: dict | None = None,
    shard: tuple[int, ...] | None = None,
    version: int = 3,
) -> tensorstore.TensorStore:
    """Creates the array, or opens the one that is there with the same shape, type and chunks.

    Chunks are compressed and carry a checksum, so that a damaged one is an error and never wrong voxels.
    Voxels that were never written read as 0.

    Args:
        names: one letter per axis.
        shard: shape of the files, a multiple of `chunk`, each with many chunks (version 3); None: a file per chunk.
        version: 3, or 2 with chunk files in folders ("0/0/0") and gzip, whose checksum v2's other codecs lack.

    Raises:
        BadInput: another array is there, or the folder cannot be written.
    """
    dtype = np.dtype(dtype)
    chunk = [min(c, s) for c, s in zip(chunk, shape, strict=True)]
    if version == 2:
        metadata = {"shape": list(shape), "chunks": chunk, "dtype": dtype.str, "fill_value": 0}
        metadata |= {"compressor": {"id": "gzip", "level": 1}, "dimension_separator": "/"}
        return open_store(
            location, {"driver": "zarr", "metadata": metadata, "open": True, "create": True}, "a Zarr array"
        )
    little = {"name": "bytes"} | ({} if dtype.itemsize == 1 else {"configuration": {"endian": "little"}})
    zstd = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
    codecs = [little, zstd, {"name": "crc32c"}]
    file_shape = chunk
    if shard is not None:
        file_shape = [-(-min(f, s) // c) * c for f, s, c in zip(shard, shape, chunk, strict=True)]
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        inner = {"chunk_shape": chunk, "codecs": codecs, "index_codecs": index}
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    metadata = {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": file_shape}},
        "codecs": codecs,
        "dimension_names": list(names),
        "attributes": attributes or {},
    }
    return open_store(location, {"driver": "zarr3", "metadata": metadata, "open": True, "create": True}, "a Zarr array")


def metadata_of(location: str | Path) -> tuple[bool | None, dict, dict]:
    """(whether an array, None for no Zarr at all; its metadata; its attributes). Raises BadInput for damage."""
    metadata = read_json(location, "zarr.json")
    if metadata is not None:
        if metadata.get("node_type") not in ("array", "group"):
            raise BadInput(f"{location} has damaged Zarr metadata: no node_type in zarr.json")
        return metadata["node_type"] == "array", metadata, dict(said.mapping(metadata.get("attributes")))
    metadata = read_json(location, ".zarray")
    if metadata is None and read_json(location, ".zgroup") is None:
        return None, {}, {}
    return metadata is not None, metadata or {}, read_json(location, ".zattrs") or {}


def stored_array(location: str | Path, store: tensorstore.TensorStore, **fields: Any) -> Stored:
    """A TensorStore array as Stored, read only unless `fields` has a write."""
    return Stored(
        location,
        tuple(store.shape),
        store.dtype.numpy_dtype,
        read=lambda slices: read_store(store, slices, location),
        **fields,
    )


def _open_array(
    location: str | Path, inner: str | Path, metadata: dict, attributes: dict, group: dict, name: str, trust: Trust
) -> Stored:
    driver, name_of = ("zarr3", "zarr.json") if "node_type" in metadata else ("zarr", ".zarray")
    store = open_bare(inner, driver, "a Zarr array", name_of, _needed(metadata), trust)
    names = (metadata.get("dimension_names"), attributes.get("_ARRAY_DIMENSIONS"), attributes.get("axes"))
    names = next((said.items(found) or list(said.text(found)) for found in names if found), [])
    axes, raw_axes = said.axes(names, store.rank)
    lengths = said.items(attributes.get("voxel_size_nm"))
    lengths = lengths if len(lengths) == 3 else [attributes.get("voxel_size_nm")] * 3
    size, doubt = said.voxel_size({axis: (length, "nm") for axis, length in zip("zyx", lengths, strict=True)})
    channels: tuple[str, ...] = ()
    if name:
        found = describe(group, name, store.rank)
        if None not in (axes, found.axes) and axes != found.axes:
            raw_axes = f"{raw_axes} by the array, {found.raw_axes} by its OME metadata"
            axes = None
        else:
            axes, raw_axes = found.axes or axes, raw_axes if found.axes is None and axes else found.raw_axes
        size, doubt, channels = found.voxel_size_nm or size, found.size_doubt or doubt, found.channels
    note = missing_chunks(inner, store)
    fields = {"voxel_size_nm": size, "size_doubt": "" if size else doubt, "channels": channels, "note": note}
    found = stored_array(location, store, axes=axes, raw_axes=raw_axes, **fields)
    names = None if is_url(inner) else blosc_chunks.named(metadata)
    return blosc_chunks.checked(found, Path(inner), store, names) if names else found


def _needed(metadata: dict) -> dict:
    """What is needed to read the voxels. zarr-python says of zstd whether there are checksums: the data say so too, and
    TensorStore does not know the entry.
    """
    found = {key: value for key, value in metadata.items() if key not in _OPTIONAL}
    compressor = said.mapping(found.get("compressor"))
    if compressor.get("id") == "zstd":
        found["compressor"] = {key: value for key, value in compressor.items() if key != "checksum"}
    return found


def _group_of(location: str | Path) -> tuple[dict, str]:
    """Attributes of the OME-Zarr image whose level this array is, and the level's path in it; ({}, "") if none."""
    path = ""
    for _ in range(2):  # levels are "0" or "scale0/image"
        location, name = split(location)
        path = f"{name}/{path}" if path else name
        attributes: dict = {}
        with contextlib.suppress(BadInput):  # an array is one without its group
            attributes = metadata_of(location)[2]
        if any(path in paths_of(image) for image in images(attributes)):
            return attributes, path
    return {}, ""


def _inner(location: str | Path) -> str:
    if is_url(location):
        return "its arrays (a URL cannot be listed)"
    folders = (child for child in sorted(Path(location).iterdir()) if child.is_dir())
    return ", ".join(str(child) for child in folders if is_zarr(child)) or "none here"
