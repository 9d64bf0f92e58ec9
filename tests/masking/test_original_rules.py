"""original_rules.py and the rules of the original in refiners/mae.py, and the size of configs/mae_original.py."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from maeref_jax.commands.command_line import load_config
from maeref_jax.masking import original_rules
from maeref_jax.refiners import mae

TINY = {"encoder_width": 16, "encoder_depth": 1, "encoder_heads": 1, "decoder_width": 8, "decoder_depth": 1}
TINY |= {"decoder_heads": 2}


@pytest.fixture(scope="module")
def settings(root):
    config = load_config(f"{root / 'configs' / 'mae_original.py'}")
    config.model.update(TINY)
    return {**config.to_dict(), "window": (32, 32), "stride": (16, 16)}


@pytest.fixture(scope="module")
def trained(settings):
    labels = np.zeros((2, 32, 32), np.int16)
    labels[:, 4:14, 6:22] = np.random.default_rng(0).integers(1, 4, (2, 10, 16))
    batch = {
        "labels": labels,
        "entropy": np.zeros((2, 32, 32), np.float32),
        "index": np.arange(2, dtype=np.int32),
        "shared": {"hidden_count": np.int32(32), "slots": np.arange(39, dtype=np.int32)},
    }
    method = mae.method(settings)
    params, _ = jax.jit(method.init)(jax.random.key(0), batch)
    return method, params, batch


def test_the_counts_of_the_paper():
    assert original_rules.near_count(1024, 0.7) == 716
    counts = [original_rules.visible_count(1024, 0.7, ratio) for ratio in (0.1, 0.25, 0.5, 0.75, 0.9)]
    assert counts == [645, 537, 358, 179, 71]
    assert original_rules.visible_counts(1024, 0.7)[[256, 512, 768]].tolist() == [537, 358, 179]


def test_the_paper_size_model_has_the_originals_number_of_parameters(root):
    config = load_config(f"{root / 'configs' / 'mae_original.py'}").to_dict()
    net = mae.network(config)
    tokens, index, valid = np.zeros((1, 16, 16), int), np.zeros((1, 4), int), np.ones((1, 4), bool)
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), tokens, (4, 4), index, valid, index, valid))["params"]
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in params.items()}
    assert sum(sizes.values()) == 2_105_232
    assert sum(sizes[name] for name in ("embed", "class_token", "encoder")) == 1_857_280
    assert config["optimizer"]["rate"] == 1.5e-4 and config["optimizer"]["schedule"] == "constant"
    assert config["optimizer"]["weight_decay"] == 1e-5 and config["batch"] == 256 and not config["optimizer"]["clip"]


def test_initial_parameters_follow_the_originals_rules(settings):
    big = {**settings, "model": {**settings["model"], "encoder_width": 128}}
    net = mae.network(big)
    tokens, index, valid = np.zeros((1, 16, 16), int), np.zeros((1, 4), int), np.ones((1, 4), bool)
    init = jax.jit(lambda key: net.init(key, tokens, (4, 4), index, valid, index, valid)["params"])
    params = jax.device_get(init(jax.random.key(0)))
    for leaf, bound in (
        (params["embed"]["kernel"], (6 / (128 + 16)) ** 0.5),
        (params["embed"]["bias"], 0.25),
        (params["encoder"]["blocks"]["qkv"]["kernel"], (6 / (4 * 128)) ** 0.5),
    ):
        assert 0.9 * bound < np.abs(leaf).max() <= bound and abs(leaf.mean()) < 0.2 * bound
    assert not params["encoder"]["blocks"]["qkv"]["bias"].any() and not params["to_decoder"]["bias"].any()
    assert 0.015 < params["class_token"].std() < 0.025


@pytest.mark.parametrize("shape", [(12, 20), (17, 9)])
def test_distance_is_the_euclidean_distance_transform(shape):
    labels = (np.random.default_rng(1).random((3, *shape)) < 0.03).astype(np.int32) * 2
    labels[2] = 0
    labels[1, 0, 0] = 3
    found = np.asarray(original_rules.foreground_distance(labels))
    for plane, distance in zip(labels[:2], found[:2], strict=True):
        np.testing.assert_allclose(distance, ndimage.distance_transform_edt(plane == 0), rtol=1e-6)
    np.testing.assert_array_equal(found[2], sum(shape))


def test_ties_go_by_index_and_far_tokens_are_never_visible():
    distance = np.array([[2.0, 1, 2, 1, 2, 0, 2, 2, 2, 2]])
    near = np.asarray(original_rules.near(distance, 0.5))
    assert np.flatnonzero(near[0]).tolist() == [0, 1, 2, 3, 5]
    noise = np.array([[0.5, 0.5, 0.9, 0.5, 0, 0.7, 0, 0, 0, 0]])
    assert np.flatnonzero(original_rules.visible(noise, near, 2)[0]).tolist() == [0, 1]


def test_training_shows_the_right_number_of_near_tokens_to_the_encoder(settings, trained):
    method, params, batch = trained
    shown = jax.jit(method.preview)(params, {}, batch)
    hidden = np.asarray(shown["hidden"])[:, ::4, ::4].reshape(2, -1)
    near = np.asarray(mae.near_by_rank(settings, batch["labels"].astype(np.int32)))
    assert (near.sum(1) == 44).all() and not hidden[~near].any()
    assert (hidden.sum(1) == 44 - 22).all() and (hidden[0] != hidden[1]).any()


def test_the_loss_is_over_all_near_tokens_and_undecided_pixels_do_not_count(trained):
    method, params, batch = trained
    loss = jax.jit(method.loss)
    _, weight, _, logs = loss(params, {}, batch, jax.random.key(0))
    assert int(logs["accuracy"][1]) == 2 * 44 * 16 and weight > 0
    for entropy, counts in ((0.1, 2 * 44 * 16), (0.11, 0)):
        given = {**batch, "entropy": np.full((2, 32, 32), entropy, np.float32)}
        total, weight, _, logs = loss(params, {}, given, jax.random.key(0))
        assert int(logs["accuracy"][1]) == counts and np.isfinite(total)
    assert total == 0 and weight == 0


def test_in_use_only_its_distance_rule_sees_hidden_labels_and_far_hidden_tokens_are_background(settings, trained):
    _, params, batch = trained
    refine = jax.jit(mae.refiner(settings).refine)
    hidden = np.zeros((2, 32, 32), bool)
    hidden[:, 8:16, 8:20] = hidden[:, 24:, 24:] = True
    one = {"labels": batch["labels"], "entropy": batch["entropy"], "hidden": hidden}
    foreground = hidden & (batch["labels"] > 0)
    other = {**one, "labels": np.where(foreground, 4 - batch["labels"], batch["labels"])}
    assert (one["labels"] != other["labels"]).any()
    found = [np.asarray(refine(params, {}, given, jax.random.key(0))) for given in (one, other)]
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (2, 32, 32, 4)  # never "ambiguous"
    np.testing.assert_array_equal(found[0][:, 24:, 24:, 0], 1)
    gone = {**one, "labels": np.where(foreground, 0, batch["labels"])}
    assert (np.asarray(refine(params, {}, gone, jax.random.key(0))) != found[0]).any()


def test_a_window_without_foreground_is_defined(settings, trained):
    _, params, batch = trained
    refine = jax.jit(mae.refiner(settings).refine)
    for share in (0.0, 1.0):
        hidden = np.full((2, 32, 32), share == 1.0)
        given = {"labels": batch["labels"] * 0, "entropy": batch["entropy"], "hidden": hidden}
        assert np.isfinite(refine(params, {}, given, jax.random.key(0))).all()
