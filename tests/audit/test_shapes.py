"""Shapes of many objects: what is read together, and that it changes nothing."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from maeref_jax.audit import shapes
from maeref_jax.volumes import progress
from maeref_jax.volumes.volume import array_volume

SHAPE, BLOCK = (10, 96, 96), (5, 48, 48)


def many():
    """Objects in cells of 12 x 12, some across blocks: ids, labels with cristae (2), boxes."""
    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint8)
    for z, y, x in np.ndindex(2, 8, 8):
        depth, height, width = rng.integers(3, (6, 11, 11))
        labels[5 * z + 1 : 5 * z + 1 + depth, 12 * y : 12 * y + height, 12 * x + 1 : 12 * x + 1 + width] = 1
    labels[2, ::12] = np.where(labels[2, ::12], 2, 0)
    ids, count = ndimage.label(labels)
    boxes = np.array([[(s.start, s.stop) for s in slices] for slices in ndimage.find_objects(ids)]).transpose(0, 2, 1)
    return ids.astype(np.uint32), labels, boxes, count


@pytest.fixture
def measured(tmp_path):
    ids, labels, boxes, _ = many()

    def measure(folder):
        reads, volume = [], array_volume(ids, "ids")
        counted = dataclasses.replace(volume, _read=lambda box: reads.append(box) or volume._read(box))
        (tmp_path / folder).mkdir()
        with progress.showing("shapes", len(boxes), "object") as shown:
            given = (array_volume(labels, "labels"), boxes, BLOCK, (30.0, 5.0, 4.0), 2)
            found = shapes.measure_shapes(counted, *given, tmp_path / folder / "initial", shown)
        assert shown.done == len(boxes)
        return found, {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}, len(reads)

    return measure


def test_a_block_is_not_unpacked_for_every_object_in_it(measured):
    _, trees, reads = measured("a")
    assert len(trees) == many()[3] > 60 and reads <= 8, "as many as there are blocks"


def test_what_is_read_together_changes_nothing(measured, monkeypatch):
    found, trees, _ = measured("a")
    assert max(found["cristae_count"]) == 1 and min(found["cristae_count"]) == 0
    for name, value in (("_TOGETHER", 1), ("_TOGETHER_VX", 900), ("_LARGE_VX", 10)):
        monkeypatch.setattr(shapes, name, value)
        again, same, _ = measured(name)
        assert again == found and same == trees


def test_cristae_that_touch_at_a_corner_are_one(tmp_path):
    labels = np.ones((3, 6, 6), np.uint8)
    labels[1, 1, 1] = labels[1, 2, 2] = labels[2, 3, 3] = 2
    given = array_volume(labels, "labels"), np.array([[(0, 0, 0), labels.shape]]), BLOCK, (30.0, 5.0, 4.0), 2
    with progress.showing("shapes", 1, "object") as shown:
        found = shapes.measure_shapes(
            array_volume(np.ones_like(labels, np.uint32), "ids"), *given, tmp_path / "a", shown
        )
    assert found["cristae_count"] == [1]
