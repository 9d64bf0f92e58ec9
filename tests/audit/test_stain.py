"""A whole volume against an independent stain, in blocks, with unknown voxels and hidden tokens."""

import numpy as np
import pytest

from maeref_jax.audit import stain
from maeref_jax.errors import BadInput
from maeref_jax.metrics import witness
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole


def volumes(dtype):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (3, 6, 7)).repeat(6, 1).repeat(6, 2).astype(np.uint8)
    labels[:, 12:18, 12:24] = 0
    refined = labels.copy()
    refined[:, 12:24, 12:24] = 3
    labels[0, :3, :3] = 255
    hidden = np.zeros(labels.shape, np.uint8)
    hidden[:, 12:24, 12:24] = 1
    brightness = (rng.random(labels.shape) * 1000 - (0 if dtype == np.uint16 else 200)).astype(dtype)
    arrays = {"initial": labels, "refined": refined, "hidden": hidden}
    return {name: array_volume(array, name) for name, array in arrays.items()}, array_volume(brightness, "tom20")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_volume_in_blocks_is_the_volume_at_once(dtype):
    arrays, brightness = volumes(dtype)
    one = stain.score(arrays, brightness, (3, 36, 42), (1, 2, 3), 2, 5)
    many = stain.score(arrays, brightness, (2, 8, 12), (1, 2, 3), 2, 5)
    assert one == many
    assert one["everywhere"]["initial"] != one["everywhere"]["refined"]
    voxels = {
        region: sum(one[region]["initial"][f"{part}_voxels"] for part in ("near", "elsewhere"))
        for region in one
        if region in stain.REGIONS
    }
    assert voxels["everywhere"] == 3 * 36 * 42 - 9, "unknown voxels take no part"
    beside = witness.within(arrays["hidden"].read(whole((3, 36, 42))) != 0, 5)
    assert voxels["near_hidden"] == beside.sum()
    assert stain.asked_for(brightness, (1, 2, 3), 2, 5).items() <= one.items()


def test_a_stain_of_another_shape_is_refused():
    _, brightness = volumes(np.uint16)
    stain.check(brightness, (3, 36, 42), 2, 5)
    with pytest.raises(BadInput, match=r"has shape \(3, 36, 42\), expected"):
        stain.check(brightness, (3, 36, 43), 2, 5)
    with pytest.raises(BadInput, match="at least 0"):
        stain.check(brightness, (3, 36, 42), -1, 5)
