"""refiners/autoencoder.py: it gives back what is typical, sees the whole crop and says so."""

import jax
import numpy as np
import optax
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.refiners import autoencoder

DENOISING = {
    "enabled": True, "clean": 0.1, "blobs": 1, "blob_radius_px": (2.0, 3.0), "rounds": 1, "border_noise": 0.2,
    "speckles": 0.1,
}  # fmt: skip
SETTINGS = {
    "token": 4, "window": (8, 12), "stride": (4, 4), "train_threshold": 0.1,
    "classes": {"names": ("background", "shell", "inside", "ambiguous"), "ambiguous": 3},
    "class_weights": (1.0, 1.0, 1.0), "denoising": DENOISING | {"enabled": False},
    "model": {"widths": (8, 16), "latent": 8, "compute_dtype": "float32"},
}  # fmt: skip
KEY = jax.random.key(0)


def method_of(enabled):
    return autoencoder.method(SETTINGS | {"denoising": DENOISING | {"enabled": enabled}})


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "labels": np.repeat(np.repeat(rng.integers(0, 3, (4, 2, 3)), 4, 1), 4, 2).astype(np.int16),
        "entropy": np.zeros((4, 8, 12), np.float32),
        "index": np.arange(4, dtype=np.int32),
        "shared": {},
    }


@pytest.fixture(scope="module")
def trained(batch):
    """(plain method, params after a few steps on one batch, the loss of each)."""
    method, adam = method_of(False), optax.adam(1e-2)

    def total(params, key):
        found, weight, _, _ = method.loss(params, {}, batch, key)
        return found / weight

    def step(carry, key):
        value, gradients = jax.value_and_grad(total)(carry[0], key)
        updates, carried = adam.update(gradients, carry[1])
        return (optax.apply_updates(carry[0], updates), carried), value

    @jax.jit
    def learn():
        params, _ = method.init(KEY, batch)
        return jax.lax.scan(step, (params, adam.init(params)), jax.random.split(KEY, 60))

    (params, _), losses = learn()
    return method, params, np.asarray(losses)


def test_it_learns_what_the_labels_were(trained, batch):
    method, params, losses = trained
    assert losses[-5:].mean() < 0.5 * losses[0]
    found = jax.device_get(jax.jit(method.evaluate)(params, {}, batch))
    assert set(found) == {"loss", "accuracy", "dice_background", "dice_shell", "dice_inside"}
    assert found["accuracy"][1] == 4 * 8 * 12 and found["accuracy"][0] > 0.8 * found["accuracy"][1]


def test_the_denoising_form_is_shown_worse_labels_and_asked_for_the_good_ones(trained, batch):
    plain, worse = (jax.jit(method_of(enabled).preview)(trained[1], {}, batch) for enabled in (False, True))
    np.testing.assert_array_equal(plain["input"], batch["labels"])
    for shown in (plain, worse):
        np.testing.assert_array_equal(shown["truth"], batch["labels"])
    changed = np.asarray(worse["input"]) != batch["labels"]
    assert changed.any() and (changed[0] != changed[1]).any()


def test_undecided_and_ambiguous_pixels_do_not_count(trained, batch):
    params, loss = trained[1], jax.jit(method_of(True).loss)
    assert loss(params, {}, batch, KEY)[1] == 4 * 8 * 12
    for changes in ({"entropy": np.ones((4, 8, 12), np.float32)}, {"labels": np.full((4, 8, 12), 3, np.int16)}):
        total, weight, _, _ = loss(params, {}, batch | changes, KEY)
        assert total == 0 and weight == 0


def test_it_sees_labels_under_hidden_tokens_and_not_which_are_hidden(trained, batch):
    apply = autoencoder.refiner(SETTINGS)
    refine, params = jax.jit(apply.refine), trained[1]
    assert apply.sees_hidden
    given = {name: batch[name] for name in ("labels", "entropy")} | {"hidden": np.zeros((4, 8, 12), bool)}
    one = np.asarray(refine(params, {}, given, KEY))
    assert one.shape == (4, 8, 12, 3)
    np.testing.assert_allclose(one.sum(-1), 1, atol=1e-5)
    everything = {**given, "hidden": ~given["hidden"]}
    np.testing.assert_array_equal(refine(params, {}, everything, KEY), one)
    other = {**everything, "labels": 2 - given["labels"]}
    assert (np.asarray(refine(params, {}, other, KEY)) != one).any()
    nothing = {**given, "labels": np.full_like(given["labels"], -1)}
    assert np.isfinite(refine(params, {}, nothing, KEY)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": (8, 10)}, "multiples of 4"),
        ({"class_weights": (1.0, 1.0)}, "3 weights"),
        ({"denoising": DENOISING | {"clean": 2.0}}, "denoising.clean"),
    ],
)
def test_settings_that_no_training_can_work_with(changes, message):
    with pytest.raises(BadInput, match=message):
        autoencoder.method(SETTINGS | changes)
