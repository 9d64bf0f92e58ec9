"""masked_training.py with fillers in closed form: what is hidden, what counts, how a Filler becomes a Refiner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.refiners import masked_training
from maeref_jax.refiners.masked_training import Filler

SETTINGS = {
    "token": 2, "window": (8, 12), "stride": (8, 12), "threshold": 0.4, "train_threshold": 0.1, "loss_over": "hidden",
    "classes": {"names": ("a", "b", "c", "ambiguous"), "ambiguous": 3}, "class_weights": (1.0, 2.0, 1.0),
    "mask_shapes": (1.0, 0.0, 0.0), "curriculum": 0.0, "use": {"symmetries": False, "rounds": 1, "samples": 0},
}  # fmt: skip
KEY = jax.random.key(0)


def init(key, tokens, hidden, grid, given):
    return {"bias": jnp.zeros(3)}, {}


def logits(params, state, tokens, hidden, grid, given, lengths):
    """How often each class is visible in the window, of every token alike; brighter places are class 2 rather."""
    counts = jnp.stack([(tokens == c).sum((1, 2)) for c in range(3)], -1) / 10.0 + params["bias"]
    found = jnp.broadcast_to(counts[:, None, None], (*tokens.shape, 3))
    if "image" in given:
        found = found.at[..., 2].add(masked_training.split_tokens(given["image"], 2))
    return found, jnp.ones_like(hidden)


PLAIN = Filler(init, logits)


def batch(count=6, **changes):
    rng = np.random.default_rng(0)
    given = {
        "labels": rng.integers(0, 3, (2, 8, 12)).astype(np.int16),
        "entropy": np.zeros((2, 8, 12), np.float32),
        "index": np.arange(2, dtype=np.int32),
        "shared": {"hidden_count": np.int32(count), "slots": np.arange(24, dtype=np.int32)},
    }
    return given | changes


def trained(filler=PLAIN, **changes):
    method = masked_training.method(SETTINGS | changes, filler, 3)
    return method, *method.init(KEY, batch())


def test_the_loss_is_the_weighted_one_of_the_hidden_pixels():
    method, params, state = trained()
    given = batch()
    total, weight, _, logs = method.loss(params, state, given, KEY)
    hidden = masked_training.hidden_in_training(SETTINGS, given, KEY, masked_training.split_tokens(given["labels"], 2),
                                                (4, 6))  # fmt: skip
    assert (np.asarray(hidden).sum(1) == 6).all() and int(logs["accuracy"][1]) == 2 * 6 * 4
    expected_sum = expected_weight = 0.0
    for labels, masked in zip(
        np.asarray(masked_training.split_tokens(given["labels"], 2)), np.asarray(hidden), strict=True
    ):
        counts = np.array([(labels[~masked] == c).sum() for c in range(3)]) / 10.0
        log_likelihood = counts - np.log(np.exp(counts).sum())
        for label in labels[masked].ravel():
            expected_weight += SETTINGS["class_weights"][label]
            expected_sum -= SETTINGS["class_weights"][label] * log_likelihood[label]
    np.testing.assert_allclose([total, weight], [expected_sum, expected_weight], rtol=1e-5)


@pytest.mark.parametrize("changes", [{"entropy": np.full((2, 8, 12), 0.1, np.float32)},
                                     {"labels": np.full((2, 8, 12), 3, np.int16)},
                                     {"labels": np.full((2, 8, 12), -1, np.int16)}])  # fmt: skip
def test_pixels_that_do_not_count_cost_nothing(changes):
    method, params, state = trained()
    assert method.loss(params, state, batch(), KEY)[1] > 0
    total, weight, _, _ = method.loss(params, state, batch(**changes), KEY)
    assert total == 0 and weight == 0


def test_undecided_tokens_are_hidden_and_every_sample_draws_by_its_number():
    method, params, state = trained()
    entropy = np.zeros((2, 8, 12), np.float32)
    entropy[:, :2, :2] = 0.9
    same = np.repeat(batch()["labels"][:1], 2, 0)
    hidden = np.asarray(method.preview(params, state, batch(labels=same, entropy=entropy))["hidden"])
    assert hidden[:, :2, :2].all() and (hidden[0] != hidden[1]).any()
    second = {name: value if name == "shared" else value[1:] for name, value in batch(labels=same).items()}
    alone = method.preview(params, state, second)["hidden"]
    np.testing.assert_array_equal(alone[0], method.preview(params, state, batch(labels=same))["hidden"][1])


def test_a_curriculum_draws_what_it_is_said_to_draw_at_its_end():
    def hidden(progress=1.0, **changes):
        method, given = masked_training.method(SETTINGS | {"mask_shapes": (0.0, 1.0, 0.0)} | changes, PLAIN, 3), batch()
        given["shared"] |= {"progress": np.float32(progress)}
        return np.asarray(method.preview(*method.init(KEY, given), given)["hidden"])

    np.testing.assert_array_equal(hidden(0.6, curriculum=0.5), hidden())
    assert (hidden(0.0, curriculum=0.5) != hidden()).any()


def test_masks_in_shapes_count_as_many_pixels_and_are_each_samples_own():
    method = masked_training.method(SETTINGS | {"mask_shapes": (1.0, 1.0, 1.0)}, PLAIN, 3)
    given = batch(donor=np.random.default_rng(2).random((2, 8, 12)).astype(np.float32))
    params, state = method.init(KEY, given)
    assert int(method.loss(params, state, given, KEY)[3]["accuracy"][1]) == 2 * 6 * 4
    hidden = np.asarray(method.preview(params, state, given)["hidden"])
    assert (hidden[0] != hidden[1]).any()


def test_dice_is_that_of_hidden_pixels_that_count():
    method, params, state = trained()
    found = method.evaluate({"bias": jnp.array([0.0, 99.0, 0.0])}, state, batch())
    labels, shown = batch()["labels"], method.preview(params, state, batch())["hidden"]
    wanted = (labels[np.asarray(shown)] == 1).sum()
    assert found["dice_b"] == (2 * wanted, 2 * 6 * 4 + wanted) and found["dice_a"][0] == 0
    assert set(found) == {"loss", "accuracy", "dice_a", "dice_b", "dice_c"}


@pytest.mark.parametrize("use", [{}, {"symmetries": True}, {"rounds": 2}, {"rounds": 2, "samples": 2}])
def test_no_label_under_a_hidden_token_reaches_a_filler_in_use_and_planes_beside_them_do(use):
    settings = SETTINGS | {"use": SETTINGS["use"] | use}
    filler = PLAIN._replace(needs=("image",))
    apply = masked_training.refiner(settings, filler)
    assert apply.needs == ("image",) and not apply.sees_hidden
    hidden = np.zeros((2, 8, 12), bool)
    hidden[:, 2:6, 2:8] = True
    image = np.zeros((2, 8, 12), np.float32)
    image[:, 3, 3] = 100.0
    given = batch() | {"hidden": hidden, "image": image}
    other = {**given, "labels": np.where(hidden, 2 - given["labels"], given["labels"])}
    one, two = (np.asarray(apply.refine({"bias": jnp.zeros(3)}, {}, inputs, KEY)) for inputs in (given, other))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one.sum(-1), 1, atol=1e-5)
    assert (one[:, 3, 3, 2] > 0.99).all(), "the image lies where the labels lie, however they are turned"
    assert (one[:, 4, 4].argmax(-1) == one[:, 5, 5].argmax(-1)).all() or use.get("samples")


def test_a_filler_by_the_originals_rules_sees_them_and_says_so():
    apply = masked_training.refiner(SETTINGS, PLAIN._replace(original=True))
    assert apply.sees_hidden
    hidden = np.ones((2, 8, 12), bool)
    given = batch() | {"hidden": hidden}
    other = {**given, "labels": np.full_like(given["labels"], 1)}
    one, two = (np.asarray(apply.refine({"bias": jnp.zeros(3)}, {}, inputs, KEY)) for inputs in (given, other))
    assert (one != two).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_over": "all"}, "hidden or near"),
        ({"mask_shapes": (1.0, 0.0)}, "mask_shapes"),
        ({"mask_shapes": (0.0, 0.0, 0.0)}, "mask_shapes"),
        ({"class_weights": (1.0, 1.0)}, "3 weights"),
    ],
)
def test_settings_that_no_training_can_work_with(changes, message):
    with pytest.raises(BadInput, match=message):
        trained(**changes)


def test_a_use_that_means_nothing_is_refused():
    with pytest.raises(BadInput, match="rounds"):
        masked_training.refiner(SETTINGS | {"use": {"symmetries": False, "rounds": 0, "samples": 0}}, PLAIN)
