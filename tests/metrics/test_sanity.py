"""The rows that must not win, and the counts that stand beside a table of validity metrics."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.metrics import sanity, validity


def test_erased_cristae_are_matrix_and_nothing_else_changes():
    labels = np.array([[0, 1, 2], [3, 2, -1]], np.int16)
    found = sanity.cristae_erased(labels)
    assert found.tolist() == [[0, 1, 3], [3, 3, -1]] and found.dtype == np.int16
    assert labels[0, 2] == 2, "the input stays as it is"
    other = validity.Classes(background=3, intermembrane=2, cristae=1, matrix=0)
    assert sanity.cristae_erased(np.array([1, 2]), other).tolist() == [0, 2]


def test_the_majority_wins_in_its_own_plane():
    labels = np.zeros((2, 9, 9), np.int16)
    labels[0, 2:7, 2:7] = 2
    labels[0, 4, 4] = 3  # one against eight
    labels[1, 4, 4] = 3
    found = sanity.majority_filtered(labels, 3)
    assert found[0, 4, 4] == 2 and found[0, 2, 2] == 0, "4 of 9 in the corner"
    assert found[0, 2, 4] == 2 and not found[1].any()
    np.testing.assert_array_equal(sanity.majority_filtered(labels[0], 3), found[0])
    np.testing.assert_array_equal(sanity.majority_filtered(labels, 1), labels)


def test_unknown_has_no_vote_and_ties_go_to_the_lower_class():
    labels = np.array([[-1, -1, -1], [-1, 2, -1], [-1, -1, -1]], np.int16)
    assert sanity.majority_filtered(labels, 3).tolist() == labels.tolist()
    assert sanity.majority_filtered(np.array([[3, 3, 1, 1]]), 5)[0, 1] == 1
    with pytest.raises(BadInput, match="odd"):
        sanity.majority_filtered(labels, 4)


def test_another_crop_is_of_another_group():
    groups = np.repeat(["a", "b", "c"], 20)
    found = sanity.another_crop(groups, 0)
    assert (groups[found] != groups).all() and len(np.unique(found)) > 20
    np.testing.assert_array_equal(found, sanity.another_crop(groups, 0))
    with pytest.raises(BadInput, match="two groups"):
        sanity.another_crop(["a", "a"], 0)


def test_too_low_is_as_far_as_too_high_and_the_floor_holds():
    control = [1.0, 2.0, 3.0, np.nan]  # mean 2, s.d. 1
    high, low = (sanity.distance_to_control(v, control, 0.1) for v in ([5.0, 5.0], [-1.0, np.nan]))
    assert high == {"distance": 3.0, "difference": 3.0, "sd": 1.0}
    assert low["distance"] == 3.0 and low["difference"] == -3.0
    assert sanity.distance_to_control([0.02], [0.0, 0.0], 0.01)["distance"] == pytest.approx(2)
    assert sanity.distance_to_control([0.02], [0.0], 0.01)["distance"] == pytest.approx(2), "one crop has no s.d."
    assert np.isnan(sanity.distance_to_control([], control, 0.1)["distance"])
    assert set(sanity.FLOORS) == set(validity.METRICS)
    with pytest.raises(BadInput, match="above 0"):
        sanity.distance_to_control([1.0], control, 0.0)


def test_what_is_left_of_each_class():
    reference = np.array([[0, 2, 2, 2], [3, 3, -1, 0]], np.int16)
    labels = np.array([[0, 2, 3, 0], [3, 3, 2, 1]], np.int16)
    areas = sanity.class_areas(labels, reference, 4)
    assert areas.tolist() == [[2, 1, 1, 3], [2, 0, 3, 2]]
    np.testing.assert_allclose(sanity.retention(areas), [1, np.nan, 1 / 3, 1.5])
    erased = sanity.class_areas(sanity.cristae_erased(reference), reference, 4)
    assert sanity.retention(erased)[2] == 0, "the row that looks plausible is shown for what it is"


def test_structures_of_which_less_than_half_is_found_again_are_lost():
    reference = np.zeros((9, 9), np.int16)
    reference[0, :4] = reference[4, :4] = reference[8, :4] = 2
    reference[8, 8] = 2
    labels = np.zeros_like(reference)
    labels[0, :2] = labels[4, :1] = 2  # half, a quarter, nothing, nothing
    assert sanity.lost_structures(labels, reference, 2) == (3, 4)
    assert sanity.lost_structures(labels, reference, 2, smallest_vx=2) == (2, 3)
    assert sanity.lost_structures(labels, reference, 2, smallest_vx=2, least_share=0.25) == (1, 3)
    assert sanity.lost_structures(reference, labels, 2) == (0, 2), "none of them is invented"
    assert sanity.lost_structures(labels, np.zeros_like(labels), 2) == (0, 0)
