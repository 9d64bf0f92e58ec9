import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.masking.hidden import (
    blob_score,
    gathered_indices,
    hidden_tokens,
    near_tokens,
    scattered_tokens,
    shaped_tokens,
    shapes_after,
)


def test_a_token_is_hidden_above_the_threshold_and_equal_stays_visible():
    entropy = np.array([[0.1, 0.4, 0.41]], np.float32)
    np.testing.assert_array_equal(hidden_tokens(entropy, np.float32(0.4)), [[False, False, True]])


@settings(max_examples=10)
@given(count=st.integers(0, 30), seed=st.integers(0, 50))
def test_scattered_tokens_hide_exactly_the_count(count, seed):
    assert int(scattered_tokens(jax.random.key(seed), count, 30).sum()) == count


def test_two_keys_draw_different_masks():
    one, two = (scattered_tokens(jax.random.key(seed), 50, 100) for seed in (0, 1))
    assert (one != two).any()


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), n=st.integers(1, 30), spare=st.integers(0, 5))
def test_gathered_indices_are_the_chosen_ones_then_padding(seed, n, spare):
    chosen = np.random.default_rng(seed).random((2, n)) < 0.5
    length = min(int(chosen.sum(1).max()) + spare, n)
    indices, valid = gathered_indices(chosen, length)
    for row in range(2):
        np.testing.assert_array_equal(np.asarray(indices)[row][np.asarray(valid)[row]], np.flatnonzero(chosen[row]))


@pytest.mark.parametrize("within", [0.0, 1.0, 2.5, float("inf")])
def test_near_is_the_distance_between_token_centres(within):
    foreground = np.zeros((1, 5, 7), bool)
    foreground[0, 1, 2] = foreground[0, 4, 6] = True
    row, column = np.mgrid[:5, :7]
    distance = np.minimum(np.hypot(row - 1, column - 2), np.hypot(row - 4, column - 6))
    np.testing.assert_array_equal(near_tokens(foreground, within)[0], distance <= within)


def test_without_foreground_nothing_is_near_at_a_finite_distance():
    assert not near_tokens(np.zeros((1, 3, 3), bool), 2.0).any()


def test_near_can_be_measured_in_nanometres():
    foreground = np.zeros((1, 9, 9), bool)
    foreground[0, 4, 4] = True
    row, column = np.mgrid[:9, :9]
    distance = np.hypot(30.0 * (row - 4), 10.0 * (column - 4))
    np.testing.assert_array_equal(near_tokens(foreground, 41.0, (30.0, 10.0))[0], distance <= 41.0)


def touching(mask):
    """Pairs of neighbours that are both in the mask."""
    return (mask[1:] & mask[:-1]).sum() + (mask[:, 1:] & mask[:, :-1]).sum()


@settings(max_examples=10)
@given(count=st.integers(0, 96), seed=st.integers(0, 50), shape=st.sampled_from(range(4)))
def test_every_shape_hides_exactly_the_count(count, seed, shape):
    weights = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)][shape]
    donor = np.random.default_rng(seed).integers(0, 3, (8, 12)) / 3
    assert int(shaped_tokens(jax.random.key(seed), count, (8, 12), weights, donor).sum()) == count


def test_blobs_hang_together_and_scattered_tokens_do_not():
    def mean_touching(weights):
        return np.mean([touching(np.asarray(draw(key, weights)).reshape(16, 16)) for key in range(20)])

    draw = jax.jit(lambda seed, weights: shaped_tokens(jax.random.key(seed), 64, (16, 16), weights), static_argnums=1)
    assert mean_touching((0, 1, 0)) > 2 * mean_touching((1, 0, 0))


def test_blobs_lie_at_the_border_as_often_as_in_the_middle():
    scores = jax.vmap(lambda seed: blob_score(jax.random.key(seed), (8, 8)))(np.arange(600))
    assert 0.8 < np.asarray(scores)[:, 0, 0].std() < 1.25 and 0.8 < np.asarray(scores)[:, 4, 4].std() < 1.25


def test_transplanted_masks_are_where_the_donor_is_undecided_and_ties_are_broken_at_random():
    donor = np.zeros((4, 6))
    donor[1, 2:5] = (0.2, 0.9, 0.5)
    masks = [np.asarray(shaped_tokens(jax.random.key(s), 2, (4, 6), (0, 0, 1), donor)).reshape(4, 6) for s in range(3)]
    for mask in masks:
        assert {tuple(place) for place in np.argwhere(mask)} == {(1, 3), (1, 4)}
    spread = [np.asarray(shaped_tokens(jax.random.key(s), 8, (4, 6), (0, 0, 1), donor * 0)) for s in range(3)]
    assert (spread[0] != spread[1]).any() and (spread[1] != spread[2]).any()


def test_the_weights_say_how_often_a_shape_is_drawn():
    donor = np.zeros((4, 4))
    donor[:2] = 1.0
    draw = jax.vmap(lambda seed: shaped_tokens(jax.random.key(seed), 8, (4, 4), (3.0, 0.0, 1.0), donor))
    transplanted = (np.asarray(draw(np.arange(400)))[:, :8]).all(1)
    assert 0.17 < transplanted.mean() < 0.33


@settings(max_examples=25)
@given(st.floats(0.05, 1.0), st.floats(0.0, 1.0), st.tuples(*[st.floats(0.0, 5.0)] * 3).filter(lambda w: sum(w) > 0.1))
def test_a_curriculum_begins_scattered_and_ends_with_the_shapes_asked_for(curriculum, progress, weights):
    shares = np.asarray(shapes_after(weights, curriculum, progress))
    wanted = np.asarray(weights) / sum(weights)
    np.testing.assert_allclose(shares.sum(), 1, atol=1e-5)
    np.testing.assert_allclose(shapes_after(weights, curriculum, 0.0), (1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(shapes_after(weights, curriculum, 1.0), wanted, atol=1e-5)
    assert (shares[1:] <= wanted[1:] + 1e-5).all()
