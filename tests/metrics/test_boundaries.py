"""Boundary F1 on masks small enough to count by hand."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.metrics import boundaries


def square(y, x, size=4, shape=(12, 12)):
    labels = np.zeros(shape, np.int16)
    labels[y : y + size, x : x + size] = 1
    return labels


def score(*arguments, **named):
    return boundaries.f1(boundaries.count(*arguments, **named))


def test_equal_maps_score_one_and_boundary_voxels_lie_on_both_sides():
    counts = boundaries.count(square(4, 4), square(4, 4), 2, 0)
    assert counts.true.tolist() == [16, 12]  # the ring inside a 4 x 4 square; 4 face neighbours along each side
    assert counts.true_met.tolist() == counts.true.tolist() and counts.predicted.tolist() == counts.true.tolist()
    assert boundaries.f1(counts).tolist() == [1, 1] and boundaries.macro_f1(counts, (0, 1)) == 1


def test_a_shift_by_two_is_met_at_a_tolerance_of_two_only():
    truth, shifted = square(4, 3), square(4, 5)
    # Of the 12 ring pixels of the square those in both rings are met at tolerance 0: upper and lower row, 2 each.
    # The column x=5 of the shifted ring lies inside the true one; x=6 of the true ring inside the shifted one.
    counts = boundaries.count(truth, shifted, 2, 0)
    assert counts.true_met[1] == counts.predicted_met[1] == 4
    assert score(truth, shifted, 2, 0)[1] == pytest.approx(4 / 12)
    assert score(truth, shifted, 2, 2)[1] == 1
    assert score(truth, shifted, 2, 1)[1] < 1


def test_the_tolerance_is_a_length_where_voxels_have_one():
    truth, shifted = square(4, 4), square(6, 4)
    assert score(truth, shifted, 2, 10.0, voxel_size_nm=(5.0, 20.0))[1] == 1  # two voxels of 5 nm
    assert score(truth, shifted, 2, 9.9, voxel_size_nm=(5.0, 20.0))[1] < 1
    assert score(truth.T, shifted.T, 2, 10.0, voxel_size_nm=(5.0, 20.0))[1] < 1


def test_empty_masks_have_a_policy():
    nothing = np.zeros((6, 6), np.int16)
    one = nothing.copy()
    one[2, 3] = 1
    assert np.isnan(score(nothing, nothing, 3, 1)).all(), "no class has a boundary"
    found = score(nothing, one, 3, 1)
    assert found[1] == 0 and found[0] == 0 and np.isnan(found[2])
    assert score(one, one, 3, 0)[1] == 1
    assert boundaries.macro_f1(boundaries.count(one, one, 3, 0), (1, 2)) == 1
    assert np.isnan(boundaries.macro_f1(boundaries.count(nothing, nothing, 3, 0), (1, 2)))


def test_border_of_the_image_and_unknown_truth_are_no_boundary():
    full = np.ones((5, 5), np.int16)
    assert boundaries.count(full, full, 2, 1).true.sum() == 0
    truth = square(0, 0, 3, (6, 6))
    assert boundaries.boundary(truth).sum() == 5 + 6, "a corner piece has two open sides"
    truth[:, 3] = -1
    predicted = np.where(np.arange(6) > 2, 1, truth).astype(np.int16)
    counts = boundaries.count(truth, predicted, 2, 0)
    assert counts.true[1] == 3, "the side to the unknown column counts no more"


def test_a_prediction_has_no_boundary_where_nobody_knows():
    truth, predicted = np.array([[0, 0, -1, 1, 1]], np.int16), np.array([[0, 0, 1, 1, 1]], np.int16)
    assert boundaries.count(truth, predicted, 2, 1).predicted.sum() == 0


def test_a_region_restricts_what_is_counted_but_not_what_meets_it():
    truth, shifted = square(4, 3), square(4, 4)
    region = np.zeros(truth.shape, bool)
    region[:, :4] = True  # the left side of the true square only
    counts = boundaries.count(truth, shifted, 2, 1, region)
    assert (counts.true[1], counts.true_met[1]) == (4, 4)
    assert counts.predicted[1] == 0
    assert boundaries.count(truth, shifted, 2, 1, np.zeros(truth.shape, bool)).true.sum() == 0


def test_counts_of_planes_add_and_a_box_has_surfaces():
    truth = np.stack([square(4, 4), square(3, 4), square(4, 5)])
    predicted = np.stack([square(4, 5), square(3, 3), square(5, 5)])
    parts = [boundaries.count(t, p, 2, 1) for t, p in zip(truth, predicted, strict=True)]
    total = boundaries.add(boundaries.add(parts[0], parts[1]), parts[2])
    assert total.true[1] == 36 and total.true.sum() == sum(part.true.sum() for part in parts)
    region = truth == 0
    for where in (None, region):
        slices = [None] * 3 if where is None else where
        parts = [boundaries.count(*of, 2, 1, part) for *of, part in zip(truth, predicted, slices, strict=True)]
        stacked = boundaries.count_planes(truth, predicted, 2, 1, where)
        np.testing.assert_array_equal(stacked, boundaries.add(boundaries.add(parts[0], parts[1]), parts[2]))
    size = (90.0, 5.0, 5.0)
    assert (boundaries.f1(boundaries.count_planes(truth, predicted, 2, 5.0, None, size)) == 1).all()
    assert boundaries.count_planes(truth[:0], predicted[:0], 2, 1).true.tolist() == [0, 0]
    cube = np.zeros((5, 5, 5), np.int16)
    cube[1:4, 1:4, 1:4] = 1
    assert boundaries.count(cube, cube, 2, 0).true.tolist() == [6 * 9, 26]


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadInput, match="of one shape"):
        boundaries.count(np.zeros((3, 3), int), np.zeros((3, 4), int), 2, 1)
    with pytest.raises(BadInput, match="bool region"):
        boundaries.count(np.zeros((3, 3), int), np.zeros((3, 3), int), 2, 1, np.ones((3, 3)))
    with pytest.raises(BadInput, match="2 axes"):
        boundaries.count(np.zeros((3, 3), int), np.zeros((3, 3), int), 2, 1, voxel_size_nm=(1.0, 1.0, 1.0))
    with pytest.raises(BadInput, match="at least 0"):
        boundaries.count(np.zeros((3, 3), int), np.zeros((3, 3), int), 2, -1)
