"""Imaris files (.ims), which are HDF5, through h5py: the finest resolution of all channels and times."""

from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.hdf5 import opened
from maeref_jax.volumes.formats.hdf5_links import check_chunks, check_storage, item_at
from maeref_jax.volumes.formats.stored import Stored
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust

_FINEST, _IMAGE = "DataSet/ResolutionLevel 0", "DataSetInfo/Image"


def open_imaris(path: Path, trust: Trust = CAUTIOUS) -> Stored:
    """The image of an Imaris file as t c z y x, read box by box.

    Voxel size: the extents of the image in its Unit, by its number of voxels.

    Raises:
        BadInput: h5py is missing; no Imaris file, truncated, or open elsewhere.
    """
    with opened(path, "r") as content:
        times = _numbered(item_at(path, content, _FINEST, trust), "TimePoint")
        channels = _numbered(item_at(path, content, f"{_FINEST}/TimePoint 0", trust), "Channel") if times else 0
        if not channels:
            raise BadInput(f"{path} is no Imaris file: no image in {_FINEST}")
        first = _data(path, content, 0, 0, trust)
        dtype, stored = first.dtype.newbyteorder("="), first.shape
        image = {key: _text(value) for key, value in _attributes(item_at(path, content, _IMAGE, trust)).items()}
        groups = (item_at(path, content, f"DataSetInfo/Channel {c}", trust) for c in range(channels))
        names = tuple(_text(_attributes(group).get("Name")) for group in groups)
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

            def box(time: int, channel: int) -> np.ndarray:
                dataset = _data(path, content, time, channel, trust)
                check_chunks(path, dataset, slices[2:], trust)
                return np.asarray(dataset[slices[2:]], dtype)

            wanted = [range(*one.indices(count)) for one, count in zip(slices[:2], (times, channels), strict=True)]
            return np.stack([[box(time, channel) for channel in wanted[1]] for time in wanted[0]])

    return Stored(path, (times, channels, *inside), dtype, "TCZYX", "t,c,z,y,x", size, read, names, size_doubt=doubt)


def _data(path: Path, content: Any, time: int, channel: int, trust: Trust) -> Any:
    name = f"{_FINEST}/TimePoint {time}/Channel {channel}/Data"
    dataset = item_at(path, content, name, trust)
    if getattr(dataset, "shape", None) is None or len(dataset.shape) != 3:
        raise BadInput(f"{path} is no whole Imaris file: no image of three axes at {name}")
    check_storage(path, dataset, trust)
    return dataset


def _numbered(group: Any, name: str) -> int:
    """How many of "NAME 0", "NAME 1", … there are in it."""
    found = list(group) if hasattr(group, "keys") else []
    return next(n for n in range(len(found) + 1) if f"{name} {n}" not in found)


def _attributes(group: Any) -> dict[str, Any]:
    return {} if group is None else {key: group.attrs.get(key) for key in group.attrs}


def _text(value: Any) -> str:
    """Imaris writes text as an array of characters."""
    return "".join(said.text(part) for part in said.items(value)) if said.items(value) else said.text(value)
