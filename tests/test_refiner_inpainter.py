"""refiners/inpainter.py: the same law as the masked autoencoder's, and that it learns."""

import jax
import numpy as np
import optax
import pytest

from maeref_jax.refiners import inpainter

SETTINGS = {
    "token": 4, "window": (16, 24), "stride": (8, 8), "threshold": 0.4, "train_threshold": 0.1, "loss_over": "hidden",
    "classes": {"names": ("background", "shell", "inside", "ambiguous"), "ambiguous": 3},
    "class_weights": (1.0, 1.0, 1.0), "mask_shapes": (1.0, 0.0, 0.0),
    "use": {"symmetries": False, "rounds": 1, "samples": 0},
    "model": {"widths": (8, 16), "dilations": (1, 2), "compute_dtype": "float32"},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    batch = {
        "labels": np.repeat(np.repeat(rng.integers(0, 3, (4, 2, 3)), 8, 1), 8, 2).astype(np.int16),
        "entropy": np.zeros((4, 16, 24), np.float32),
        "index": np.arange(4, dtype=np.int32),
        "shared": {"hidden_count": np.int32(8), "slots": np.arange(16, dtype=np.int32)},
    }
    method = inpainter.method(SETTINGS)
    params, state = jax.jit(method.init)(jax.random.key(0), batch)
    return method, params, state, batch


@pytest.fixture(scope="module")
def refine():
    return jax.jit(inpainter.refiner(SETTINGS).refine)


def window(share=0.4, seed=1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (2, 16, 24)).astype(np.int16)
    hidden = np.repeat(np.repeat(rng.random((2, 4, 6)) < share, 4, 1), 4, 2)
    return {"labels": labels, "entropy": np.zeros(labels.shape, np.float32), "hidden": hidden}


def test_a_hidden_label_changes_no_output_bit_and_a_visible_one_does(trained, refine):
    _, params, state, _ = trained
    inputs = window()
    flipped = 2 - inputs["labels"]
    other = {**inputs, "labels": np.where(inputs["hidden"], flipped, inputs["labels"])}
    visible = {**inputs, "labels": np.where(inputs["hidden"], inputs["labels"], flipped)}
    one, two, three = (np.asarray(refine(params, state, x, jax.random.key(0))) for x in (inputs, other, visible))
    np.testing.assert_array_equal(one, two)
    assert (one != three).any() and one.shape == (2, 16, 24, 3)
    np.testing.assert_allclose(one.sum(-1), 1, atol=1e-5)
    assert not inpainter.refiner(SETTINGS).sees_hidden


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["nothing hidden", "all hidden"])
def test_extreme_windows_are_defined(trained, refine, share):
    _, params, state, _ = trained
    assert np.isfinite(refine(params, state, window(share), jax.random.key(0))).all()


def test_the_loss_counts_the_hidden_pixels_falls_and_is_0_where_nothing_counts(trained):
    method, params, state, batch = trained
    adam, loss = optax.adam(3e-3), jax.jit(jax.value_and_grad(lambda *given: method.loss(*given)[0], has_aux=False))
    _, weight, _, _ = jax.jit(method.loss)(params, state, batch, jax.random.key(0))
    assert weight == 4 * 8 * 16
    carried, losses = adam.init(params), []
    for step in range(12):
        value, gradients = loss(params, state, batch, jax.random.key(step))
        updates, carried = adam.update(gradients, carried)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    undecided = {**batch, "entropy": np.ones_like(batch["entropy"])}
    assert tuple(map(float, jax.jit(method.loss)(params, state, undecided, jax.random.key(0))[:2])) == (0, 0)


def test_evaluate_and_preview(trained):
    method, params, state, batch = trained
    found = jax.jit(method.evaluate)(params, state, batch)
    assert set(found) == {"loss", "accuracy", "dice_background", "dice_shell", "dice_inside"}
    shown = jax.jit(method.preview)(params, state, batch)
    visible = ~np.asarray(shown["hidden"])
    np.testing.assert_array_equal(np.asarray(shown["prediction"])[visible], batch["labels"][visible])
