"""Whether the values in a user's volumes can be used: read once, slab by slab, before anything is written."""

from collections.abc import Iterable, Sequence

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes import label_ids, within
from maeref_jax.volumes.formats.said import NANOMETRES
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.voxel_size import size_text
from maeref_jax.volumes.windows import Box, blocks

_SLAB = (8, 1024, 1024)


def check_same_grid(first: Volume, *others: Volume) -> None:
    """All volumes have the first one's shape and, where both are known, its voxel size. Raises BadInput."""
    for other in others:
        if other.shape != first.shape:
            raise BadInput(
                f"{other.path} has shape {other.shape}, but {first.path} has {first.shape}; "
                f"both must show the same voxels{_or_of_other_sizes(first, other)}"
            )
        sizes = (first.voxel_size_nm, other.voxel_size_nm)
        if None not in sizes and not np.allclose(*sizes, rtol=1e-3):
            raise BadInput(
                f"{other.path} has voxels of {sizes[1]} nm (z, y, x), but {first.path} of {sizes[0]} nm; "
                "give the right one with --voxel_size_nm Z,Y,X"
            )


def _or_of_other_sizes(first, other) -> str:
    """What to do about two volumes of one place in voxels of different size, as the end of a sentence."""
    sizes = first.voxel_size_nm, other.voxel_size_nm
    if None in sizes or np.allclose(*sizes, rtol=1e-3):
        return ""
    ends = [np.multiply(volume.shape, volume.voxel_size_nm) for volume in (first, other)]
    if (np.abs(np.subtract(*ends)) > np.maximum(*sizes)).any():
        return ""
    size = ",".join(f"{length:g}" for length in first.voxel_size_nm)
    return f"; their voxels are of different size: --at_voxel_size_nm {size} reads both at one"


def doubts_about_place(volumes: Iterable[Volume]) -> list[str]:
    """What to tell a user of volumes whose files say that they lie elsewhere in the world than the first that says
    where it lies, or the other way round, by more than a voxel of the coarser one. Voxels are matched as stored.
    """
    first, *others = [volume for volume in volumes if volume.placement] or [None]
    found = []
    for other in others:
        units = [volume.placement.unit for volume in (first, other)]
        (ends, steps), (theirs, their_steps) = map(_ends, (first, other))
        lengths, their_lengths = (np.linalg.norm(one, axis=1) for one in (steps, their_steps))
        if units[0] == units[1] or NANOMETRES.keys() >= {*units}:
            by = 1.0 if units[0] == units[1] else NANOMETRES[units[1]] / NANOMETRES[units[0]]
            apart = np.abs((theirs * by - ends) @ (steps / lengths[:, None]).T)
            elsewhere = (apart > np.maximum(lengths, their_lengths * by) * 1.001).any()
        else:  # nobody knows how far apart, but directions need no unit; an affine of ones says nothing
            says_nothing = any(np.array_equal(one, np.eye(3)[::-1]) for one in (steps, their_steps))
            turns = (steps / lengths[:, None]) @ (their_steps / their_lengths[:, None]).T
            elsewhere = not says_nothing and (np.diag(turns) < 0.999).any()
        if elsewhere:
            found.append(
                f"{other.path} lies elsewhere in the world than {first.path}, or is turned, as their affines say; "
                "voxels are matched as they are stored, the first to the first: if that is wrong, save it on the grid "
                f"of {first.path}"
            )
    return found


def _ends(volume) -> tuple[np.ndarray, np.ndarray]:
    """Where the first corner of a volume and the ends of its three edges there lie, (4, 3), and its steps, (3, 3)."""
    steps = np.array([volume.placement.columns[axis] for axis in "ZYX"])
    corner = np.array(volume.placement.origin) - steps.sum(0) / 2
    return np.vstack([corner, corner + steps * np.array(volume.shape)[:, None]]), steps


def known_voxel_size(volumes: Iterable[Volume]) -> tuple[float, float, float] | None:
    """The voxel size in nm (z, y, x) of volumes of one grid, as the first one says that does; None for none."""
    return next((volume.voxel_size_nm for volume in volumes if volume.voxel_size_nm), None)


def doubt_about_scale(name: str, found_nm: tuple | None, workdir: str, trained_nm: tuple) -> str:
    """What to tell a user whose voxels (z, y, x) are over 25 % longer or shorter than those a model was trained on; ""
    where there is no such doubt, or the voxel size is not known.
    """
    if not found_nm or not trained_nm:
        return ""
    ratio = np.divide(found_nm, trained_nm)
    if (np.maximum(ratio, 1 / ratio) <= 1.25).all():
        return ""
    sizes = map(size_text, (found_nm, trained_nm))
    return (
        f"{name} has voxels of {next(sizes)} nm (z y x), but {workdir} was trained on {next(sizes)} nm and knows "
        f"shapes of that size only; --at_voxel_size_nm {','.join(f'{length:g}' for length in trained_nm)} works at it "
        "and brings the result back to the file's voxels; or train a model for it"
    )


def check_values(volumes: dict[str, Volume], scheme: dict, label_map: Sequence = (), flag: str = "--label_map") -> dict:
    """Checks every volume by its role: image, labels, entropy, hidden, within, probabilities_0, … Raises BadInput.

    Returns:
        {role: label_ids.Reading} of "labels", in that class scheme and by that label_map, and of "hidden" and "within".
    """
    readings = {}
    for role, volume in volumes.items():
        if role == "labels":
            readings[role] = label_ids.understand(volume, scheme, label_map, flag)
        elif role == "hidden":
            readings[role] = label_ids.understand_mask(volume)
        elif role == "within":
            readings[role] = within.understand(volume)
        elif role == "entropy":
            check_entropy(volume)
        elif role == "image":
            check_image(volume)
        else:
            check_probabilities(volume)
    return readings


def check_image(image: Volume) -> None:
    """No NaN or Inf. Raises BadInput that names the first such voxel."""
    if np.dtype(image.dtype).kind == "f":
        for box in blocks(image.shape, _SLAB):
            image.read(box)


def check_entropy(entropy: Volume) -> None:
    """Float in [0, 1], or uint8 that stands for 0 to 1. Raises BadInput."""
    if entropy.dtype == np.uint8:
        return
    if np.dtype(entropy.dtype).kind != "f":
        raise BadInput(f"{entropy.path} is {entropy.dtype}, expected entropy as float (0 to 1) or uint8 (0 to 255)")
    for box in blocks(entropy.shape, _SLAB):
        found = entropy.read(box)
        if found.min() < 0 or found.max() > 1:
            raise BadInput(
                f"{entropy.path} holds entropy from {found.min():.3g} to {found.max():.3g}, expected 0 to 1; is it in "
                "nats? divide it by the logarithm of the number of classes"
            )


def read_entropy(entropy: Volume, box: Box) -> np.ndarray:
    """float32 (z, y, x) in [0, 1], as `check_entropy` wants it stored."""
    return entropy.read(box).astype(np.float32) / (255 if entropy.dtype == np.uint8 else 1)


def check_probabilities(probabilities: Volume) -> None:
    """Values in [0, 1] that sum to 1 over the classes, to 0.02 (uint8 files are rounded). Raises BadInput."""
    for box in blocks(probabilities.shape, _SLAB):
        found = probabilities.read(box)
        total = found.sum(0)
        if found.min() < 0 or found.max() > 1 or np.abs(total - 1).max() > 0.02:
            raise BadInput(
                f"{probabilities.path} holds values from {found.min():.3g} to {found.max():.3g} that sum over the "
                f"{probabilities.classes} classes to {total.min():.3g} ... {total.max():.3g}; expected probabilities "
                "that sum to 1 (a softmax, no logits)"
            )
