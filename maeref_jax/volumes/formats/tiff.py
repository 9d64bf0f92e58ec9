"""TIFF stacks through tifffile: ImageJ hyperstacks, OME-TIFF and plain stacks, read page by page; ImageJ
written.

What a file does not say is never guessed: a stack without axes metadata has axes None here.
"""

import contextlib
import logging
import lzma
import math
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.ome_tiff import parse_ome
from maeref_jax.volumes.formats.packed import read_array
from maeref_jax.volumes.formats.stored import Stored, joined
from maeref_jax.volumes.formats.trust import (
    CAUTIOUS,
    DEFLATE,
    Trust,
    check_inside,
    check_piece,
    check_possible,
    check_stream,
)

# ImageJ's offsets have 32 bits; the margin is for tags and the resolution of the limit in its own reader.
LARGEST_BYTES = 4_000_000_000
_WRITTEN_AXES = "stored_axes"  # our line in ImageJ's description: tells a stack of one slice from a plane
# Every dialect that tifffile can be told not to see; of some it decides alone.
_PLAIN = {
    f"is_{flag}": False
    for flag in tifffile.TIFF.FILE_FLAGS
    if not isinstance(getattr(tifffile.TiffFile, f"is_{flag}", None), property)
}
# No file has more: tifffile would make a list of as many as the metadata say.
_MOST_PLANES = 10_000_000
_MOST_MESSAGES = 100
_ORDERS = {"<": "little", ">": "big"}
_LEFT_ASIDE = "its description cannot be understood and is left aside"
_DAMAGE = re.compile(r"invalid page offset|corrupted|failed to reshape|invalid value offset|invalid offset")
# How many bytes come out of one at most, by the number of the compression: none, packbits, LZW, deflate.
_TIGHTEST = {1: 1, 32773: 64, 5: 1400, 8: DEFLATE, 32946: DEFLATE}
_STREAMS, _LZMA = (8, 32946, 34925), 34925
# The errors of imagecodecs, which tifffile uses where it is installed, are RuntimeErrors.
_DECODE_ERRORS = (ValueError, zlib.error, lzma.LZMAError, tifffile.TiffFileError, RuntimeError)


def open_tiff(path: Path, trust: Trust = CAUTIOUS, *, decode: bool = True, plain: bool = False) -> Stored:
    """The one image series of a TIFF file, or of the several files of an OME-TIFF, lazily: only the pages of a box are
    read.

    Args:
        decode: try the first page, so that a missing codec shows before any work.
        plain: a stack of pages, whatever its metadata say. So it is read too where they cannot be understood.

    Raises:
        BadInput: not a TIFF, truncated, empty, several series, parts that are not there or lie in other folders, pages
            larger than what is in the file or than may be unpacked at once, or a compression that needs imagecodecs.
    """
    with _Messages() as messages:
        try:
            with tifffile.TiffFile(path, **(_PLAIN if plain else {})) as tif:
                _check_pages_end(tif)
                told = Said() if plain else _said(tif)
                for name in told.files:
                    check_inside(path.parent, path.parent / name, trust, name)
                series = None if told.unfit else _series(tif)
                if series is not None:
                    return _describe(path, tif, series, told, messages, trust, decode)
        except tifffile.TiffFileError as error:
            size = path.stat().st_size
            raise BadInput(f"{path} ({size} bytes) is no readable TIFF, empty or truncated: {error}") from error
    if plain:
        raise BadInput(f"{path} is no readable TIFF, its pages cannot be listed; save it anew, with Fiji")
    found = open_tiff(path, trust, decode=decode, plain=True)
    return found._replace(note=joined(told.note or _LEFT_ASIDE, found.note))


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
        if len(self.found) > _MOST_MESSAGES:  # it may go on for minutes, over tens of thousands of tags
            raise tifffile.TiffFileError(f"over {_MOST_MESSAGES} parts of it are damaged")


def _check_pages_end(tif: tifffile.TiffFile) -> None:
    """Raises TiffFileError where the pages of a file follow one another without end, or overlap: a few bytes can be
    thousands of pages that way, which take minutes to be listed.
    """
    try:
        offset = tif.pages.first.offset
    except IndexError as error:
        raise tifffile.TiffFileError("its first page cannot be read") from error
    file, form, seen, taken = tif.filehandle, tif.tiff, set(), 0
    while 0 < offset < file.size:
        file.seek(offset)
        count = int.from_bytes(file.read(form.tagnosize), _ORDERS[form.byteorder])
        length = count * form.tagsize
        taken += form.tagnosize + length
        if offset in seen or taken > file.size:
            raise tifffile.TiffFileError(f"its pages go in a circle or overlap, at byte {offset}")
        seen.add(offset)
        offset = int.from_bytes(file.read(length + form.offsetsize)[length:], _ORDERS[form.byteorder])


def _series(tif: tifffile.TiffFile) -> list[tifffile.TiffPageSeries] | None:
    """The image series as the metadata describe them; None where tifffile stumbles over these."""
    try:
        found = list(tif.series)
        whole = all(isinstance(n, int | np.integer) for series in found for n in series.shape)
        return found if whole else None
    except tifffile.TiffFileError:
        raise
    except said.MALFORMED:
        return None


def _describe(path, tif, found, told, messages, trust, decode) -> Stored:
    if len(found) != 1:
        shapes = ", ".join(str(series.shape) for series in found[:4])
        raise BadInput(f"{path} holds {len(found)} image series ({shapes}, ...), expected one stack; save it alone")
    series = found[0]
    lost = next((message for message in messages if "OME series failed to read" in message), "")
    if lost:
        name = re.search(r"failed to read '([^']*)'", lost)
        raise BadInput(
            f"{path} is one of several files that make up an OME-TIFF of shape {series.shape}, and "
            f"{name[1] if name else 'another one'} cannot be read: keep all of them in one folder"
        )
    _check_whole(path, series, messages, trust)
    shape, axes = tuple(map(int, series.shape)), series.axes
    if told.stack and axes == "YX":
        shape, axes = (1, *shape), "ZYX"
    known = set(axes) <= set("TCZYXS")
    # Three or more pages of a plain stack come out as colour samples in planes: what they are is not known.
    if axes == "SYX" and series.kind in ("shaped", "uniform"):
        known = False
    page_shape = series.keyframe.shape
    lead = shape[: len(shape) - len(page_shape)]
    pages = list(series.pages) if series.dataoffset is None else []
    if series.dataoffset is None and (shape[len(lead) :] != page_shape or math.prod(lead) != len(pages)):
        raise BadInput(f"{path}: pages of shape {page_shape} do not make up a stack of shape {shape}")
    files = list({id(page.parent): page.parent for page in pages}.values())
    one_reader = threading.Lock()  # the file handles are shared
    if pages and decode:
        with _open_handles([pages[0].parent]):
            _decode(path, pages[0], trust)

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        if series.dataoffset is not None:
            dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
            return read_array(path, path, dtype, shape, series.dataoffset, "C", slices)
        numbers = np.arange(len(pages)).reshape(lead)[slices[: len(lead)]]
        inside = slices[len(lead) :]
        with one_reader, _open_handles(files):
            planes = [_decode(path, pages[number], trust)[inside] for number in numbers.ravel()]
        return np.stack(planes).reshape(*numbers.shape, *planes[0].shape)

    others = f"{len(files)} files make up this OME-TIFF" if len(files) > 1 else ""
    return Stored(
        path,
        shape,
        series.dtype,
        axes if known else None,
        axes,
        told.voxel_size_nm,
        read,
        told.channels,
        joined(told.note, others),
        told.size_doubt,
    )


def _check_whole(path: Path, series: tifffile.TiffPageSeries, messages: list[str], trust: Trust) -> None:
    """Raises BadInput where image data lie beyond the end of their file or are less than their pages, where a page is
    too large to be unpacked, or where tifffile has complained of damage.
    """
    damage = [message for message in messages if _DAMAGE.search(message)]
    if series.dataoffset is not None:
        ends = {path: series.dataoffset + math.prod(map(int, series.shape)) * series.dtype.itemsize}
    else:
        ends = {}
        try:
            for page in series.pages:
                file = Path(page.parent.filehandle.path)
                ends[file] = max(ends.get(file, 0), _end_of_data(page))
                check_inside(path.parent, file, trust)
                _check_page(path, page, trust)
        except (IndexError, AttributeError):  # pages that the metadata promise are not there, or are None
            damage.append(f"not all pages of the stack {series.shape} are there")
    for file, end in ends.items():
        size = file.stat().st_size
        if end > size:
            raise BadInput(f"{file} ({size} bytes) is truncated, its image data end at byte {end}; copy it again")
    if damage:
        raise BadInput(f"{path} ({path.stat().st_size} bytes) is truncated or damaged ({damage[0]}); copy it again")


@contextlib.contextmanager
def _open_handles(files: list[tifffile.TiffFile]) -> Iterator[None]:
    try:
        for file in files:
            file.filehandle.open()
        yield
    finally:
        for file in files:
            file.filehandle.close()


def _end_of_data(page: tifffile.TiffPage) -> int:
    """The byte behind its last voxel. Raises BadInput where its places and sizes do not fit together."""
    offsets, counts = page.dataoffsets, page.databytecounts
    if not counts or len(offsets) != len(counts):
        raise BadInput(
            f"{page.parent.filename} is damaged: page {page.index} lies at {len(offsets)} places of {len(counts)} sizes"
        )
    return max(offset + count for offset, count in zip(offsets, counts, strict=True))


def _bytes(page: tifffile.TiffPage, offset: int, count: int) -> bytes:
    page.parent.filehandle.seek(offset)
    return page.parent.filehandle.read(count)


def _check_page(path: Path, page: tifffile.TiffPage, trust: Trust) -> None:
    """Raises BadInput where the bytes of a page cannot be all of it, or become more than may be unpacked at once."""
    frame, held = page.keyframe, sum(page.databytecounts)
    values = math.prod(map(int, frame.shaped))
    bits = frame.bitspersample if isinstance(frame.bitspersample, int) else min(frame.bitspersample)
    if frame.compression in _TIGHTEST:
        check_possible(f"{path}: page {page.index}", values * bits // 8, held, _TIGHTEST[frame.compression])
    check_piece(path, "its pages", values * frame.dtype.itemsize, held, trust)


def _decode(path: Path, page: tifffile.TiffPage, trust: Trust) -> np.ndarray:
    if page.keyframe.compression in _STREAMS:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            by_lzma = page.keyframe.compression == _LZMA
            check_stream(path, lambda at=offset, n=count: _bytes(page, at, n), count, trust, by_lzma=by_lzma)
    try:
        return page.asarray()
    except _DECODE_ERRORS as error:
        if "imagecodecs" in str(error):
            name = page.keyframe.compression.name
            raise BadInput(
                f"{path} is compressed with {name}, which needs one more package: pip install imagecodecs"
            ) from error
        raise BadInput(f"{path}: page {page.index} cannot be decoded ({error}); copy the file again") from error


class Said(NamedTuple):
    """What a file says of itself. stack: whether a single page is a stack of one slice; size_doubt: as of Stored;
    unfit: what it says cannot be understood; note: why; files: those that it consists of, by name.
    """

    voxel_size_nm: tuple[float, float, float] | None = None
    channels: tuple[str, ...] = ()
    stack: bool = False
    size_doubt: str = ""
    note: str = ""
    unfit: bool = False
    files: tuple[str, ...] = ()


def _said(tif: tifffile.TiffFile) -> Said:
    try:
        if tif.is_ome:
            ome = parse_ome(tif.ome_metadata)
            unfit = ome.planes is None or ome.planes > _MOST_PLANES
            note = joined(ome.note, "its OME-XML has no usable sizes and is left aside" * (unfit and not ome.note))
            return Said(ome.voxel_size_nm, ome.channels, ome.stack, ome.size_doubt, note, unfit, ome.files)
        if tif.is_imagej:
            metadata = said.mapping(tif.imagej_metadata)
            size, doubt = _imagej_voxel_size(metadata, tif.pages[0].tags)
            stack = metadata.get(_WRITTEN_AXES) == "ZYX"
            unfit = (said.number(metadata.get("images", 1)) or _MOST_PLANES + 1) > _MOST_PLANES
            return Said(size, _imagej_channels(metadata), stack, doubt, unfit=unfit)
    except tifffile.TiffFileError:
        raise
    except said.MALFORMED:
        return Said(note=_LEFT_ASIDE, unfit=True)
    return Said()


def _imagej_channels(metadata: Mapping) -> tuple[str, ...]:
    """ImageJ labels planes, channels fastest: a name is one that all planes of a channel share."""
    labels, count = metadata.get("Labels"), said.number(metadata.get("channels", 1))
    labels = [labels] if isinstance(labels, str) else [said.text(label) for label in said.items(labels)]
    if count is None or not 1 <= count <= len(labels) or count % 1:
        return ()
    planes = [set(labels[channel :: int(count)]) for channel in range(int(count))]
    return tuple(min(names) for names in planes) if all(len(names) == 1 for names in planes) else ()


def _imagej_voxel_size(metadata: Mapping, tags: tifffile.TiffTags) -> tuple[tuple[float, float, float] | None, str]:
    unit, lengths = metadata.get("unit"), {}
    units = {axis: metadata.get(f"{axis}unit", unit) for axis in "zyx"}
    if "spacing" in metadata:
        lengths["z"] = (metadata["spacing"], units["z"])
    for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
        ratio = said.numbers(tags[tag].value, 2) if tag in tags else None
        if ratio and ratio[0]:
            lengths[axis] = (ratio[1] / ratio[0], units[axis])
    # The file holds a ratio of whole numbers: seven digits are what it can promise.
    return said.voxel_size(lengths, digits=7) if said.text(unit) else (None, "")
