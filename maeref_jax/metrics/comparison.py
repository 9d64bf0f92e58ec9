"""Is one way to fill in worse than another, by more than chance? Both are counted on the same slices or places.

Two measures, because each is blind alone: the share of the voxels that are right hardly sees a rare class that is lost
altogether, and the mean Dice of the classes hardly sees what happens to the common one.
"""

from typing import NamedTuple

import numpy as np

from maeref_jax.metrics import overlap, statistics

FEWEST = 5  # slices or places; the spread of fewer says nothing
DRAWS = 2000


class Comparison(NamedTuple):
    """statistics.Interval of the first minus the second. right: share of the voxels that are right; dice: mean Dice of
    the classes above background that occur.
    """

    right: statistics.Interval
    dice: statistics.Interval


def right_share(confusion):
    """Share of the counted voxels that are right, in [0, 1]; NaN without any. confusion: as of `overlap.confusion`."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def mean_dice(confusion):
    """Mean Dice of the classes above background, see `overlap.macro_dice`."""
    return overlap.macro_dice(confusion, range(1, len(confusion)))


def compare(first, second, seed=0):
    """The Comparison of two ways to fill in. first, second: confusion counts of both on the same clusters, int64
    (clusters, c, c). Raises BadInput without any cluster.
    """
    return Comparison(
        *(statistics.difference_interval(first, second, of, seed, draws=DRAWS) for of in (right_share, mean_dice))
    )


def is_worse(comparison, sure=True):
    """Whether the first is worse: by mean Dice, or, where that is not better, by the share that is right. sure: by more
    than chance, the 95 % interval lying on one side of 0, which takes at least FEWEST clusters; else the estimate
    decides where there are fewer.
    """

    def beyond(found, sign):
        if found.clusters < FEWEST:
            return not sure and sign * found.estimate > 0
        return min(sign * found.low, sign * found.high) > 0

    right, dice = comparison
    return beyond(dice, -1) or (beyond(right, -1) and not beyond(dice, 1))
