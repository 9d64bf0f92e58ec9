"""The repair that learns nothing."""

import numpy as np

from maeref_jax.metrics.baselines import nearest_visible_label


def test_hidden_voxels_take_the_nearest_visible_label_of_their_slice():
    labels = np.array([[[1, 9, 9, 9, 2]], [[3, 3, 9, 3, 3]]], np.uint8)
    hidden = np.array([[[0, 1, 1, 1, 0]], [[0, 0, 1, 0, 0]]], bool)
    filled = nearest_visible_label(labels, hidden)
    assert filled[0, 0, [0, 1, 3, 4]].tolist() == [1, 1, 2, 2]
    assert filled[0, 0, 2] in (1, 2)
    assert filled[1, 0].tolist() == [3, 3, 3, 3, 3]
    assert filled.dtype == labels.dtype
    assert labels[0, 0, 1] == 9, "the input stays as it is"


def test_unknown_lends_nothing_and_a_slice_without_lenders_stays():
    labels = np.array([[[1, 0, -1]], [[2, 0, 3]]], np.int16)
    hidden = np.array([[[0, 1, 0]], [[1, 1, 1]]], bool)
    assert nearest_visible_label(labels, hidden).tolist() == [[[1, 1, -1]], [[2, 0, 3]]]


def test_labels_under_hidden_voxels_do_not_matter():
    rng = np.random.default_rng(0)
    labels, hidden = rng.integers(0, 4, (2, 9, 9)), rng.random((2, 9, 9)) < 0.5
    other = np.where(hidden, rng.integers(0, 4, labels.shape), labels)
    np.testing.assert_array_equal(nearest_visible_label(labels, hidden), nearest_visible_label(other, hidden))


def test_what_a_column_hears_does_not_depend_on_the_labels_elsewhere():
    labels = np.zeros((3, 1, 4), np.uint8)
    labels[[0, 2], 0, 1], hidden = 1, np.zeros(labels.shape, bool)
    hidden[1, 0, 1] = True
    for entropy in np.linspace(0, 1, 21):
        found = []
        for other in (1, 3, 10):
            labels[0, 0, 3] = other
            given = np.full(labels.shape, entropy, np.float32)
            found.append(nearest_visible_label(labels, hidden, 1, given, 11)[1, 0, 1])
        assert len(set(found)) == 1, entropy
