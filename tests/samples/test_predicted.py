"""Crops of what an ensemble said, beside what is there; and copies of images with less signal."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.samples import predicted
from maeref_jax.samples.predicted import Predicted
from maeref_jax.samples.training_volumes import TrainingVolume

DEGRADED = {"copies": 2, "regions": {"on_mitochondria": 2000.0, "radius_vx": (3.0, 6.0)}, "artefacts": ()}
SIZE = (20.0, 10.0, 10.0)


def volume(depth=6, side=12, seed=0):
    """Every voxel has a number of its own, in all of its arrays, so that one sees where a crop was cut."""
    labels = np.arange(depth * side * side, dtype=np.int16).reshape(depth, side, side)
    shown = np.stack([labels % 251, labels // 251]).astype(np.uint8)
    return Predicted(shown, TrainingVolume("a", labels.astype(np.float32), labels, None))


def numbers(batch):
    """The numbers of the voxels that are seen."""
    shown = batch["probabilities"].astype(int)
    return shown[..., 0] + 251 * shown[..., 1]


def drawn(size=(5, 5), steps=40, intensities=None):
    return [predicted.batch([volume()], 0, step, range(4), size, 2, 0.0, 0.0, intensities) for step in range(steps)]


def test_slice_truth_and_image_are_the_same_place_in_the_same_orientation():
    for batch in drawn(intensities=np.array([0, 1], np.float32)):
        np.testing.assert_array_equal(numbers(batch)[:, 2], batch["target"])
        np.testing.assert_array_equal(numbers(batch), batch["image"])
        assert batch["shared"]["intensity_range"].tolist() == [0, 1]


def test_every_slice_is_a_middle_one_and_the_ends_are_repeated_both_ways_up():
    middles, directions = set(), set()
    for batch in drawn():
        for slices in numbers(batch):
            z = slices[:, 2, 2] // 144
            middles.add(int(z[2]))
            expected = np.clip(z[2] + np.array([-2, -1, 0, 1, 2]), 0, 5).tolist()
            assert z.tolist() in (expected, expected[::-1])
            directions.add(int(np.sign(z[-1] - z[0])))
    assert middles == set(range(6)) and directions == {-1, 1}


def test_a_box_is_all_target_both_ways_up_and_padded_where_the_volume_is_thinner():
    directions = set()
    for step in range(20):
        batch = predicted.batch([volume()], 0, step, range(2), (4, 5, 5), 0, 0.0, 0.0, np.array([0, 1], np.float32))
        assert batch["target"].shape == (2, 4, 5, 5)
        np.testing.assert_array_equal(numbers(batch), batch["target"])
        np.testing.assert_array_equal(numbers(batch), batch["image"])
        apart = np.diff(batch["target"][:, :, 2, 2] // 144)
        assert (np.abs(apart) == 1).all()
        directions |= {*apart[:, 0].tolist()}
    assert directions == {-1, 1}
    thin = predicted.batch([volume(depth=3)], 0, 0, range(2), (8, 5, 5), 0, 0.0)
    assert ((thin["target"] == -1).sum((1, 2, 3)) == 5 * 25).all()
    assert not thin["probabilities"][thin["target"] == -1].any()


def test_a_sample_depends_on_its_number_alone_and_outside_nothing_is_probable():
    given = [volume(side=4)]
    whole = predicted.batch(given, 3, 1, range(4), (8, 8), 2, 0.0)
    part = predicted.batch(given, 3, 1, [2], (8, 8), 2, 0.0)
    for name in ("probabilities", "target", "index"):
        np.testing.assert_array_equal(whole[name][2:3], part[name])
    assert (whole["target"] == -1).sum() == 4 * 48 and (whole["probabilities"] != 0).any(-1).sum() <= 4 * 5 * 16


def test_a_copy_has_less_signal_in_places_and_is_drawn_from_its_seed():
    labels = np.zeros((8, 40, 40), np.int16)
    labels[2:6, 10:30, 10:30] = 1
    image = np.where(labels > 0, 150, 90).astype(np.float32) + np.random.default_rng(0).normal(0, 2, labels.shape)
    first, again, second, other = (
        predicted.degraded(image.astype(np.float32), labels, number, seed, DEGRADED, SIZE)
        for number, seed in ((0, (0, 1)), (0, (0, 1)), (1, (0, 1)), (0, (1, 1)))
    )
    np.testing.assert_array_equal(first, again)
    for one in (second, other):
        assert np.abs(first - one).max() > 10
    same = np.abs(first - image) < 1e-3
    assert 0.2 < same.mean() < 0.99, "some voxels stay as they were, and some do not"
    bright = labels > 0
    assert first[bright & ~same].mean() < image[bright & ~same].mean() - 5


def test_noise_grows_with_the_range_of_grey_values():
    labels = np.ones((6, 30, 30), np.int16)
    image = np.random.default_rng(0).normal(100, 20, labels.shape).astype(np.float32)
    small, large = (predicted.degraded(k * image, labels, 0, (0,), DEGRADED, SIZE) for k in (1.0, 1000.0))
    np.testing.assert_allclose(large / 1000, small, rtol=1e-3, atol=0.1)


def test_artefacts_take_turns():
    labels = np.ones((6, 30, 30), np.int16)
    image = np.full(labels.shape, 100.0, np.float32)
    settings = DEGRADED | {"artefacts": ("bleaching", ""), "regions": {"on_mitochondria": 0.0, "in_cytoplasm": 0.0}}
    darker, plain = (predicted.degraded(image, labels, number, (0,), settings, SIZE) for number in (0, 1))
    np.testing.assert_allclose(plain, image)
    assert darker[-1].mean() < 0.5 * darker[0].mean()


@pytest.mark.parametrize(
    ("change", "what"), [({"copies": -1}, "copies is -1"), ({"artefacts": ("fog",)}, "no 'fog'; expected some of blur")]
)
def test_settings_that_mean_nothing_are_refused(change, what):
    with pytest.raises(BadInput, match=what):
        predicted.check_degraded(DEGRADED | change)
