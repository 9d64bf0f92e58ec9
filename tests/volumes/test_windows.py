"""Tiling as properties: everything is covered, nothing lies where it should not, blocks do not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.volumes.windows import Box, blending_weight, blocks, lattice, round_up, whole, windows_touching

sizes = st.integers(1, 40)


@st.composite
def window_and_stride(draw):
    window = draw(st.integers(1, 16))
    return window, draw(st.integers(1, window))


@st.composite
def tilings(draw):
    shape = tuple(draw(st.tuples(*[st.integers(1, 24)] * 3)))
    windows, strides = zip(*(draw(window_and_stride()) for _ in range(3)), strict=True)
    return shape, windows, strides


@given(sizes, window_and_stride())
def test_lattice_covers_and_ends_flush(size, window_stride):
    window, stride = window_stride
    starts = lattice(size, window, stride)
    covered = {voxel for start in starts for voxel in range(start, start + window)}
    assert set(range(size)) <= covered
    assert starts[0] == 0 and list(starts) == sorted(set(starts))
    assert size <= window or starts[-1] == size - window
    assert all(start % stride == 0 for start in starts[:-1])


def test_lattice_by_hand():
    assert lattice(10, 4, 2) == (0, 2, 4, 6)
    assert lattice(11, 4, 3) == (0, 3, 6, 7)
    assert lattice(3, 4, 2) == lattice(4, 4, 1) == (0,)
    for bad in ((10, 4, 5), (10, 4, 0), (0, 4, 2)):
        with pytest.raises(ValueError, match="stride"):
            lattice(*bad)


@settings(max_examples=50)
@given(tilings(), st.data())
def test_windows_touching_are_those_of_the_whole_volume(tiling, data):
    shape, window, stride = tiling
    every = windows_touching(shape, window, stride, whole(shape))
    start = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    stop = tuple(data.draw(st.integers(a + 1, size)) for a, size in zip(start, shape, strict=True))
    box = Box(start, stop)
    assert windows_touching(shape, window, stride, box) == [w for w in every if not w.intersect(box).empty]


@settings(max_examples=50)
@given(st.tuples(*[st.integers(1, 12)] * 3), st.tuples(*[st.integers(1, 15)] * 3))
def test_blocks_are_a_partition(shape, block):
    count = np.zeros(shape, int)
    for box in blocks(shape, block):
        assert not box.empty and all(size <= most for size, most in zip(box.shape, block, strict=True))
        count[box.slices] += 1
    assert (count == 1).all()


def test_box_arithmetic():
    frame, box = Box((1, 2, 3), (5, 6, 7)), Box((2, 2, 4), (9, 5, 5))
    assert box.shape == (7, 3, 1)
    assert frame.intersect(box) == Box((2, 2, 4), (5, 5, 5))
    assert frame.hull(box) == Box((1, 2, 3), (9, 6, 7))
    assert box.within(frame) == Box((1, 0, 1), (8, 3, 2)) == box.shift((-1, -2, -3))
    assert frame.intersect(Box((5, 0, 0), (6, 9, 9))).empty
    array = np.arange(9 * 9 * 9).reshape(9, 9, 9)
    np.testing.assert_array_equal(array[frame.slices][frame.intersect(box).within(frame).slices], array[2:5, 2:5, 4:5])


@given(st.lists(st.integers(1, 20), min_size=2, max_size=3))
def test_blending_weight_is_positive_symmetric_and_highest_in_the_middle(window):
    weight = blending_weight(window)
    assert weight.shape == tuple(window) and weight.dtype == np.float32
    assert (weight > 0).all()
    for axis in range(len(window)):
        np.testing.assert_allclose(weight, np.flip(weight, axis), rtol=1e-6)
    assert weight.max() == weight[tuple(size // 2 for size in window)]


def test_round_up():
    assert [round_up(size, 4) for size in (1, 4, 5)] == [4, 4, 8]
