"""Validity metrics on masks small enough to count by hand. The comments show how each number arises."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import euler_number

from maeref_jax.errors import BadInput
from maeref_jax.metrics import validity

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.npz"


def boxes(shape, *rectangles, fill=1):
    """A label map with (y0, y1, x0, x1[, label]) painted one after the other."""
    labels = np.zeros(shape, np.int16)
    for y0, y1, x0, x1, *label in rectangles:
        labels[y0:y1, x0:x1] = label[0] if label else fill
    return labels


# A mitochondrion as nested rectangles: 9 x 13 intermembrane, in it 5 x 9 matrix, in that 2 x 3 cristae.
NESTED = boxes((13, 17), (2, 11, 2, 15, 1), (4, 9, 4, 13, 3), (5, 7, 6, 9, 2))


def test_a_healthy_mitochondrion_by_hand():
    counts = validity.counts(NESTED)
    assert counts["pixels"] == 13 * 17
    assert counts["inner_area"] == 5 * 9
    assert counts["inner_edges"] == 2 * (5 + 9)  # perimeter of the inner rectangle, all of it on intermembrane
    assert counts["inner_intermembrane_edges"] == 28
    assert counts["cristae_intermembrane_edges"] == 0
    assert counts["inner_background_edges"] == 0
    assert counts["foreground_background_edges"] == 2 * (9 + 13)
    found = validity.metrics(counts)
    assert tuple(found) == validity.METRICS
    assert found == {
        "end_points": 2.0,
        "cycles": 0.0,
        "boundary_to_area": pytest.approx(28 / 45),
        "cristae_boundary": 0.0,
        "inner_background": 0.0,
    }


def test_cristae_on_the_intermembrane_space_and_inner_on_background_are_counted():
    labels = NESTED.copy()
    labels[4, 4:7] = 2  # three cristae pixels at the inner corner: 3 edges up, 1 to the left, on intermembrane
    labels[6, 2:4] = 0  # a gap of one pixel through the shell: the inner rectangle meets background over one edge
    counts = validity.counts(labels)
    assert counts["cristae_intermembrane_edges"] == 4
    assert counts["inner_intermembrane_edges"] == 27
    assert counts["inner_background_edges"] == 1
    assert counts["inner_edges"] == 28
    # the outer perimeter of 44 loses 1 and gains the two sides of the gap (2 + 2) and the inner edge (1)
    assert counts["foreground_background_edges"] == 48
    found = validity.metrics(counts)
    assert found["cristae_boundary"] == pytest.approx(4 / 27)
    assert found["inner_background"] == pytest.approx(1 / 48)


def test_border_of_the_crop_is_no_interface():
    labels = boxes((6, 8), (0, 3, 0, 4, 3))  # in the corner: only the lower side (4) and the right side (3) count
    counts = validity.counts(labels)
    assert (counts["inner_area"], counts["inner_edges"], counts["inner_background_edges"]) == (12, 7, 7)
    full = validity.counts(np.full((6, 8), 2, np.int16))
    assert full["inner_edges"] == 0
    assert validity.metrics(full)["boundary_to_area"] == 0.0


def test_unknown_is_no_area_and_no_interface():
    labels = NESTED.copy()
    labels[4:9, 12] = -1  # the right column of the inner rectangle
    counts = validity.counts(labels)
    assert counts["pixels"] == 13 * 17 - 5
    assert counts["inner_area"] == 40
    assert counts["inner_edges"] == 8 + 8 + 5  # the new right side touches unknown only


def test_class_ids_are_arguments():
    renamed = np.array([3, 2, 1, 0], np.int16)[NESTED]
    classes = validity.Classes(background=3, intermembrane=2, cristae=1, matrix=0)
    assert validity.counts(renamed, classes) == validity.counts(NESTED)


@pytest.mark.parametrize(
    ("name", "mask", "expected"),
    [
        ("empty", boxes((5, 5)), (0, 0, 0, 0)),
        ("one pixel", boxes((5, 5), (2, 3, 2, 3)), (0, 0, 0, 1)),
        ("one pixel in the corner", boxes((5, 5), (0, 1, 0, 1)), (0, 0, 0, 1)),
        ("bar", boxes((9, 15), (2, 7, 2, 13)), (2, 1, 0, 1)),
        ("bar through the crop", boxes((9, 15), (2, 7, 0, 15)), (2, 1, 0, 1)),
        ("two bars", boxes((12, 15), (1, 4, 2, 13), (7, 10, 2, 13)), (4, 2, 0, 2)),
        ("ring", boxes((13, 13), (2, 11, 2, 11), (5, 8, 5, 8, 0)), (0, 1, 1, 1)),
        ("eight", boxes((13, 19), (2, 11, 1, 18), (5, 8, 4, 8, 0), (5, 8, 11, 15, 0)), (0, 3, 2, 1)),
        ("cross", boxes((15, 15), (6, 9, 1, 14), (1, 14, 6, 9)), (4, 4, 0, 1)),
        ("H", boxes((15, 15), (1, 14, 2, 5), (1, 14, 10, 13), (6, 9, 2, 13)), (4, 5, 0, 1)),
    ],
)
def test_skeletons_by_hand(name, mask, expected):
    found = validity.skeleton_counts(mask.astype(bool))
    assert tuple(found) == ("end_points", "branches", "cycles", "skeleton_components")
    assert tuple(found.values()) == expected, name


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.6, 1.0, 2.0]))
def test_thinning_keeps_every_component_and_every_hole(seed, smoothness):
    noise = np.random.default_rng(seed).random((30, 30))
    mask = ndimage.gaussian_filter(noise, smoothness) > 0.5
    components = ndimage.label(mask, np.ones((3, 3)))[1]
    found = validity.skeleton_counts(mask)
    assert found["skeleton_components"] == components
    assert found["cycles"] == components - euler_number(mask, connectivity=2)


def test_a_hole_in_the_matrix_is_one_cycle_and_costs_boundary():
    labels = NESTED.copy()
    labels[7, 9] = 1
    before, after = validity.metrics(validity.counts(NESTED)), validity.metrics(validity.counts(labels))
    assert (before["cycles"], after["cycles"]) == (0, 1)
    assert after["boundary_to_area"] == pytest.approx((28 + 4) / 44)


def test_metrics_without_the_structure_they_measure_are_undefined():
    empty = validity.metrics(validity.counts(np.zeros((8, 8), np.int16)))
    assert empty["end_points"] == empty["cycles"] == 0
    assert all(np.isnan(empty[name]) for name in ("boundary_to_area", "cristae_boundary", "inner_background"))


def test_edge_count_in_three_dimensions():
    cube = np.zeros((5, 5, 5), bool)
    cube[1:4, 1:4, 1:4] = True
    assert validity.edge_count(cube, ~cube) == 6 * 9


def test_summary_is_mean_and_standard_error_over_the_crops_where_defined():
    bar = validity.counts(boxes((9, 15), (2, 7, 2, 13, 3)))
    ring = validity.counts(boxes((13, 13), (2, 11, 2, 11, 3), (5, 8, 5, 8, 0)))
    empty = validity.counts(np.zeros((8, 8), np.int16))
    found = validity.summary([bar, ring, empty])
    assert found["end_points"] == {"mean": pytest.approx(2 / 3), "se": pytest.approx(2 / 3), "crops": 3}
    # (2, 0, 0): standard deviation sqrt(4/3), over sqrt(3) is 2/3. Bar: 32 edges / 55; ring: 48 edges / 72
    first, second = 32 / 55, 48 / 72
    assert found["boundary_to_area"]["mean"] == pytest.approx((first + second) / 2)
    assert found["boundary_to_area"]["se"] == pytest.approx(abs(first - second) / 2)
    assert found["boundary_to_area"]["crops"] == 2
    assert np.isnan(found["cristae_boundary"]["mean"])
    assert np.isnan(validity.summary([bar])["end_points"]["se"])


def test_crops_lie_on_a_lattice_and_hold_enough_foreground():
    labels = np.zeros((3, 10, 13), np.int16)
    labels[0, :4, :4] = 1
    labels[0, 4:8, 4:5] = 3  # exactly a quarter of its crop: not MORE than 0.25
    labels[2, 4:8, 8:12] = 2
    labels[2, 0:4, 0:4] = -1
    found = validity.crops(labels, size=4, min_foreground=0.25)
    assert found == [(0, slice(0, 4), slice(0, 4)), (2, slice(4, 8), slice(8, 12))]
    assert validity.crops(labels, size=4, min_foreground=0.25, slice_step=3) == found[:1]
    assert len(validity.crops(labels, size=4, min_foreground=0.25, stride=2)) > len(found)
    assert all(labels[index].shape == (4, 4) for index in found)


def test_crops_take_a_short_axis_whole():
    labels = np.ones((1, 3, 9), np.int16)
    assert validity.crops(labels, size=4) == [(0, slice(0, 3), slice(0, 4)), (0, slice(0, 3), slice(4, 8))]


def test_original_boundaries_equal_the_authors_code():
    with np.load(GOLDEN) as golden:
        for index, labels in enumerate(golden["labels"]):
            found = validity.original_boundaries(labels)
            np.testing.assert_array_equal(found["inner"], golden["find_inner_boundary"][index])
            np.testing.assert_array_equal(found["cristae"], golden["find_cristae_IB_boundary"][index])
            np.testing.assert_array_equal(found["inner_background"], golden["find_inner_BG_boundary"][index])


def test_lengths_and_areas_in_nanometres_do_not_depend_on_the_pixel_size():
    coarse, fine = NESTED, NESTED.repeat(2, 0).repeat(2, 1)
    one = validity.metrics(validity.counts(coarse, voxel_size_nm=(10.0, 10.0)))
    other = validity.metrics(validity.counts(fine, voxel_size_nm=(5.0, 5.0)))
    assert one["boundary_to_area"] == pytest.approx(other["boundary_to_area"]) == pytest.approx(28 / 45 / 10)
    flat = validity.counts(NESTED, voxel_size_nm=(2.0, 10.0))
    assert flat["inner_edges"] == 2 * (5 * 2 + 9 * 10) and flat["inner_area"] == 45 * 20
    with pytest.raises(BadInput, match="2 axes"):
        validity.counts(NESTED, voxel_size_nm=(1.0, 1.0, 1.0))


def test_the_same_counts_of_a_box():
    box = np.stack([np.zeros_like(NESTED), *[NESTED] * 3, np.zeros_like(NESTED)])
    counts = validity.counts(box)
    assert counts["inner_area"] == 3 * 45 and counts["inner_intermembrane_edges"] == 3 * 28
    assert counts["inner_background_edges"] == 2 * 45, "above and below"
    assert counts["end_points"] == 2 and counts["cycles"] == 0 and counts["skeleton_components"] == 1
    nm = validity.counts(box, voxel_size_nm=(20.0, 5.0, 5.0))
    assert nm["inner_background_edges"] == 90 * 25 and nm["inner_intermembrane_edges"] == 3 * 28 * 100
    empty = validity.skeleton_counts(np.zeros((3, 3, 3), bool))
    one = np.zeros((3, 3, 3), bool)
    one[0, 0, 0] = True
    assert set(empty.values()) == {0} and tuple(validity.skeleton_counts(one).values()) == (0, 0, 0, 1)
