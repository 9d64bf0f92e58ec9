"""Confusion counts, Dice and repairs on label maps small enough to count by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maeref_jax.errors import BadInput
from maeref_jax.metrics import overlap

TRUTH = np.array([[0, 0, 1, 1], [2, 2, 2, -1]], np.int16)
PREDICTED = np.array([[0, 1, 1, 1], [2, 2, 0, 3]], np.uint8)


def test_confusion_counts_known_voxels_by_true_and_predicted_class():
    expected = [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    found = overlap.confusion(TRUTH, PREDICTED, 4)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_dice_by_hand_and_nan_for_a_class_absent_from_both():
    scores = overlap.dice(overlap.confusion(TRUTH, PREDICTED, 4))
    np.testing.assert_allclose(scores, [2 / 4, 4 / 5, 4 / 5, np.nan])


def test_a_class_that_only_one_side_has_scores_zero():
    scores = overlap.dice(overlap.confusion(np.array([0, 0, 1]), np.array([0, 2, 0]), 4))
    np.testing.assert_allclose(scores, [0.5, 0.0, 0.0, np.nan])


def test_macro_dice_averages_the_asked_classes_and_skips_absent_ones():
    counts = overlap.confusion(TRUTH, PREDICTED, 4)
    assert overlap.macro_dice(counts, (1, 2, 3)) == pytest.approx(0.8)
    assert np.isnan(overlap.macro_dice(counts, (3,)))


def test_region_restricts_the_count():
    region = np.zeros(TRUTH.shape, bool)
    region[1] = True
    assert overlap.confusion(TRUTH, PREDICTED, 4, region).sum() == 3
    assert overlap.confusion(TRUTH, PREDICTED, 4, np.zeros(TRUTH.shape, bool)).sum() == 0


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.int16, (2, 4, 5), elements=st.integers(-1, 3)),
    arrays(np.int16, (2, 4, 5), elements=st.integers(0, 3)),
)
def test_counts_of_parts_add_up_to_the_whole(truth, predicted):
    parts = sum(overlap.confusion(truth[z], predicted[z], 4) for z in range(2))
    np.testing.assert_array_equal(parts, overlap.confusion(truth, predicted, 4))


def test_repairs_by_hand():
    truth = np.array([1, 1, 1, 1, 1, -1, 1])
    initial = np.array([0, 1, 2, 0, 1, 0, 0])
    refined = np.array([1, 0, 3, 0, 1, 1, 1])
    region = np.array([1, 1, 1, 1, 1, 1, 0], bool)
    assert overlap.repairs(truth, initial, refined, region) == {
        "wrong_to_right": 1,
        "right_to_wrong": 1,
        "wrong_to_other_wrong": 1,
        "wrong_kept": 1,
        "right_kept": 1,
    }
    assert overlap.repairs(truth, initial, refined)["wrong_to_right"] == 2


def test_other_shapes_and_labels_outside_the_scheme_are_refused():
    with pytest.raises(BadInput, match=r"\(2, 4\).*\(3,\)"):
        overlap.confusion(TRUTH, np.zeros(3, int), 4)
    with pytest.raises(BadInput, match=r"predicted labels must lie in 0\.\.2.*0\.\.3"):
        overlap.confusion(np.array([0, 1]), np.array([0, 3]), 3)
    with pytest.raises(BadInput, match="predicted"):
        overlap.confusion(np.array([0, 1]), np.array([0, -1]), 3)
    with pytest.raises(BadInput, match="truth"):
        overlap.confusion(np.array([0, 255], np.uint8), np.array([0, 1]), 3)
    with pytest.raises(BadInput, match="bool"):
        overlap.confusion(TRUTH, PREDICTED, 4, np.full(TRUTH.shape, 255, np.uint8))


def test_intersection_over_union_by_hand_and_pooled_counts():
    counts = overlap.confusion(TRUTH, PREDICTED, 4)
    np.testing.assert_allclose(overlap.iou(counts), [1 / 3, 2 / 3, 2 / 3, np.nan])
    assert overlap.macro(overlap.iou(counts), (1, 2, 3)) == pytest.approx(2 / 3)
    # classes 1 and 2: 4 right; claimed 2 + 3 by the truth, 3 + 2 by the prediction
    assert overlap.pooled_dice(counts, (1, 2)) == pytest.approx(2 * 4 / 10)
    assert overlap.pooled_dice(counts, range(4)) == pytest.approx(np.trace(counts) / counts.sum())
    assert np.isnan(overlap.pooled_dice(counts, (3,)))
    assert np.isnan(overlap.iou(np.zeros((2, 2), np.int64))).all()
    np.testing.assert_allclose(overlap.iou(np.array([[0, 2], [0, 0]])), [0, 0])


def test_the_ceiling_of_a_repair_is_the_share_of_errors_inside():
    region = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    inside, everywhere = (overlap.errors(overlap.confusion(TRUTH, PREDICTED, 4, where)) for where in (region, None))
    assert (inside, everywhere) == (1, 2)
