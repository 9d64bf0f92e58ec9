"""Where TensorStore finds bytes: a local folder or a URL, and its errors in words.

http:// and https:// are read only and tried against a local server. gs:// and s3:// are untested: they are handed to
TensorStore, which takes the credentials from where Google's and Amazon's own tools leave them.
"""

import errno
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.trust import Trust, check_links, check_piece
from maeref_jax.volumes.json_files import parse_object, read_object

# Whether something is there is asked a few times: TensorStore's own 32 tries take many minutes for a mistyped bucket.
# Voxels of what is there are read with all its patience.
_PROBE = tensorstore.Context(
    {
        f"{service}_request_retries": {"max_retries": 3, "initial_delay": "200ms", "max_delay": "1s"}
        for service in ("gcs", "s3", "http")
    }
)

# What the file system has against it, nobody's input being wrong.
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV, errno.EFBIG, errno.EMFILE)


def is_url(path: str | Path) -> bool:
    """Whether `path` is one of the URLs that can be opened: gs://, s3://, http://, https://."""
    return re.match(r"(gs|s3|https?)://.", str(path)) is not None


def join(location: str | Path, name: str) -> str | Path:
    """The file or folder `name` ("a/b") in the folder or URL `location`."""
    return f"{str(location).rstrip('/')}/{name}" if is_url(location) else Path(location) / name


def split(location: str | Path) -> tuple[str | Path, str]:
    """The folder or URL that `location` lies in, and its name there."""
    if not is_url(location):
        absolute = Path(location).absolute()
        return absolute.parent, absolute.name
    head, _, name = str(location).rstrip("/").rpartition("/")
    return head, name


def kvstore(location: str | Path) -> dict[str, str]:
    """TensorStore's name for a folder or URL (gs:// and s3:// untested)."""
    if not is_url(location):
        # TensorStore refuses "..", which a path that is only made absolute may keep.
        path = str(Path(location).resolve())
        if any("\ud800" <= sign <= "\udfff" for sign in path):
            raise BadInput(f"the path {path!a} holds bytes that are no UTF-8, which TensorStore wants; rename it")
        if "\\" in path and os.sep == "/":
            raise BadInput(
                f"the path {path} holds a backslash, which TensorStore takes for the sign of a folder; rename it"
            )
        return {"driver": "file", "path": f"{path}/"}
    scheme, _, rest = str(location).partition("://")
    first, _, path = rest.strip("/").partition("/")
    if scheme in ("http", "https"):
        return {"driver": "http", "base_url": f"{scheme}://{first}", "path": f"/{path}/"}
    return {"driver": {"gs": "gcs", "s3": "s3"}[scheme], "bucket": first, "path": f"{path}/" if path else ""}


def read_json(location: str | Path, name: str) -> dict[str, Any] | None:
    """The JSON object in the file `name` of a folder or URL, None where there is no such file.

    Raises:
        BadInput: no JSON object, or a folder or URL that cannot be read.
    """
    if not is_url(location):
        file = Path(location) / name
        return read_object(file) if file.is_file() else None
    try:
        store = tensorstore.KvStore.open(kvstore(location), context=_PROBE).result()
        found = store.read(name).result()
    except ValueError as error:  # TensorStore's only exception
        raise BadInput(_unreachable(location, error)) from error
    return parse_object(found.value, join(location, name)) if found.state == "value" else None


def exists(location: str | Path, name: str) -> bool:
    """Whether there is a file `name` in a folder or URL. Raises BadInput for one that cannot be read."""
    try:
        store = tensorstore.KvStore.open(kvstore(location), context=_PROBE).result()
        return store.read(name).result().state == "value"
    except ValueError as error:  # TensorStore's only exception
        raise BadInput(_unreachable(location, error)) from error


def write_json(location: str | Path, name: str, content: dict[str, Any]) -> None:
    """Writes the file whole or not at all, and durably. Raises BadInput where nothing can be written, OSError where the
    disk is full or gone.
    """
    try:
        store = tensorstore.KvStore.open(kvstore(location)).result()
        store.write(name, json.dumps(content, indent=1).encode()).result()
    except ValueError as error:
        _check_refusal(location, error)
        raise BadInput(f"cannot write {join(location, name)}: {_text(error)}") from error


def open_store(location: str | Path, spec: dict[str, Any], what: str) -> tensorstore.TensorStore:
    """The array in a folder or URL. Raises BadInput that calls it `what` ("a Zarr array"); OSError as `write_json`."""
    try:
        return tensorstore.open(spec | {"kvstore": kvstore(location)}).result()
    except ValueError as error:
        _check_refusal(location, error)
        if spec.get("create"):
            raise BadInput(f"cannot create the array {location}: {_text(error)}") from error
        raise BadInput(f"{location} cannot be opened as {what}: {_text(error)}") from error


def open_bare(
    location: str | Path, driver: str, what: str, name: str, needed: dict[str, Any], trust: Trust
) -> tensorstore.TensorStore:
    """The array in a folder or URL, to be read, as if its metadata file `name` held nothing but `needed`: TensorStore
    would refuse an array for what its optional entries say.

    Raises:
        BadInput: it is none, and is called `what`; links out of the folder; chunks that are too large.
    """
    if not is_url(location):
        check_links(Path(location), trust)
    context = tensorstore.Context()
    memory = {"driver": "memory", "path": name}
    tensorstore.KvStore.open({"driver": "memory"}, context=context).result()[name] = json.dumps(needed).encode()
    layers = [{"base": kvstore(location)}, {"exact": name, "base": memory}]
    try:
        spec = {"driver": driver, "kvstore": {"driver": "kvstack", "layers": layers}}
        store = tensorstore.open(spec, open=True, context=context).result()
    except ValueError as error:
        raise BadInput(f"{location} cannot be opened as {what}: {_text(error)}") from error
    chunk = store.chunk_layout.read_chunk.shape
    check_piece(location, "its chunks", math.prod(chunk) * store.dtype.numpy_dtype.itemsize, 0, trust)
    return store


def read_store(store: tensorstore.TensorStore, slices: tuple[slice, ...], location: str | Path) -> np.ndarray:
    """The voxels in `slices`. Raises BadInput for a chunk that is damaged, OSError for a disk that cannot be read."""
    try:
        return np.asarray(store[slices].read().result())
    except ValueError as error:
        _check_refusal(location, error)
        raise BadInput(f"cannot read {location}, is a chunk damaged? {_text(error)}") from error


def write_store(store: tensorstore.TensorStore, slices: tuple[slice, ...], array: np.ndarray) -> None:
    """Writes and returns when it is on disk (TensorStore syncs and renames every chunk file).

    Raises:
        OSError: the disk is full, or the array was removed: TensorStore would make its folders again, and no more.
    """
    if store.kvstore.url.startswith("file:"):
        Path(store.kvstore.path).stat()
    try:
        store[slices].write(array).result()
    except ValueError as error:  # disk full, folder gone, no permission
        _check_refusal(store.kvstore.path, error)
        raise OSError(f"cannot write {store.kvstore.path}: {_text(error)}") from error


def missing_chunks(location: str | Path, store: tensorstore.TensorStore) -> str:
    """A note if chunks of a local array are not on disk: they read as its fill value, which may be meant."""
    if is_url(location) or store.storage_statistics(query_fully_stored=True).result().fully_stored:
        return ""
    return f"some chunks are not on disk, their voxels read as {store.fill_value}"


def _unreachable(location: str | Path, error: ValueError) -> str:
    if not is_url(location):
        return f"cannot read {location}: {_text(error)}"
    hint = {
        "gs": "run: gcloud auth application-default login",
        "s3": "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or run: aws configure",
    }.get(str(location).partition("://")[0])
    credentials = f"; if the bucket is not public, {hint}" if hint else ""
    return f"cannot read {location}: is it there, and are you on the network{credentials}? ({_text(error)})"


def _check_refusal(location: str | Path, error: ValueError) -> None:
    """Raises the OSError that TensorStore met, where it is one of _REFUSALS."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code and int(code[1]) in _REFUSALS:
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(location)) from error


def _text(error: ValueError) -> str:
    return str(error).partition(" [tensorstore_spec=")[0]  # which repeats what was asked, at length
