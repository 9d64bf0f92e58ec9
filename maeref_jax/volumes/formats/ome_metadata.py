"""OME-Zarr metadata 0.4 and 0.5 as plain dictionaries: what a group says of its arrays, and what we say of ours."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.stored import NANOMETRES, to_voxel_size

VERSIONS = ("0.4", "0.5")


class Described(NamedTuple):
    """What a group's metadata says of one of its arrays.

    axes: letters in the array's order, None where one is no letter of ours; raw_axes: the names as written
    voxel_size_nm: (z, y, x), None where a scale or unit is missing; channels: names, or ()
    """

    axes: str | None
    raw_axes: str
    voxel_size_nm: tuple[float, float, float] | None
    channels: tuple[str, ...]


def ome_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """Where the group's OME metadata are: under "ome" since 0.5, the attributes themselves before."""
    return attributes.get("ome", attributes)


def dataset_paths(attributes: dict[str, Any], where: str) -> list[str]:
    """Paths of a multiscale image's arrays in its group, the finest first; [] if the group is none.

    Raises:
        BadInput: several images in one group, or metadata without datasets.
    """
    multiscales = ome_attributes(attributes).get("multiscales")
    if not multiscales:
        return []
    if len(multiscales) > 1:
        raise BadInput(f"{where} holds {len(multiscales)} multiscale images, expected one; give one of its arrays")
    try:
        return [dataset["path"] for dataset in multiscales[0]["datasets"]]
    except (KeyError, TypeError) as error:
        raise BadInput(f"{where} has damaged OME metadata: no list of datasets with a path ({error!r})") from error


def describe(attributes: dict[str, Any], path: str, rank: int, where: str) -> Described:
    """What the group says of its array `path` of `rank` axes. Raises BadInput if the two do not fit."""
    ome = ome_attributes(attributes)
    multiscale = ome["multiscales"][0]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in multiscale.get("axes", [])]
    names = [str(axis.get("name")) for axis in axes]
    if names and len(names) != rank:
        raise BadInput(f"{where}: its OME metadata name {len(names)} axes ({','.join(names)}), the array has {rank}")
    letters = "".join(name.upper() for name in names)
    dataset = next(d for d in multiscale["datasets"] if d["path"] == path)
    scale = np.ones(len(names))
    found = False
    for holder in (dataset, multiscale):
        for transformation in holder.get("coordinateTransformations", []):
            if transformation.get("type") == "scale":
                if len(transformation["scale"]) != len(names):
                    raise BadInput(f"{where}: a scale of {len(transformation['scale'])} numbers for {len(names)} axes")
                scale, found = scale * np.array(transformation["scale"], float), True
    sizes = {
        axis["name"]: float(f"{size * NANOMETRES[axis['unit'].lower()]:.12g}")
        for axis, size in zip(axes, scale, strict=True)
        if found and str(axis.get("unit", "")).lower() in NANOMETRES
    }
    channels = ome.get("omero", {}).get("channels", [])
    return Described(
        letters if len(letters) == rank and set(letters) <= set("TCZYX") else None,
        ",".join(names) or "?" * rank,
        to_voxel_size(sizes),
        tuple(str(channel.get("label", "")) for channel in channels),
    )


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
