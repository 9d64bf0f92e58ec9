"""OME-Zarr metadata 0.4 and 0.5 as plain dictionaries: what a group says of its arrays, and what we say of ours."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said

VERSIONS = ("0.4", "0.5")


class Described(NamedTuple):
    """What a group's metadata says of one of its arrays.

    axes: letters in the array's order, None where they are not said or do not fit; raw_axes: the names as written
    voxel_size_nm: (z, y, x), None where a scale or unit is missing; channels: names, or ()
    size_doubt: what is said of the voxel size and cannot be used, or ""
    """

    axes: str | None
    raw_axes: str
    voxel_size_nm: tuple[float, float, float] | None
    channels: tuple[str, ...]
    size_doubt: str = ""


def ome_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """Where the group's OME metadata are: under "ome" since 0.5, the attributes themselves before."""
    return dict(said.mapping(attributes.get("ome", attributes)))


def images(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """The multiscale images of a group."""
    return [dict(said.mapping(image)) for image in said.items(ome_attributes(attributes).get("multiscales"))]


def paths_of(image: dict[str, Any]) -> list[str]:
    """Paths of a multiscale image's arrays in its group, the finest first, as far as they are said."""
    paths = [said.mapping(dataset).get("path") for dataset in said.items(image.get("datasets"))]
    return [path for path in paths if isinstance(path, str) and path]


def dataset_paths(attributes: dict[str, Any], where: str) -> list[str]:
    """Paths of the one multiscale image of a group, the finest first; [] if the group is none.

    Raises:
        BadInput: several images in one group, or metadata without datasets.
    """
    found = images(attributes)
    if not found:
        return []
    if len(found) > 1:
        raise BadInput(f"{where} holds {len(found)} multiscale images, expected one; give one of its arrays")
    paths = paths_of(found[0])
    if not paths or len(paths) < len(said.items(found[0].get("datasets"))):
        raise BadInput(
            f"{where} has damaged OME metadata: no list of datasets with a path; give one of its arrays, mostly "
            f"{where}/0"
        )
    return paths


def describe(attributes: dict[str, Any], path: str, rank: int) -> Described:
    """What the group says of its array `path` of `rank` axes."""
    image = next((image for image in images(attributes) if path in paths_of(image)), {})
    named = said.items(image.get("axes"))
    axes, raw_axes = said.axes(named, rank)
    size, doubt = None, ""
    if axes is not None:
        dataset = said.items(image["datasets"])[paths_of(image).index(path)]
        units = [said.mapping(axis).get("unit") for axis in named]
        size, doubt = said.voxel_size(_lengths(axes, _scale((dataset, image), rank), units))
    channels = said.items(said.mapping(ome_attributes(attributes).get("omero")).get("channels"))
    names = tuple(said.text(said.mapping(channel).get("label")) for channel in channels)
    return Described(axes, raw_axes, size, names, doubt)


def _scale(holders: Sequence[Any], rank: int) -> list[Any] | None:
    """The product of the scales of an array and its image; what is written, where there is none; None for nothing."""
    found = [
        said.mapping(transformation).get("scale")
        for holder in holders
        for transformation in said.items(said.mapping(holder).get("coordinateTransformations"))
        if said.mapping(transformation).get("type") == "scale"
    ]
    scales = [said.numbers(scale, rank) for scale in found]
    if not found or None not in scales:
        return np.prod(scales, axis=0).tolist() if found else None
    wrong = found[scales.index(None)]
    return said.items(wrong) if len(said.items(wrong)) == rank else [wrong] * rank


def _lengths(axes: str, scale: list[Any] | None, units: list[Any]) -> dict[str, tuple[Any, Any]]:
    if scale is None:
        return {}
    return {a.lower(): (length, unit) for a, length, unit in zip(axes, scale, units, strict=True) if a in "ZYX"}


def multiscale_attributes(
    version: str,
    *,
    name: str,
    axes: str,
    voxel_size_nm: Sequence[float] | None,
    factors: Sequence[tuple[int, int, int]],
    centred: bool,
    method: str,
) -> dict[str, Any]:
    """The OME attributes of an image whose levels "0", "1", … are its first level divided by `factors` (z, y, x).

    Args:
        centred: a coarse voxel stands for the middle of its block (mode, mean), not for its first voxel (nearest).
        voxel_size_nm: None writes a scale of 1 without a unit.
    """
    size = dict(zip("ZYX", voxel_size_nm or (1.0, 1.0, 1.0), strict=True))
    described = []
    for axis in axes:
        entry = {"name": axis.lower(), "type": "channel" if axis == "C" else "space"}
        if axis != "C" and voxel_size_nm is not None:
            entry["unit"] = "nanometer"
        described.append(entry)
    datasets = []
    for level, factor in enumerate(factors):
        by = dict(zip("ZYX", factor, strict=True))
        scale = [float(size[axis] * by[axis]) if axis in size else 1.0 for axis in axes]
        transformations: list[dict] = [{"type": "scale", "scale": scale}]
        shift = [float(size[axis] * (by[axis] - 1) / 2) if axis in size else 0.0 for axis in axes]
        if centred and any(shift):
            transformations.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    multiscale = {"name": name, "axes": described, "datasets": datasets}
    if len(factors) > 1:
        multiscale["type"] = method
    if version == "0.4":
        return {"multiscales": [{"version": "0.4"} | multiscale]}
    return {"version": version, "multiscales": [multiscale]}


def channel_attributes(names: Sequence[str], dtype: np.dtype) -> dict[str, Any]:
    """Names of channels or classes, as viewers and `--channel NAME` read them."""
    top = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
    window = {"min": 0.0, "max": top, "start": 0.0, "end": top}
    return {"omero": {"channels": [{"label": n, "color": "FFFFFF", "window": window, "active": True} for n in names]}}


def label_attributes(
    version: str, names: Sequence[str], colours: Sequence[Sequence[int]], source: str | None
) -> dict[str, Any]:
    """Colours (r, g, b of 0 to 255) and class names of the labels 0, 1, …; label 0 is drawn transparent."""
    label: dict[str, Any] = {"version": "0.4"} if version == "0.4" else {}
    if colours:
        label["colors"] = [
            {"label-value": value, "rgba": [*(int(c) for c in colour), 255 if value else 0]}
            for value, colour in enumerate(colours)
        ]
    if names:
        label["properties"] = [{"label-value": value, "class": name} for value, name in enumerate(names)]
    if source is not None:
        label["source"] = {"image": source}
    return {"image-label": label}
