"""A mask of what is worked on, such as the tissue in a block of resin: which voxels of a volume lie inside of it.

It may be on another grid, mostly a coarser one, that covers the same extent; every voxel of the volume is what the mask
says at the voxel's centre. What it holds is read as painted masks are: 0 is outside, anything else inside.
"""

from collections.abc import Callable

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes import label_ids
from maeref_jax.volumes.label_ids import Reading
from maeref_jax.volumes.resolution import onto
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.windows import whole

NAMES = ("outside", "inside")
AUTO = "auto"  # in place of a path: a mask of the tissue is made first


def understand(mask: Volume) -> Reading:
    """How its ids are read: label_ids.understand_mask. Raises BadInput as that does."""
    return label_ids.understand_mask(mask, NAMES)


def on_grid(mask: Volume, shape: tuple[int, int, int], voxel_size_nm: tuple | None, name: str) -> Volume:
    """The mask on the grid of a volume `name`, read box by box.

    Raises:
        BadInput: another extent, or another shape where the voxel size of one of them is not known.
    """
    sizes = mask.voxel_size_nm, voxel_size_nm
    if mask.shape == tuple(shape) and (None in sizes or np.allclose(*sizes, rtol=1e-3)):
        return mask
    what = (
        f"{mask.path} has shape {mask.shape}, but {name} has {tuple(shape)}: a mask on another grid needs voxel sizes"
    )
    if voxel_size_nm is None:
        raise BadInput(f"{what}, and that of {name} is not known; give it: --voxel_size_nm Z,Y,X")
    if mask.voxel_size_nm is None:
        raise BadInput(
            f"{what}, and its own is not known; save it in a format that keeps it, such as OME-Zarr or TIFF with "
            f"a voxel size, or on the grid of {name}"
        )
    try:
        return onto(mask, shape, voxel_size_nm, "nearest")
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error


def inside_of(mask: Volume, volume: Volume, say: Callable[[str], None] | None = None) -> np.ndarray:
    """Bool (z, y, x) of the shape of a volume: which of its voxels lie inside, all at once. say: hears how the mask's
    ids are read, where a user may expect otherwise; None where that was told already.

    Raises:
        BadInput: a mask that cannot be read, as `understand` and `on_grid` say, and one with nothing inside.
    """
    reading = understand(mask)
    for note in reading.notes if say else ():
        say(note)
    classes = label_ids.as_classes(mask, reading)
    found = on_grid(classes, volume.shape, volume.voxel_size_nm, volume.path).read(whole(volume.shape)) > 0
    if not found.any():
        raise BadInput(f"{mask.path} excludes every voxel of {volume.path}; is it the right mask?")
    return found


def only_inside(labels: np.ndarray, mask: Volume, volume: Volume, say: Callable[[str], None]) -> np.ndarray:
    """Labels int16 (z, y, x) of a volume, unknown, -1, outside of the mask. say: hears how much that leaves, and
    what `inside_of` says.

    Raises:
        BadInput: as `inside_of`; no known label inside.
    """
    return left_inside(labels, inside_of(mask, volume, say), mask, volume, say)


def left_inside(
    labels: np.ndarray, inside: np.ndarray, mask: Volume, volume: Volume, say: Callable[[str], None]
) -> np.ndarray:
    """`only_inside`, where it is known already what lies inside: bool (z, y, x)."""
    left = np.where(inside, labels, np.int16(-1))
    if (left < 0).all():
        raise BadInput(f"no voxel of {volume.path} inside of {mask.path} has a known label; is it the right mask?")
    say(f"{mask.path}: {inside.mean():.2%} of {volume.path} lies inside; what is outside is left out, as unknown")
    return left
