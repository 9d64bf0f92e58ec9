"""Flicker along z on stacks small enough to count by hand."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.metrics import consistency


def column(*values):
    return np.array(values, np.int16).reshape(-1, 1, 1)


def test_changes_by_hand():
    truth, labels = column(0, 0, 2, 2, 2), column(0, 2, 2, 3, 2)
    found = consistency.counts(labels, truth)
    assert tuple(found.values()) == (4, 3, 1, 3, 3, 1, 0)
    ratios = consistency.flicker(found)
    assert ratios["flicker"] == 3 and ratios["false_changes"] == 3 / 4 and np.isnan(ratios["blinks"])


def test_the_truth_itself_flickers_once_and_never_falsely():
    truth = np.random.default_rng(0).integers(0, 4, (6, 9, 9)).astype(np.int16)
    found = consistency.flicker(consistency.counts(truth, truth))
    assert found == {"flicker": 1.0, "false_changes": 0.0, "blinks": 1.0}


def test_a_region_takes_in_the_step_to_the_slice_beside_it():
    truth, labels = column(1, 1, 1, 1), column(1, 2, 1, 1)
    region = column(0, 1, 0, 0) > 0
    found = consistency.counts(labels, truth, region)
    assert (found["pairs"], found["changed"], found["triples"], found["blinks"]) == (2, 2, 1, 1)
    nowhere = consistency.counts(labels, truth, region & False)
    assert not any(nowhere.values()) and all(np.isnan(v) for v in consistency.flicker(nowhere).values())


def test_unknown_voxels_take_no_part_and_few_slices_have_no_pairs():
    found = consistency.counts(column(1, 2, 1), column(1, -1, 1))
    assert not any(found.values())
    assert not any(consistency.counts(column(1), column(1)).values())
    assert consistency.counts(column(1, 2), column(1, 2))["pairs"] == 1


def test_volumes_add_and_other_shapes_are_refused():
    one = consistency.counts(column(1, 2), column(1, 1))
    assert consistency.add(one, one)["changed_falsely"] == 2
    with pytest.raises(BadInput, match="one shape"):
        consistency.counts(np.zeros((2, 2), int), np.zeros((2, 2), int))
    with pytest.raises(BadInput, match="bool"):
        consistency.counts(column(1, 2), column(1, 2), column(0, 1))
