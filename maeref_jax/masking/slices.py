"""What a slice's neighbours say: a refiner of planes fills in every slice alone, though the anatomy goes on along z."""

import functools

import numpy as np

SMALLEST = 0.04  # probability, shared by all classes: less is as unlikely, so that a single slice has no veto
MOST = 8  # slices: so far beyond a block is read at most
_STEPS = 255  # of an entropy, as it is kept


def slices_within(length_nm, z_nm) -> int:
    """How many slices of z_nm lie within a length, MOST at most."""
    return int(min(length_nm / z_nm + 1e-6, MOST))


def opinions(labels, entropy, classes):
    """How sure labels are of which nothing but the entropy is known: the probabilities float32 (z, y, x, classes) that
    have it where all other classes are as likely as each other. labels: int (z, y, x); entropy: float (z, y, x) in
    [0, 1], of which the steps on disk count; classes: 2 or more. Ids that are no class mean nothing. Entropy that also
    counts a class which is not among these ("ambiguous") makes labels seem a little surer than they are.
    """
    own = _probability(classes)[np.rint(_STEPS * entropy.clip(0, 1)).astype(np.uint8)][..., None]
    return np.where(labels[..., None] == np.arange(classes), own, (1 - own) / (classes - 1))


@functools.cache
def _probability(classes):
    """float32 (256,): the probability of the likeliest class at every step of entropy, where the others are alike."""
    own = np.linspace(1 / classes, 1, 100_000)[:-1]
    other = (1 - own) / (classes - 1)
    entropy = -(own * np.log(own) + (1 - own) * np.log(other)) / np.log(classes)
    return np.interp(np.arange(_STEPS + 1) / _STEPS, [0, *entropy[::-1]], [1, *own[::-1]]).astype(np.float32)


def agreed(probabilities, labels, hidden, rounds, said):
    """Class probabilities float32 (z, y, x, c) of hidden voxels after `rounds` rounds, in each of which every hidden
    voxel takes the geometric mean of its own and those of the voxels above and below it; other voxels as they are.

    said: float32 (z, y, x, c), the probabilities of visible voxels (as they are known, or `opinions`). labels: int
    (z, y, x), theirs; of -1, or any id that is no class, there is no opinion. hidden: bool
    (z, y, x). Beside a visible voxel without opinion, and at the first and the last slice, a voxel is its own
    neighbour: it becomes no less sure. After n rounds a voxel has heard of n slices on either side, and of no other
    column: labels of hidden voxels are not looked at. Ours; the paper has none.
    """
    columns = hidden.any(0)
    if not rounds or not columns.any():
        return probabilities
    free, known = hidden[:, columns, None], labels[:, columns, None]
    classes = probabilities.shape[-1]
    silent = ~free & ((known < 0) | (known >= classes))
    logs = np.where(free, probabilities[:, columns], said[:, columns])
    logs = np.log(np.maximum(logs, np.float32(SMALLEST / classes)))
    for _ in range(rounds):
        total = logs.copy()
        total[:1] += logs[:1]
        total[1:] += np.where(silent[:-1], logs[1:], logs[:-1])
        total[:-1] += np.where(silent[1:], logs[:-1], logs[1:])
        total[-1:] += logs[-1:]
        np.divide(total, np.float32(3), out=logs, where=free)
    found = np.exp(logs - logs.max(-1, keepdims=True))[free[..., 0]]
    found /= found.sum(-1, keepdims=True)
    result = probabilities.copy()
    result[hidden] = found
    return result
