"""samples/click_crops.py."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.samples import click_crops
from maeref_jax.samples.sampling import oriented
from maeref_jax.samples.training_volumes import TrainingVolume

SHARED = {"grey": np.array([0, 1], np.float32)}


@pytest.fixture(scope="module")
def volumes():
    """Two volumes whose grey values are the numbers of their voxels."""
    rng, found = np.random.default_rng(0), []
    for number in range(2):
        image = np.arange(3 * 20 * 24, dtype=np.float32).reshape(3, 20, 24) + 10_000 * number
        labels = click_crops.clicked_labels(rng.integers(0, 3, image.shape).astype(np.int16), 2, rng)
        found.append(TrainingVolume(f"v{number}", image, labels))
    return found


@pytest.fixture(scope="module")
def members(volumes):
    return click_crops.members_clicks(click_crops.clicks_of(volumes, 3), 2, 0.5, seed=4)


def test_so_many_voxels_of_every_class_and_slice_keep_their_label():
    truth = np.random.default_rng(0).integers(-1, 3, (4, 10, 10)).astype(np.int16)
    truth[2][truth[2] == 1] = 0
    truth[2, 0, 0] = 1
    found = click_crops.clicked_labels(truth, 3, np.random.default_rng(1))
    kept = found >= 0
    np.testing.assert_array_equal(found[kept], truth[kept])
    for z in range(4):
        assert [(found[z] == c).sum() for c in range(3)] == [3, 1 if z == 2 else 3, 3]
    again, other = (click_crops.clicked_labels(truth, 3, np.random.default_rng(seed)) for seed in (1, 2))
    assert (again == found).all() and (other != found).any()


def test_a_member_has_its_own_share_of_the_clicks_of_every_class(volumes, members):
    everything = click_crops.clicks_of(volumes, 3)
    assert np.bincount(everything.classes).tolist() == [12, 12, 12]
    for own in members:
        assert np.bincount(own.classes).tolist() == [6, 6, 6]
        for (number, *place), label in zip(own.places, own.classes, strict=True):
            assert volumes[number].labels[tuple(place)] == label
    assert (members[0].places != members[1].places).any()
    assert click_crops.members_clicks(everything, 1, 0.5, 0) == [everything]
    few = click_crops.members_clicks(click_crops.Clicks(everything.places[:1], everything.classes[:1]), 2, 0.1, 0)
    assert [len(own.classes) for own in few] == [1, 1], "no class is lost"


def test_what_would_hide_a_part_of_another_class_is_left_out():
    labels = np.full((3, 6, 6), -1, np.int16)
    labels[1, 2, 2], labels[1, 2, 3], labels[1, 5, 5], labels[2, 5, 5] = 0, 1, 1, 0
    volumes = [TrainingVolume("v", labels.astype(np.float32), labels)]
    everything = click_crops.clicks_of(volumes, 2)

    def kept(side, axes):
        return sorted(click_crops.of_one_class(everything, volumes, side, axes).places[:, 1:].tolist())

    assert kept(1, 2) == kept(1, 3) == sorted(everything.places[:, 1:].tolist())
    assert kept(2, 2) == [[1, 2, 2], [1, 5, 5], [2, 5, 5]], "an even box has one voxel more in front"
    assert kept(3, 2) == [[1, 5, 5], [2, 5, 5]]
    assert kept(3, 3) == []


def test_the_place_lies_in_the_middle_in_every_orientation_and_the_border_mirrors(volumes):
    image = volumes[0].image
    for orientation in range(8):
        found = click_crops.crop_around(image, (1, 9, 11), (8, 8), orientation)
        assert found[4, 4] == image[1, 9, 11]
        around = image[1, 5:14, 7:16]  # one more than the window, so that mirrors have the same middle
        np.testing.assert_array_equal(found, oriented(around, orientation)[:8, :8])
    corner = click_crops.crop_around(image, (0, 1, 23), (4, 6))
    np.testing.assert_array_equal(corner, np.pad(image[0], 3, mode="reflect")[2:6, 23:29])
    deep = click_crops.crop_around(image, (2, 10, 10), (2, 4, 4), orientation=3)
    assert deep[1, 2, 2] == image[2, 10, 10]
    np.testing.assert_array_equal(deep[0], click_crops.crop_around(image, (1, 10, 10), (4, 4), orientation=3))


def test_a_batch_is_of_the_members_own_clicks_of_all_classes_alike_and_depends_on_nothing_else(volumes, members):
    given = (volumes, members, 7, 3)
    batch = click_crops.click_batch(*given, range(9), (6, 6), True, SHARED)
    assert batch["image"].shape == (9, 2, 6, 6) and batch["shared"]["members"].tolist() == [0, 1]
    for member, own in enumerate(members):
        assert np.bincount(batch["labels"][:, member]).tolist() == [3, 3, 3]
        greys = {volumes[n].image[z, y, x]: c for (n, z, y, x), c in zip(own.places, own.classes, strict=True)}
        middles = batch["image"][:, member, 3, 3]
        assert [greys[grey] for grey in middles] == batch["labels"][:, member].tolist()
    part = click_crops.click_batch(*given, [4, 7], (6, 6), True, SHARED)
    np.testing.assert_array_equal(part["image"], batch["image"][[4, 7]])
    other = click_crops.click_batch(volumes, members, 7, 4, range(9), (6, 6), True, SHARED)
    assert (other["image"] != batch["image"]).any()


@pytest.mark.parametrize("window", [(6, 6), (2, 6, 6)])
def test_neighbours_are_near_and_have_no_label(volumes, members, window):
    batch = click_crops.group_batch(volumes, members, 7, 3, range(6), window, False, 5, 2.0, SHARED)
    assert batch["image"].shape == (6, 2, 6, *window) and batch["labels"].shape == (6, 2)
    middles = batch["image"][(..., *(side // 2 for side in window))].astype(int)
    numbers = np.stack(np.unravel_index(middles % 10_000, volumes[0].image.shape), -1)
    labels = [[volumes[m // 10_000].labels.flat[m % 10_000] for m in group] for group in middles.reshape(-1, 6)]
    for group, own in zip(labels, batch["labels"].ravel(), strict=True):
        assert group[0] == own and set(group[1:]) == {-1}
    offsets = numbers[:, :, 1:] - numbers[:, :, :1]
    assert ((offsets**2).sum(-1) <= 4).all() and ((offsets**2).sum(-1) > 0).all()
    assert (offsets[..., 0] != 0).any() == (len(window) == 3)


def test_neighbours_lie_inside_of_the_mask_also_where_there_are_few():
    image, labels = np.arange(400, dtype=np.float32).reshape(1, 20, 20), np.full((1, 20, 20), -1, np.int16)
    inside = np.zeros(labels.shape, bool)
    labels[0, 9, 9], labels[0, 2, 2], inside[0, :, 9:], inside[0, 2, 2] = 0, 1, True, True
    volumes = [TrainingVolume("masked", image, labels, inside=inside)]
    clicks = [click_crops.clicks_of(volumes, 2)]
    middles = [
        click_crops.group_batch(volumes, clicks, 0, step, range(8), (4, 4), False, 9, 2.0, SHARED)["image"][..., 2, 2]
        for step in range(4)
    ]
    groups = np.concatenate(middles).reshape(-1, 10).astype(int)
    at_border = groups[groups[:, 0] == image[0, 9, 9]][:, 1:]
    assert len(np.unique(at_border)) == 8, "of the twelve voxels that near eight lie inside"
    assert inside.ravel()[at_border].all()
    assert (groups[groups[:, 0] == image[0, 2, 2]] == image[0, 2, 2]).all(), "nothing else near lies inside"


def test_where_all_is_labelled_neighbours_are_taken_all_the_same(volumes):
    full = [TrainingVolume("full", volumes[0].image, np.zeros(volumes[0].image.shape, np.int16))]
    own = [click_crops.clicks_of(full, 1)]
    batch = click_crops.group_batch(full, own, 0, 0, range(2), (4, 4), False, 3, 1.0, SHARED)
    assert len(np.unique(batch["image"][0, 0, :, 2, 2])) == 4


def test_all_clicks_are_judged_once_and_the_last_batch_is_filled_up(volumes):
    everything = click_crops.clicks_of(volumes, 3)
    found, name = click_crops.judged_clicks(volumes, 0, most=5)
    batches = click_crops.JudgedBatches(volumes, found, 10, (6, 6), SHARED)
    labels = np.concatenate([batch["labels"] for batch in batches])
    assert labels.shape == (40,) and (labels < 0).sum() == 4 and len(batches) == 4
    middles = np.concatenate([batch["image"][:, 3, 3] for batch in batches])[labels >= 0]
    wanted = {volumes[n].image[z, y, x] for n, z, y, x in everything.places}
    assert len(middles) == 36 and set(middles.tolist()) == wanted and name == "36 labelled voxels"


def test_of_what_is_labelled_as_a_whole_voxels_are_judged_as_often_as_they_are(volumes):
    """One in 20 is of class 1; the second volume has half as much, and clicks are all judged beside it."""
    rng, whole = np.random.default_rng(0), []
    for number, size in enumerate((200, 100)):
        labels = (rng.random((2, 100, size)) < 0.05).astype(np.int16)
        labels[:, :20] = -1
        image = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)
        whole.append(TrainingVolume(f"whole {number}", image, labels))
    found, name = click_crops.judged_clicks([whole[0], volumes[0], whole[1]], 3, most=2000)
    assert name == "2,000 of 48,000 labelled voxels, drawn at random, and all 18 of volumes with clicks alone"
    assert len(np.unique(found.places, axis=0)) == len(found.places) == 2018, "none is judged twice"
    share = [(found.places[:, 0] == number).sum() for number in range(3)]
    assert share[1] == 18 and 1250 < share[0] < 1417
    for number, one in ((0, whole[0]), (1, volumes[0]), (2, whole[1])):
        own = found.places[:, 0] == number
        np.testing.assert_array_equal(one.labels[tuple(found.places[own, 1:].T)], found.classes[own])
    assert 60 < (found.classes[found.places[:, 0] != 1] == 1).sum() < 140, "not half of them"
    again, other = (click_crops.judged_clicks(whole, seed, most=2000)[0].places for seed in (3, 4))
    assert set(map(tuple, again[again[:, 0] == 0])) == set(map(tuple, found.places[found.places[:, 0] == 0]))
    assert (again != other).any()
    everything, name = click_crops.judged_clicks(whole, 3, most=48_000)
    assert len(everything.classes) == 48_000 and name == "48,000 labelled voxels"


def test_what_cannot_be_learned_from_is_refused(volumes):
    with pytest.raises(BadInput, match=r"v0 has the shape \(3, 20, 24\), smaller than the window \(22, 22\)"):
        click_crops.check_fit(volumes, (22, 22))
    with pytest.raises(BadInput, match=r"smaller than the window \(4, 8, 8\)"):
        click_crops.check_fit(volumes, (4, 8, 8))
    with pytest.raises(BadInput, match="no voxel of the training volumes is labelled rare"):
        click_crops.check_classes(click_crops.clicks_of(volumes, 4), ("a", "b", "c", "rare"), "training")
