"""Coarser levels of an OME-Zarr image or label map, block by block: labels by mode or nearest, never by averaging."""

import itertools
from pathlib import Path

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.ome_metadata import dataset_paths, describe, multiscale_attributes, ome_attributes
from maeref_jax.volumes.formats.store import join, open_store, read_store, write_json, write_store
from maeref_jax.volumes.formats.zarr_store import create_array, metadata_of
from maeref_jax.volumes.windows import blocks

METHODS = ("mode", "nearest", "mean")


def write_pyramid(path: str | Path, method: str, *, smallest: int = 64) -> list[tuple[int, int, int]]:
    """Writes the levels 1, 2, … of an OME-Zarr image written here, then lists them in its metadata.

    Every level halves the axes whose voxels are less than twice as long as the shortest, so that voxels become
    isotropic first, until y and x are at most `smallest`. An axis of one voxel stays. May be repeated; needs memory
    for a few chunks (shards, where there are any).

    Args:
        method: "mode" (the most frequent value of a block, the first one where several are), "nearest" (the block's
            first voxel) or "mean" (images only).

    Returns:
        The factors (z, y, x) of all levels, the first one (1, 1, 1).

    Raises:
        BadInput: no OME-Zarr image, another method, or "mean" of labels.
    """
    is_array, _, attributes = metadata_of(path)
    if is_array is not False or "0" not in dataset_paths(attributes, str(path)):
        raise BadInput(f"{path} is no OME-Zarr image with a level '0'")
    ome = ome_attributes(attributes)
    if method not in METHODS or (method == "mean" and "image-label" in ome):
        raise BadInput(f"{path}: a pyramid by '{method}', expected one of {', '.join(METHODS)}, and no mean of labels")
    version = "0.5" if "ome" in attributes else "0.4"
    driver = "zarr" if version == "0.4" else "zarr3"
    finest = open_store(join(path, "0"), {"driver": driver, "open": True}, "a Zarr array")
    found = describe(attributes, "0", finest.rank)
    factors = level_factors(finest.shape[-3:], found.voxel_size_nm, smallest)
    source = finest
    for level, factor in enumerate(factors[1:], 1):
        step = tuple(b // a for a, b in zip(factors[level - 1], factor, strict=True))
        source = _write_level(path, level, source, finest, step, found.axes, version, method)
    described = multiscale_attributes(
        version,
        name=ome["multiscales"][0].get("name", ""),
        axes=found.axes,
        voxel_size_nm=found.voxel_size_nm,
        factors=factors,
        centred=method != "nearest",
        method=method,
    )
    if version == "0.5":
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes | {"ome": ome | described}}
        write_json(path, "zarr.json", group)
    else:
        write_json(path, ".zattrs", attributes | described)
    return factors


def level_factors(
    shape: tuple[int, int, int], voxel_size_nm: tuple[float, float, float] | None, smallest: int
) -> list[tuple[int, int, int]]:
    """By how much each level is coarser than the first, (z, y, x); isotropic voxels where their size is unknown."""
    size = np.array(voxel_size_nm or (1.0, 1.0, 1.0))
    factors = [(1, 1, 1)]
    while max(-(-n // f) for n, f in zip(shape[1:], factors[-1][1:], strict=True)) > smallest:
        now = size * factors[-1]
        long = np.array([-(-n // f) > 1 for n, f in zip(shape, factors[-1], strict=True)])
        halved = long & (now < 2 * now[long].min())
        factors.append(tuple(int(f * (2 if half else 1)) for f, half in zip(factors[-1], halved, strict=True)))
    return factors


def downsample(array: np.ndarray, step: tuple[int, int, int], method: str) -> np.ndarray:
    """(…, z, y, x) -> the same dtype with every block of `step` voxels made one; odd ends are repeated."""
    if method == "nearest":
        return array[(..., *(slice(None, None, s) for s in step))]
    missing = [(0, 0)] * (array.ndim - 3) + [(0, -n % s) for n, s in zip(array.shape[-3:], step, strict=True)]
    padded = np.pad(array, missing, mode="edge")
    members = [
        padded[(..., *(slice(start, None, s) for start, s in zip(offset, step, strict=True)))]
        for offset in itertools.product(*map(range, step))
    ]
    if method == "mean":
        mean = sum(member.astype(np.float64) for member in members) / len(members)
        return (mean if array.dtype.kind == "f" else np.rint(mean)).astype(array.dtype)
    result = members[0].copy()
    mixed = np.zeros(result.shape, bool)
    for member in members[1:]:
        mixed |= member != result
    members = [member[mixed] for member in members]
    best, votes = members[0].copy(), np.zeros(len(members[0]), np.uint8)
    for member in members:
        count = sum((member == other).view(np.uint8) for other in members)
        wins = count > votes  # the first of several equally frequent values stays
        best[wins], votes[wins] = member[wins], count[wins]
    result[mixed] = best
    return result


def _write_level(path, level, source, finest, step, axes, version, method):
    lead = source.shape[:-3]
    shape = tuple(-(-n // s) for n, s in zip(source.shape[-3:], step, strict=True))
    layout = finest.chunk_layout
    chunk, files = layout.read_chunk.shape, layout.write_chunk.shape
    store = create_array(
        join(path, str(level)),
        (*lead, *shape),
        finest.dtype.numpy_dtype,
        chunk,
        names=axes.lower(),
        shard=files if files != chunk else None,
        version=2 if version == "0.4" else 3,
    )
    for channel in itertools.product(*map(range, lead)):
        at = tuple(slice(c, c + 1) for c in channel)
        for box in blocks(shape, files[-3:]):
            fine = tuple(
                slice(a * s, min(b * s, n))
                for a, b, s, n in zip(box.start, box.stop, step, source.shape[-3:], strict=True)
            )
            write_store(store, (*at, *box.slices), downsample(read_store(source, (*at, *fine), path), step, method))
    return store
