"""augmentation.py: image and labels stay together, keys decide, and nothing happens that was not asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from small_settings import NOTHING

from maeref_jax.samples import augmentation

EVERYTHING = {
    **NOTHING, "symmetries": True, "contrast": 0.1, "brightness": 0.05, "gamma": 0.1, "noise": 0.05, "blur_vx": 1.0,
    "low_signal": 2, "elastic_vx": 2.0, "piecewise_share": 0.05, "rotation_degrees": 30.0,
}  # fmt: skip
FLAT, ISOTROPIC = (40.0, 10.0, 10.0), (10.0, 10.0, 10.0)


def crop(*shape):
    rng = np.random.default_rng(0)
    return rng.uniform(size=shape).astype(np.float32), rng.integers(-1, 4, shape).astype(np.int16)


def test_without_strengths_nothing_changes():
    image, labels = crop(16, 16)
    found = augmentation.augmented(jax.random.key(0), image, labels, NOTHING, FLAT)
    np.testing.assert_array_equal(found[0], image)
    np.testing.assert_array_equal(found[1], labels)


@pytest.mark.parametrize("shape", [(32, 32), (8, 16, 16)], ids=["plane", "stack"])
def test_a_sample_is_a_function_of_its_key_and_not_of_its_batch(shape):
    image, labels = crop(*shape)
    keys = jax.random.split(jax.random.key(0), 3)
    vary = jax.jit(jax.vmap(lambda key: augmentation.augmented(key, image, labels, EVERYTHING, FLAT)))
    others = jax.random.split(jax.random.key(1), 1)
    (images, found), (again, _) = vary(keys), vary(jnp.concatenate([keys[1:], others]))
    assert images.shape == (3, *shape) and found.dtype == np.int16 and np.isfinite(images).all()
    np.testing.assert_allclose(images[1:], again[:2], atol=1e-6)
    assert len({np.asarray(image).tobytes() for image in images}) == 3
    assert set(np.unique(found)) <= {-1, 0, 1, 2, 3}


@pytest.mark.parametrize(
    ("shape", "lengths", "count"),
    [
        ((4, 4), (10, 10), 8),
        ((4, 6), (10, 10), 4),
        ((4, 4), (10, 12), 4),
        ((4, 4, 4), FLAT, 16),
        ((3, 4, 4), ISOTROPIC, 16),
        ((3, 3, 3), ISOTROPIC, 48),
    ],
)
def test_the_symmetries_of_a_box_all_differ_and_none_mixes_axes_that_are_not_alike(shape, lengths, count):
    choices = augmentation.symmetries(shape, lengths)
    array = np.arange(np.prod(shape)).reshape(shape)
    turn = jax.jit(lambda which: augmentation.oriented(jnp.asarray(array), which, choices))
    found = [np.asarray(turn(i)) for i in range(len(choices))]
    np.testing.assert_array_equal(found[0], array)
    assert len({f.tobytes() for f in found}) == len(choices) == count
    assert all(f.shape == shape and (np.sort(f, axis=None) == array.ravel()).all() for f in found)


def test_every_symmetry_is_drawn_about_equally_often():
    image, labels = crop(4, 4)
    settings = {**NOTHING, "symmetries": True}
    keys = jax.random.split(jax.random.key(0), 800)
    found, _ = jax.jit(jax.vmap(lambda k: augmentation.augmented(k, image, labels, settings, FLAT)))(keys)
    _, counts = np.unique(np.asarray(found).reshape(800, -1), axis=0, return_counts=True)
    assert len(counts) == 8 and counts.min() > 60


@pytest.mark.parametrize("kind", [{"elastic_vx": 3.0}, {"piecewise_share": 0.12}, {"rotation_degrees": 20.0}])
@pytest.mark.parametrize("shape", [(48, 48), (12, 40, 40)], ids=["plane", "stack"])
def test_one_warp_moves_image_and_labels_alike_and_along_z_by_as_many_nanometres(shape, kind):
    """The image is a coordinate, the labels are the same coordinate rounded: together before, together after."""
    settings = {**NOTHING, **kind}
    moved_by = []
    for axis in (0, len(shape) - 1):
        place = np.indices(shape)[axis]
        image, labels = place.astype(np.float32), place.astype(np.int16)
        keys = jax.random.split(jax.random.key(3), 8)
        vary = jax.vmap(lambda k, i=image, y=labels: augmentation.augmented(k, i, y, settings, FLAT))
        warped, found = map(np.asarray, jax.jit(vary)(keys))
        inside = found >= 0
        inner = inside & (warped > 0.5) & (warped < shape[axis] - 1.5)
        assert inner.mean() > 0.5
        assert np.abs(warped - found)[inner].max() <= 0.501
        moved_by.append(float(np.abs(warped - place)[inner].mean()))
    assert moved_by[1] > 0.5
    if len(shape) == 3:
        assert moved_by[0] < 0.5 * moved_by[1], "z voxels are four times as long, and rotation is in the plane"


def test_a_warp_reads_at_the_voxel_plus_the_displacement_mirrored_and_unknown_outside():
    image, labels = crop(6, 8)
    found, drawn = augmentation.warped(image, labels, np.stack([np.full((6, 8), 2.0), np.full((6, 8), -1.0)]))
    np.testing.assert_allclose(found[:4, 1:], image[2:, :-1], atol=1e-6)
    np.testing.assert_allclose(found[4:, 1:], image[:3:-1, :-1], atol=1e-6)
    np.testing.assert_array_equal(drawn[:4, 1:], labels[2:, :-1])
    assert (np.asarray(drawn)[4:] == -1).all() and (np.asarray(drawn)[:, 0] == -1).all()


def test_a_piecewise_affine_field_passes_through_its_nodes_and_is_affine_between_them():
    nodes = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    field = np.asarray(augmentation.piecewise_affine(jnp.asarray(nodes), (17, 25)))
    np.testing.assert_allclose(field[:, ::8, ::8], nodes, atol=1e-5)
    # In a triangle below the diagonal of a cell second differences vanish.
    np.testing.assert_allclose(field[:, 4, 0] + field[:, 6, 2], 2 * field[:, 5, 1], atol=1e-5)
    np.testing.assert_allclose(field[:, 7, 1] - field[:, 6, 1], field[:, 4, 2] - field[:, 3, 2], atol=1e-5)
    straight = jnp.stack(jnp.meshgrid(jnp.arange(3.0), jnp.arange(4.0), jnp.arange(2.0), indexing="ij"))
    expected = np.stack(np.meshgrid(*(np.linspace(0, n - 1, m) for n, m in ((3, 7), (4, 9), (2, 5))), indexing="ij"))
    np.testing.assert_allclose(augmentation.piecewise_affine(straight, (7, 9, 5)), expected, atol=1e-5)


def test_a_rotation_turns_the_tissue_and_not_the_pixels():
    """Pixels of 10 x 20 nm: a quarter turn reads a square of tissue where twice as many rows are as columns."""
    shape, middle = (41, 21), (20, 10)
    moved = augmentation.rotation(np.pi / 2, shape, (1.0, 2.0))
    image, labels = np.zeros(shape, np.float32), np.zeros(shape, np.int16)
    image[middle[0] + 12, middle[1]] = labels[middle[0] + 12, middle[1]] = 1  # 120 nm below the middle
    turned, drawn = augmentation.warped(image, labels, moved)
    beside = (middle[0], middle[1] - 6)  # 120 nm beside it; a row is half a column, so that two of them may read it
    assert drawn[beside] == 1 and turned[beside] > 0.99
    assert np.abs(np.argwhere(np.asarray(drawn) == 1) - beside).max() <= 1
    np.testing.assert_allclose(augmentation.rotation(0.0, shape, (1.0, 2.0)), 0, atol=1e-5)


@pytest.mark.parametrize("kind", [{"piecewise_share": 0.05}, {"rotation_degrees": 45.0}])
def test_unknown_stays_unknown_under_a_warp_and_strengths_vary_from_sample_to_sample(kind):
    labels = np.full((32, 32), -1, np.int16)
    labels[:, 16:] = 1
    image = np.where(labels > 0, 1.0, 0.0).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), 12)
    vary = jax.vmap(lambda k: augmentation.augmented(k, image, labels, {**NOTHING, **kind}, FLAT))
    images, found = map(np.asarray, jax.jit(vary)(keys))
    assert set(np.unique(found)) == {-1, 1}, "no label comes from nowhere"
    assert images[found == 1].min() >= 0.49, "what is known is what the image shows there"
    moved = np.abs(images - image).mean((1, 2))
    assert len(np.unique(moved)) == 12 and moved.max() > 2 * moved.min()


def test_a_blur_is_a_gaussian_that_is_shorter_along_coarse_axes():
    image, _ = crop(10, 24, 24)
    found = augmentation.blurred(jnp.asarray(image), 1.5, (4.0, 1.0, 1.0), 2.0)
    expected = ndimage.gaussian_filter(image, (1.5 / 4, 1.5, 1.5), mode="reflect", truncate=4)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(augmentation.blurred(jnp.asarray(image), 0.0, (4.0, 1.0, 1.0), 2.0), image, atol=1e-6)


def test_intensities_change_by_as_much_as_asked_and_labels_do_not():
    image, labels = crop(64, 64)
    keys = jax.random.split(jax.random.key(0), 400)

    def spread(**settings):
        vary = jax.vmap(lambda k: augmentation.augmented(k, image, labels, {**NOTHING, **settings}, FLAT))
        found, drawn = jax.jit(vary)(keys)
        assert (np.asarray(drawn) == labels).all()
        return np.asarray(found)

    assert np.isclose(spread(brightness=0.1).mean((1, 2)).std(), 0.1, rtol=0.1)
    assert np.isclose((spread(contrast=0.1).std((1, 2)) / image.std()).std(), 0.1, rtol=0.1)
    noise = spread(noise=0.1) - image
    assert np.isclose(np.sqrt((noise**2).mean()), 0.1, rtol=0.1) and abs(noise.mean()) < 0.01
    curved = spread(gamma=0.2)
    # A power keeps the order of intensities and 0 and 1 in their places.
    order = np.argsort(image, axis=None)
    assert (np.diff(curved.reshape(400, -1)[:, order], axis=-1) >= -1e-6).all()
    assert np.isclose(np.log(np.log(curved[:, 5, 5]) / np.log(image[5, 5])).std(), 0.2, rtol=0.15)


def test_low_signal_takes_the_contrast_away_in_places_only():
    labels = np.zeros((8, 64, 64), np.int16)
    labels[:, 16:48, 16:48] = 1
    image = np.where(labels, 1.0, 0.2).astype(np.float32)
    settings = {**NOTHING, "low_signal": 3, "low_signal_radius_vx": (10.0, 10.0), "low_signal_noise": 0.0}
    keys = jax.random.split(jax.random.key(0), 60)
    vary = jax.jit(jax.vmap(lambda k: augmentation.augmented(k, image, labels, settings, FLAT)))
    found, drawn = map(np.asarray, vary(keys))
    assert (drawn == labels).all() and found.max() <= 1.0001 and found.min() >= 0.1999
    changed = (np.abs(found - image) > 1e-4).reshape(60, -1).mean(1)
    assert (changed == 0).any() and (changed < 0.5).all()
    # An ellipsoid of radius 10 in the plane reaches 2.5 slices up and down.
    one = (np.abs(found - image) > 1e-4).any((2, 3)).sum(1)
    assert one.max() <= 8 and np.isin(one[one > 0].min(), (1, 2, 3, 4, 5))
