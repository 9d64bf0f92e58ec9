"""Neuroglancer's precomputed volumes through TensorStore: always x y z c, resolution in nm in x y z."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.packed_chunks import look_at_chunks
from maeref_jax.volumes.formats.store import is_url, open_bare, open_store, read_json, split, write_store
from maeref_jax.volumes.formats.stored import Stored, joined
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust, check_inside
from maeref_jax.volumes.formats.zarr_store import stored_array

_DRIVER = "neuroglancer_precomputed"
_NEEDED = ("@type", "type", "data_type", "num_channels")
_SCALE_NEEDED = (
    "key", "size", "voxel_offset", "chunk_sizes", "encoding", "sharding", "compressed_segmentation_block_size",
    "jpeg_quality", "png_level",
)  # fmt: skip


def is_precomputed(location: str | Path) -> bool:
    """Whether the folder or URL is a precomputed volume, or one of its scales."""
    return _find(location) is not None


def open_precomputed(location: str | Path, trust: Trust = CAUTIOUS) -> Stored:
    """The finest scale of a precomputed volume, or the one whose folder is named ("…/volume/8_8_40").

    Chunks that their writer packed with gzip or brotli (CloudVolume does so by default) are read as others are.

    Raises:
        BadInput: metadata that cannot be read, a scale or links that lead out of the folder, or chunks packed with
            brotli where that package is missing.
    """
    root, info, index = _find(location)
    bare = _bare(info, index)
    if not is_url(root):
        key = said.text(bare["scales"][0].get("key"))
        check_inside(Path(root), Path(root) / key, trust, f"{(Path(root) / key).resolve()}, its scale {key[:200]}")
    store = open_bare(root, _DRIVER, "a precomputed volume", "info", bare, trust)
    scale = said.mapping(info["scales"][index])
    lengths = said.items(scale.get("resolution"))
    lengths = lengths if len(lengths) == 3 else [scale.get("resolution")] * 3
    size, doubt = said.voxel_size({axis: (length, "nm") for axis, length in zip("xyz", lengths, strict=True)})
    offset = tuple(store.domain.origin[:3])[::-1]
    begin = f"its first voxel is (z, y, x) = {offset} of the data set" if any(offset) else ""
    chunks, missing = look_at_chunks(root, bare, store, trust)
    fields = {"voxel_size_nm": size, "note": joined(begin, missing), "size_doubt": doubt}
    if chunks:
        return _stored(location, store, **fields)._replace(read=chunks.read)
    return _stored(location, store, **fields)


def create_precomputed(
    path: str | Path,
    shape: tuple[int, int, int],
    dtype: np.dtype,
    *,
    voxel_size_nm: tuple[float, float, float] | None = None,
    classes: int | None = None,
    chunk: tuple[int, int, int] = (32, 128, 128),
) -> Stored:
    """A precomputed image of one scale, uncompressed; the one that is there if it is the same. Never written is 0.

    Several processes may write at once if no two write into one chunk.

    Raises:
        BadInput: another volume is there (both are named), no voxel size (the format wants one), or a type that it
            does not hold.
        OSError: from `write`: the disk is full or gone.
    """
    if voxel_size_nm is None:
        raise BadInput(f"{path}: a precomputed volume states its voxel size; give voxel_size_nm (z, y, x)")
    spec = {
        "driver": _DRIVER,
        "multiscale_metadata": {"type": "image", "data_type": np.dtype(dtype).name, "num_channels": classes or 1},
        "scale_metadata": {
            "size": list(shape)[::-1],
            "resolution": [float(size) for size in reversed(voxel_size_nm)],
            "chunk_size": [min(c, n) for c, n in zip(reversed(chunk), reversed(shape), strict=True)],
            "encoding": "raw",
        },
        "open": True,
        "create": True,
    }
    store = open_store(path, spec, "a precomputed volume")
    write = {"write": lambda slices, array: write_store(_at_zero(store), slices, array)}
    return _stored(path, store, voxel_size_nm=voxel_size_nm, **write)


def _find(location: str | Path) -> tuple[str | Path, dict, int] | None:
    """(root of the volume, its metadata, which scale `location` means), None if it is no precomputed volume."""
    parent, name = split(location)
    for root, key in ((location, None), (parent, name)):
        info: dict[str, Any] = {}
        with contextlib.nullcontext() if key is None else contextlib.suppress(BadInput):  # the folder around may be any
            info = read_json(root, "info") or {}
        scales = info.get("scales")
        if not isinstance(scales, list) or not scales:
            continue
        keys = [said.mapping(scale).get("key") for scale in scales]
        if key is None or key in keys:
            return root, info, 0 if key is None else keys.index(key)
    return None


def _bare(info: dict[str, Any], index: int) -> dict[str, Any]:
    """The metadata of one scale without what is optional, and with voxels of 1 nm."""
    scale = said.mapping(info["scales"][index])
    wanted = {key: scale[key] for key in _SCALE_NEEDED if key in scale}
    return {key: info[key] for key in _NEEDED if key in info} | {"scales": [wanted | {"resolution": [1, 1, 1]}]}


def _at_zero(store: tensorstore.TensorStore) -> tensorstore.TensorStore:
    return store[tensorstore.d[:].translate_to[0]]


def _stored(location: str | Path, store: tensorstore.TensorStore, **fields: Any) -> Stored:
    return stored_array(location, _at_zero(store), axes="XYZC", raw_axes="x,y,z,channel", **fields)
