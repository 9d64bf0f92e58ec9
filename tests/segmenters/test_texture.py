"""Tissue by texture: thresholds of the whole volume, votes whatever the blocks, and what noise is taken for."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from maeref_jax.commands.command_line import load_config
from maeref_jax.segmenters import texture
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import blocks, whole

SIZE = (40.0, 20.0, 20.0)
SETTINGS = load_config("texture").to_dict()


def noise(shape, seed=0, deviation=5.0):
    return np.random.default_rng(seed).normal(100, deviation, shape)


def tissue_in_resin(shape=(5, 96, 112), seed=0):
    """A disc of coarse structure in faint noise, and where it is."""
    rng = np.random.default_rng(seed)
    _, y, x = np.indices(shape)
    truth = np.hypot(y - shape[1] / 2, x - shape[2] / 2) < 0.3 * shape[1]
    structure = ndimage.gaussian_filter(rng.normal(size=shape), (0, 2, 2))
    return np.where(truth, 100 + 60 * structure / structure.std(), 100) + rng.normal(0, 5, shape), truth


def volume(image, size=SIZE):
    return array_volume(np.asarray(image, np.float32), "image", size)


def probability(image, size=SIZE, config=SETTINGS):
    found = texture.statistics(volume(image, size), config)
    votes = texture.texture_votes(volume(image, size), whole(image.shape), config, found)
    return np.average(votes, 0, config["ballots"]), found


def test_tissue_in_resin_is_found():
    image, truth = tissue_in_resin()
    found, statistics = probability(image)
    assert statistics["kind"] == "two" and statistics["doubts"] == []
    plane = np.ones((1, 3, 3))
    inside = ndimage.binary_erosion(truth, plane, iterations=6)
    outside = ~ndimage.binary_dilation(truth, plane, iterations=12)
    assert (found[inside] > 0.5).mean() > 0.9
    assert (found[outside] > 0.5).mean() < 0.01


@settings(max_examples=8)
@given(
    block=st.tuples(st.integers(1, 5), st.integers(7, 60), st.integers(7, 60)),
    config=st.sampled_from(["texture", "texture:differences", "texture:entropy"]),
)
def test_votes_do_not_depend_on_blocks(block, config):
    config = load_config(config).to_dict()
    image = volume(tissue_in_resin((5, 61, 70))[0])
    found = json.loads(json.dumps(texture.statistics(image, config), sort_keys=True))
    at_once = texture.texture_votes(image, whole(image.shape), config, found)
    for box in blocks(image.shape, block):
        np.testing.assert_array_equal(texture.texture_votes(image, box, config, found), at_once[:, *box.slices])
