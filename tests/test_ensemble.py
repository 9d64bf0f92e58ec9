import jax
import numpy as np
import pytest

from maeref_jax.segmenters import ensemble

SETTINGS = {
    "members": 3,
    "window": (16, 16),
    "stride": (8, 8),
    "classes": {"names": ("background", "inside", "ambiguous"), "ambiguous": 2},
    "class_weights": (1.0, 1.0, 1.0),
    "model": {"widths": (4, 4), "strides": ((2, 2),), "norm": "group", "compute_dtype": "float32", "remat": False},
}


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(100, 10, (2, 3, 16, 16)).astype(np.float32),
        "labels": rng.integers(-1, 3, (2, 3, 16, 16)).astype(np.int16),
        "index": np.arange(2, dtype=np.int32),
        "shared": {"intensity_range": np.array([80, 120], np.float32)},
    }
    method = ensemble.method(SETTINGS)
    params, state = jax.jit(method.init)(jax.random.key(0), batch)
    return method, params, state, batch


def test_members_start_differently_and_predict_probabilities(trained):
    _, params, state, batch = trained
    segmenter = ensemble.segmenter(SETTINGS)
    probabilities = np.asarray(jax.jit(segmenter.predict)(params, state, batch["image"][:, 0]))
    assert probabilities.shape == (3, 2, 16, 16, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert np.abs(probabilities[0] - probabilities[1]).max() > 1e-3


def test_a_member_of_the_tree_equals_that_unet_alone(trained):
    _, params, state, batch = trained
    predict = jax.jit(ensemble.segmenter(SETTINGS).predict)
    together = predict(params, state, batch["image"][:, 0])
    alone = predict(ensemble.select_members(params, [1]), state, batch["image"][:, 0])
    np.testing.assert_allclose(together[1], alone[0], atol=1e-6)


def test_unrolled_members_equal_vmapped_ones(trained):
    _, params, _, batch = trained
    net, x = ensemble.network(SETTINGS), batch["image"][:, 0, ..., None]
    unrolled = ensemble.map_members(lambda member: net.apply({"params": member}, x), params)
    vmapped = jax.vmap(lambda member: net.apply({"params": member}, x))(params)
    np.testing.assert_allclose(unrolled, vmapped, atol=2e-4)


def test_unknown_pixels_do_not_count(trained):
    method, params, state, batch = trained
    loss = jax.jit(method.loss)
    sums, weight, _, _ = loss(params, state, batch, jax.random.key(0))
    np.testing.assert_array_equal(weight, (batch["labels"] >= 0).sum((0, 2, 3)))
    nothing = {**batch, "labels": np.full_like(batch["labels"], -1)}
    sums, weight, _, _ = loss(params, state, nothing, jax.random.key(0))
    assert (np.asarray(sums) == 0).all() and (np.asarray(weight) == 0).all()


def test_intensities_are_clipped_to_the_range_of_training():
    scaled = ensemble.normalised(np.array([0.0, 80.0, 100.0, 500.0]), np.array([80.0, 120.0]))
    np.testing.assert_allclose(scaled, [0, 0, 0.5, 1])
