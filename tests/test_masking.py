import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.masking import gathered_indices, hidden_tokens, near_tokens, scattered_tokens


def test_a_token_is_hidden_above_the_threshold_and_equal_stays_visible():
    entropy = np.array([[0.1, 0.4, 0.41]], np.float32)
    np.testing.assert_array_equal(hidden_tokens(entropy, np.float32(0.4)), [[False, False, True]])
    ambiguous = np.array([[0.9, 0.5, 0.0]], np.float32)
    np.testing.assert_array_equal(hidden_tokens(entropy, np.float32(0.4), ambiguous, 0.5), [[True, False, True]])


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
