"""Counts of changed voxels: block by block they add up to those of the whole."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from maeref_jax.audit.changes import changes, table

NAMES = ("background", "shell", "ridge")


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_blocks_add_up(seed, parts):
    rng = np.random.default_rng(seed)
    initial, refined = rng.choice(np.array([0, 1, 2, 7, 255], np.uint8), (2, 6, 3, 4))
    sure = rng.integers(0, 256, initial.shape).astype(np.uint8)
    split = zip(*(np.array_split(array, parts) for array in (initial, refined, sure)), strict=True)
    records = [changes(*arrays) for arrays in split if arrays[0].size]
    assert table(records, NAMES) == table([changes(initial, refined, sure)], NAMES)


def test_by_hand():
    initial, refined = np.array([[[0, 0, 1, 255]]], np.uint8), np.array([[[2, 0, 0, 1]]], np.uint8)
    found = table([changes(initial, refined, np.array([[[255, 0, 51, 102]]], np.uint8))], NAMES)
    assert found["changed_voxels"] == 3
    assert found["changed"] == {"background": {"ridge": 1}, "shell": {"background": 1}, "unknown": {"shell": 1}}
    assert found["confidence_of_changes"]["shell"] == {"background": 0.2}
    shares = {name: entry["changed_share"] for name, entry in found["classes_changed"].items()}
    assert shares == {"background": 0.5, "shell": 1.0, "ridge": None, "unknown": 1.0}


def test_no_change_at_all():
    same = np.zeros((2, 2, 2), np.uint8)
    assert table([changes(same, same, same)], NAMES)["changed"] == {}


def test_a_class_that_is_called_unknown_is_not_what_nobody_knows():
    initial, refined = np.array([[[1, 255, 255]]], np.uint8), np.array([[[0, 0, 0]]], np.uint8)
    found = table([changes(initial, refined, np.zeros((1, 1, 3), np.uint8))], ("background", "unknown"))
    assert found["changed"] == {"unknown": {"background": 1}, "unknown (255)": {"background": 2}}
    assert found["classes_changed"]["unknown"]["voxels_initial"] == 1
