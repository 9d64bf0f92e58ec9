"""What lies in an HDF5 file and what it only points to: links, storage in other files, data sets made of others.

A path is followed link by link, so that no other file is opened unless that is allowed.
"""

import itertools
import math
from pathlib import Path
from typing import Any

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.stored import extra
from maeref_jax.volumes.formats.trust import Trust, check_piece, check_stream

_MOST_LINKS = 50


def item_at(file: Path, content: Any, name: str, trust: Trust) -> Any:
    """The group or data set `name` of an open HDF5 file, None where there is none.

    Raises:
        BadInput: a link out of the file that is not allowed, or leads nowhere; links in a circle.
    """
    h5py, here, followed = extra("h5py", file), content, 0
    waiting = [part for part in name.split("/") if part]
    while waiting:
        part = waiting.pop(0)
        link = here.get(part, getlink=True) if hasattr(here, "keys") else None
        if link is None:
            return None
        followed += not isinstance(link, h5py.HardLink)
        if followed > _MOST_LINKS:
            raise BadInput(f"{file}: the links at {name} go in a circle, or there are over {_MOST_LINKS} of them")
        if isinstance(link, h5py.SoftLink):
            here = here.file if link.path.startswith("/") else here
            waiting = [step for step in link.path.split("/") if step] + waiting
            continue
        if isinstance(link, h5py.ExternalLink):
            _refuse(file, f"/{part}, a link to {link.filename}", trust)
            if part not in here:
                raise BadInput(f"{file}: its link /{part} leads to {link.path} of {link.filename}, which is not there")
        here = here[part]
    return here


def check_storage(file: Path, dataset: Any, trust: Trust, depth: int = 0) -> None:
    """Raises BadInput where the voxels of a data set lie in other files and that is not allowed, or they are not there;
    where they are put together of a data set that is missing, whose voxels would be 0; for chunks that are too large.
    """
    if depth > _MOST_LINKS:
        raise BadInput(f"{file}: {dataset.name} is put together of data sets that are put together, without end")
    for name, offset, count in dataset.external or ():
        _refuse(file, f"{dataset.name}, whose voxels are in {name}", trust)
        if not Path(name).is_file() or Path(name).stat().st_size < offset + min(count, dataset.nbytes):
            raise BadInput(f"{file}: the voxels of {dataset.name} are in {name}, which is not there, or too short")
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        _check_source(file, dataset, source, trust, depth)
    if dataset.chunks:
        size = math.prod(dataset.chunks) * dataset.dtype.itemsize
        check_piece(file, f"the chunks of {dataset.name}", size, dataset.id.get_storage_size(), trust)


def check_chunks(file: Path, dataset: Any, slices: tuple[slice, ...], trust: Trust) -> None:
    """Raises BadInput where a chunk of a box becomes more than it says: the library unpacks all that there is."""
    if dataset.compression != "gzip":
        return
    boxes = [range(*one.indices(count)) for one, count in zip(slices, dataset.shape, strict=True)]
    firsts = [range(box.start // c * c, box.stop, c) for box, c in zip(boxes, dataset.chunks, strict=True)]
    for at in itertools.product(*firsts):
        held = dataset.id.get_chunk_info_by_coord(at).size
        check_stream(file, lambda at=at: dataset.id.read_direct_chunk(at)[1], held, trust)


def _check_source(file: Path, dataset: Any, source: Any, trust: Trust, depth: int) -> None:
    if source.file_name == ".":
        part, beside = dataset.file, file
    else:
        _refuse(file, f"{dataset.name}, put together of {source.file_name}", trust)
        beside = Path(dataset.file.filename).parent / source.file_name
        if not beside.is_file():
            raise BadInput(f"{file}: {dataset.name} is put together of {source.file_name} and others, which is missing")
        part = extra("h5py", file).File(beside, "r")
    try:
        found = item_at(beside, part, source.dset_name, trust)
        if getattr(found, "shape", None) is None:
            raise BadInput(f"{file}: {dataset.name} is put together of {source.dset_name} and others, which is missing")
        check_storage(beside, found, trust, depth + 1)
    finally:
        if source.file_name != ".":
            part.close()


def _refuse(file: Path, what: str, trust: Trust) -> None:
    if not trust.follow_links:
        raise BadInput(f"{file} leads out of itself: {what}; if that is meant, allow it with --follow_links")
