"""From the labels people have to the class scheme of a config."""

import numpy as np
from scipy import ndimage

from maeref_jax.errors import BadInput


def real_classes(scheme):
    """Number of classes of a scheme {"names", "ambiguous"} without the ambiguous one, the last, which is no result."""
    return len(scheme["names"]) - (scheme["ambiguous"] >= 0)


def remap_labels(labels, label_map, name="labels"):
    """Replace ids by `label_map`, pairs (found, wanted); an empty map changes nothing. Returns int16, 255 becoming -1.

    Raises BadInput naming every id the map leaves out.
    """
    wanted = dict(label_map)
    found = [int(value) for value in np.unique(labels) if int(value) in wanted or value not in (-1, 255)]
    if not wanted:
        wanted = {value: value for value in found}
    missing = [value for value in found if value not in wanted]
    if missing:
        raise BadInput(
            f"{name} holds the ids {found}, but label_map has no entry for {missing}; add ({missing[0]}, CLASS) to it"
        )
    result = np.full(labels.shape, -1, np.int16)
    for value in found:
        result[labels == value] = wanted[value]
    return result


def derive_shell(labels, shell_class, width_vx, background=0):
    """Give the outermost `width_vx` voxels of the foreground the class `shell_class`. Isotropic voxels (z y x).

    For label volumes in which the intermembrane space was not drawn. The edge is replicated first, so an object cut by
    a face of the volume gets no false cap there.
    """
    pad = int(np.ceil(width_vx)) + 1
    foreground = np.pad(labels != background, pad, mode="edge")
    inner = tuple(slice(pad, pad + size) for size in labels.shape)
    depth = ndimage.distance_transform_edt(foreground)[inner]
    shelled = labels.copy()
    shelled[(labels > background) & (depth <= width_vx)] = shell_class
    return shelled


def rederive_shell(labels, shell_class, width_vx, background=0):
    """Forgets the shell of a label map and derives it again: `derive_shell` of the same foreground, in which what was
    shell has the class of the nearest foreground voxel that was not. Such a shell says nothing but where the foreground
    is.
    """
    inner = (labels > background) & (labels != shell_class)
    if inner.any():
        nearest = ndimage.distance_transform_edt(~inner, return_distances=False, return_indices=True)
        labels = np.where(labels == shell_class, labels[tuple(nearest)], labels)
    return derive_shell(labels, shell_class, width_vx, background)
