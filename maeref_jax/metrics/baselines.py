"""Repairs that learn nothing. A learned refiner is worth its cost only where it beats them."""

import numpy as np
import scipy

from maeref_jax.masking.slices import agreed, opinions


def nearest_visible_label(labels, hidden, rounds=0, entropy=None, classes=None):
    """Gives each hidden voxel the label of the nearest visible voxel of its slice.

    labels: integers (z, y, x), -1 unknown. hidden: bool (z, y, x). rounds: of agreement with the slices above and below
    (slices.agreed), as of any refiner of so many classes; then entropy, float (z, y, x) in [0, 1], says how sure
    visible voxels are.
    Returns labels of the same dtype. Visible voxels keep theirs; unknown ones lend theirs to nobody. A slice
    without any visible known voxel stays as it is. Distances are in-plane, taking y and x as equally long.
    """
    filled = labels.copy()
    for z in np.flatnonzero(hidden.any(axis=(1, 2))):
        lender = ~hidden[z] & (labels[z] != -1)
        if lender.any():
            nearest = scipy.ndimage.distance_transform_edt(~lender, return_distances=False, return_indices=True)
            filled[z] = np.where(hidden[z], labels[z][tuple(nearest)], labels[z])
    if not rounds:
        return filled
    certain = (filled[..., None] == np.arange(classes)).astype(np.float32)
    found = agreed(certain, labels, hidden, rounds, opinions(labels, entropy, classes)).argmax(-1)
    return np.where(hidden, found, filled).astype(labels.dtype)
