"""deterioration.py: every kind of damage happens, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from maeref_jax.errors import BadInput
from maeref_jax.samples import deterioration

NOTHING = {
    "clean": 0.0, "blobs": 0, "blob_radius_px": (3.0, 6.0), "rounds": 0, "border_noise": 0.0, "speckles": 0.0,
}  # fmt: skip
EVERYTHING = NOTHING | {"blobs": 2, "rounds": 3, "border_noise": 0.5, "speckles": 0.1}
KEYS = jax.random.split(jax.random.key(0), 40)


def stripes():
    labels = np.tile(np.arange(32) // 4 % 4, (32, 1))
    labels[:8] = 0
    labels[-4:] = -1
    return jnp.asarray(labels)


def many(settings, classes=4, labels=None, keys=KEYS):
    labels = stripes() if labels is None else labels
    return np.asarray(jax.jit(jax.vmap(lambda k: deterioration.deteriorated(k, labels, classes, settings)))(keys))


def test_it_is_a_function_of_the_key_keeps_unknown_and_makes_no_new_class():
    found = many(EVERYTHING, keys=jnp.concatenate([KEYS, KEYS[::-1]]))
    np.testing.assert_array_equal(found[:40], found[:39:-1])
    found = found[:40]
    assert len({plane.tobytes() for plane in found}) > 30
    unknown = np.asarray(stripes()) == -1
    assert (found[:, unknown] == -1).all() and (found[:, ~unknown] >= 0).all() and found.max() <= 3


def test_a_crop_that_is_shown_as_it_is_is():
    found = many(EVERYTHING | {"clean": 1.0, "speckles": 1.0})
    np.testing.assert_array_equal(found, np.broadcast_to(stripes(), (40, 32, 32)))


def test_blobs_remove_add_and_swap_and_are_contiguous():
    before = np.asarray(stripes())
    found = many(NOTHING | {"blobs": 1})
    pairs = {(a, b) for plane in found for a, b in zip(before[plane != before], plane[plane != before], strict=True)}
    assert {(a, 0) for a in (1, 2, 3)} <= pairs and {(0, b) for b in (1, 2, 3)} <= pairs
    assert {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b} <= pairs
    # Background alone: what is added is at most one blob, and no lone pixels.
    plain = many(NOTHING | {"blobs": 1}, labels=jnp.zeros((32, 32), int))
    added = [plane > 0 for plane in plain if plane.any()]
    assert len(added) > 10 and np.median([ndimage.label(plane)[1] for plane in added]) == 1
    assert np.median([plane.sum() for plane in added]) > 15


def test_noise_at_borders_stays_there_and_speckles_are_scattered():
    halves = jnp.where(jnp.arange(32) < 16, 1, 2) * jnp.ones((32, 1), int)
    found = many(NOTHING | {"rounds": 2, "border_noise": 1.0}, labels=halves)
    changed = found != np.asarray(halves)
    assert changed[:, :, 14:18].any() and not changed[:, :, :14].any() and not changed[:, :, 18:].any()
    speckled = many(NOTHING | {"speckles": 0.2}, labels=jnp.ones((32, 32), int))
    share = (speckled != 1).mean()
    assert 0.04 < share < 0.11  # half of the strongest on average, of which a quarter keeps its class by chance


def test_a_map_of_background_alone_stays_so():
    found = many(EVERYTHING, 1, jnp.zeros((16, 16), int), KEYS[:8])
    assert (found == 0).all()


@pytest.mark.parametrize(
    "changes", [{"blob_radius_px": (0.0, 3.0)}, {"blobs": -1}, {"rounds": -1}, {"clean": 1.1}, {"speckles": -0.1}]
)
def test_settings_that_mean_nothing(changes):
    with pytest.raises(BadInput, match=next(iter(changes))):
        deterioration.check(NOTHING | changes)
