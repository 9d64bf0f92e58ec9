"""What a slice's neighbours say: a refiner of planes fills in every slice alone, though the anatomy goes on along z."""

import numpy as np

SMALLEST = 0.04  # probability, shared by all classes: less is as unlikely, so that a single slice has no veto
MOST = 8  # slices: so far beyond a block is read at most


def slices_within(length_nm, z_nm) -> int:
    """How many slices of z_nm lie within a length, MOST at most."""
    return int(min(length_nm / z_nm + 1e-6, MOST))


def agreed(probabilities, labels, hidden, rounds, said=None):
    """Class probabilities float32 (z, y, x, c) of hidden voxels after `rounds` rounds, in each of which every hidden
    voxel takes the geometric mean of its own and those of the voxels above and below it; other voxels as they are.

    labels: int (z, y, x), what visible voxels are certain of; -1, or any id that is no class, is no opinion. said:
    float32 (z, y, x, c), the probabilities of visible voxels with an opinion, None where they are certain. hidden: bool
    (z, y, x). Beside a visible voxel without opinion, and at the first and the last slice, a voxel is its own
    neighbour: it becomes no less sure. After n rounds a voxel has heard of n slices on either side, and of no other
    column: labels of hidden voxels are not looked at. Ours; the paper has none.
    """
    columns = hidden.any(0)
    if not rounds or not columns.any():
        return probabilities
    free, known = hidden[:, columns, None], labels[:, columns, None]
    classes = np.arange(probabilities.shape[-1])
    silent = ~free & ~np.isin(known, classes)
    visible = known == classes if said is None else said[:, columns]
    logs = np.where(free, probabilities[:, columns], visible)
    logs = np.log(np.maximum(logs, np.float32(SMALLEST / len(classes))))
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
