"""The arrays of one refined volume: one OME-Zarr, {stem}.ome.zarr, that viewers open as it is.

    0, 1, …            the image and its coarser levels, where it was copied; else attributes say where it is
    labels/initial     the segmentation            labels/refined   what became of it
    labels/hidden      1 where tokens were hidden
    labels/was         of every voxel that changed: its class before, plus 1; 0 did not change, 256 was unknown
    labels/became      likewise afterwards
    entropy            value / 255 is entropy in [0, 1]
    disagreement       likewise of what the members disagree about (mutual information)
    probability_0, …   value / 255 is the mean probability of a class, all of the scheme
    error              value / 255 is the probability that the initial label is wrong, by who says what is hidden
    labels/objects_initial, labels/objects_refined    the objects of {stem}_objects.csv by their numbers
    labels/trust       of hidden voxels, how far to trust what they became: 1 green, 2 amber, 3 red, see trust.py
    labels/tested      visible voxels that were hidden as a test: 1 filled in rightly, 2 wrongly
    0, 1, …            of a mask of tissue (maeref tissue): the mask itself; labels/found what it was before clean-up
    confidence         value / 255 is the refiner's probability of the class that it chose; 0 where it replaced nothing

The colours and names of the labels are those of the models. Chunks are blocks, so that no two blocks share a file.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.results import ownership
from maeref_jax.results.place import EXPORTS, Output
from maeref_jax.volumes import progress
from maeref_jax.volumes.class_scheme import MOST
from maeref_jax.volumes.formats.ome_zarr import create_label_image, create_labels, create_ome_zarr
from maeref_jax.volumes.formats.stored import Placement
from maeref_jax.volumes.pyramid import write_pyramid
from maeref_jax.volumes.view import Volume, select
from maeref_jax.volumes.volume import open_volume
from maeref_jax.volumes.windows import Box
from maeref_jax.volumes.writing import remove_path, write_tiff, write_volume

HIDDEN_COLOUR = (255, 0, 170)
TRUST_COLOURS = ((0, 0, 0), (0, 158, 115), (240, 180, 30), (213, 60, 40))  # green, amber, red


class _Kind(NamedTuple):
    path: str  # in the OME-Zarr
    dtype: str  # "": the input's
    pyramid: str  # how coarser levels are made
    step: str  # what writes it, see marks.py; "finish": when all blocks are there


KINDS = {
    "image": _Kind("", "", "mean", "copy"),
    "initial": _Kind("labels/initial", "uint8", "mode", "segment"),
    "entropy": _Kind("entropy", "uint8", "mean", "segment"),
    "disagreement": _Kind("disagreement", "uint8", "mean", "segment"),
    "hidden": _Kind("labels/hidden", "uint8", "mode", "segment"),
    "error": _Kind("error", "uint8", "mean", "judge"),
    "refined": _Kind("labels/refined", "uint8", "mode", "refine"),
    "was": _Kind("labels/was", "uint16", "mode", "refine"),
    "became": _Kind("labels/became", "uint16", "mode", "refine"),
    # A mean with places where nothing was hidden says nothing.
    "confidence": _Kind("confidence", "uint8", "nearest", "refine"),
    "tested": _Kind("labels/tested", "uint8", "mode", "refine"),
    "trust": _Kind("labels/trust", "uint8", "mode", "finish"),
    "objects_initial": _Kind("labels/objects_initial", "uint32", "mode", "finish"),
    "objects_refined": _Kind("labels/objects_refined", "uint32", "mode", "finish"),
    "tissue": _Kind("", "uint8", "mode", "clean"),
    "found": _Kind("labels/found", "uint8", "mode", "segment"),
}
KINDS |= {f"probability_{c}": _Kind(f"probability_{c}", "uint8", "mean", "segment") for c in range(MOST)}
SEGMENTED = ("initial", "entropy", "hidden")
REFINED = ("refined", "was", "became", "confidence")
MASK = ("tissue", "found")  # of an output of maeref tissue


def probabilities(classes: int) -> tuple[str, ...]:
    """The roles of the probabilities of so many classes."""
    return tuple(f"probability_{c}" for c in range(classes))


def step_of(role: str, steps: Iterable[str]) -> str:
    """The pass that writes the array of that role, of an output of these passes."""
    return "judge" if role == "hidden" and "judge" in steps else KINDS[role].step


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
        path, dtype = KINDS[role][:2]
        if role == "tissue":
            stored = create_label_image(path_of(output, role), shape, dtype, **common, names=names, colours=colours)
        elif path.startswith("labels/"):
            said = meaning.get(role, {"names": names, "colours": colours})
            stored = create_labels(output.folder, path.removeprefix("labels/"), shape, dtype, **common, **said)
        else:
            native = np.dtype(dtype) if dtype else np.dtype(image_dtype).newbyteorder("=")
            stored = create_ome_zarr(path_of(output, role), shape, native, **common)
        arrays[role] = _written_over(output, role, select(stored, "ZYX", None), chunk)
    return arrays


def _written_over(output, role, volume: Volume, chunk) -> Volume:
    """The array, whose blocks can also be written where damaged ones lie: of a chunk that reaches beyond the volume the
    old content is read first.
    """

    def write(box, array):
        try:
            volume.write(box, array)
        except OSError:
            if _can_be_read(volume, box):
                raise
            remove_block(output, role, box, chunk)
            volume.write(box, array)

    return dataclasses.replace(volume, _write=write)


def _can_be_read(volume, box) -> bool:
    try:
        volume.read(box)
    except BadInput:
        return False
    return True


def remove_block(output: Output, role: str, box: Box, chunk: Sequence[int]) -> None:
    """Removes what is stored of a block, which is a chunk of that shape: it reads as background then."""
    name = "/".join(str(start // size) for start, size in zip(box.start, chunk, strict=True))
    for place in ("0/c", "0"):  # of OME-Zarr 0.5, and of 0.4
        remove_path(path_of(output, role) / place / name)


def open_arrays(output: Output, roles: Iterable[str]) -> dict[str, Volume]:
    """The arrays of a completed output by role, to be read. Raises BadInput where one cannot be opened."""
    return {role: open_volume(path_of(output, role)) for role in roles}


def write_pyramids(output: Output, roles: Iterable[str]) -> list[Path]:
    """The coarser levels of all arrays; may be repeated. Returns their folders."""
    roles, folders = list(roles), []
    with progress.showing(f"{output.stem}: coarser levels", len(roles), "map") as shown:
        for role in roles:
            path_of(output, role).stat()  # a folder that is gone is an error, and not made again
            factors = write_pyramid(path_of(output, role), KINDS[role].pyramid)
            folders += [path_of(output, role) / str(level) for level in range(1, len(factors))]
            shown.advance()
    return folders


def missing_exports(output: Output, roles: Iterable[str]) -> list[tuple[str, str]]:
    """Which exports of those arrays are not there, in the formats of the output: (name, suffix)."""
    wanted = itertools.product((name for name in EXPORTS if name in roles), output.formats)
    return [(name, suffix) for name, suffix in wanted if not output.export(name, suffix).exists()]


def export(
    output: Output,
    arrays: dict[str, Volume],
    voxel_size_nm: tuple[float, float, float] | None,
    colours: list | None,
    placement: Placement | None = None,
) -> None:
    """The volumes beside the OME-Zarr in all formats of the output that are not there yet.

    colours: of the labels, in TIFF; placement: where the input lies in the world, in formats that hold that.
    """
    for name, suffix in missing_exports(output, arrays):
        path, array = output.export(name, suffix), arrays[name]
        with (
            progress.showing(f"writing {path.name}", array.shape[0], "slice") as shown,
            ownership.written(output, path) as whole,
        ):
            counted = _counted(array, name == "hidden", shown)
            if suffix == ".tif":
                write_tiff(whole, counted, voxel_size_nm, colours if name in ("initial", "refined") else None)
            else:
                write_volume(whole, counted, voxel_size_nm, placement)


def _counted(array: Volume, as_bool: bool, shown: progress.Shown) -> Volume:
    """The array, whose slices are counted as they are read."""

    def read(box):
        shown.advance(box.shape[0])
        return array.read(box) != 0 if as_bool else array.read(box)

    return Volume(array.path, array.shape, np.dtype(bool) if as_bool else array.dtype, None, None, None, read)
