"""Intervals that cover what they should, on simulated clusters; tests and corrections against hand values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.metrics import overlap, statistics


def simulated(rng, clusters=25, spread=0.15, size=200):
    """Right voxels and voxels of clusters whose own rates scatter around 0.6."""
    voxels = rng.integers(size // 2, size, clusters)
    rates = np.clip(rng.normal(0.6, spread, clusters), 0, 1)
    return np.stack([rng.binomial(voxels, rates), voxels], -1)


def covered(make, inside, repeats=150):
    return np.mean([inside(make(np.random.default_rng(seed)), seed) for seed in range(repeats)])


def test_the_interval_over_clusters_covers_the_truth_about_as_often_as_it_says():
    def inside(counts, seed):
        found = statistics.interval(counts, statistics.ratio, seed, draws=300)
        return found.low <= 0.6 <= found.high

    assert 0.87 <= covered(simulated, inside) <= 0.99


def test_voxels_taken_as_independent_would_cover_far_too_rarely():
    """The reason for clusters: the same data, the interval of a binomial."""

    def inside(counts, seed):
        right, voxels = counts.sum(0)
        rate = right / voxels
        return abs(rate - 0.6) <= 1.96 * np.sqrt(rate * (1 - rate) / voxels)

    assert covered(simulated, inside) < 0.7


def test_a_paired_difference_is_sharper_than_two_intervals_and_covers():
    def both(rng):
        first = simulated(rng, spread=0.2)
        gain = rng.binomial(first[:, 1] - first[:, 0], 0.1)  # a tenth of the errors is repaired: 0.04 of the voxels
        return first, np.stack([first[:, 0] + gain, first[:, 1]], -1)

    def inside(pair, seed):
        found = statistics.difference_interval(pair[1], pair[0], statistics.ratio, seed, draws=300)
        return found.low <= 0.04 <= found.high

    assert 0.85 <= covered(both, inside) <= 0.995
    first, second = both(np.random.default_rng(0))
    paired = statistics.difference_interval(second, first, statistics.ratio, 0, draws=500)
    alone = statistics.interval(first, statistics.ratio, 0, draws=500)
    assert paired.high - paired.low < (alone.high - alone.low) / 3
    assert paired.low > 0 and paired.estimate == pytest.approx(
        second[:, 0].sum() / second[:, 1].sum() - first[:, 0].sum() / first[:, 1].sum()
    )


def test_any_statistic_of_added_counts_and_the_seed_decides():
    rng = np.random.default_rng(1)
    confusions = rng.integers(1, 50, (8, 4, 4))

    def macro_dice(counts):
        return overlap.macro_dice(counts, (2, 3))

    one = statistics.interval(confusions, macro_dice, 0, draws=200)
    assert one.estimate == macro_dice(confusions.sum(0)) and one.low < one.estimate < one.high
    assert one == statistics.interval(confusions, macro_dice, 0, draws=200)
    assert one != statistics.interval(confusions, macro_dice, 1, draws=200)
    wider = statistics.interval(confusions, macro_dice, 0, level=0.99, draws=200)
    assert wider.low <= one.low and wider.high >= one.high


def test_equal_clusters_leave_no_doubt_and_one_cluster_says_nothing():
    same = statistics.interval(np.tile([3, 4], (5, 1)), statistics.ratio, 0, draws=50)
    assert (same.low, same.high) == (0.75, 0.75)
    one = statistics.interval([[3, 4]], statistics.ratio, 0)
    assert one.estimate == 0.75 and np.isnan(one.low) and one.clusters == 1


def test_undefined_resamples_are_left_out_and_counted():
    found = statistics.interval([[1, 2], [0, 0]], statistics.ratio, 0, draws=2000)
    assert found.low == found.high == found.estimate == 0.5
    assert found.undefined == pytest.approx(0.25, abs=0.04)  # both draws are the empty cluster
    nothing = statistics.interval([[0, 0], [0, 0]], statistics.ratio, 0, draws=10)
    assert np.isnan(nothing.estimate) and np.isnan(nothing.low) and nothing.undefined == 1


def test_what_cannot_be_resampled_is_refused():
    with pytest.raises(BadInput, match="at least one cluster"):
        statistics.interval(np.zeros((0, 2)), statistics.ratio, 0)
    with pytest.raises(BadInput, match="level"):
        statistics.interval([[1, 2]], statistics.ratio, 0, level=95)
    with pytest.raises(BadInput, match="same clusters twice"):
        statistics.difference_interval([[1, 2]], [[1, 2], [1, 2]], statistics.ratio, 0)


def test_sign_flips_by_hand():
    # |1 + 2 + 3| = 6 is reached by +++ and --- of eight.
    assert statistics.sign_flip_p([1, 2, 3], 0) == 2 / 8
    # |1 + 2 - 3| = 0 is reached by all.
    assert statistics.sign_flip_p([1, 2, -3], 0) == 1
    # Sums of size >= 4: +++ (6), +-+ … |1-2-3| = 4, |1+2+3| = 6 and their mirrors; observed |-1+2+3| = 4.
    assert statistics.sign_flip_p([-1, 2, 3], 0) == 4 / 8
    assert statistics.sign_flip_p([0.1, 0.2, np.nan], 0) == 2 / 4
    assert np.isnan(statistics.sign_flip_p([], 0)) and statistics.sign_flip_p([0, 0], 0) == 1


def test_many_clusters_are_sampled_and_agree_with_the_normal_law():
    differences = np.random.default_rng(3).normal(0.3, 1.0, 60)
    z = abs(differences.sum()) / np.sqrt((differences**2).sum())
    from scipy.stats import norm

    assert statistics.sign_flip_p(differences, 0, draws=20_000) == pytest.approx(2 * norm.sf(z), abs=0.01)
    assert statistics.sign_flip_p(np.ones(60), 0, draws=999) == pytest.approx(1 / 1000), "never zero"


def test_without_an_effect_few_are_significant():
    p = [statistics.sign_flip_p(np.random.default_rng(seed).normal(size=9), 0) for seed in range(200)]
    assert np.mean(np.array(p) <= 0.05) < 0.1


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, and never falling
    np.testing.assert_allclose(statistics.holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(statistics.holm([0.5, 0.9]), [1, 1])
    np.testing.assert_allclose(statistics.holm([0.01, np.nan, 0.02]), [0.02, np.nan, 0.02])
    assert statistics.holm([]).size == 0
    with pytest.raises(BadInput, match=r"1\.2"):
        statistics.holm([0.1, 1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p_values):
    p, adjusted = np.array(p_values), statistics.holm(p_values)
    assert (adjusted >= p).all() and (adjusted <= np.minimum(len(p) * p, 1) + 1e-12).all() and adjusted.max() <= 1
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
