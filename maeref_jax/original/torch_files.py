"""Tensors from files that PyTorch writes, without PyTorch and without running anything that a file says.

A checkpoint is a zip of raw storages and one pickle, and a pickle is a program. The unpickler here knows a handful of
names, all of them harmless, and refuses every other one. safetensors and npz hold tensors only.
"""

import io
import math
import operator
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.numpy_files import read_npz
from maeref_jax.volumes.formats.plain_pickle import LARGEST_BYTES, checked
from maeref_jax.volumes.formats.trust import CAUTIOUS, stumbling_means_bad_input
from maeref_jax.volumes.json_files import parse_object

# Storage classes as pickled -> the numpy type of their bytes. bfloat16 is widened to float32.
STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
SAFETENSORS = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "bfloat16", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U8": "u1", "BOOL": "?",
}  # fmt: skip


class Checkpoint(NamedTuple):
    """tensors: {name: array} as named in the file; rest: the other content of a Lightning checkpoint ({} without)."""

    tensors: dict[str, np.ndarray]
    rest: dict[str, Any]


def read_checkpoint(path, trust=CAUTIOUS):
    """The Checkpoint in a Lightning or torch file (.ckpt, .pt, .pth: a zip), .safetensors or .npz.

    In an .npz whose names start with "sd/" (golden vectors), those are the tensors. Tensors are views of what was read,
    so that they take no more memory than the file has bytes; trust: of an .npz, which may be packed.

    Raises:
        BadInput: any other content, a damaged file, and a pickle that names anything but tensors and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"no checkpoint file {path}")
    with stumbling_means_bad_input(path):
        if path.suffix == ".safetensors":
            return Checkpoint(_read_safetensors(path), {})
        if path.suffix == ".npz":
            return Checkpoint(_read_npz(path, trust), {})
        return _read_torch(path)


def _read_torch(path):
    if not zipfile.is_zipfile(path):
        raise BadInput(
            f"{path} is no zip, as torch.save writes since PyTorch 1.6, no .safetensors and no .npz; load an older "
            "file with torch and save it again"
        )
    try:
        content = _read_zip(path)
    except BadInput:  # a ValueError as well, but no damage
        raise
    except Exception as error:  # of zipfile and pickle, which raise many kinds over damage
        raise BadInput(f"{path} cannot be read as a torch checkpoint ({type(error).__name__}: {error})") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds a {type(content).__name__}, expected a state dict or a Lightning checkpoint")
    found = content.get("state_dict", content)
    if not isinstance(found, dict):
        raise BadInput(f"{path}: its state_dict is a {type(found).__name__}, expected tensors by name")
    tensors = {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, np.ndarray)}
    if not tensors:
        raise BadInput(f"{path} holds no tensors by name, expected a state dict or a Lightning checkpoint")
    return Checkpoint(tensors, {} if found is content else {k: v for k, v in content.items() if k != "state_dict"})


class _Attributes(dict):
    """Stands for dict-like containers of settings; takes no state but more entries."""

    def __setstate__(self, state):
        if isinstance(state, dict):
            self.update(state)


class _Storage(NamedTuple):
    kind: str


def _tensor(storage, offset, size, stride, *_):
    """What torch._utils._rebuild_tensor_v2 means, the bounds checked."""
    if len(size) != len(stride) or min((*size, *stride, offset), default=0) < 0:
        raise BadInput(f"a tensor of size {size} and stride {stride} is not possible: the file is damaged")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (last >= len(storage) or count > len(storage)):
        raise BadInput(f"a tensor of size {size} lies outside its storage of {len(storage)}: the file is damaged")
    if not count:
        return np.zeros(size, storage.dtype)
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def _parameter(tensor, *_):
    return tensor


HARMLESS = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": tuple,
    "argparse.Namespace": _Attributes,
    "lightning_fabric.utilities.data.AttributeDict": _Attributes,
    "lightning.fabric.utilities.data.AttributeDict": _Attributes,
    "pytorch_lightning.utilities.parsing.AttributeDict": _Attributes,
    **{f"torch.{name}": _Storage(name) for name in STORAGES},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, storage):
        super().__init__(file, encoding="utf-8")
        self.storage = storage

    def find_class(self, module, name):
        full = f"{module}.{name}"
        if full not in HARMLESS:
            raise BadInput(
                f"the pickle in this checkpoint names {full}, which could run code or is not known here; it is "
                "refused. If you trust the file, load it with torch and save its state dict alone"
            )
        return HARMLESS[full]

    def persistent_load(self, pid):
        word, kind, key, _, count = pid
        if word != "storage" or not isinstance(kind, _Storage):
            raise BadInput(f"the pickle in this checkpoint refers to {word!r}, expected a storage")
        return self.storage(kind.kind, key, count)


def _read_zip(path):
    with zipfile.ZipFile(path) as file:
        _check_members(path, file)
        pickles = [name for name in file.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise BadInput(f"{path} holds {len(pickles)} data.pkl, expected one, as torch.save writes")
        root = pickles[0].removesuffix("data.pkl")
        big = f"{root}byteorder" in file.namelist() and file.read(f"{root}byteorder") == b"big"
        read: dict[str, np.ndarray] = {}

        def storage(kind, key, count):
            if key not in read:
                read[key] = _numbers(file.read(f"{root}data/{key}"), STORAGES[kind], ">" if big else "<")
            if len(read[key]) < count:
                raise BadInput(f"storage {key} has {len(read[key])} numbers, expected {count}: a damaged file")
            return read[key]

        try:
            with file.open(pickles[0]) as content:
                program = io.BytesIO(checked(content.read(LARGEST_BYTES + 1)))
            return _Unpickler(program, storage).load()
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error


def _check_members(path, file):
    """Raises BadInput for members that are packed or encrypted, or are more bytes than there are in the file."""
    for member in file.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise BadInput(
                f"{path}: {member.filename} is packed or encrypted, which torch.save does not do; save it anew"
            )
    stated, size = sum(member.file_size for member in file.infolist()), path.stat().st_size
    if stated > size:
        raise BadInput(f"{path} is damaged: its members are said to be {stated} bytes, and it has {size}")


def _numbers(data, kind, order="<"):
    if kind != "bfloat16":
        return np.frombuffer(data, np.dtype(kind).newbyteorder(order)).astype(kind, copy=False)
    return (np.frombuffer(data, f"{order}u2").astype(np.uint32) << 16).view(np.float32)


def _read_safetensors(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        raise BadInput(f"{path} is no safetensors file, or truncated: {len(data)} bytes, its header alone has {length}")
    header, body = parse_object(data[8 : 8 + length], f"{path} (its header)"), memoryview(data)[8 + length :]
    header.pop("__metadata__", None)
    taken, tensors = 0, {}
    for name, entry in header.items():
        try:
            start, stop = map(operator.index, entry["data_offsets"])
            kind, shape = SAFETENSORS[entry["dtype"]], tuple(map(operator.index, entry["shape"]))
        except (ValueError, LookupError, TypeError) as error:
            raise BadInput(f"{path} is no safetensors file ({name[:80]}: {type(error).__name__}: {error})") from error
        needed = math.prod(shape) * (2 if kind == "bfloat16" else np.dtype(kind).itemsize)
        if not 0 <= start <= stop <= len(body) or min(shape, default=0) < 0 or stop - start != needed:
            raise BadInput(
                f"{path} is damaged: {name[:80]} of shape {shape} is {needed} bytes, but is said to be at {start} to "
                f"{stop} of {len(body)}"
            )
        taken += needed
        tensors[name] = _numbers(body[start:stop], kind).reshape(shape)
    if taken > len(body):
        raise BadInput(f"{path} is damaged: its tensors are {taken} bytes, and it has {len(body)}")
    return tensors


def _read_npz(path, trust):
    tensors = read_npz(path, trust)
    golden = {name.removeprefix("sd/"): value for name, value in tensors.items() if name.startswith("sd/")}
    return golden or tensors
