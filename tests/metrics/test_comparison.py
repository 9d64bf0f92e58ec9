"""comparison.py: worse by either measure, and only by more than chance."""

import numpy as np
import pytest

from maeref_jax.metrics import comparison


def confusions(*pairs):
    """(background right, background wrong, rare right, rare wrong) of every cluster."""
    return np.array([[[a, b], [d, c]] for a, b, c, d in pairs])


SAME = confusions(*[(90, 5, 4, 1)] * 6)


def test_one_that_loses_a_rare_class_is_worse_though_more_voxels_are_right():
    lost = confusions(*[(95, 0, 0, 5)] * 6)
    found = comparison.compare(lost, SAME)
    assert found.right.estimate == pytest.approx(0.01) and found.dice.estimate < -0.5
    assert comparison.is_worse(found) and not comparison.is_worse(comparison.compare(SAME, lost))


def test_a_difference_within_the_spread_is_none():
    rng = np.random.default_rng(0)
    noisy = [confusions(*[(90 - n, 5 + n, 5, 0) for n in rng.integers(0, 9, 20)]) for _ in range(2)]
    assert not comparison.is_worse(comparison.compare(*noisy)) and not comparison.is_worse(
        comparison.compare(SAME, SAME)
    )
    worse = noisy[0] - np.array([[20, -20], [0, 0]])
    assert comparison.is_worse(comparison.compare(worse, noisy[0]))


def test_of_few_clusters_only_who_wants_to_be_careful_is_told():
    found = comparison.compare(confusions((80, 15, 4, 1)), confusions((90, 5, 4, 1)))
    assert not comparison.is_worse(found) and comparison.is_worse(found, sure=False)


def test_where_nothing_is_counted_nobody_is_worse():
    assert not comparison.is_worse(comparison.compare(SAME * 0, SAME * 0), sure=False)
