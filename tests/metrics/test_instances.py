"""Instances cut out of a map count as if they were alone."""

import numpy as np

from maeref_jax.metrics import instances, validity


def two():
    """Two mitochondria of matrix, the second in the corner; between them one column of background."""
    labels = np.zeros((8, 12), np.int16)
    labels[1:5, 1:5] = 3
    labels[4:8, 6:12] = 3
    return labels


def test_every_instance_is_counted_as_if_alone():
    labels = two()
    numbers = instances.of(labels)
    found = dict(instances.each(labels, numbers))
    assert [found[n].cut for n in (1, 2)] == [False, True]
    counted = {n: validity.counts(one.labels) for n, one in found.items()}
    assert counted[1]["inner_area"] == 16 and counted[1]["inner_background_edges"] == 16
    assert counted[2]["inner_area"] == 24 and counted[2]["inner_background_edges"] == 6 + 4
    whole = validity.counts(labels)
    assert sum(c["inner_edges"] for c in counted.values()) == whole["inner_edges"]


def test_touching_instances_are_no_interface_of_one_another():
    labels = np.zeros((6, 10), np.int16)
    labels[1:5, 1:5], labels[1:5, 5:9] = 3, 1
    numbers = np.where(labels == 3, 1, np.where(labels == 1, 7, 0))  # numbers may have gaps
    found = dict(instances.each(labels, numbers))
    assert list(found) == [1, 7]
    assert validity.counts(found[1].labels)["inner_intermembrane_edges"] == 0
    assert validity.counts(labels)["inner_intermembrane_edges"] == 4


def test_corners_do_not_connect_instances():
    assert instances.of(np.eye(3, dtype=np.int16)).max() == 3


def test_empty_one_voxel_and_boxes():
    labels = np.zeros((3, 4, 5), np.int16)
    assert list(instances.each(labels, instances.of(labels))) == []
    labels[1, 2, 2] = 2
    labels[0, 0, 0] = -1
    ((number, one),) = instances.each(labels, instances.of(labels))
    assert number == 1 and one.labels.shape == (3, 3, 3) and not one.cut
    assert validity.counts(one.labels)["inner_edges"] == 6
    assert labels[one.place].shape == one.labels.shape


def boxes(*places):
    labels = np.zeros((6, 12, 24), np.int16)
    for first, last in places:
        labels[1:5, 2:10, first:last] = 1
    return instances.of(labels)


def test_pieces_and_bridges_are_counted():
    truth = boxes((1, 8), (10, 16), (18, 23))
    assert instances.splits_and_merges(truth, truth) == {"true": 3, "found": 3, "missed": 0, "split": 0, "merged": 0}
    broken = boxes((1, 4), (5, 8), (10, 23))
    assert instances.splits_and_merges(truth, broken) == {"true": 3, "found": 3, "missed": 2, "split": 1, "merged": 1}
    nothing = instances.splits_and_merges(truth, 0 * truth)
    assert nothing == {"true": 3, "found": 0, "missed": 3, "split": 0, "merged": 0}
    assert instances.splits_and_merges(0 * truth, truth)["found"] == 3


def test_specks_are_no_pieces():
    truth = boxes((1, 8))
    speckled = np.array(truth)
    speckled[:, :, 4] = 0
    speckled[2, 4, 5:8] = 0
    assert instances.splits_and_merges(truth, instances.of(speckled))["split"] == 1
    assert instances.splits_and_merges(truth, instances.of(boxes((1, 3), (4, 8))), 100)["split"] == 0
