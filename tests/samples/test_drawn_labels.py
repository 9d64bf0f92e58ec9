"""samples/drawn_labels.py: as many voxels as were asked for, all of the class that they are said to be, from a seed."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.samples import drawn_labels
from maeref_jax.volumes.view import array_volume
from maeref_jax.volumes.windows import whole


@pytest.fixture(scope="module")
def labels():
    """Background, a block of class 1, one voxel of class 2 in slice 3, and unknown voxels; nothing is of class 3."""
    found = np.zeros((6, 30, 40), np.int16)
    found[:, 5:20, 5:25], found[3, 25, 30], found[:, :, 35:] = 1, 2, -1
    return array_volume(found, "truth.tif")


def truth_at(labels, found):
    return labels.read(whole(labels.shape))[tuple(found.places.T)]


def test_every_slice_gives_as_many_of_each_class_as_it_has(labels):
    found = drawn_labels.per_class(labels, 4, [1, 3], 0, 2)
    np.testing.assert_array_equal(truth_at(labels, found), found.classes)
    assert len(np.unique(found.places, axis=0)) == 9
    per_slice = {z: np.bincount(found.classes[found.places[:, 0] == z], minlength=4).tolist() for z in (1, 3)}
    assert per_slice == {1: [2, 2, 0, 0], 3: [2, 2, 1, 0]}
    assert [found.few([1, 3], one) for one in range(4)] == [[], [], [1, 3], [1, 3]]


def test_a_seed_and_a_slice_say_what_is_drawn_there(labels):
    every, some, other = (drawn_labels.per_class(labels, 4, z, s, 3) for z, s in ((range(6), 1), ([4], 1), ([4], 2)))
    np.testing.assert_array_equal(every.places[every.places[:, 0] == 4], some.places)
    assert (some.places != other.places).any()
    # Anywhere in the class, not at its beginning: all rows of the block within a few draws.
    rows = drawn_labels.per_class(labels, 4, range(6), 0, 40)
    assert len(np.unique(rows.places[rows.classes == 1][:, 1])) == 15


@pytest.mark.parametrize("part", [0.0005, 0.01, 0.2, 1.0])
def test_a_share_of_all_voxels_is_drawn_of_every_class_as_far_as_there_are(labels, part):
    found = drawn_labels.share(labels, 4, list(range(6)), 0, part)
    np.testing.assert_array_equal(truth_at(labels, found), found.classes)
    assert len(np.unique(found.places, axis=0)) == len(found.places)
    known = 6 * 30 * 35
    assert len(found.places) == min(round(part * 6 * 30 * 40), known)
    drawn = np.bincount(found.classes, minlength=4)
    assert drawn[3] == 0 and drawn[2] == 1
    if part < 0.2:
        assert abs(drawn[0] - drawn[1]) <= 1 and (part < 0.01 or len(np.unique(found.places[:, 0])) == 6)


def test_only_inside_of_a_class_where_that_is_asked_for(labels):
    found = drawn_labels.per_class(labels, 4, [3], 0, 1000, inside_vx=2)
    block = found.places[found.classes == 1]
    assert len(block) == 11 * 16 and block[:, 1].min() == 7 and block[:, 2].max() == 22
    assert not (found.classes == 2).any() and found.places[:, 2].max() == 32, "away from what is unknown, too"
    assert found.places[:, 1].min() == 0, "the edge of a slice is no other class"
    for draw in (drawn_labels.per_class, drawn_labels.share):
        with pytest.raises(
            BadInput, match=r"no known voxels that have 50 of their own class to all sides in the 1 sli"
        ):
            draw(labels, 4, [3], 0, 0.5, 50)


def test_less_than_a_voxel_cannot_be_drawn(labels):
    with pytest.raises(BadInput, match=r"a share of 1e-05 of 6 slices of truth.tif is less than one voxel"):
        drawn_labels.share(labels, 4, list(range(6)), 0, 1e-5)
