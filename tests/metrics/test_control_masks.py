"""Masks to compare with: as many tokens in the same shapes elsewhere, and the true errors."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from maeref_jax.metrics import control_masks

TOKEN = 4


def spread(tokens):
    return np.asarray(tokens, bool).repeat(TOKEN, 1).repeat(TOKEN, 2)


def shapes(hidden):
    """The sorted pieces of every slice, as bytes of their boxes."""
    found = []
    for plane in hidden[:, ::TOKEN, ::TOKEN]:
        numbers, _ = ndimage.label(plane)
        boxes = enumerate(ndimage.find_objects(numbers), 1)
        found.append(sorted((box_shape(b), (numbers[b] == i).tobytes()) for i, b in boxes))
    return found


def box_shape(box):
    return tuple(side.stop - side.start for side in box)


def corner():
    """A piece of L shape and a single token, far from one another."""
    tokens = np.zeros((2, 12, 12), bool)
    tokens[0, 1:4, 1] = tokens[0, 3, 1:3] = True
    tokens[0, 9, 9] = True
    return tokens


def test_pieces_keep_their_shape_and_go_elsewhere():
    hidden = spread(corner())
    moved = [control_masks.random_tokens(hidden, TOKEN, seed) for seed in range(20)]
    assert any((m != moved[0]).any() for m in moved)
    for found in moved:
        assert found.sum() == hidden.sum() and not found[1].any()
        np.testing.assert_array_equal(found, spread(found[:, ::TOKEN, ::TOKEN]))
    assert sum(shapes(m) == shapes(hidden) for m in moved) > 10, "two pieces may come to touch, but seldom"
    np.testing.assert_array_equal(moved[3], control_masks.random_tokens(hidden, TOKEN, 3))


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_the_number_of_tokens_stays_however_full_it_is(seed, share):
    tokens = np.random.default_rng(seed).random((2, 7, 6)) < share
    found = control_masks.random_tokens(spread(tokens), TOKEN, seed)
    assert (found.sum((1, 2)) == spread(tokens).sum((1, 2))).all()


def test_pieces_stay_on_what_is_alike():
    tokens, alike = corner(), np.zeros((2, 12, 12), bool)
    alike[0, :6] = True
    for seed in range(10):
        found = control_masks.random_tokens(spread(tokens), TOKEN, seed, spread(alike))
        inside = (found & spread(alike)).sum() // TOKEN**2
        assert inside >= 4, "the L of four tokens lay on it, the single one did not"
    nowhere = control_masks.random_tokens(spread(tokens), TOKEN, 0, spread(alike & False))
    assert nowhere.sum() == spread(tokens).sum()


def test_nothing_hidden_and_tokens_cut_by_the_border():
    nothing = np.zeros((2, 9, 10), bool)
    assert not control_masks.random_tokens(nothing, TOKEN, 0).any()
    nothing[0, 8, 9] = True
    found = control_masks.random_tokens(nothing, TOKEN, 1)
    assert found.shape == nothing.shape and found[0].any() and not found[1].any()


def test_the_oracle_hides_the_errors_and_only_those():
    truth, labels = np.zeros((1, 9, 9), np.int16), np.zeros((1, 9, 9), np.int16)
    labels[0, 0, 0] = 1
    labels[0, 8, 8] = 1  # in a token that the border cuts to one voxel
    labels[0, 0, 5], truth[0, 0, 5] = 2, -1
    expected = np.zeros((1, 9, 9), bool)
    expected[0, :4, :4] = expected[0, 8, 8] = True
    np.testing.assert_array_equal(control_masks.wrong_tokens(truth, labels, TOKEN), expected)
    expected[0, :4, :4] = False
    np.testing.assert_array_equal(control_masks.wrong_tokens(truth, labels, TOKEN, 1 / 16), expected)
    assert not control_masks.wrong_tokens(truth, np.where(truth == -1, 3, truth), TOKEN).any()
