"""Crops of adjacent slices, and the stacks that they are cut from."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.samples import adjacent_slices
from maeref_jax.samples.adjacent_slices import Stack
from maeref_jax.samples.training_volumes import TrainingVolume
from maeref_jax.volumes.volume import write_tiff

SCHEME = {"names": ("background", "cell"), "ambiguous": -1}
READING = {"label_map": ((0, 0), (1, 1)), "shell_class": -1, "shell_vx": 0.0}


def stack(depth=6, side=12, seed=0):
    """Every voxel has a number of its own, so that one sees where a crop was cut."""
    labels = np.arange(depth * side * side, dtype=np.int16).reshape(depth, side, side)
    return Stack(labels, TrainingVolume("a", None, labels, None), np.arange(depth) % 2 == 0)


def drawn(context=2, size=(5, 5), steps=40, **changes):
    given = [stack()]
    return [adjacent_slices.batch(given, 0, step, range(4), size, context, 0.0) for step in range(steps)]


def test_the_target_is_the_middle_slice_of_what_is_seen_in_the_same_orientation():
    for batch in drawn():
        np.testing.assert_array_equal(batch["slices"][:, 2], batch["target"])


def test_every_slice_is_a_middle_one_and_the_ends_of_the_stack_are_repeated_both_ways_up():
    middles, directions = set(), set()
    for batch in drawn():
        for slices, labelled in zip(batch["slices"], batch["labelled"], strict=True):
            z = slices[:, 2, 2] // 144
            middles.add(int(z[2]))
            assert labelled == (z[2] % 2 == 0)
            expected = np.clip(z[2] + np.array([-2, -1, 0, 1, 2]), 0, 5).tolist()
            assert z.tolist() in (expected, expected[::-1])
            directions.add(int(np.sign(z[-1] - z[0])))
    assert middles == set(range(6)) and directions == {-1, 1}


def test_all_eight_orientations_of_a_square_are_drawn_and_four_of_another_plane():
    def kinds(size):
        found = set()
        for batch in drawn(size=size):
            for target in batch["target"].astype(int):
                found.add((int(target[1, 0] - target[0, 0]), int(target[0, 1] - target[0, 0])))
        return found

    assert len(kinds((5, 5))) == 8 and kinds((4, 6)) == {(12, 1), (-12, 1), (12, -1), (-12, -1)}


def test_a_sample_depends_on_its_number_alone_and_outside_is_unknown():
    given = [stack(side=4)]
    whole = adjacent_slices.batch(given, 3, 1, range(4), (8, 8), 2, 0.0)
    part = adjacent_slices.batch(given, 3, 1, [2], (8, 8), 2, 0.0)
    for name in ("slices", "target", "labelled", "index"):
        np.testing.assert_array_equal(whole[name][2:3], part[name])
    assert (whole["slices"] < 0).mean() == (whole["target"] < 0).mean() == 0.75


def test_files_and_what_is_wrong_with_them(tmp_path):
    labels = (np.arange(6)[:, None, None] > 2).astype(np.uint8) * np.ones((6, 8, 8), np.uint8)
    mask, target, other = (str(tmp_path / f"{name}.tif") for name in ("mask", "target", "other"))
    write_tiff(mask, labels, (5, 5, 5))
    write_tiff(target, 1 - labels, (5, 5, 5))
    write_tiff(other, labels[:5], (5, 5, 5))

    def opened(**changes):
        data = {"train": {"labels": (mask,), "targets": (target,), "labelled_slices": ("0:6:2",)} | changes}
        return adjacent_slices.stacks(data | READING, "train", SCHEME, lambda line: None)

    (found,) = opened()
    np.testing.assert_array_equal(found.masks, labels)
    np.testing.assert_array_equal(found.targets.labels, 1 - labels)
    assert found.labelled.tolist() == [True, False] * 3
    assert not opened(labelled_slices=())[0].labelled.any()
    for changes, said in (
        ({"targets": ()}, r"expected masks \(--labels\) and what they are to become .* found 1 and 0"),
        ({"targets": (other,)}, r"other.tif of shape \(5, 8, 8\) is no target of .*mask.tif of shape \(6, 8, 8\)"),
        ({"labelled_slices": (6,)}, "labelled_slices holds 6, but .*target.tif has 6 slices"),
    ):
        with pytest.raises(BadInput, match=said):
            opened(**changes)
