"""What a file says of itself, read without trust: whatever stands there, the answer is a value, or "not said".

Metadata that voxels can be read without are optional: no opener looks at them but through these functions, so that
null, words, wrong types, wrong lengths, NaN and numbers without end are "not said" everywhere, and never an error.
"""

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

NANOMETRES = {
    "nm": 1.0, "nanometer": 1.0, "nanometre": 1.0, "nanometers": 1.0, "nanometres": 1.0,
    "um": 1e3, "µm": 1e3, "μm": 1e3, "\\u00b5m": 1e3, "micron": 1e3, "microns": 1e3,
    "micrometer": 1e3, "micrometre": 1e3, "micrometers": 1e3, "micrometres": 1e3,
    "mm": 1e6, "millimeter": 1e6, "millimetre": 1e6, "millimeters": 1e6, "millimetres": 1e6,
    "cm": 1e7, "centimeter": 1e7, "centimetre": 1e7, "m": 1e9, "meter": 1e9, "metre": 1e9,
    "pm": 1e-3, "picometer": 1e-3, "picometre": 1e-3, "å": 0.1, "angstrom": 0.1, "angstroms": 0.1, "ångström": 0.1,
    "in": 2.54e7, "inch": 2.54e7, "inches": 2.54e7, "thou": 2.54e4,
}  # fmt: skip
# Shorter or longer than this is no voxel: a picometre, a metre.
_LENGTHS_NM = (1e-3, 1e9)
_NO_UNIT = ("", "none", "null", "unknown", "pixel", "pixels")


# What libraries raise over metadata that they did not expect.
MALFORMED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, struct.error)


def number(value: Any) -> float | None:
    """A finite number, of any numeric type or written as text; None for everything else."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.item() if value.size == 1 else None
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def text(value: Any) -> str:
    """Text as it stands, decoded; "" for None; of anything else what Python calls it."""
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object; {} for everything else."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list:
    """The entries of a list, tuple or array; [] for everything else, text included."""
    if isinstance(value, np.ndarray):
        return list(value) if value.ndim else []
    return list(value) if isinstance(value, list | tuple) else []


def numbers(value: Any, count: int) -> list[float] | None:
    """A list of exactly so many finite numbers; None for everything else."""
    found = [number(entry) for entry in items(value)]
    return found if len(found) == count and None not in found else None


def parsed(value: Any) -> Any:
    """What a JSON text holds; None where it is none."""
    try:
        return json.loads(text(value))
    except (ValueError, RecursionError):
        return None


def axes(names: list, rank: int) -> tuple[str | None, str]:
    """(one letter of TCZYX for each axis, or None where the names do not say so; the names as written).

    names: texts, or objects with a "name" or "key".
    """
    called = [text(mapping(entry).get("name", mapping(entry).get("key", entry))) for entry in names]
    letters = "".join(name.upper() for name in called)
    known = len(called) == len(letters) == rank and set(letters) <= set("TCZYX") and len(set(letters)) == rank
    written = ",".join(called)[:80]
    if called and len(called) != rank:
        written += f": {len(called)} names for {rank} axes"
    return letters if known else None, written or "?" * rank


def nanometres(length: Any, unit: Any) -> float | None:
    """A length in nm; None unless it is the positive length of some voxel, in a unit that is known."""
    found, scale = number(length), NANOMETRES.get(text(unit).strip().lower())
    if found is None or scale is None:
        return None
    least, most = _LENGTHS_NM
    return float(f"{found * scale:.12g}") if least <= found * scale <= most else None


def voxel_size(
    lengths: Mapping[str, tuple[Any, Any]], digits: int = 12
) -> tuple[tuple[float, float, float] | None, str]:
    """((z, y, x) in nm or None, a note where something is said that cannot be used).

    Args:
        lengths: axis "z", "y" or "x" -> (length, unit) as the file says; an axis that is missing is not said.
        digits: how many of a length can be relied on.
    """
    found = [nanometres(*lengths.get(axis, (None, None))) for axis in "zyx"]
    if None not in found:
        return tuple(float(f"{size:.{digits}g}") for size in found), ""
    meant = {axis: said for axis, said in lengths.items() if not _nothing(*said)}
    if not meant:
        return None, ""
    written = ", ".join(
        f"{axis} {_length_text(length, digits)} {text(unit)[:20]}".strip() for axis, (length, unit) in meant.items()
    )
    return None, f"its voxel size cannot be used ({written}); give --voxel_size_nm Z,Y,X"


def _nothing(length: Any, unit: Any) -> bool:
    """Whether a length and its unit are what programs write where nobody said anything."""
    return length is None or (text(unit).strip().lower() in _NO_UNIT and number(length) in (0.0, 1.0))


def _length_text(length: Any, digits: int) -> str:
    """A length as the file says it, a number to so many digits: cut short it could be another one."""
    found = number(length)
    return text(length)[:20] if found is None else f"{found:.{digits}g}"
