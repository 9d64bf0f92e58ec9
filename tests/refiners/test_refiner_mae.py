"""refiners/mae.py: what is hidden stays hidden, what does not count does not count."""

import jax
import numpy as np
import pytest
from small_settings import MASKED, batch_of

from maeref_jax.errors import BadInput
from maeref_jax.masking import filling
from maeref_jax.refiners import mae

TOKENS = 4 * 6


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    batch = {
        "labels": rng.integers(0, 3, (3, 16, 24)).astype(np.int16),
        "entropy": np.zeros((3, 16, 24), np.float32),
        "index": np.arange(3, dtype=np.int32),
        "shared": {"hidden_count": np.int32(12), "slots": np.arange(16, dtype=np.int32)},
    }
    method = mae.method(MASKED)
    params, state = jax.jit(method.init)(jax.random.key(0), batch)
    return method, params, state, batch


@pytest.fixture(scope="module")
def refine():
    return jax.jit(mae.refiner(MASKED).refine)


def window(rng, b=1):
    labels = rng.integers(0, 3, (b, 16, 24)).astype(np.int16)
    hidden = np.repeat(np.repeat(rng.random((b, 4, 6)) < 0.4, 4, 1), 4, 2)
    return {"labels": labels, "entropy": np.zeros(labels.shape, np.float32), "hidden": hidden}


def test_a_hidden_label_changes_no_output_bit(trained, refine):
    _, params, state, _ = trained
    rng = np.random.default_rng(1)
    inputs = window(rng)
    other = {**inputs, "labels": np.where(inputs["hidden"], 2 - inputs["labels"], inputs["labels"])}
    assert (other["labels"] != inputs["labels"]).any()
    one, two = (refine(params, state, given, jax.random.key(0)) for given in (inputs, other))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(np.asarray(one).sum(-1), 1, atol=1e-5)
    assert one.shape == (1, 16, 24, 3)


def test_a_visible_label_does_change_the_output(trained, refine):
    _, params, state, _ = trained
    inputs = window(np.random.default_rng(1))
    other = {**inputs, "labels": np.where(inputs["hidden"], inputs["labels"], 2 - inputs["labels"])}
    one, two = (refine(params, state, given, jax.random.key(0)) for given in (inputs, other))
    assert (one != two).any()


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["nothing hidden", "all hidden"])
def test_extreme_windows_are_defined(trained, refine, share):
    _, params, state, _ = trained
    inputs = window(np.random.default_rng(2))
    inputs["hidden"] = np.full_like(inputs["hidden"], share == 1.0)
    assert np.isfinite(refine(params, state, inputs, jax.random.key(0))).all()


def test_undecided_and_ambiguous_pixels_do_not_count_and_an_empty_batch_costs_nothing(trained):
    method, params, state, batch = trained
    loss = jax.jit(method.loss)
    _, everything, _, _ = loss(params, state, batch, jax.random.key(0))
    undecided = {**batch, "entropy": np.full_like(batch["entropy"], 0.1)}
    total, weight, _, _ = loss(params, state, undecided, jax.random.key(0))
    assert everything > 0 and weight == 0 and total == 0
    ambiguous = {**batch, "labels": np.full_like(batch["labels"], 3)}
    assert loss(params, state, ambiguous, jax.random.key(0))[1] == 0


def test_a_label_without_a_class_is_no_context_either(trained):
    method, params, state, batch = trained
    preview, found = jax.jit(method.preview), []
    for unknown in (-1, 3, 7):
        labels = np.where(batch["labels"] == 2, unknown, batch["labels"])
        found.append(preview(params, state, {**batch, "labels": labels.astype(np.int16)}))
    for other in found[1:]:
        for name in found[0]:
            np.testing.assert_array_equal(found[0][name], other[name])


def test_an_unknown_token_is_hidden_where_it_is_undecided_as_in_use(trained):
    method, params, state, batch = trained
    labels, entropy = batch["labels"].copy(), batch["entropy"].copy()
    labels[:, :8, :4] = -1
    entropy[:, :4, :4] = 1.0
    given = {**batch, "labels": labels, "entropy": entropy}
    hidden = np.asarray(jax.jit(method.preview)(params, state, given)["hidden"])
    assert hidden[:, :4, :4].all() and not hidden[:, 4:8, :4].any()


def test_the_loss_counts_the_hidden_pixels_and_every_sample_has_its_own_mask(trained):
    method, params, state, batch = trained
    _, weight, _, _ = jax.jit(method.loss)(params, state, batch, jax.random.key(0))
    assert weight == 3 * 12 * 16
    same = {**batch, "labels": np.repeat(batch["labels"][:1], 3, 0)}
    hidden = np.asarray(jax.jit(method.preview)(params, state, same)["hidden"])
    assert (hidden[0] != hidden[1]).any() and (hidden[1] != hidden[2]).any()


def test_a_token_of_high_entropy_is_never_context(trained):
    method, params, state, batch = trained
    entropy = batch["entropy"].copy()
    entropy[:, :4, :4] = 0.9
    hidden = np.asarray(jax.jit(method.preview)(params, state, {**batch, "entropy": entropy})["hidden"])
    assert hidden[:, :4, :4].all()


def changed(**changes):
    return {**MASKED, **changes}


@pytest.mark.parametrize(("token", "classes", "window"), [(3, 255, (9, 6)), (1, 2, (4, 5))])
def test_any_token_side_number_of_classes_and_window(token, classes, window):
    names = tuple(f"class {i}" for i in range(classes))
    given = changed(
        token=token, window=window, stride=window, classes={"names": names, "ambiguous": -1},
        class_weights=(1.0,) * classes,
    )  # fmt: skip
    method, batch = mae.method(given), batch_of(token, classes, window, 3)
    params, state = jax.jit(method.init)(jax.random.key(0), batch)
    total, weight, _, _ = jax.jit(method.loss)(params, state, batch, jax.random.key(0))
    assert np.isfinite(total) and weight == 2 * 3 * token**2
    hidden = np.zeros((2, *window), bool)
    hidden[:, :token, :token] = True
    inputs = {"labels": batch["labels"], "entropy": batch["entropy"], "hidden": hidden}
    found = jax.jit(mae.refiner(given).refine)(params, state, inputs, jax.random.key(0))
    assert found.shape == (2, *window, classes)
    np.testing.assert_allclose(np.asarray(found).sum(-1), 1, atol=1e-4)


def test_the_loss_may_be_over_all_near_tokens(trained):
    _, params, state, batch = trained
    method, near = (mae.method(changed(loss_over=over, keep_within=float("inf"))) for over in ("hidden", "near"))
    _, weight, _, _ = jax.jit(near.loss)(params, state, batch, jax.random.key(0))
    assert weight == 3 * TOKENS * 16
    hidden_only = jax.device_get(jax.jit(method.evaluate)(params, state, batch))
    everything = jax.device_get(jax.jit(near.evaluate)(params, state, batch))
    assert everything["loss"][1] == 2 * hidden_only["loss"][1]
    # Dice is judged inside hidden tokens either way.
    assert everything["dice_inside"][1] == hidden_only["dice_inside"][1]


@pytest.mark.parametrize("use", [{"symmetries": True}, {"rounds": 3}, {"rounds": 2, "samples": 2}])
def test_however_it_fills_hidden_stays_hidden_and_what_is_defined_stays_defined(trained, use):
    _, params, state, _ = trained
    refine = jax.jit(mae.refiner(changed(use=MASKED["use"] | use)).refine)
    inputs = window(np.random.default_rng(1), 2)
    inputs["hidden"][1] = True
    other = {**inputs, "labels": np.where(inputs["hidden"], 2 - inputs["labels"], inputs["labels"])}
    one, two = (np.asarray(refine(params, state, given, jax.random.key(0))) for given in (inputs, other))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one.sum(-1), 1, atol=1e-5)


def test_a_window_without_foreground_and_one_that_is_all_hidden_are_defined(trained, refine):
    _, params, state, _ = trained
    inputs = {**window(np.random.default_rng(3), 2), "labels": np.zeros((2, 16, 24), np.int16)}
    inputs["hidden"][1] = True
    found = np.asarray(refine(params, state, inputs, jax.random.key(0)))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    # Nothing is near: background far from any foreground is no context, and neither is what kind of "nothing" it is.
    unknown = {**inputs, "labels": np.full((2, 16, 24), -1, np.int16)}
    np.testing.assert_array_equal(np.asarray(refine(params, state, unknown, jax.random.key(0))), found)


def different_windows(rng, count, window, classes=3):
    """Windows of which nothing to everything is hidden and foreground, some with unknown places."""
    rows, columns = window[0] // 4, window[1] // 4

    def tokens(share):
        return (rng.random((count, rows, columns)) < share[:, None, None]).repeat(4, 1).repeat(4, 2)

    labels = np.where(tokens(np.linspace(0, 1, count) ** 3), rng.integers(1, classes, (count, *window)), 0)
    labels = np.where(tokens(np.full(count, 0.05)), -1, labels).astype(np.int16)
    hidden = tokens(rng.permutation(np.linspace(0, 1, count)))
    # One row of foreground: where tokens are flat, it is near to more of them when it stands upright.
    labels[-1], labels[-1, 4:8], hidden[-1], hidden[-1, 4:8, :4] = 0, 1, False, True
    return {"labels": labels, "entropy": np.zeros(labels.shape, np.float32), "hidden": hidden}


ORIGINAL = {"original": {"rules": True, "keep": 0.6}, "class_weights": (1.0,) * 4}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use": {"symmetries": True, "rounds": 1, "samples": 0}, "window": (16, 16), "keep_within_nm": 30.0},
        {"use": {"symmetries": False, "rounds": 2, "samples": 2}},
        ORIGINAL | {"use": {"symmetries": False, "rounds": 2, "samples": 0}},
    ],
    ids=["plain", "symmetries of flat tokens", "rounds of samples", "original, rounds"],
)
def test_a_window_at_its_own_lengths_is_filled_in_as_at_full_length(trained, monkeypatch, changes):
    # Mirrored too, but not all eight ways of it: every one is compiled.
    monkeypatch.setattr(filling, "orientations", lambda shape: (0, 7))
    given = changed(voxel_size_nm=(50.0, 8.0, 4.0), **{"keep_within": 1.0} | changes)
    apply, count = mae.refiner(given), 24
    window, params, state = given["window"], *trained[1:3]
    inputs = different_windows(np.random.default_rng(5), count, window)
    if given["original"]["rules"]:  # a network of one class more
        params, state = jax.jit(mae.method(given).init)(jax.random.key(0), batch_of(4, 3, window, 3))
    else:
        inputs["labels"] = np.where(inputs["hidden"], -1, inputs["labels"]).astype(np.int16)
    lengths = np.asarray(jax.jit(apply.lengths)(inputs["labels"], inputs["hidden"]))
    assert len(np.unique(lengths, axis=0)) > 2 or given["original"]["rules"]
    full = np.asarray(jax.jit(apply.refine)(params, state, inputs, jax.random.key(0)))
    # The shortest program that fills in anything, where what is missing would show.
    some = np.unique(lengths[inputs["hidden"].any((1, 2))], axis=0)[0]
    chosen = (lengths == some).all(1)
    group = {name: values[chosen] for name, values in inputs.items()}
    refine = jax.jit(apply.refine, static_argnums=4)
    found = np.asarray(refine(params, state, group, jax.random.key(0), tuple(some.tolist())))
    assert np.abs(found - full[chosen])[group["hidden"]].max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_over": "all"}, "hidden or near"),
        ({"original": {"rules": True, "keep": 0.0}, "class_weights": (1.0,) * 4}, "keep"),
    ],
)
def test_settings_that_no_training_can_work_with(changes, message):
    with pytest.raises(BadInput, match=message):
        mae.method(changed(**changes))
