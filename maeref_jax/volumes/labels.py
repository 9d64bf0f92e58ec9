"""Shells that nobody drew, and which classes of a scheme are real ones. What ids mean: label_ids.py."""

import numpy as np
import scipy


def real_classes(scheme):
    """Number of classes of a scheme {"names", "ambiguous"} without the ambiguous one, the last, which is no result."""
    return len(scheme["names"]) - (scheme["ambiguous"] >= 0)


def derive_shell(labels, shell_class, width_vx, background=0):
    """Give the outermost `width_vx` voxels of the foreground the class `shell_class`. Isotropic voxels (z y x).

    For label volumes in which the intermembrane space was not drawn. The edge is replicated first, so an object cut by
    a face of the volume gets no false cap there.
    """
    pad = int(np.ceil(width_vx)) + 1
    foreground = np.pad(labels != background, pad, mode="edge")
    inner = tuple(slice(pad, pad + size) for size in labels.shape)
    depth = scipy.ndimage.distance_transform_edt(foreground)[inner]
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
        nearest = scipy.ndimage.distance_transform_edt(~inner, return_distances=False, return_indices=True)
        labels = np.where(labels == shell_class, labels[tuple(nearest)], labels)
    return derive_shell(labels, shell_class, width_vx, background)
