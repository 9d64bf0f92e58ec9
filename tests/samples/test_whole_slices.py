"""samples/whole_slices.py: what a segmenter is judged on covers slices whole, each voxel once, wherever it lies."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.samples import whole_slices as module
from maeref_jax.samples.training_volumes import TrainingVolume
from maeref_jax.samples.whole_slices import whole_slices
from maeref_jax.volumes.windows import blending_weight, lattice, shares


def volume_of(shape, start=0):
    """Labels that number the voxels, in an image of the same numbers."""
    places = start + np.arange(np.prod(shape)).reshape(shape)
    return TrainingVolume(f"from {start}", places.astype(np.float32), places.astype(np.int16))


def judged(found):
    """All known labels of all batches, sorted; every batch is of the same shape."""
    batches = list(found)
    assert len({batch["labels"].shape for batch in batches}) == 1
    for batch in batches:
        known = batch["labels"] >= 0
        np.testing.assert_array_equal(batch["image"][known], batch["labels"][known])
        assert len(batch["index"]) == len(batch["image"]) and batch["shared"] == {"a": 1}
    return np.sort(np.concatenate([batch["labels"][batch["labels"] >= 0] for batch in batches]))


@pytest.mark.parametrize(
    ("shape", "window", "stride"),
    [
        ((3, 21, 30), (8, 8), (4, 4)),
        ((2, 21, 30), (8, 12), (8, 5)),
        ((3, 5, 30), (8, 8), (4, 4)),  # smaller than a window
        ((9, 21, 18), (4, 8, 8), (2, 4, 4)),
        ((3, 21, 18), (8, 8, 8), (4, 4, 4)),
    ],
)
def test_every_voxel_is_judged_once(shape, window, stride):
    volume = volume_of(shape)
    found = whole_slices([volume], 0, 99, window, stride, 4, {"a": 1})
    np.testing.assert_array_equal(judged(found), np.arange(np.prod(shape)))
    assert found[0]["image"].shape == (4, *window)


def test_a_voxel_is_judged_in_the_window_that_counts_most_where_windows_are_blended():
    size, window, stride = 53, 16, 6
    weight = blending_weight((window,))
    for start, first, stop in shares(size, window, stride):
        for voxel in range(first, stop):
            own = weight[voxel - start]
            assert all(
                own >= weight[voxel - s] - 1e-6 for s in lattice(size, window, stride) if 0 <= voxel - s < window
            )


def test_slices_are_whole_unfiltered_and_the_same_for_a_seed():
    volumes = [volume_of((10, 12, 12)), volume_of((4, 12, 12), 2000)]
    found = whole_slices(volumes, 3, 6, (8, 8), (4, 4), 4, {"a": 1})
    assert found.name == "6 of 14 whole slices"
    labels = judged(found)
    assert len(labels) == 6 * 144 and ((labels >= 2000).sum(), (labels < 2000).sum()) == (3 * 144, 3 * 144)
    again, *others = (judged(whole_slices(volumes, seed, 6, (8, 8), (4, 4), 4, {"a": 1})) for seed in (3, 4, 5))
    np.testing.assert_array_equal(again, labels)
    assert any((other != labels).any() for other in others)


def test_slices_that_nobody_labelled_are_passed_over_and_a_volume_without_labels_is_refused():
    volume = volume_of((5, 12, 12))
    unknown = np.where(np.arange(5)[:, None, None] == 2, volume.labels, np.int16(-1))
    some = volume._replace(labels=unknown)
    found = whole_slices([some], 0, 4, (8, 8), (4, 4), 4, {"a": 1})
    np.testing.assert_array_equal(judged(found), np.arange(2 * 144, 3 * 144))
    with pytest.raises(BadInput, match=r"from 0 has a known label"):
        whole_slices([volume._replace(labels=unknown * 0 - 1)], 0, 4, (8, 8), (4, 4), 4, {"a": 1})


def test_what_is_judged_is_bounded_and_then_drawn_from_all_of_a_slice(monkeypatch):
    monkeypatch.setattr(module, "MOST_WINDOWS", 20)
    volumes = [volume_of((2, 100, 100))]
    found = whole_slices(volumes, 0, 2, (8, 8), (4, 4), 3, {"a": 1})
    assert found.name == "2 whole slices, 20 windows of them" and len(found) == 7
    labels = judged(found)
    assert {*(labels // 10000)} == {0, 1} and np.ptp(labels % 10000 // 100) > 50


def test_a_person_is_shown_the_windows_with_most_foreground_first():
    labels = np.zeros((3, 32, 32), np.int16)
    labels[1, 20:30, 20:30] = 1
    volume = TrainingVolume("v", labels.astype(np.float32), labels)
    found = whole_slices([volume], 0, 3, (8, 8), (4, 4), 2, {"a": 1})
    assert (found[0]["labels"] > 0).mean() > 0 == (found[len(found) - 1]["labels"] > 0).mean()


def test_all_clicks_of_validation_volumes_are_judged():
    volume = volume_of((12, 40, 40))
    labels = np.full_like(volume.labels, -1)
    places = (np.arange(10), np.arange(10) * 3, np.arange(10) * 4)
    labels[places] = volume.labels[places]
    found = whole_slices([volume._replace(labels=labels)], 0, 2, (8, 8), (4, 4), 4, {"a": 1})
    np.testing.assert_array_equal(judged(found), np.sort(volume.labels[places]))
    assert found.name == "10 clicked slices" and len(found.windows) == 10
