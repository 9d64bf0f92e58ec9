"""Outlines against an independent stain: who lies on the bright line wins, by numbers worked out by hand."""

import numpy as np
import pytest

from maeref_jax.metrics import witness


def square(shift=0, depth=2, side=40):
    labels = np.zeros((depth, side, side), np.int16)
    labels[:, 10 + shift : 30 + shift, 10:30] = 3
    return labels


def counted(labels, brightness, distance=1.0, where=None):
    near = witness.near_outline(labels, (1, 2, 3), distance)
    levels = witness.levels_of(brightness, 0, 255)
    return witness.count(brightness, levels, near, np.ones(labels.shape, bool) if where is None else where)


def test_near_are_both_sides_of_the_border_of_the_foreground_in_the_plane():
    labels = square()
    labels[1] = 0
    found = witness.near_outline(labels, (3,), 0)
    expected = np.zeros((40, 40), bool)
    expected[9:31, 10:30] = expected[10:30, 9:31] = True
    expected[11:29, 11:29] = False
    np.testing.assert_array_equal(found[0], expected)
    assert not found[1].any(), "the border along z is no outline"
    assert not witness.near_outline(labels, (2,), 3).any()
    one, two = (witness.near_outline(labels, (3,), distance)[0] for distance in (1, 1.5))
    assert one[8, 20] and not one[7, 20] and not one[8, 9] and two[8, 9], "at exactly the distance is near"


def test_borders_between_foreground_classes_and_to_unknown_are_none():
    labels = square()
    labels[:, 10:30, 20:30] = 2
    np.testing.assert_array_equal(witness.near_outline(labels, (2, 3), 0), witness.near_outline(square(), (2, 3), 0))
    labels[:, :10] = -1
    assert not witness.near_outline(labels, (2, 3), 0)[:, 9:11, 12:28].any()


def test_contrast_and_auroc_by_hand():
    near = np.array([[[True, True, False, False]]])
    brightness = np.array([[[8, 4, 4, 2]]], np.uint8)
    found = witness.count(brightness, witness.levels_of(brightness, 0, 255), near, np.ones(near.shape, bool))
    assert witness.contrast(found) == 2.0
    assert witness.auroc(found) == (1 + 1 + 0.5 + 1) / 4
    assert np.isnan(witness.auroc(witness.zero())) and np.isnan(witness.contrast(witness.zero()))
    dark = found._replace(sum_elsewhere=0.0)
    assert np.isnan(witness.contrast(dark)), "nothing is so many times brighter than nothing"


def test_the_map_on_the_bright_line_wins_and_a_stain_of_noise_knows_no_winner():
    line = witness.near_outline(square(), (3,), 1)
    bright = np.where(line, 200, 20).astype(np.uint8)
    right, wrong = counted(square(), bright), counted(square(4), bright)
    assert witness.auroc(right) == 1.0 and witness.contrast(right) == 10.0
    assert witness.auroc(wrong) < 0.9 and witness.contrast(wrong) < 6
    noise = np.random.default_rng(0).integers(0, 256, line.shape).astype(np.uint8)
    assert witness.auroc(counted(square(), noise)) == pytest.approx(0.5, abs=0.05)
    assert witness.contrast(counted(square(), noise)) == pytest.approx(1, abs=0.1)


def test_coverage_is_lost_by_a_map_that_draws_half_of_the_outline_and_that_may_win_otherwise():
    line = witness.near_outline(square(), (3,), 1)
    bright = np.where(line, np.linspace(20, 250, 40).astype(np.uint8)[:, None], 10)  # fading towards the top
    half = square()
    half[:, :20] = 0
    whole_one, lower = counted(square(), bright), counted(half, bright)
    share = line.mean()
    assert witness.coverage(whole_one, share) == 1.0
    assert witness.coverage(lower, share) < 0.7
    assert witness.contrast(lower) > 0 and np.isnan(witness.coverage(witness.zero()))
    flat = counted(square(), bright * 0)
    assert witness.coverage(flat) == pytest.approx(flat.near.sum() / line.size), "equally bright ones by their share"


def test_counts_of_parts_add_up():
    brightness = np.random.default_rng(0).integers(0, 256, (2, 40, 40)).astype(np.uint8)
    upper = np.zeros((2, 40, 40), bool)
    upper[:, :17] = True
    parts = witness.add(*(counted(square(), brightness, 2, where) for where in (upper, ~upper)))
    for one, other in zip(parts, counted(square(), brightness, 2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_brightness_keeps_its_order():
    values = np.array([300, 301, 65535], np.uint16)
    assert np.diff(witness.levels_of(values, 0, 65535)).tolist() == [1, 65234]
    floats = np.array([-2.5, 0.0, 2.5], np.float32)
    assert witness.levels_of(floats, -2.5, 2.5).tolist() == [0, 32768, 65535]
    assert (witness.levels_of(floats * 0, 0.0, 0.0) == 0).all()
