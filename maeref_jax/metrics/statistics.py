"""How sure a number is: intervals over clusters, paired tests, and corrections for looking often.

A cluster is what was sampled independently: a volume, a mitochondrion. Crops, slices and voxels of one cluster are not
independent, and treating them so makes every interval too narrow; they are added up inside their cluster first.

Intervals are percentiles of a bootstrap. Of fewer than about ten clusters they are too narrow, of one there is none.
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput

DRAWS = 10_000
_AT_A_TIME = 1000
EXACT_UP_TO = 12  # clusters whose signs are all tried, 4096 ways


class Interval(NamedTuple):
    """estimate: of all clusters together; low, high: NaN with fewer than two clusters; clusters: how many;
    undefined: the share of the resamples whose statistic was NaN, which are left out of low and high.
    """

    estimate: float
    low: float
    high: float
    clusters: int
    undefined: float


def interval(
    clusters: np.ndarray,
    statistic: Callable[[np.ndarray], float],
    seed: int,
    level: float = 0.95,
    draws: int = DRAWS,
) -> Interval:
    """The bootstrap interval of a statistic of counts that were added over clusters.

    clusters: numbers (clusters, …): what was counted in each, e.g. confusion counts (clusters, c, c), or a sum and a
        count (clusters, 2).
    statistic: of one sum of those over clusters (…), a float: a pooled ratio, a macro Dice; NaN where undefined.
    Clusters are drawn with replacement, as many as there are, `draws` times; level: of the interval, in (0, 1).
    Raises BadInput without any cluster, or with an impossible level or number of draws.
    """
    clusters = np.asarray(clusters, np.float64)
    if not clusters.ndim or not len(clusters) or not 0 < level < 1 or draws < 1:
        raise BadInput(
            f"expected counts of at least one cluster, a level in (0, 1) and draws >= 1, found counts of shape "
            f"{clusters.shape}, {level} and {draws}"
        )
    number, estimate = len(clusters), float(statistic(clusters.sum(0)))
    if number < 2:
        return Interval(estimate, np.nan, np.nan, number, 0.0)
    rng, values = np.random.default_rng(seed), []
    for start in range(0, draws, _AT_A_TIME):
        times = rng.multinomial(number, np.full(number, 1 / number), min(_AT_A_TIME, draws - start))
        sums = (times.astype(np.float64) @ clusters.reshape(number, -1)).reshape(-1, *clusters.shape[1:])
        values += [float(statistic(total)) for total in sums]
    values = np.array(values)
    defined = values[~np.isnan(values)]
    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = np.quantile(defined, tails) if defined.size else (np.nan, np.nan)
    return Interval(estimate, float(low), float(high), number, 1 - defined.size / draws)


def ratio(sum_and_count: np.ndarray) -> float:
    """Sum / count of (2,), NaN without a count: a statistic for `interval`."""
    total, count = sum_and_count
    return float(total / count) if count else float("nan")


def difference_interval(
    first: np.ndarray,
    second: np.ndarray,
    statistic: Callable[[np.ndarray], float],
    seed: int,
    level: float = 0.95,
    draws: int = DRAWS,
) -> Interval:
    """The interval of statistic(first) - statistic(second), both counted on the same clusters: every resample draws the
    same clusters of both, so that what makes a cluster hard for both cancels.

    first, second: (clusters, …) of one shape; otherwise as `interval`. Raises BadInput where the shapes differ.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise BadInput(f"a paired difference needs the same clusters twice, found {first.shape} and {second.shape}")
    both = np.stack([first, second], 1)
    return interval(both, lambda sums: statistic(sums[0]) - statistic(sums[1]), seed, level, draws)


def sign_flip_p(differences: np.ndarray, seed: int, draws: int = DRAWS) -> float:
    """Two-sided p-value of the paired permutation test that the differences of clusters are symmetric around 0.

    differences: float (clusters,), one paired difference per cluster; NaN (undefined in a cluster) is left out.
    The statistic is their mean. All 2^n signs are tried for n <= EXACT_UP_TO, so p is at least 2 / 2^n; otherwise
    `draws` random ones beside the observed one. NaN without any cluster.
    """
    differences = np.asarray(differences, np.float64)
    differences = differences[~np.isnan(differences)]
    number = differences.size
    if not number:
        return float("nan")
    observed = abs(differences.sum())
    # Sums of the same numbers in another order differ by rounding: that is no difference.
    least = observed - 1e-12 * np.abs(differences).sum()
    if number <= EXACT_UP_TO:
        signs = np.array(list(product((-1.0, 1.0), repeat=number)))
        return float((np.abs(signs @ differences) >= least).mean())
    rng, extreme = np.random.default_rng(seed), 1
    for start in range(0, draws, _AT_A_TIME):
        signs = rng.choice((-1.0, 1.0), (min(_AT_A_TIME, draws - start), number))
        extreme += np.count_nonzero(np.abs(signs @ differences) >= least)
    return float(extreme / (draws + 1))


def holm(p_values) -> np.ndarray:
    """Holm's adjusted p-values, float64 of the same order: all below alpha are significant at a family-wise error of
    alpha. NaN stays NaN and does not count as a test. Raises BadInput for anything outside [0, 1].
    """
    p_values = np.asarray(p_values, np.float64)
    if ((p_values < 0) | (p_values > 1)).any():
        raise BadInput(f"expected p-values in [0, 1], found {p_values.tolist()}")
    adjusted, tested = np.full(p_values.shape, np.nan), np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    times = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(times * p_values[order]), 1.0)
    return adjusted
