"""What the segmentation itself thinks of hidden voxels, as evidence that weighs more the deeper a hole is.

The paper throws it away: hidden is hidden. But what anatomy says of a voxel fades with its distance from what is
visible, and what the image says does not. Ours, and off unless asked for.
"""

import numpy as np

DEEPEST = 4.0  # token sides: beyond, evidence weighs no more, so that as much context is enough to know the weight
_LEAST = 1e-3  # probability: no opinion is a veto


def weighed(filled, opinion, depth, per_token):
    """filled · opinion ^ (per_token · depth), summing to 1 over the classes: float32 (n, c).

    filled, opinion: class probabilities float32 (n, c) of the refiner and of the segmentation; depth: float (n,), of
    the voxels below the next visible one of their slice, in token sides (confidence.depth_of).
    """
    weight = np.float32(per_token) * np.minimum(depth, DEEPEST).astype(np.float32)
    logs = np.log(np.maximum(filled, _LEAST)) + weight[:, None] * np.log(np.maximum(opinion, _LEAST))
    found = np.exp(logs - logs.max(-1, keepdims=True))
    return found / found.sum(-1, keepdims=True)
