"""What a block of an array held when it was written: the digest of its voxels.

Of voxels, not of the bytes on disk: compression does not matter, and a chunk that is not stored because it is all
background has the digest of zeros. Where something else was written, its digest tells that the chunk is gone.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Mapping

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.windows import Box


def digest_of(array: np.ndarray) -> str:
    """The first half of the SHA-256 of the voxels, in C order, little-endian: the same on any machine. 128 bits are
    plenty against damage, and of a large volume there are many digests.
    """
    return hashlib.sha256(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data).hexdigest()[:32]


def over(digests: Mapping[str, str]) -> str:
    """One digest of those of an array's blocks, by the blocks' names."""
    lines = (f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def name_of(box: Box) -> str:
    """What a block is called in the names of marks: its first voxel, z_y_x."""
    return "_".join(map(str, box.start))


def damage(volume: Volume, box: Box, expected: Collection[str]) -> str:
    """Why a block is none of those that were written, by their digests, as the end of a sentence; "" where it is."""
    try:
        found = volume.read(box)
    except BadInput as error:
        return f"cannot be read: {error}"
    if digest_of(found) in expected:
        return ""
    return "holds other voxels than were written" if found.any() else "reads as background: its chunk is gone"


def recorded(arrays: Mapping[str, Volume]) -> tuple[dict[str, Volume], dict[str, dict[str, str]]]:
    """The same arrays, and by role the digests of all blocks that are written to them from now on, by their names."""
    found = {role: {} for role in arrays}

    def noting(role, volume):
        def write(box, array):
            volume.write(box, array)
            found[role][name_of(box)] = digest_of(array)

        return dataclasses.replace(volume, _write=write)

    return {role: noting(role, volume) for role, volume in arrays.items()}, found
