"""Components block by block are those of the whole volume, in the same order whatever the blocks."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from maeref_jax.volumes.components import find_components, pieces_of


def assembled(mask, block, smallest=1):
    with tempfile.TemporaryDirectory() as folder:
        found = find_components(lambda box: mask[box.slices], mask.shape, block, smallest, Path(folder))
        assert not list(Path(folder).iterdir())
    ids = np.zeros(mask.shape, int)
    for box, pieces, number in pieces_of(found, lambda box: mask[box.slices]):
        ids[box.slices] = number[pieces]
    return ids, found


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.floats(0, 1),
)
def test_as_of_the_whole(seed, shape, block, density):
    mask = np.random.default_rng(seed).random(shape) < density
    expected, count = ndimage.label(mask)  # which numbers by the first voxel, too
    ids, found = assembled(mask, block)
    np.testing.assert_array_equal(ids, expected)
    assert (found.count, found.small, found.small_voxels) == (count, 0, 0)


def test_small_ones_are_counted_and_left_out():
    mask = np.zeros((3, 8, 8), bool)
    mask[:, 0, 0] = mask[0, 4:6, 4] = mask[2, 7, :5] = True  # of 3, 2 and 5 voxels
    ids, found = assembled(mask, (2, 3, 3), smallest=3)
    assert (found.count, found.small, found.small_voxels) == (2, 1, 2)
    assert (ids[:, 0, 0] == 1).all() and (ids[2, 7, :5] == 2).all() and np.count_nonzero(ids) == 8


def test_a_spiral_through_many_blocks_is_one():
    mask = np.zeros((1, 21, 21), bool)
    for ring in range(0, 10, 2):
        mask[0, ring, ring : 21 - ring] = mask[0, 20 - ring, ring : 21 - ring] = True
        mask[0, ring : 21 - ring, ring] = mask[0, ring : 21 - ring, 20 - ring] = True
    mask[0, 1, 20 - 1] = True  # nothing new: rings stay apart
    mask[0, 0:11, 10] = True  # a spoke joins them
    ids, found = assembled(mask, (1, 4, 5))
    assert found.count == 1 and (ids == mask).all()
