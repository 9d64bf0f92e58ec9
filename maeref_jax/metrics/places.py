"""Where are the errors? Maps that say where to look first, judged by the truth (EVALUATION E13): the share of all
errors that is caught when so much of a volume is hidden, whole tokens at a time; AUROC and average precision of voxels,
over all of them and on either side of a mask.

A score is uint8, or float in [0, 1]; the higher, the earlier it is hidden. Voxels whose truth is unknown, -1, take no
part: neither their errors, nor their area, nor their scores.
"""

from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.metrics import calibration
from maeref_jax.metrics.calibration import DoubtCounts

# Of a score: sixteen for each of uint8, so that no two means of different sums over 4 x 4 pixels become equal.
LEVELS = 16 * 255 + 1


class Places(NamedTuple):
    """calibration.DoubtCounts of voxels by level, int64 (LEVELS,). tokens: by the mean score of the token that a voxel
    lies in; everywhere, inside, outside: by its own score, of all voxels and of those in the mask and not.
    """

    tokens: DoubtCounts
    everywhere: DoubtCounts
    inside: DoubtCounts
    outside: DoubtCounts


def count(score, predicted, truth, token, inside):
    """Places of a box whose planes begin with a whole token, (z, y, x).

    score: uint8 or float. predicted, truth: integers. token: side in voxels; at the far borders tokens may be cut.
    inside: bool, the mask. Raises BadInput where shapes differ, or for a score that is none.
    """
    for name, array in {"truth": truth, "score": score, "mask": inside}.items():
        if array.shape != predicted.shape or array.ndim != 3:
            raise BadInput(f"expected a {name} (z, y, x) of shape {predicted.shape} as the labels, found {array.shape}")
    levels, known = levels_of(score), truth >= 0
    wrong = known & (predicted != truth)
    # Whole numbers: the same mean, whatever is counted at once.
    sums, voxels, errors = (_token_sums(part, token) for part in (np.where(known, levels, 0), known, wrong))
    means = (2 * sums + voxels) // np.maximum(2 * voxels, 1)
    tokens = DoubtCounts(_weighted(means, voxels - errors), _weighted(means, errors))
    parts = (_counted(levels, wrong, part) for part in (known, known & inside, known & ~inside))
    return Places(tokens, *parts)


def levels_of(score):
    """The level of every score, int64 in [0, LEVELS). Raises BadInput for one that is no uint8 and not in [0, 1]."""
    if score.dtype == np.uint8:
        return score.astype(np.int64) * 16
    if not np.issubdtype(score.dtype, np.floating) or not ((score >= 0) & (score <= 1)).all():
        raise BadInput(
            f"expected a score of uint8, or of floats from 0 to 1, found {score.dtype}"
            + (f" from {score.min():g} to {score.max():g}" if score.size else "")
        )
    return np.round(score.astype(np.float64) * (LEVELS - 1)).astype(np.int64)


def perfect(predicted, truth):
    """The score of somebody who knows the truth, uint8: 255 where the label is wrong, 0 elsewhere."""
    return np.where((truth >= 0) & (predicted != truth), 255, 0).astype(np.uint8)


def add(one, other):
    """The Places of two sets of voxels together."""
    return Places(*(calibration.add(a, b) for a, b in zip(one, other, strict=True)))


def errors_caught(tokens, shares):
    """The share of all errors in the tokens of the highest scores, when these hold so much of all voxels, float64 of
    the shape of `shares`; NaN without errors. Tokens of equal score come in random order, one as good as the other.

    tokens: of Places, or counts of that kind.
    """
    wrong, voxels = tokens.wrong[::-1].astype(float), (tokens.right + tokens.wrong)[::-1].astype(float)
    if not wrong.sum():
        return np.full(np.shape(shares), np.nan)
    there = voxels > 0
    area, errors = (np.concatenate([[0], part[there].cumsum()]) for part in (voxels, wrong))
    return np.interp(np.asarray(shares) * area[-1], area, errors) / errors[-1]


def share_of(counts):
    """(voxels, wrong ones) of DoubtCounts."""
    return int((counts.right + counts.wrong).sum()), int(counts.wrong.sum())


def _token_sums(plane, token):
    """Sums over the tokens of every plane, int64 (z, rows, columns); beyond the borders there is nothing."""
    z, y, x = plane.shape
    rows, columns = -(-y // token), -(-x // token)
    padded = np.pad(plane.astype(np.int64), ((0, 0), (0, rows * token - y), (0, columns * token - x)))
    return padded.reshape(z, rows, token, columns, token).sum((2, 4))


def _weighted(levels, voxels):
    """How many voxels lie at every level. Float64 weights are whole numbers here, up to 2^53."""
    return np.bincount(levels.ravel(), weights=voxels.ravel(), minlength=LEVELS).astype(np.int64)


def _counted(levels, wrong, part):
    return DoubtCounts(*(np.bincount(levels[part & one], minlength=LEVELS) for one in (~wrong, wrong)))
