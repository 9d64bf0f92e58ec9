"""Clean-up of masks: exact on balls within a voxel, whatever the voxels' proportions; holes, pieces, borders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from maeref_jax.errors import BadInput
from maeref_jax.masking import cleaning
from maeref_jax.masking.cleaning import Cleaning

SIZES = ((10.0, 10.0, 10.0), (40.0, 10.0, 15.0))


def distance_from(shape, size, centre=None):
    """Of every voxel's centre from the middle of the array, or from the centre of a voxel, in nm."""
    centre = centre or [n // 2 for n in shape]
    return sum(((at - c) * s) ** 2 for at, c, s in zip(np.indices(shape), centre, size, strict=True)) ** 0.5


def radii(mask, size):
    """The largest distance from the middle inside, and the smallest one outside."""
    distance = distance_from(mask.shape, size)
    return distance[mask].max(), distance[~mask].min()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [-70.0, -25.0, 30.0, 90.0])
def test_a_ball_grows_and_shrinks_by_a_length_in_every_direction_within_a_voxel(size, length):
    shape, radius = (15, 61, 47) if size[0] > 20 else (61, 61, 61), 150.0
    found = cleaning.grown(distance_from(shape, size) <= radius, length, size)
    farthest, nearest = radii(found, size)
    assert abs(farthest - (radius + length)) <= max(size) and abs(nearest - (radius + length)) <= max(size)


def test_pitfall_8_growing_one_voxel_gives_a_centred_ball_of_that_radius_and_no_more():
    mask = np.zeros((41, 41, 41), bool)
    mask[20, 20, 20] = True
    found = cleaning.grown(mask, 15.0, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(found, distance_from(found.shape, (1, 1, 1)) <= 15)
    assert all((found == np.flip(found, axis)).all() for axis in range(3))


@pytest.mark.parametrize("size", SIZES)
def test_opening_keeps_a_ball_and_removes_a_thread_and_a_crumb(size):
    shape = (15, 61, 47) if size[0] > 20 else (61, 61, 61)
    ball = distance_from(shape, size) <= 150
    mask = ball.copy()
    mask[shape[0] // 2, shape[1] // 2] = True  # a thread across the array
    mask[1, 2:4, 2:4] = True
    found = cleaning.opened(mask, 45.0, size)
    assert not (found & ~mask).any(), "what is opened is part of what was there"
    assert not found[1, :5, :5].any() and not found[shape[0] // 2, shape[1] // 2, -3:].any()
    rim = np.abs(distance_from(shape, size) - 150) <= max(size)
    np.testing.assert_array_equal((found & ball)[~rim], ball[~rim])


def test_closing_fills_a_crack_and_is_more_than_the_mask():
    mask = np.zeros((20, 30, 30), bool)
    mask[3:17, 5:25, 5:25] = True
    mask[:, 14:16] = False
    found = cleaning.closed(mask, 20.0, (10.0, 10.0, 10.0))
    assert found[5:15, 14:16, 8:22].all() and not (mask & ~found).any()
    assert not found[:, 14:16, :3].any()


def test_nothing_shrinks_from_the_border_where_nobody_knows_what_lies_beyond():
    mask = np.ones((5, 6, 7), bool)
    for length in (-1000.0, 1000.0):
        assert cleaning.grown(mask, length, (1.0, 1.0, 1.0)).all()
        assert not cleaning.grown(~mask, length, (1.0, 1.0, 1.0)).any()


def test_holes_of_slices_and_cavities():
    mask = np.zeros((6, 12, 12), bool)
    mask[1:5, 2:10, 2:10] = True
    mask[:, 4:6, 4:6] = False  # a tube through it: a hole of slices, no cavity
    mask[3, 7, 7] = False
    slices, cavities = cleaning.filled_slices(mask), cleaning.filled(mask)
    assert slices[1:5, 4:6, 4:6].all() and slices[3, 7, 7] and not slices[0].any()
    assert cavities[3, 7, 7] and not cavities[:, 4:6, 4:6].any()
    for z in range(6):
        np.testing.assert_array_equal(slices[z], ndimage.binary_fill_holes(mask[z]))


def test_pieces_are_kept_by_size_and_the_first_of_equal_ones():
    mask = np.zeros((1, 5, 20), bool)
    for start, length in ((0, 3), (5, 6), (13, 6)):
        mask[0, 2, start : start + length] = True
    sizes = {keep: cleaning.kept(mask, keep, 0).sum() for keep in (1, 2, None)}
    assert sizes == {1: 6, 2: 12, None: 15}
    assert cleaning.kept(mask, 1, 0)[0, 2, 5]
    np.testing.assert_array_equal(cleaning.kept(mask, None, 4), mask & (np.arange(20) > 4))


def test_pitfall_3_the_smallest_size_is_applied():
    mask = np.zeros((3, 20, 20), bool)
    mask[0, :10, :10], mask[2, 0, 0] = True, True
    settings = Cleaning(smallest_vx=100)
    np.testing.assert_array_equal(cleaning.cleaned(mask, settings, None), mask & (np.arange(3) == 0)[:, None, None])
    assert not cleaning.cleaned(mask, settings._replace(smallest_vx=101), None).any()


@given(st.integers(0, 2**32 - 1), st.sampled_from(["none", "2d", "3d"]), st.sampled_from(["all", "largest", "2"]))
def test_a_clean_mask_stays_as_it_is_and_nothing_to_do_does_nothing(seed, fill, keep):
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(6, 20, 20)), 1.5) > 0.05
    np.testing.assert_array_equal(cleaning.cleaned(mask, Cleaning(), None), mask)
    np.testing.assert_array_equal(cleaning.cleaned(mask, Cleaning(), None), mask)
    once = cleaning.cleaned(mask, Cleaning(fill_holes=fill, keep=keep), None)
    np.testing.assert_array_equal(cleaning.cleaned(once, Cleaning(fill_holes=fill, keep=keep), None), once)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fill_holes": "4d"},
        {"keep": "0"},
        {"keep": "some"},
        {"open_nm": -1.0},
        {"close_nm": np.inf},
        {"smallest_vx": -1},
        {"grow_nm": np.nan},
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        cleaning.check(Cleaning(**wrong), (1.0, 1.0, 1.0))


def test_lengths_need_a_voxel_size():
    with pytest.raises(BadInput, match=r"open_nm is 3 nm.*--voxel_size_nm"):
        cleaning.check(Cleaning(open_nm=3.0), None)
    cleaning.check(Cleaning(keep="largest", fill_holes="2d"), None)
