"""Tissue by texture: thresholds of the whole volume, votes whatever the blocks, and what noise is taken for."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resin import tissue_in_resin
from scipy import ndimage

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.segmenters import texture
from maeref_jax.volumes import texture_filters
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import Box, blocks, whole

SIZE = (40.0, 20.0, 20.0)
SETTINGS = load_config("texture").to_dict()


def noise(shape, seed=0, deviation=5.0):
    return np.random.default_rng(seed).normal(100, deviation, shape)


def volume(image, size=SIZE):
    return array_volume(np.asarray(image, np.float32), "image", size)


def probability(image, size=SIZE, config=SETTINGS):
    found = texture.statistics(volume(image, size), config)
    votes = texture.texture_votes(volume(image, size), whole(image.shape), config, found)
    return np.average(votes, 0, config["ballots"]), found


def test_tissue_in_resin_is_found():
    image, truth = tissue_in_resin((5, 96, 112), 0.3 * 96)
    found, statistics = probability(image)
    assert statistics["kind"] == "two" and statistics["doubts"] == []
    plane = np.ones((1, 3, 3))
    inside = ndimage.binary_erosion(truth, plane, iterations=6)
    outside = ~ndimage.binary_dilation(truth, plane, iterations=12)
    assert (found[inside] > 0.5).mean() > 0.9
    assert (found[outside] > 0.5).mean() < 0.01


@settings(max_examples=12)
@given(
    block=st.tuples(st.integers(1, 5), st.integers(7, 60), st.integers(7, 60)),
    config=st.sampled_from(["texture", "texture:differences", "texture:entropy"]),
    lengths=st.sampled_from([(16384, 256, 128), (150, 50, 30), (100, 20, 40)]),
)
def test_votes_do_not_depend_on_blocks(block, config, lengths):
    lengths = dict(zip(("window_nm", "texture_nm", "edge_nm"), lengths, strict=True))
    config = load_config(config).to_dict() | {"lengths": lengths}
    array = np.pad(tissue_in_resin((5, 51, 60), 0.3 * 51)[0], ((0, 0), (7, 3), (0, 10)))
    for y, x in np.random.default_rng(1).integers(0, 55, (12, 2)):  # saturated
        array[1:, y : y + 4, x : x + 5] = 255.0
    image = volume(array)
    found = json.loads(json.dumps(texture.statistics(image, config), sort_keys=True))
    at_once = texture.texture_votes(image, whole(image.shape), config, found)
    for box in blocks(image.shape, block):
        np.testing.assert_array_equal(texture.texture_votes(image, box, config, found), at_once[:, *box.slices])


def sizes(half=(4, 4), texture=(1.0, 1.0), edge=(0.5, 0.5)):
    return texture_filters.Sizes(half, texture, edge, (1.0, 1.0))


def test_pitfall_1_deviation_is_that_of_the_window_around_every_voxel():
    levels = np.random.default_rng(0).integers(0, 4096, (2, 21, 23))
    found = texture_filters.deviation(levels, sizes((4, 3)))
    for y, x in ((0, 0), (10, 11), (20, 22), (3, 22)):
        window = levels[1, max(y - 4, 0) : y + 5, max(x - 3, 0) : x + 4]
        assert found[1, y, x] == pytest.approx(window.std())
    assert (found != texture_filters.deviation(levels, sizes((5, 3)))).all(), "the window's size matters"


def test_pitfall_1_every_vote_counts():
    image, truth = tissue_in_resin((5, 96, 112), 0.3 * 96)
    found = texture.statistics(volume(image), SETTINGS)
    votes = texture.texture_votes(volume(image), whole(image.shape), SETTINGS, found)
    assert votes.shape == (3, *image.shape) and votes.dtype == np.float32
    for vote in votes:
        assert vote[truth].mean() > vote[~truth].mean() + 0.05


def test_pitfall_2_structure_is_looked_for_in_the_plane():
    along_z = np.random.default_rng(0).integers(0, 4096, (6, 1, 1)) * np.ones((1, 24, 24), np.int64)
    noise = np.random.default_rng(1).integers(-9, 10, (6, 24, 24))
    for feature in (texture_filters.deviation, texture_filters.edges):
        expected = feature(2000 + noise, sizes())
        np.testing.assert_allclose(feature((along_z // 2 + 1000) + noise, sizes()), expected, rtol=1e-6, atol=1e-3)
    stripes = (2000 + 1000 * np.sin(np.arange(24) / 2)).astype(np.int64) * np.ones((2, 24, 1), np.int64)
    assert texture_filters.coherence(stripes, sizes())[:, :, 4:20].min() > 0.99
    assert texture_filters.coherence(stripes.swapaxes(1, 2), sizes())[:, 4:20].min() > 0.99


def test_pitfall_2_a_block_of_pure_resin_is_no_mask_of_noise():
    image, _ = tissue_in_resin((3, 128, 160), 0.3 * 128)
    found = texture.statistics(volume(image), SETTINGS)
    corner = texture.texture_votes(volume(image), Box((0, 0, 0), (3, 24, 24)), SETTINGS, found)
    assert (np.average(corner, 0, SETTINGS["ballots"]) > 0.5).mean() < 0.01


@pytest.mark.parametrize("mode", ["", "differences", "entropy"])
def test_pitfall_4_flat_resin_gives_no_nan_and_is_resin(mode):
    config = load_config(f"texture:{mode}").to_dict()
    image, truth = tissue_in_resin((5, 96, 112), 0.3 * 96)
    image[~truth] = 100
    found, statistics = probability(image, config=config)
    assert np.isfinite(found).all() and np.isfinite(json.loads(json.dumps(statistics))["common"])
    assert found.min() >= 0 and found.max() <= 1
    far = ~ndimage.binary_dilation(truth, np.ones((1, 3, 3)), iterations=12)
    assert not found[far].any()


def test_noise_alone_is_resin_and_one_is_warned():
    found, statistics = probability(noise((6, 128, 128)))
    assert statistics["kind"] == "noise" and "looks like noise" in statistics["doubts"][0]
    assert (found > 0.5).mean() < 1e-3


def test_noise_that_becomes_brighter_across_the_volume_is_resin():
    found, _ = probability(noise((6, 128, 128)) + np.linspace(0, 40, 128))
    assert (found > 0.5).mean() < 1e-3


def test_tissue_alone_is_tissue_and_one_is_warned():
    structure = ndimage.gaussian_filter(noise((6, 128, 128), deviation=100), (0, 2, 2))
    found, statistics = probability(structure)
    assert statistics["kind"] == "tissue" and "all of it is taken as tissue" in statistics["doubts"][0]
    assert (found > 0.5).all()


def test_little_tissue_stands_out_of_noise():
    image = noise((6, 160, 160))
    image[:, 70:80, 70:80] += np.random.default_rng(1).choice([-80, 80], (6, 10, 10))
    found, statistics = probability(image)
    assert statistics["kind"] == "noise" and (found[:, 72:78, 72:78] > 0.5).mean() > 0.5
    assert (found > 0.5).mean() < 0.01


def test_a_black_frame_around_what_was_imaged_is_no_tissue():
    image, truth = tissue_in_resin((3, 96, 112), 0.3 * 96)
    framed = np.pad(image, ((0, 0), (20, 20), (20, 20)))
    found, statistics = probability(framed)
    assert statistics["kind"] == "two"
    near = np.zeros(framed.shape, bool)
    near[:, 20:-20, 20:-20] = ndimage.binary_dilation(truth, np.ones((1, 3, 3)), iterations=20)
    assert (found[~near] > 0.5).mean() < 0.01


@pytest.mark.parametrize("value", [0.0, 7.0, -3.5])
def test_a_constant_volume_is_resin_with_one_clear_line(value):
    found, statistics = probability(np.full((2, 20, 20), value))
    assert not found.any() and statistics["kind"] == "nothing"
    assert len(statistics["doubts"]) == 1 and f"{value:.4g} nearly everywhere" in statistics["doubts"][0]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (7, 3, 40), (1, 64, 64)])
def test_volumes_thinner_than_a_filter(shape):
    found, statistics = probability(noise(shape))
    assert found.shape == shape and np.isfinite(found).all()
    assert statistics["kind"] in ("nothing", "noise", "two", "tissue")


@pytest.mark.parametrize("dtype", ["float16", "bool", "uint64", "int8", ">u2", "float64"])
def test_grey_values_of_any_type(dtype):
    image, _ = tissue_in_resin((2, 40, 40), 12)
    given = array_volume((image > 100 if dtype == "bool" else image / 3).astype(dtype), "image", SIZE)
    votes = texture.texture_votes(given, whole(given.shape), SETTINGS, texture.statistics(given, SETTINGS))
    assert np.isfinite(votes).all() and votes.min() >= 0 and votes.max() <= 1


def test_lengths_are_in_nm_and_shrink_together_in_small_volumes():
    lengths = SETTINGS["lengths"]
    assert lengths == {"window_nm": 16384, "texture_nm": 256, "edge_nm": 128}, "64, 1 and 0.5 voxels of 256 nm"
    large, size = (10, 4096, 4096), (256.0, 256.0, 256.0)
    assert texture_filters.sizes_of(lengths, large, size) == ((32, 32), (1, 1), (0.5, 0.5), (1, 1))
    finer = texture_filters.sizes_of(lengths, large, (256.0, 128.0, 128.0))
    assert finer[:3] == ((64, 64), (2, 2), (1, 1))
    assert texture_filters.sizes_of(lengths, (10, 512, 600), size)[0] == (32, 32), "an eighth of the plane"
    assert texture_filters.sizes_of(lengths, (10, 256, 600), size)[:3] == ((16, 16), (0.5, 0.5), (0.5, 0.5))
    assert texture_filters.sizes_of(lengths, large, None) == texture_filters.sizes_of(lengths, large, size)
    told = texture.statistics(volume(tissue_in_resin((5, 96, 112), 0.3 * 96)[0], None), SETTINGS)["notes"]
    assert "how large a voxel is" in told[0] and "smaller than set" in told[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lengths.window_nm=0"], r"lengths\.window_nm must be a length above 0, in nm, found 0"),
        (["lengths.texture_nm=-100"], r"lengths\.texture_nm must be a length above 0, in nm, found -100"),
        (["lengths.edge_nm=nan"], r"lengths\.edge_nm must be a length above 0, in nm, found nan"),
        (["votes=foo,coherence,edges"], "votes must be of deviation, .*entropy, found foo"),
        (["votes="], "ballots must be a number for each of the votes"),
        (["ballots=1,2"], r"each of the votes deviation, coherence, edges, found \(1, 2\)"),
        (["ballots=0,0,0"], "whole numbers from 0 on, and not all 0"),
        (["ballots=4,-1,3"], "whole numbers from 0 on, and not all 0"),
        (["ballots=1,1,1"], r"as all ballots \(1, 1, 1\) together, found 10: .* --config\.members=3"),
    ],
)
def test_settings_that_make_no_mask_are_refused(overrides, message):
    config = load_config("texture", [f"--config.{one}" for one in overrides]).to_dict()
    with pytest.raises(BadInput, match=message):
        texture.segmenter(config)


@pytest.mark.parametrize("ballots", [(1, 1, 1), (4, 0, 1)])
def test_every_vote_has_as_many_members_as_ballots(ballots):
    typed = f"--config.ballots={ballots}", f"--config.members={sum(ballots)}"
    config, image = load_config("texture", typed).to_dict(), volume(tissue_in_resin((2, 40, 44), 12)[0])
    apply = texture.segmenter(config)
    found = apply.predict(apply.statistics(image), image, whole(image.shape))
    assert found.shape == (sum(ballots), 2, 40, 44, 2)


def test_otsu_is_the_threshold_that_explains_most_and_says_how_much():
    rng = np.random.default_rng(0)
    two = np.concatenate([rng.normal(0, 1, 500), rng.normal(10, 1, 300)])
    found = texture.otsu(two)
    assert 3 < found.threshold < 7 and found.low == pytest.approx(two[two < 5].mean()) and found.explained > 0.9
    best = max(
        np.unique(two)[:-1],
        key=lambda t: (two <= t).mean() * (two > t).mean() * (two[two <= t].mean() - two[two > t].mean()) ** 2,
    )
    assert best < found.threshold < two[two > best].min()
    assert texture.otsu(rng.normal(size=10**5)).explained == pytest.approx(2 / np.pi, abs=0.01)
    assert texture.otsu(rng.random(10**5)).explained == pytest.approx(0.75, abs=0.01)
    for one_heap in (rng.exponential(size=10**5), rng.lognormal(size=10**5), rng.triangular(0, 0, 1, 10**5)):
        assert texture.otsu(one_heap).explained < texture.FLATTEST
    assert texture.otsu(np.full(5, 3.0)) == (3, 3, 3, 0) and texture.otsu(np.zeros(1)).explained == 0


def test_the_sample_is_bounded_and_all_of_a_small_volume():
    for shape in ((4, 100, 100), (3000, 600, 700), (40, 9000, 300), (3, 20000, 20000)):
        boxes = texture._sample(shape)
        voxels = sum(np.prod(box.shape) for box in boxes)
        assert voxels <= texture.MOST and voxels >= min(np.prod(shape), texture.MOST // 4)
        assert len(set(boxes)) == len(boxes)
        assert boxes[0].start[0] == 0 and boxes[-1].stop[0] == shape[0]
        assert all(not box.empty and box.intersect(whole(shape)) == box for box in boxes)
