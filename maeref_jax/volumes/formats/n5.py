"""N5 arrays through TensorStore. N5 lists its fastest axis first: x y z, and x y z c with classes."""

from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import blosc_chunks, said
from maeref_jax.volumes.formats.store import (
    is_url,
    missing_chunks,
    open_bare,
    open_store,
    read_json,
    write_json,
    write_store,
)
from maeref_jax.volumes.formats.stored import Stored
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust
from maeref_jax.volumes.formats.zarr_store import stored_array

_FILE = "attributes.json"
_NEEDED = ("dimensions", "dataType", "blockSize", "compression", "compressionType")


def is_n5(location: str | Path) -> bool:
    """Whether the folder or URL is an N5 array or group."""
    return read_json(location, _FILE) is not None


def open_n5(location: str | Path, trust: Trust = CAUTIOUS) -> Stored:
    """The N5 array in a folder or URL.

    Axes and voxel size: `axes` with `resolution` and `units` (neuroglancer), `transform` (OpenOrganelle), or
    `pixelResolution` (n5-viewer, which means x y z). Without any of them the axes are not known.

    Raises:
        BadInput: a group (its arrays are named), or an array that cannot be opened or leads out of itself.
    """
    attributes = read_json(location, _FILE) or {}
    if "dimensions" not in attributes:
        children = [] if is_url(location) else sorted(Path(location).rglob(_FILE))
        inner = [str(child.parent) for child in children if "dimensions" in (read_json(child.parent, _FILE) or {})]
        found = ", ".join(inner[:8]) or ("a URL cannot be listed" if is_url(location) else "none here")
        raise BadInput(f"{location} is an N5 group, expected an array; give one of: {found}")
    needed = {key: attributes[key] for key in _NEEDED if key in attributes}
    store = open_bare(location, "n5", "an N5 array", _FILE, needed, trust)
    names, lengths = _described(attributes, store.rank)
    axes, raw_axes = said.axes(names, store.rank)
    size, doubt = said.voxel_size(lengths)
    found = stored_array(
        location,
        store,
        axes=axes,
        raw_axes=raw_axes if names else "not said; N5 lists the fastest axis first, so mostly XYZ",
        voxel_size_nm=size,
        note=missing_chunks(location, store),
        size_doubt=doubt,
    )
    chunks = None if is_url(location) else blosc_chunks.named(attributes)
    return blosc_chunks.checked(found, Path(location), store, chunks) if chunks else found


def create_n5(
    path: str | Path,
    shape: tuple[int, int, int],
    dtype: np.dtype,
    *,
    voxel_size_nm: tuple[float, float, float] | None = None,
    classes: int | None = None,
    chunk: tuple[int, int, int] = (32, 128, 128),
) -> Stored:
    """A gzip-compressed N5 array x y z, or x y z c; the one that is there if it is the same. Never written is 0.

    Several processes may write at once if no two write into one chunk.

    Raises:
        BadInput: another array is there (both are named), or a type that N5 does not hold.
        OSError: from `write`: the disk is full or gone.
    """
    last = () if classes is None else (classes,)
    axes = "XYZ" if classes is None else "XYZC"
    metadata: dict[str, Any] = {
        "dimensions": [*reversed(shape), *last],
        "blockSize": [*(min(c, n) for c, n in zip(reversed(chunk), reversed(shape), strict=True)), *(1 for _ in last)],
        "dataType": np.dtype(dtype).name,
        "compression": {"type": "gzip", "level": 1},
        "axes": list(axes.lower()),
    }
    if voxel_size_nm is not None:
        metadata["resolution"] = [*(float(size) for size in reversed(voxel_size_nm)), *(1.0 for _ in last)]
        metadata["units"] = [*["nm"] * 3, *("" for _ in last)]
    store = open_store(path, {"driver": "n5", "metadata": metadata, "open": True, "create": True}, "an N5 array")
    attributes = read_json(path, _FILE)
    if voxel_size_nm is not None and "pixelResolution" not in attributes:
        size = {"dimensions": metadata["resolution"][:3], "unit": "nm"}
        write_json(path, _FILE, attributes | {"pixelResolution": size})  # n5-viewer and Fiji read this one
    fields = {"axes": axes, "raw_axes": axes.lower(), "voxel_size_nm": voxel_size_nm}
    return stored_array(path, store, **fields, write=lambda slices, array: write_store(store, slices, array))


def _described(attributes: dict, rank: int) -> tuple[list[str], dict[str, tuple[Any, Any]]]:
    """Names of the axes in the array's order, and (length, unit) of each; [] and {} as far as nothing is said."""
    resolution, transform = (said.mapping(attributes.get(key)) for key in ("pixelResolution", "transform"))
    names = [said.text(name) for name in said.items(attributes.get("axes"))]
    lengths = _lengths(names, attributes.get("resolution"), attributes.get("units"))
    if lengths or (names and not resolution):
        return names, lengths
    if "axes" in transform and not names:
        order = 1 if transform.get("ordering") == "F" else -1
        named, scale, units = (said.items(transform.get(key))[::order] for key in ("axes", "scale", "units"))
        named = [said.text(name) for name in named]
        return named, _lengths(named, scale, units)
    if len(said.items(resolution.get("dimensions"))) == 3:
        lengths = _lengths(list("xyz"), resolution["dimensions"], [resolution.get("unit")] * 3)
        return names or (["x", "y", "z"] if rank == 3 else []), lengths
    return names, {}


def _lengths(names: list[str], lengths: Any, units: Any) -> dict[str, tuple[Any, Any]]:
    lengths, units = said.items(lengths), said.items(units)
    if not len(names) == len(lengths) == len(units):
        return {}
    found = zip((name.lower() for name in names), zip(lengths, units, strict=True), strict=True)
    return {name: length for name, length in found if name in ("z", "y", "x")}
