"""refiners/nearest.py: the rule of metrics/baselines.py, as a refiner."""

import jax
import numpy as np
from scipy import ndimage

from maeref_jax.metrics.baselines import nearest_visible_label
from maeref_jax.refiners import nearest

SETTINGS = {
    "token": 4, "window": (16, 24), "stride": (8, 8),
    "classes": {"names": ("background", "shell", "inside", "ambiguous"), "ambiguous": 3},
}  # fmt: skip


def test_it_is_the_nearest_one_by_euclid_with_ties_in_a_fixed_order():
    rng = np.random.default_rng(0)
    lender = rng.random((3, 17, 9)) < 0.08
    lender[2] = False
    numbers = np.broadcast_to(np.arange(17 * 9).reshape(17, 9), lender.shape)
    found, any_there = jax.jit(nearest.nearest_label)(numbers, lender)
    assert np.asarray(any_there).ravel().tolist() == [True, True, False]
    y, x = np.meshgrid(np.arange(17), np.arange(9), indexing="ij")
    for plane, lent in zip(np.asarray(found)[:2], lender[:2], strict=True):
        distance = np.hypot(plane // 9 - y, plane % 9 - x)
        np.testing.assert_allclose(distance, ndimage.distance_transform_edt(~lent))
        assert lent[plane // 9, plane % 9].all()
    cross = np.zeros((1, 3, 3), bool)
    cross[0, [0, 1, 1, 2], [1, 0, 2, 1]] = True
    assert nearest.nearest_label(np.arange(9).reshape(1, 3, 3), cross)[0][0, 1, 1] == 3


def test_a_window_is_filled_as_the_baseline_fills_it():
    rng = np.random.default_rng(1)
    # Stripes that differ along x only, and holes across: no two labels are equally near.
    labels = np.tile(np.repeat([[1, 0, 2]], 8, 1), (2, 16, 1)).astype(np.int16)
    labels[0, :, :2] = -1
    hidden = np.zeros(labels.shape, bool)
    hidden[0, 4:8, 4:16] = hidden[1, :, 8:12] = True
    given = {"labels": np.where(hidden, rng.integers(0, 3, labels.shape), labels), "hidden": hidden}
    found = np.asarray(jax.jit(nearest.refiner(SETTINGS).refine)({}, {}, given, jax.random.key(0)))
    assert found.shape == (2, 16, 24, 3)
    expected = nearest_visible_label(labels, hidden)
    np.testing.assert_array_equal(found.argmax(-1)[hidden], expected[hidden])
    visible = ~hidden & (labels >= 0)
    np.testing.assert_array_equal(found.argmax(-1)[visible], labels[visible])


def test_hidden_labels_do_not_matter_and_a_window_without_visible_ones_says_nothing():
    labels = np.random.default_rng(2).integers(0, 3, (2, 16, 24))
    hidden = np.zeros(labels.shape, bool)
    hidden[0, 4:12, 4:12] = hidden[1] = True
    apply = nearest.refiner(SETTINGS)
    refine, key = jax.jit(apply.refine), jax.random.key(0)
    one = np.asarray(refine({}, {}, {"labels": labels, "hidden": hidden}, key))
    other = np.where(hidden, 2 - labels, labels)
    np.testing.assert_array_equal(refine({}, {}, {"labels": other, "hidden": hidden}, key), one)
    np.testing.assert_allclose(one[1], 1 / 3, rtol=1e-6)
    assert not apply.sees_hidden
