"""Clean-up block by block is that of the whole array; and a mask brought to a finer grid has a smooth border."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from maeref_jax.masking.cleaning import Cleaning
from maeref_jax.masking.cleaning import cleaned as whole_array
from maeref_jax.pipeline import cleaning
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import Box, whole

SIZE = (30.0, 10.0, 10.0)


def blobs(shape, seed):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2) > 0.1


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**32 - 1),
    block=st.tuples(st.integers(3, 9), st.integers(6, 20), st.integers(6, 20)),
    how=st.builds(
        Cleaning,
        close_nm=st.sampled_from([0.0, 20.0, 31.0]),
        fill_holes=st.sampled_from(["none", "2d", "3d"]),
        open_nm=st.sampled_from([0.0, 14.2, 30.0]),
        keep=st.sampled_from(["all", "largest", "3"]),
        smallest_vx=st.sampled_from([0, 20]),
        grow_nm=st.sampled_from([-15.0, 0.0, 30.0]),
    ),
)
def test_blocks_give_what_the_whole_array_gives(seed, block, how):
    mask = blobs((8, 17, 19), seed)
    with tempfile.TemporaryDirectory() as scratch:
        found = cleaning.cleaned(array_volume(mask, "mask", SIZE), how, Path(scratch), block)
        at_once = found.read(whole(mask.shape))
        np.testing.assert_array_equal(at_once, whole_array(mask, how, SIZE))
        box = Box((2, 3, 5), (7, 11, 19))
        np.testing.assert_array_equal(found.read(box), at_once[box.slices])


@pytest.mark.parametrize("factor", [4, 3])
def test_a_ball_on_a_finer_grid_is_a_ball_within_half_a_coarse_voxel(factor):
    coarse, fine = (20.0, 20.0, 20.0), (20.0, 20.0 / factor, 20.0 / factor)
    shape, radius = (21, 24, 24), 170.0

    def ball(shape, size):
        middles = [n * s / 2 for n, s in zip((21, 24, 24), coarse, strict=True)]
        at = ((i + 0.5) * s - m for i, s, m in zip(np.indices(shape), size, middles, strict=True))
        return sum(axis**2 for axis in at) ** 0.5

    mask = array_volume((ball(shape, coarse) <= radius).astype(np.uint8), "mask", coarse)
    wanted = (21, 24 * factor, 24 * factor)
    found = cleaning.finer(mask, wanted, fine)
    everything, distance = found.read(whole(wanted)), ball(wanted, fine)
    assert everything[distance < radius - 12].all() and not everything[distance > radius + 12].any()
    nearest = mask.read(whole(shape)).repeat(factor, 1).repeat(factor, 2) != 0
    wrong = (everything != (distance <= radius)).sum(), (nearest != (distance <= radius)).sum()
    assert wrong[0] < wrong[1], "smoother than voxels that are split"
    box = Box((3, 7, 11), (19, 41, 60))
    np.testing.assert_array_equal(found.read(box), everything[box.slices])


def test_slices_larger_than_a_block_and_an_empty_or_full_mask(tmp_path):
    for number, mask in enumerate((np.zeros((3, 9, 9), bool), np.ones((3, 9, 9), bool))):
        how = Cleaning(20.0, "3d", 20.0, "largest", 2, 10.0)
        (tmp_path / str(number)).mkdir()
        found = cleaning.cleaned(array_volume(mask, "mask", SIZE), how, tmp_path / str(number), (1, 4, 4))
        np.testing.assert_array_equal(found.read(whole(mask.shape)), mask)
