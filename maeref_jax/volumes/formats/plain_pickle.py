"""A pickle read as data: numbers, text, containers, arrays of numbers. A pickle is a program, and none is run here."""

import io
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said

# An empty list is one byte, and some seventy in memory.
LARGEST_BYTES = 8 << 20
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")


def read_plain_pickle(path: Path) -> Any:
    """What the file holds. Raises BadInput where it is damaged, or names anything but plain data."""
    try:
        with path.open("rb") as file:
            return _Unpickler(io.BytesIO(checked(file.read(LARGEST_BYTES + 1)))).load()
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    except (*said.MALFORMED, pickle.UnpicklingError, EOFError, MemoryError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read, is it damaged? ({type(error).__name__}: {error})") from error


def checked(program: bytes) -> bytes:
    """The bytes of a pickle, which asks for no more memory than its length can be the reason for.

    Python's reader sets aside what a length or a number of its memo says, before it looks whether that much follows.

    Raises:
        BadInput: it does, or is too long; ValueError: it is damaged.
    """
    if len(program) > LARGEST_BYTES:
        raise BadInput(f"its pickle is too long for plain data: over {LARGEST_BYTES} bytes")
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name in _MEMO and argument > len(program):
            raise BadInput(f"its pickle is damaged: it numbers more things than it has bytes, {argument}")
    return program


def _dtype(kind, *_) -> np.dtype:
    found = np.dtype(kind) if isinstance(kind, str) else None
    if found is None or found.hasobject:
        raise BadInput("its pickle holds an array of objects, expected numbers")
    return found


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype, 1)[0]


def _from_buffer(data: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")  # what bytes became in the oldest protocols


def _array(*_) -> np.ndarray:
    """An array before its content is known."""
    return np.ndarray.__new__(_Filled, 0)


class _Filled(np.ndarray):
    """An array whose content comes with its state, numbers alone."""

    def __setstate__(self, state):
        dtype = state[2]
        if dtype.hasobject:
            raise BadInput("its pickle holds an array of objects, expected numbers")
        super().__setstate__(state)


_CORES = ("numpy.core", "numpy._core")
_PLAIN = {
    "collections.OrderedDict": OrderedDict,
    "numpy.dtype": _dtype,
    "numpy.ndarray": None,  # named beside _reconstruct, never called
    "_codecs.encode": _encoded,
    "builtins.slice": slice,
    "builtins.set": set,
    "builtins.complex": complex,
    "__builtin__.set": set,
    **{f"{core}.multiarray.scalar": _scalar for core in _CORES},
    **{f"{core}.numeric._frombuffer": _from_buffer for core in _CORES},
    **{f"{core}.multiarray._reconstruct": _array for core in _CORES},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in _PLAIN:
            raise BadInput(f"its pickle names {full}, which is no plain data and could run code; it is refused")
        return _PLAIN[full]
