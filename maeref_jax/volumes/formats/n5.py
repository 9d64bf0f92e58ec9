"""N5 arrays through TensorStore. N5 lists its fastest axis first: x y z, and x y z c with classes."""

from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.store import is_url, missing_chunks, open_store, read_json, write_json, write_store
from maeref_jax.volumes.formats.stored import NANOMETRES, Stored, to_voxel_size
from maeref_jax.volumes.formats.zarr_store import stored_array

_FILE = "attributes.json"


def is_n5(location: str | Path) -> bool:
    """Whether the folder or URL is an N5 array or group."""
    return read_json(location, _FILE) is not None


def open_n5(location: str | Path) -> Stored:
    """The N5 array in a folder or URL.

    Axes and voxel size: `axes` with `resolution` and `units` (neuroglancer), `transform` (OpenOrganelle), or
    `pixelResolution` (n5-viewer, which means x y z). Without any of them the axes are not known.

    Raises:
        BadInput: a group (its arrays are named), or metadata that cannot be read or do not fit the array.
    """
    attributes = read_json(location, _FILE) or {}
    if "dimensions" not in attributes:
        children = [] if is_url(location) else sorted(Path(location).rglob(_FILE))
        inner = [str(child.parent) for child in children if "dimensions" in (read_json(child.parent, _FILE) or {})]
        found = ", ".join(inner[:8]) or ("a URL cannot be listed" if is_url(location) else "none here")
        raise BadInput(f"{location} is an N5 group, expected an array; give one of: {found}")
    rank = len(attributes["dimensions"])
    names, sizes = _described(attributes, rank)
    if names and len(names) != rank:
        raise BadInput(f"{location}: its attributes name {len(names)} axes ({','.join(names)}), it has {rank}")
    store = open_store(location, {"driver": "n5", "open": True}, "an N5 array")
    letters = "".join(name.upper() for name in names)
    known = bool(names) and len(letters) == rank and set(letters) <= set("TCZYX")
    return stored_array(
        location,
        store,
        axes=letters if known else None,
        raw_axes=",".join(names) or "not said; N5 lists the fastest axis first, so mostly XYZ",
        voxel_size_nm=to_voxel_size(sizes),
        note=missing_chunks(location, store),
    )


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


def _described(attributes: dict, rank: int) -> tuple[list[str], dict[str, float | None]]:
    """Names of the axes in the array's order, and lengths of voxels in nm; [] and {} as far as nothing is said."""
    resolution, transform = attributes.get("pixelResolution"), attributes.get("transform")
    names = [str(name) for name in attributes.get("axes", [])]
    if names:
        sizes = _sizes(names, attributes.get("resolution"), attributes.get("units"))
        if sizes or not isinstance(resolution, dict):
            return names, sizes
    if isinstance(transform, dict) and "axes" in transform:
        order = 1 if transform.get("ordering") == "F" else -1
        named = [str(name) for name in transform["axes"]][::order]
        return names or named, _sizes(named, transform.get("scale", [])[::order], transform.get("units", [])[::order])
    if isinstance(resolution, dict) and len(resolution.get("dimensions", [])) == 3:
        units = [resolution.get("unit", "")] * 3
        return names or (["x", "y", "z"] if rank == 3 else []), _sizes("xyz", resolution["dimensions"], units)
    return names, {}


def _sizes(names: Any, lengths: list | None, units: list | None) -> dict[str, float | None]:
    if not lengths or not units or not len(names) == len(lengths) == len(units):
        return {}
    return {
        name.lower(): float(f"{float(length) * NANOMETRES[str(unit).lower()]:.12g}")
        for name, length, unit in zip(names, lengths, units, strict=True)
        if str(unit).lower() in NANOMETRES
    }
