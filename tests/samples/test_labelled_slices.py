"""labelled_slices.py: only what is named counts, whatever the stack; what is not there is refused in one line."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.samples import sampling
from maeref_jax.samples.labelled_slices import check_same_slices, labelled_in, only_labelled
from maeref_jax.samples.training_volumes import TrainingVolume
from maeref_jax.volumes.resolution import at_voxel_size
from maeref_jax.volumes.volume import array_volume


def stack(depth=23, name="stack.tif"):
    rng = np.random.default_rng(depth)
    return TrainingVolume(name, rng.normal(size=(depth, 12, 10)), rng.integers(0, 3, (depth, 12, 10)).astype(np.int16))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (("0:20:5",), [0, 5, 10, 15]),
        ((3, "10:12", 0, "11"), [0, 3, 10, 11]),
        (("::9",), [0, 9, 18]),
        ((), list(range(23))),
    ],
)
def test_labels_of_the_slices_that_are_named_stay_and_all_others_are_unknown(chosen, expected):
    (found,) = only_labelled([stack()], chosen)
    assert labelled_in(found.labels) == expected
    np.testing.assert_array_equal(found.labels[expected], stack().labels[expected])
    np.testing.assert_array_equal(found.image, stack().image)


def test_every_stack_may_have_slices_of_its_own():
    found = only_labelled([stack(23), stack(7)], ((0, 22), ("1:7:3",)))
    assert [labelled_in(one.labels) for one in found] == [[0, 22], [1, 4]]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ((23,), r"'?23'?, but stack.tif has 23 slices, 0 to 22"),
        (("0:160:5",), "'0:160:5', but stack.tif has 23 slices"),
        (("5:5",), "'5:5', a range without any slice of stack.tif"),
        (("0:10:0",), "a range without any slice"),
        ((-1,), "-1, expected a slice from 0 on"),
        (("every fifth",), "expected a slice from 0 on, or a range like"),
        (((),), "names no slice of stack.tif"),
        (((0,), (1,)), "such a tuple for each of the 1 volumes"),
        ((0, (1,)), "expected slices for every volume"),
    ],
)
def test_slices_that_are_not_there_or_none_are_refused(chosen, message):
    with pytest.raises(BadInput, match=message):
        only_labelled([stack()], chosen)


def test_slices_without_a_known_label_are_refused():
    empty = stack()
    empty.labels[4] = -1
    with pytest.raises(BadInput, match=r"no voxel of the slices \(4,\) of stack.tif has a known label"):
        only_labelled([empty], (4,))


@pytest.mark.parametrize("min_foreground", [0.0, 0.05, 0.99])
@pytest.mark.parametrize("size", [(8, 8), (3, 8, 8)], ids=["plane", "box"])
def test_every_crop_holds_labels_though_one_slice_in_two_hundred_is_labelled(size, min_foreground):
    (few,) = only_labelled([stack(200)], (117,))
    for step in range(30):
        batch = sampling.image_batch(
            [[few]], 0, step, range(2), size, min_foreground, np.array([0, 1], np.float32), 0.3
        )
        assert (batch["labels"] >= 0).any(tuple(range(2, batch["labels"].ndim))).all()


def test_numbers_of_slices_are_refused_where_a_file_is_read_with_other_slices():
    volume = at_voxel_size(
        array_volume(np.zeros((8, 12, 10), np.uint8), "a.tif", (20.0, 10.0, 10.0)), (10.0, 10.0, 10.0), "nearest"
    )
    with pytest.raises(
        BadInput, match=r"names slices of a.tif, which has 8, but it is read .* with 16; .* as it is: 20"
    ):
        check_same_slices(volume)
    check_same_slices(volume.file)
