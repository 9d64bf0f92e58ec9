"""refiners/inpainter.py: the same law as the masked autoencoder's, and that it learns."""

import jax
import numpy as np
import pytest

from maeref_jax.refiners import inpainter

SETTINGS = {
    "token": 4, "window": (16, 24), "stride": (8, 8), "threshold": 0.4, "train_threshold": 0.1, "loss_over": "hidden",
    "classes": {"names": ("background", "shell", "inside", "ambiguous"), "ambiguous": 3},
    "class_weights": (1.0, 1.0, 1.0), "mask_shapes": (1.0, 0.0, 0.0), "curriculum": 0.0,
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


def test_the_loss_counts_the_hidden_pixels_falls_with_its_gradient_and_is_0_where_nothing_counts(trained):
    method, params, state, batch = trained
    loss = jax.jit(jax.value_and_grad(lambda p, b: method.loss(p, state, b, jax.random.key(0))[:2], has_aux=True))
    (before, weight), gradients = loss(params, batch)
    assert weight == 4 * 8 * 16
    smaller = jax.tree.map(lambda p, g: p - 0.1 * g / weight, params, gradients)
    assert loss(smaller, batch)[0][0] < before
    (total, weight), _ = loss(params, {**batch, "entropy": np.ones_like(batch["entropy"])})
    assert total == 0 and weight == 0


def test_evaluate_and_preview(trained):
    method, params, state, batch = trained
    found = jax.eval_shape(method.evaluate, params, state, batch)
    assert set(found) == {"loss", "accuracy", "dice_background", "dice_shell", "dice_inside"}
    shown = jax.jit(method.preview)(params, state, batch)
    visible = ~np.asarray(shown["hidden"])
    np.testing.assert_array_equal(np.asarray(shown["prediction"])[visible], batch["labels"][visible])
