"""Imaris files (.ims), which are HDF5, through h5py: the finest resolution of all channels and times."""

from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.hdf5 import opened
from maeref_jax.volumes.formats.stored import Stored

_FINEST = "DataSet/ResolutionLevel 0"


def open_imaris(path: Path) -> Stored:
    """The image of an Imaris file as t c z y x, read box by box.

    Voxel size: the extents of the image in its Unit, by its number of voxels.

    Raises:
        BadInput: h5py is missing; no Imaris file, truncated, or open elsewhere.
    """
    with opened(path, "r") as content:
        times = _numbered(content, _FINEST, "TimePoint")
        channels = _numbered(content, f"{_FINEST}/TimePoint 0", "Channel") if times else 0
        if not channels:
            raise BadInput(f"{path} is no Imaris file: no image in {_FINEST}")
        first = content[f"{_FINEST}/TimePoint 0/Channel 0/Data"]
        dtype, stored = first.dtype.newbyteorder("="), first.shape
        image = {key: _text(value) for key, value in _attributes(content, "DataSetInfo/Image").items()}
        names = tuple(_text(_attributes(content, f"DataSetInfo/Channel {c}").get("Name")) for c in range(channels))
    # Data are stored in whole chunks: how much of them is the image stands beside them.
    said_sizes = [said.number(image.get(axis)) for axis in "ZYX"]
    inside = [int(n) if n and 1 <= n <= whole else whole for n, whole in zip(said_sizes, stored, strict=True)]
    lengths = {}
    for axis, number, count in zip("xyz", range(3), reversed(inside), strict=True):
        low, high = (said.number(image.get(f"Ext{end}{number}")) for end in ("Min", "Max"))
        if low is not None and high is not None:
            lengths[axis] = ((high - low) / count, image.get("Unit"))
    size, doubt = said.voxel_size(lengths, 6)  # Imaris writes them with few digits

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        with opened(path, "r") as content:
            return np.stack(
                [
                    [np.asarray(content[_data(t, c)][slices[2:]], dtype) for c in range(*slices[1].indices(channels))]
                    for t in range(*slices[0].indices(times))
                ]
            )

    return Stored(path, (times, channels, *inside), dtype, "TCZYX", "t,c,z,y,x", size, read, names, size_doubt=doubt)


def _data(time: int, channel: int) -> str:
    return f"{_FINEST}/TimePoint {time}/Channel {channel}/Data"


def _numbered(content: Any, group: str, name: str) -> int:
    """How many of "NAME 0", "NAME 1", … there are."""
    held = content.get(group)
    found = list(held) if hasattr(held, "keys") else []
    return next(n for n in range(len(found) + 1) if f"{name} {n}" not in found)


def _attributes(content: Any, group: str) -> dict[str, Any]:
    held = content.get(group)
    return {} if held is None else {key: held.attrs.get(key) for key in held.attrs}


def _text(value: Any) -> str:
    """Imaris writes text as an array of characters."""
    return "".join(said.text(part) for part in said.items(value)) if said.items(value) else said.text(value)
