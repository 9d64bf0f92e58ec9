"""refiners/mae_image.py: hidden labels stay hidden, the image does not."""

import jax
import numpy as np
import pytest

from maeref_jax.refiners import mae_image

SETTINGS = {
    "token": 4, "window": (16, 24), "stride": (8, 8), "threshold": 0.4, "train_threshold": 0.1, "loss_over": "hidden",
    "keep_within": 2.0, "keep_within_nm": 0.0,
    "classes": {"names": ("background", "shell", "inside", "ambiguous"), "ambiguous": 3},
    "class_weights": (1.0, 1.0, 1.0), "mask_shapes": (1.0, 0.0, 0.0), "curriculum": 0.0,
    "use": {"symmetries": False, "rounds": 1, "samples": 0},
    "model": {
        "encoder_width": 8, "encoder_depth": 1, "encoder_heads": 2,
        "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2, "mlp_ratio": 2.0, "compute_dtype": "float32",
    },
    "image_model": {"width": 8, "depth": 1, "heads": 2},
}  # fmt: skip
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    batch = {
        "labels": rng.integers(0, 3, (3, 16, 24)).astype(np.int16),
        "entropy": np.zeros((3, 16, 24), np.float32),
        "image": rng.uniform(80, 120, (3, 16, 24)).astype(np.float32),
        "index": np.arange(3, dtype=np.int32),
        "shared": {
            "hidden_count": np.int32(12), "slots": np.arange(16, dtype=np.int32),
            "intensity_range": np.array([80, 120], np.float32),
        },
    }  # fmt: skip
    method = mae_image.method(SETTINGS)
    return method, *jax.jit(method.init)(KEY, batch), batch


def test_it_keeps_the_intensities_of_training_and_counts_the_hidden_pixels(trained):
    method, params, state, batch = trained
    np.testing.assert_array_equal(state["intensity_range"], [80, 120])
    loss = jax.jit(method.loss)
    total, weight, after, _ = loss(params, state, batch, KEY)
    assert weight == 3 * 12 * 16 and np.isfinite(total)
    np.testing.assert_array_equal(after["intensity_range"], [80, 120])
    # Beyond the range of training the image is clipped, as it is in use.
    far, farther = ({**batch, "image": np.full_like(batch["image"], value)} for value in (200, 300))
    assert loss(params, state, far, KEY)[0] == loss(params, state, farther, KEY)[0] != total
    undecided = {**batch, "entropy": np.ones_like(batch["entropy"])}
    assert tuple(map(float, loss(params, state, undecided, KEY)[:2])) == (0, 0)


def test_hidden_labels_change_nothing_and_the_image_under_them_does(trained):
    _, params, state, batch = trained
    apply = mae_image.refiner(SETTINGS)
    refine = jax.jit(apply.refine)
    assert apply.needs == ("image",) and not apply.sees_hidden
    hidden = np.repeat(np.repeat(np.random.default_rng(1).random((3, 4, 6)) < 0.4, 4, 1), 4, 2)
    hidden[2] = True
    given = {name: batch[name] for name in ("labels", "entropy", "image")} | {"hidden": hidden}
    one = np.asarray(refine(params, state, given, KEY))
    np.testing.assert_allclose(one.sum(-1), 1, atol=1e-5)
    other = {**given, "labels": np.where(hidden, 2 - given["labels"], given["labels"])}
    np.testing.assert_array_equal(refine(params, state, other, KEY), one)
    other = {**given, "image": np.where(hidden, 200 - given["image"], given["image"])}
    assert (np.asarray(refine(params, state, other, KEY)) != one).any()
    for share in (False, True):
        extreme = {**given, "hidden": np.full_like(hidden, share)}
        assert np.isfinite(refine(params, state, extreme, KEY)).all()


def test_evaluate_and_preview_show_the_image(trained):
    method, params, state, batch = trained
    assert set(jax.eval_shape(method.evaluate, params, state, batch)) == {
        "loss", "accuracy", "dice_background", "dice_shell", "dice_inside"
    }  # fmt: skip
    assert set(jax.eval_shape(method.preview, params, state, batch)) == {
        "image", "input", "hidden", "prediction", "truth"
    }  # fmt: skip
