"""Blocks of tissue in resin: what a table of masks, and a network that learns from them, rely on."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.smooth_noise import smooth_noise
from maeref_jax.phantoms.tissue import KINDS, TissueSettings, spread, stain_of, tissue_block
from maeref_jax.phantoms.tissue_imaging import GRADIENT, SHIFTS, Microscope
from maeref_jax.phantoms.tissue_places import Surroundings, ragged, tracheae

SHAPE, SIZE = (20, 48, 56), (80.0, 80.0, 80.0)


@pytest.fixture(scope="module")
def mixed():
    return tissue_block(3, SHAPE, SIZE)


def test_the_fields_have_the_promised_shapes_types_and_ranges(mixed):
    assert mixed.image.shape == mixed.tissue.shape == SHAPE
    assert mixed.image.dtype == np.float32 and mixed.tissue.dtype == np.int16
    assert mixed.image.min() >= 0 and mixed.image.max() <= 255 and set(np.unique(mixed.tissue)) == {0, 1}


def test_the_same_seed_gives_the_same_block_and_touches_no_global_state(mixed):
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    again = tissue_block(3, SHAPE, SIZE)
    assert np.array_equal(before, np.random.get_state()[1])
    assert np.array_equal(mixed.image, again.image) and np.array_equal(mixed.tissue, again.tissue)
    assert not np.array_equal(mixed.tissue, tissue_block(4, SHAPE, SIZE).tissue)


def test_a_block_is_what_its_kind_says():
    shares = {kind: tissue_block(1, SHAPE, SIZE, kind).tissue.mean() for kind in KINDS}
    assert shares["resin"] == shares["bare"] == 0 and 0.8 < shares["tissue"] <= 1 and 0.05 < shares["mixed"] < 0.9


@pytest.mark.parametrize("size", [SIZE, (40.0, 40.0, 40.0), (160.0, 80.0, 80.0)])
def test_tissue_is_rough_and_resin_is_not(size):
    for seed in range(3):
        block = tissue_block(seed, (16, 64, 64), size, shift="")
        steps = np.abs(np.diff(block.image, axis=2))
        inside = (block.tissue[..., 1:] + block.tissue[..., :-1]) / 2
        assert steps[inside == 1].mean() > 1.5 * np.median(steps[inside == 0]), seed


def test_the_share_is_about_that_asked_for_and_no_crumb_is_tissue():
    rng = np.random.default_rng(0)
    for share in (0.2, 0.5, 0.8):
        assert abs(ragged(rng, (24, 80, 80), SIZE, share).mean() - share) < 0.08
    assert not ragged(rng, SHAPE, SIZE, 0.0).any() and ragged(rng, SHAPE, SIZE, 1.0).all()


def test_a_trachea_is_a_dark_wall_around_nothing():
    settings = Surroundings(tracheae_per_1000_um3=200.0, trachea_radius_nm=(500.0, 700.0))
    wall, lumen = tracheae(np.random.default_rng(1), SHAPE, SIZE, settings)
    assert lumen.any() and wall.min() >= 0 and 0.8 < wall.max() <= 1
    # From inside to outside of a tube there is a wall to be crossed.
    border = lumen[:, :, 1:] != lumen[:, :, :-1]
    assert np.maximum(wall[:, :, 1:], wall[:, :, :-1])[border].mean() > 0.5


def test_inside_of_tracheae_and_their_walls_is_no_tissue():
    found = [tissue_block(seed, SHAPE, SIZE, "tissue") for seed in range(12)]
    holes = [block for block in found if not block.tissue.all()]
    assert holes, "some block has a trachea"
    for block in holes:
        inner = block.image[block.tissue == 0]
        assert inner.max() - np.median(block.image[block.tissue == 1]) > 0, "what lies inside is bright"


def test_shifts_change_how_a_block_looks_and_not_what_it_is(mixed):
    shifted = {shift: tissue_block(3, SHAPE, SIZE, shift=shift) for shift in SHIFTS}
    for block in shifted.values():
        assert np.array_equal(block.tissue, mixed.tissue) and not np.array_equal(block.image, mixed.image)
    assert np.allclose(shifted["inverted"].image, 255 - mixed.image)
    ratio = shifted["gradient"].image.mean(0) / mixed.image.mean(0)
    assert ratio.min() < 1.25 * GRADIENT and ratio.max() > 0.85
    light = shifted["fluorescence"].image
    assert light[mixed.tissue == 1].mean() > 2 * light[mixed.tissue == 0].mean(), "bright where there is stain"


def test_pasted_tissue_is_made_of_the_texture_alone():
    texture = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    rng = np.random.default_rng(0)
    for _ in range(8):
        filled = spread(texture, rng, (5, 9, 11))
        assert filled.shape == (5, 9, 11) and set(np.unique(filled)) == set(texture.ravel())
        # Mirrored, not cut: neighbours are neighbours, or the same, in the texture.
        assert np.isin(np.abs(np.diff(filled, axis=0)), (0, 12)).all()
    assert np.allclose(stain_of(np.array([[[0.0, 10.0, 20.0]]])), [[[0.85, 0.425, 0]]], atol=0.01), "dark is stained"


def test_bare_resin_is_even():
    settings = TissueSettings(microscope=Microscope(knife_marks=(0, 1), folded_slices=0.0, charged_rows=0.0))
    for seed in range(4):
        bare = tissue_block(seed, SHAPE, SIZE, "bare", settings=settings).image
        assert np.abs(bare - bare.mean()).max() < 100, "no wall and no speck, which are as dark as membranes"
        assert np.percentile(bare, 99.9) - np.percentile(bare, 0.1) < 80


def test_a_block_of_real_texture_has_it_where_there_is_tissue():
    texture = 100 + 30 * smooth_noise(np.random.default_rng(0), (10, 30, 30), SIZE, 90.0)
    pasted, drawn = (tissue_block(3, SHAPE, SIZE, "mixed", given) for given in (texture, None))
    assert np.array_equal(pasted.tissue, drawn.tissue) and not np.array_equal(pasted.image, drawn.image)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "brain"}, "no block of kind 'brain'; expected one of mixed, resin, bare, tissue"),
        ({"shape": (4, 0, 4)}, "at least one voxel each"),
        ({"voxel_size_nm": (80.0, 0.0, 80.0)}, "a positive voxel size"),
        ({"shift": "blur"}, "no shift 'blur'; expected one of inverted, gradient, fluorescence"),
        ({"texture": np.ones((3, 3, 3))}, "nearly everywhere, expected an image of tissue"),
    ],
)
def test_what_cannot_be_made_is_refused(given, said):
    with pytest.raises(BadInput, match=said):
        tissue_block(**{"seed": 0, "shape": (4, 8, 8), "voxel_size_nm": SIZE, **given})
