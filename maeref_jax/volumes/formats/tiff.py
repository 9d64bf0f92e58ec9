"""TIFF stacks through tifffile: ImageJ hyperstacks, OME-TIFF and plain stacks, read page by page; ImageJ
written.

What a file does not say is never guessed: a stack without axes metadata has axes None here.
"""

import logging
import lzma
import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tifffile

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.ome_tiff import parse_ome
from maeref_jax.volumes.formats.stored import NANOMETRES, Stored, to_voxel_size

# ImageJ's offsets have 32 bits; the margin is for tags and the resolution of the limit in its own reader.
LARGEST_BYTES = 4_000_000_000
_WRITTEN_AXES = "stored_axes"  # our line in ImageJ's description: tells a stack of one slice from a plane
_DAMAGE = re.compile(r"invalid page offset|corrupted|failed to reshape|invalid value offset|invalid offset")
# The errors of imagecodecs, which tifffile uses where it is installed, are RuntimeErrors.
_DECODE_ERRORS = (ValueError, zlib.error, lzma.LZMAError, tifffile.TiffFileError, RuntimeError)


def open_tiff(path: Path, *, decode: bool = True) -> Stored:
    """The one image series of a TIFF file, lazily: only the pages of a box are read.

    Args:
        decode: try the first page, so that a missing codec shows before any work.

    Raises:
        BadInput: not a TIFF, truncated, empty, several series, or a compression that needs imagecodecs.
    """
    with _Messages() as messages:
        try:
            with tifffile.TiffFile(path) as tif:
                return _describe(path, tif, messages, decode)
        except tifffile.TiffFileError as error:
            size = path.stat().st_size
            raise BadInput(f"{path} ({size} bytes) is no readable TIFF, empty or truncated: {error}") from error


def write_tiff_stack(
    path: Path,
    slices: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    dtype: np.dtype,
    *,
    voxel_size_nm: tuple[float, float, float] | None,
    colours: np.ndarray | None = None,
) -> None:
    """An uncompressed ImageJ hyperstack (z, y, x), slice by slice, under a temporary name until it is whole.

    Args:
        slices: z arrays (y, x).
        dtype: uint8, uint16 or float32, all that ImageJ can hold.
        voxel_size_nm: (z, y, x), written with unit nm; None writes no calibration.
        colours: uint8 (256, 3), the colour of every value of a uint8 stack.
    """
    z, y, x = voxel_size_nm or (None, None, None)
    metadata = {"axes": "TZCYXS", _WRITTEN_AXES: "ZYX"}
    options = {}
    if voxel_size_nm is not None:
        metadata |= {"spacing": z, "unit": "nm"}
        options["resolution"] = (1 / x, 1 / y)
    if colours is not None:
        metadata |= {"min": 0.0, "max": 255.0}
        options |= {"photometric": "palette", "colormap": (colours.T.astype(np.uint16) * 257)}
    else:
        options["photometric"] = "minisblack"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # All six axes of ImageJ spelt out: of fewer, tifffile takes a last one of length 1 for colour samples.
        depth, height, width = shape
        pages, full = (plane[..., None] for plane in slices), (1, depth, 1, height, width, 1)
        tifffile.imwrite(temporary, pages, shape=full, dtype=dtype, imagej=True, metadata=metadata, **options)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class _Messages(logging.Handler):
    """Collects what tifffile logs while it opens a file: it reports damage there and then reads on."""

    def __enter__(self) -> list[str]:
        self.found = []
        logger = tifffile.logger()
        self.propagated, logger.propagate = logger.propagate, False
        logger.addHandler(self)
        return self.found

    def __exit__(self, *exception) -> None:
        tifffile.logger().removeHandler(self)
        tifffile.logger().propagate = self.propagated

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


def _describe(path: Path, tif: tifffile.TiffFile, messages: list[str], decode: bool) -> Stored:
    if len(tif.series) != 1:
        shapes = ", ".join(str(series.shape) for series in tif.series[:4])
        raise BadInput(f"{path} holds {len(tif.series)} image series ({shapes}, ...), expected one stack")
    series = tif.series[0]
    if (
        tif.is_ome
        and series.dataoffset is None
        and any(page is None or page.parent is not tif for page in series.pages)
    ):
        raise BadInput(
            f"{path} is one of several files that make up an OME-TIFF of shape {series.shape}; save it as one file "
            "(Fiji or bfconvert), or give a folder of single slices"
        )
    damage = [message for message in messages if _DAMAGE.search(message)]
    size = path.stat().st_size
    try:
        end = end_of_data(series.pages) if series.dataoffset is None else series.dataoffset + series.nbytes
    except IndexError:  # pages that the metadata promise are not there
        damage.append(f"not all pages of the stack {series.shape} are there")
    else:
        damage += [f"its image data end at byte {end}"] * (end > size)
    if damage:
        raise BadInput(f"{path} ({size} bytes) is truncated or damaged ({damage[0]}); copy it again")
    shape, axes = series.shape, series.axes
    voxel_size_nm, channels, stack = _said(tif)
    if stack and axes == "YX":
        shape, axes = (1, *shape), "ZYX"
    known = set(axes) <= set("TCZYXS")
    # Three or more pages of a plain stack come out as colour samples in planes: what they are is not known.
    if axes == "SYX" and series.kind in ("shaped", "uniform"):
        known = False
    page_shape = series.keyframe.shape
    lead = shape[: len(shape) - len(page_shape)]
    pages = list(series.pages) if series.dataoffset is None else []
    if series.dataoffset is None and (shape[len(lead) :] != page_shape or np.prod(lead, dtype=int) != len(pages)):
        raise BadInput(f"{path}: pages of shape {page_shape} do not make up a stack of shape {shape}")
    if pages and decode:
        _decode(path, pages[0])

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        if series.dataoffset is not None:
            dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
            mapped = np.memmap(path, dtype, mode="r", offset=series.dataoffset, shape=shape)
            return np.array(mapped[slices], series.dtype)
        numbers = np.arange(len(pages)).reshape(lead)[slices[: len(lead)]]
        inside = slices[len(lead) :]
        tif.filehandle.open()
        try:
            planes = [_decode(path, pages[number])[inside] for number in numbers.ravel()]
        finally:
            tif.filehandle.close()
        return np.stack(planes).reshape(*numbers.shape, *planes[0].shape)

    return Stored(path, shape, series.dtype, axes if known else None, axes, voxel_size_nm, read, channels)


def end_of_data(pages: Iterable[tifffile.TiffPage]) -> int:
    """The byte behind the last voxel. Raises IndexError for pages that are not there."""
    return max(
        offset + count for page in pages for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    )


def _decode(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    try:
        return page.asarray()
    except _DECODE_ERRORS as error:
        if "imagecodecs" in str(error):
            name = page.keyframe.compression.name
            raise BadInput(
                f"{path} is compressed with {name}, which needs one more package: pip install imagecodecs"
            ) from error
        raise BadInput(f"{path}: page {page.index} cannot be decoded ({error}); copy the file again") from error


def _said(tif: tifffile.TiffFile) -> tuple[tuple[float, float, float] | None, tuple[str, ...], bool]:
    """(voxel size, channel names, whether a single page is a stack of one slice), as far as the file says."""
    if tif.is_ome:
        return parse_ome(tif.ome_metadata)
    if tif.is_imagej:
        metadata = tif.imagej_metadata
        stack = metadata.get(_WRITTEN_AXES) == "ZYX"
        return _imagej_voxel_size(metadata, tif.pages[0].tags), _imagej_channels(metadata), stack
    return None, (), False


def _imagej_channels(metadata: dict) -> tuple[str, ...]:
    """ImageJ labels planes, channels fastest: a name is one that all planes of a channel share."""
    labels, count = metadata.get("Labels") or (), metadata.get("channels", 1)
    if isinstance(labels, str):
        labels = (labels,)
    planes = [set(labels[channel::count]) for channel in range(count)]
    return tuple(min(names) for names in planes) if all(len(names) == 1 for names in planes) else ()


def _imagej_voxel_size(metadata: dict, tags: tifffile.TiffTags) -> tuple[float, float, float] | None:
    scale = NANOMETRES.get(str(metadata.get("unit")).lower())
    if scale is None or "spacing" not in metadata or "XResolution" not in tags or "YResolution" not in tags:
        return None
    sizes = {"z": float(metadata["spacing"])}
    for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
        per_unit, denominator = tags[tag].value
        sizes[axis] = denominator / per_unit if per_unit else None
    # The file holds a ratio of whole numbers: seven digits are what it can promise.
    return to_voxel_size({axis: size and float(f"{size * scale:.7g}") for axis, size in sizes.items()})
