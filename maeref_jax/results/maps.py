"""The arrays of one refined volume: one OME-Zarr, {stem}.ome.zarr, that viewers open as it is.

    0, 1, …            the image and its coarser levels, where it was copied; else attributes say where it is
    labels/initial     the segmentation            labels/refined   what became of it
    labels/hidden      1 where tokens were hidden
    labels/was         of every voxel that changed: its class before, plus 1; 0 did not change, 256 was unknown
    labels/became      likewise afterwards
    entropy            value / 255 is entropy in [0, 1]
    disagreement       likewise of what the members disagree about (mutual information)
    labels/objects_initial, labels/objects_refined    the objects of {stem}_objects.csv by their numbers
    labels/trust       of hidden voxels, how far to trust what they became: 1 green, 2 amber, 3 red, see trust.py
    labels/tested      visible voxels that were hidden as a test: 1 filled in rightly, 2 wrongly
    confidence         value / 255 is the refiner's probability of the class that it chose; 0 where it replaced nothing

The colours and names of the labels are those of the models. Chunks are blocks, so that no two blocks share a file.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax.results.output import EXPORTS, Output, note_exported
from maeref_jax.volumes import progress
from maeref_jax.volumes.formats.ome_zarr import create_labels, create_ome_zarr
from maeref_jax.volumes.formats.stored import Placement
from maeref_jax.volumes.pyramid import write_pyramid
from maeref_jax.volumes.view import Volume, select
from maeref_jax.volumes.writing import write_tiff, write_volume

HIDDEN_COLOUR = (255, 0, 170)
TRUST_COLOURS = ((0, 0, 0), (0, 158, 115), (240, 180, 30), (213, 60, 40))  # green, amber, red


class _Kind(NamedTuple):
    path: str  # in the OME-Zarr
    dtype: str  # "": the input's
    pyramid: str  # how coarser levels are made


KINDS = {
    "image": _Kind("", "", "mean"),
    "initial": _Kind("labels/initial", "uint8", "mode"),
    "entropy": _Kind("entropy", "uint8", "mean"),
    "disagreement": _Kind("disagreement", "uint8", "mean"),
    "hidden": _Kind("labels/hidden", "uint8", "mode"),
    "refined": _Kind("labels/refined", "uint8", "mode"),
    "was": _Kind("labels/was", "uint16", "mode"),
    "became": _Kind("labels/became", "uint16", "mode"),
    "confidence": _Kind("confidence", "uint8", "nearest"),  # a mean with places where nothing was hidden says nothing
}
KINDS |= {name: _Kind(f"labels/{name}", "uint8", "mode") for name in ("trust", "tested")}
KINDS |= {f"objects_{name}": _Kind(f"labels/objects_{name}", "uint32", "mode") for name in ("initial", "refined")}
SEGMENTED = ("initial", "entropy", "hidden")
REFINED = ("refined", "was", "became", "confidence")


def path_of(output: Output, role: str) -> Path:
    """Where the array of that role (one of KINDS) is."""
    return output.folder / KINDS[role].path


def create_arrays(
    output: Output,
    roles: Iterable[str],
    shape: tuple[int, int, int],
    chunk: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float] | None,
    scheme: dict,
    version: str,
    image_dtype: np.dtype | None = None,
) -> dict[str, Volume]:
    """The arrays by role, made or opened again; they can be read and written. An image comes first, or never.

    scheme: {"names", "colours" or None} of the classes; image_dtype: for the role "image" only.
    """
    common = {"voxel_size_nm": voxel_size_nm, "chunk": chunk, "version": version}
    names, colours = list(scheme["names"]), [list(colour) for colour in scheme["colours"] or ()]
    changed = {"names": ["unchanged", *names], "colours": [(0, 0, 0), *colours] if colours else []}
    meaning = {
        "hidden": {"names": ["visible", "hidden"], "colours": [(0, 0, 0), HIDDEN_COLOUR]},
        "was": changed,
        "became": changed,
        "trust": {"names": ["visible", "green", "amber", "red"], "colours": TRUST_COLOURS},
        "tested": {"names": ["not tested", "right", "wrong"], "colours": TRUST_COLOURS[:2] + TRUST_COLOURS[3:]},
        "objects_initial": {},
        "objects_refined": {},
    }
    arrays = {}
    for role in roles:
        path, dtype, _ = KINDS[role]
        if path.startswith("labels/"):
            said = meaning.get(role, {"names": names, "colours": colours})
            stored = create_labels(output.folder, path.removeprefix("labels/"), shape, dtype, **common, **said)
        else:
            native = np.dtype(dtype) if dtype else np.dtype(image_dtype).newbyteorder("=")
            stored = create_ome_zarr(path_of(output, role), shape, native, **common)
        arrays[role] = select(stored, "ZYX", None)
    return arrays


def write_pyramids(output: Output, roles: Iterable[str]) -> None:
    """The coarser levels of all arrays; may be repeated."""
    roles = list(roles)
    with progress.showing(f"{output.stem}: coarser levels", len(roles), "map") as shown:
        for role in roles:
            write_pyramid(path_of(output, role), KINDS[role].pyramid)
            shown.advance()


def export(
    output: Output,
    arrays: dict[str, Volume],
    voxel_size_nm: tuple[float, float, float] | None,
    colours: list | None,
    placement: Placement | None = None,
) -> list[Path]:
    """The volumes beside the OME-Zarr in all formats of the output that are not there yet. Returns those written.

    colours: of the labels, in TIFF; placement: where the input lies in the world, in formats that hold that.
    """
    missing = [
        (name, suffix)
        for name, suffix in itertools.product(EXPORTS, output.formats)
        if name in arrays and not output.export(name, suffix).exists()
    ]
    if missing:
        note_exported(output)
    for name, suffix in missing:
        path, array = output.export(name, suffix), arrays[name]
        with progress.showing(f"writing {path.name}", array.shape[0], "slice") as shown:
            counted = _counted(array, name == "hidden", shown)
            if suffix == ".tif":
                write_tiff(path, counted, voxel_size_nm, colours if name in ("initial", "refined") else None)
            else:
                write_volume(path, counted, voxel_size_nm, placement)
    return [output.export(*one) for one in missing]


def _counted(array: Volume, as_bool: bool, shown: progress.Shown) -> Volume:
    """The array, whose slices are counted as they are read."""

    def read(box):
        shown.advance(box.shape[0])
        return array.read(box) != 0 if as_bool else array.read(box)

    return Volume(array.path, array.shape, np.dtype(bool) if as_bool else array.dtype, None, None, None, read)
