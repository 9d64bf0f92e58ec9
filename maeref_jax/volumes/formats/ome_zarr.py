"""OME-Zarr written: images and labels with their metadata, 0.5 (Zarr v3, sharded if wished) or 0.4 (Zarr v2).

a.ome.zarr/0                     the image
a.ome.zarr/labels/refined/0      labels on the image's grid
…/1, …/2                         coarser levels, made by pyramid.py when the first is whole
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.ome_metadata import (
    VERSIONS,
    channel_attributes,
    dataset_paths,
    describe,
    images,
    label_attributes,
    multiscale_attributes,
    ome_attributes,
)
from maeref_jax.volumes.formats.store import join, split, write_json, write_store
from maeref_jax.volumes.formats.stored import Stored
from maeref_jax.volumes.formats.zarr_store import create_array, metadata_of, open_zarr, stored_array

CHUNK = (32, 128, 128)


def create_ome_zarr(
    path: str | Path,
    shape: tuple[int, int, int],
    dtype: Any,
    *,
    voxel_size_nm: tuple[float, float, float] | None = None,
    classes: int | None = None,
    chunk: tuple[int, int, int] = CHUNK,
    shard: tuple[int, int, int] | None = None,
    version: str = "0.5",
    channels: Sequence[str] = (),
) -> Stored:
    """An OME-Zarr image (z, y, x), or (c, z, y, x) where `classes` is set; the one that is there if it is the same.

    Voxels that were never written read as 0. Several processes may write at once if no two write into one chunk, or,
    where there are shards, into one shard.

    Args:
        voxel_size_nm: (z, y, x); None writes a scale of 1 without a unit.
        shard: (z, y, x) shape of the files, a multiple of `chunk`; 0.5 only. None: a file per chunk.
        channels: names of the classes.

    Raises:
        BadInput: something else is there (both are named), a version that is not written, shards that do not fit.
        OSError: from `write`: the disk is full or gone.
    """
    extra = channel_attributes(channels, np.dtype(dtype)) if channels else {}
    if channels and len(channels) != classes:
        raise BadInput(f"{path}: {len(channels)} channel names ({', '.join(channels)}) for {classes} classes")
    return _create(path, shape, dtype, voxel_size_nm, classes, chunk, shard, version, extra)


def create_labels(
    image: str | Path,
    name: str,
    shape: tuple[int, int, int],
    dtype: Any,
    *,
    voxel_size_nm: tuple[float, float, float] | None = None,
    chunk: tuple[int, int, int] = CHUNK,
    shard: tuple[int, int, int] | None = None,
    version: str = "0.5",
    names: Sequence[str] = (),
    colours: Sequence[Sequence[int]] = (),
) -> Stored:
    """The labels image/labels/name, listed where viewers look for it; as `create_ome_zarr` otherwise.

    Args:
        image: the OME-Zarr folder; a group without an image is made if nothing is there.
        names, colours: class names and (r, g, b) of 0 to 255 of the labels 0, 1, …

    Raises:
        BadInput: as in `create_ome_zarr`; labels that are no whole numbers, or not of the image's shape.
    """
    if np.dtype(dtype).kind not in "ui":
        raise BadInput(f"{image}/labels/{name}: labels of {np.dtype(dtype)}, OME-Zarr wants whole numbers")
    is_array, _, attributes = metadata_of(image)
    has_image = bool(dataset_paths(attributes, str(image)))
    if has_image and open_zarr(image).shape[-3:] != tuple(shape):
        raise BadInput(f"labels '{name}' of shape {tuple(shape)} for {image} of shape {open_zarr(image).shape}")
    if is_array is None:
        write_group(image, version, {})
    labels = join(image, "labels")
    _, _, listed = metadata_of(labels)
    found = said.items(ome_attributes(listed).get("labels"))
    extra = label_attributes(version, names, colours, "../../" if has_image else None)
    stored = _create(join(labels, name), shape, dtype, voxel_size_nm, None, chunk, shard, version, extra)
    if name not in found:
        write_group(labels, version, {"labels": [*found, name]})
    return stored


def create_label_image(
    path: str | Path,
    shape: tuple[int, int, int],
    dtype: Any,
    *,
    voxel_size_nm: tuple[float, float, float] | None = None,
    chunk: tuple[int, int, int] = CHUNK,
    version: str = "0.5",
    names: Sequence[str] = (),
    colours: Sequence[Sequence[int]] = (),
) -> Stored:
    """A label image that belongs to no other, such as a mask; as `create_labels`, but at `path` itself."""
    extra = label_attributes(version, names, colours, None)
    return _create(path, shape, dtype, voxel_size_nm, None, chunk, None, version, extra)


def write_group(path: str | Path, version: str, ome: dict, others: dict | None = None) -> None:
    """Writes a group's metadata, what was there is gone: `ome` as the version wants it, and `others` beside them."""
    if version == "0.5":
        attributes = {"ome": {"version": version} | ome} | (others or {})
        write_json(path, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})
    else:
        write_json(path, ".zgroup", {"zarr_format": 2})
        write_json(path, ".zattrs", ome | (others or {}))


def _create(path, shape, dtype, voxel_size_nm, classes, chunk, shard, version, extra) -> Stored:
    if version not in VERSIONS:
        raise BadInput(f"{path}: OME-Zarr version {version}, expected one of {', '.join(VERSIONS)}")
    if shard is not None and (version == "0.4" or any(s % c for s, c in zip(shard, chunk, strict=True))):
        raise BadInput(
            f"{path}: shards of {shard} for chunks of {chunk} in OME-Zarr {version}, expected multiples and version 0.5"
        )
    lead = () if classes is None else (classes,)
    axes = "ZYX" if classes is None else "CZYX"
    one = (1,) * len(lead)
    attributes = multiscale_attributes(
        version,
        name=split(path)[1],
        axes=axes,
        voxel_size_nm=voxel_size_nm,
        factors=[(1, 1, 1)],
        centred=False,
        method="",
    )
    is_array, _, present = metadata_of(path)
    _check_version(path, version, is_array, present)
    levels = dataset_paths(present, str(path))
    if levels:
        found, wanted = (describe(a, "0", len(axes)) for a in (present, attributes))
        if found[:3] != wanted[:3]:
            raise BadInput(
                f"{path} is there with axes {found.axes} and voxels of {found.voxel_size_nm} nm, "
                f"expected {axes} and {voxel_size_nm}; give these, choose another place, or remove it"
            )
    store = create_array(
        join(path, "0"),
        (*lead, *shape),
        dtype,
        (*one, *chunk),
        names=axes.lower(),
        shard=None if shard is None else (*one, *shard),
        version=2 if version == "0.4" else 3,
    )
    if not levels:
        others = {name: value for name, value in present.items() if name != "ome"} if version == "0.5" else {}
        write_group(path, version, ome_attributes(present) | attributes | extra, others)
    return stored_array(
        path,
        store,
        axes=axes,
        raw_axes=axes.lower(),
        voxel_size_nm=voxel_size_nm,
        write=lambda slices, array: write_store(store, slices, array),
    )


def _check_version(path: str | Path, version: str, is_array: bool | None, present: dict) -> None:
    if is_array:
        raise BadInput(f"{path} is a Zarr array, expected an OME-Zarr group or nothing; choose another name")
    first = {} if "ome" in present else next(iter(images(present)), {})
    found = ome_attributes(present).get("version") if "ome" in present else first.get("version")
    if is_array is not None and found not in (None, version):
        raise BadInput(f"{path} is OME-Zarr {found}, expected {version}; choose another name or version")
