"""The size of a voxel as people say it: checked in one place."""

from collections.abc import Iterable
from math import inf

from maeref_jax.errors import BadInput

SMALLEST_NM = 0.01


def checked_size(found: str | Iterable[float], named: str) -> tuple[float, float, float]:
    """(z, y, x) in nm: three numbers, or the text of three with commas or semicolons between them.

    named: what said it, for the message. Raises BadInput where these are not three positive, finite numbers.
    """
    try:
        size = tuple(map(float, found.replace(";", ",").split(",") if isinstance(found, str) else found))
    except (TypeError, ValueError):
        size = ()
    if len(size) != 3 or not all(0 < length < inf for length in size):
        raise BadInput(f"{named} expects three positive numbers z,y,x, found {found}")
    if min(size) < SMALLEST_NM:
        raise BadInput(f"{named} expects lengths in nm, found {found}: smaller than an atom; are these metres, or µm?")
    return size


def size_text(voxel_size_nm: Iterable[float]) -> str:
    """As a sentence says it, z y x: "30 x 4.6 x 4.6"."""
    return " x ".join(f"{length:g}" for length in voxel_size_nm)
