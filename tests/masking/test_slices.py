"""slices.py: neighbouring slices agree, by what they say and by nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.masking import slices


def certain(labels, classes):
    return slices.opinions(labels, np.zeros(labels.shape), classes)


def agreed(probabilities, labels, hidden, rounds):
    """Visible voxels are certain."""
    return slices.agreed(probabilities, labels, hidden, rounds, certain(labels, probabilities.shape[-1]))


def volume(seed, shape=(7, 3, 4), classes=3):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), shape).astype(np.float32)
    return probabilities, rng.integers(-1, classes + 1, shape).astype(np.int16), rng.random(shape) < 0.6


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4))
def test_only_hidden_voxels_change_and_hidden_labels_are_not_looked_at(seed, rounds):
    probabilities, labels, hidden = volume(seed)
    found = agreed(probabilities, labels, hidden, rounds)
    np.testing.assert_array_equal(found[~hidden], probabilities[~hidden])
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    other = np.where(hidden, 2 - labels, labels)
    np.testing.assert_array_equal(agreed(probabilities, other, hidden, rounds), found)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(0, 6))
def test_what_lies_farther_than_the_rounds_reach_does_not_matter(seed, rounds, at):
    probabilities, labels, hidden = volume(seed)
    near = slice(max(at - rounds, 0), at + rounds + 1)
    inside = agreed(probabilities[near], labels[near], hidden[near], rounds)[at - near.start]
    np.testing.assert_array_equal(inside, agreed(probabilities, labels, hidden, rounds)[at])


def test_a_slice_that_differs_is_outvoted_by_its_neighbours_and_by_visible_labels():
    hidden, labels = np.ones((3, 1, 1), bool), np.zeros((3, 1, 1), np.int16)
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.9, 0.1]], np.float32)[:, None, None]
    mean = (0.9 * 0.3 * 0.9) ** (1 / 3), (0.1 * 0.7 * 0.1) ** (1 / 3)
    assert agreed(probabilities, labels, hidden, 1)[1, 0, 0, 0] == pytest.approx(mean[0] / sum(mean), abs=1e-5)
    hidden[0] = hidden[2] = False
    assert agreed(probabilities, labels, hidden, 1)[1, 0, 0].argmax() == 0
    labels[:] = -1  # nobody knows: no opinion, as if there were no slice
    assert agreed(probabilities, labels, hidden, 4)[1, 0, 0, 1] == pytest.approx(0.7, abs=1e-5)
    labels[0] = 0  # of two neighbours one knows
    mean = (0.3 * 0.3 * 1.0) ** (1 / 3), (0.7 * 0.7 * slices.SMALLEST / 2) ** (1 / 3)
    assert agreed(probabilities, labels, hidden, 1)[1, 0, 0, 0] == pytest.approx(mean[0] / sum(mean), abs=1e-5)


def test_visible_neighbours_are_as_sure_as_what_is_said_of_them():
    hidden, labels = np.array([False, True, False])[:, None, None], np.zeros((3, 1, 1), np.int16)
    probabilities = np.array([[0.5, 0.5], [0.3, 0.7], [0.5, 0.5]], np.float32)[:, None, None]
    said = np.array([[0.6, 0.4], [0.0, 1.0], [0.5, 0.5]], np.float32)[:, None, None]
    mean = (0.3 * 0.6 * 0.5) ** (1 / 3), (0.7 * 0.4 * 0.5) ** (1 / 3)
    found = slices.agreed(probabilities, labels, hidden, 1, said)
    assert found[1, 0, 0, 0] == pytest.approx(mean[0] / sum(mean), abs=1e-5)
    np.testing.assert_array_equal(found[[0, 2]], probabilities[[0, 2]])
    other = np.where(hidden[..., None], 1 - said, said)  # of hidden ones nothing is said
    np.testing.assert_array_equal(slices.agreed(probabilities, labels, hidden, 1, other), found)
    labels[0] = -1  # without an opinion it is not heard, whatever is said
    mean = (0.3 * 0.3 * 0.5) ** (1 / 3), (0.7 * 0.7 * 0.5) ** (1 / 3)
    found = slices.agreed(probabilities, labels, hidden, 1, said)
    assert found[1, 0, 0, 0] == pytest.approx(mean[0] / sum(mean), abs=1e-5)


@pytest.mark.parametrize("classes", [2, 4, 254])
def test_labels_are_as_sure_as_their_entropy_says(classes):
    labels = np.arange(classes).astype(np.int16)[None, None, :2].repeat(256, 1)
    entropy = np.linspace(0, 1, 256)[None, :, None].repeat(2, 2)
    found = slices.opinions(labels, entropy, classes).astype(float)
    assert found.shape == (1, 256, 2, classes)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(found[0, 0, 1] == 1, np.arange(classes) == 1)
    np.testing.assert_allclose(found[0, -1], 1 / classes, atol=1e-3)
    again = -(found * np.log(np.maximum(found, 1e-30))).sum(-1) / np.log(classes)
    np.testing.assert_allclose(again, entropy, atol=1e-3)
    unknown = slices.opinions(np.full((1, 1, 1), -1, np.int16), np.ones((1, 1, 1)), classes)
    assert np.isfinite(unknown).all()


def test_a_stack_that_is_the_same_everywhere_stays_so():
    probabilities = np.broadcast_to(np.array([0.5, 0.3, 0.2], np.float32), (5, 2, 2, 3))
    hidden = np.ones((5, 2, 2), bool)
    np.testing.assert_allclose(agreed(probabilities, hidden * 0, hidden, 4), probabilities, atol=1e-6)


@pytest.mark.parametrize(
    ("length", "z", "expected"), [(40, 10, 4), (40, 12, 3), (40, 45, 0), (0, 5, 0), (40, 1, 8), (1e308, 0.1, 8)]
)
def test_slices_within_a_length(length, z, expected):
    assert slices.slices_within(length, z) == expected


def test_a_class_more_does_not_make_anybody_less_sure():
    for classes in (2, 4, 255):
        sure = np.broadcast_to(np.eye(classes, dtype=np.float32)[1], (3, 1, 1, classes))
        found = agreed(sure, np.zeros((3, 1, 1), np.int16), np.ones((3, 1, 1), bool), 4)
        assert found[1, 0, 0, 1] > 0.95
