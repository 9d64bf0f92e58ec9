import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_settings import ENSEMBLE, NOTHING, VARIED

from maeref_jax.errors import BadInput
from maeref_jax.samples.intensities import normalised
from maeref_jax.segmenters import ensemble
from maeref_jax.uncertainty.foreground import shifted

SETTINGS = ENSEMBLE
KEY = jax.random.key(5)


def of_members(batch, members):
    """What an ensemble of some members only would be given."""
    chosen = {name: batch[name][:, members] for name in ("image", "labels")}
    return {**batch, **chosen, "shared": {**batch["shared"], "members": batch["shared"]["members"][members]}}


MEASURES = ("dice", "precision", "recall")


def judged(batch):
    """The same as it is evaluated: every member sees the images of the first."""
    return {**batch, "image": batch["image"][:, 0], "labels": batch["labels"][:, 0]}


def gradients(settings, params, state, batch):
    """((gradients, sums, weights), batch statistics) of one step."""

    found, (sums, weight, statistics) = compiled(json.dumps(settings))(params, state, batch)
    return (found, sums, weight), statistics


@cache
def compiled(settings):
    loss = ensemble.method(json.loads(settings)).loss

    def total(params, state, batch):
        sums, weight, state_after, _ = loss(params, state, batch, KEY)
        return sums.sum(), (sums, weight, state_after["batch_stats"])

    return jax.jit(jax.grad(total, has_aux=True))


def assert_close(a, b, atol=1e-5, rtol=1e-4):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=rtol), a, b)


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(100, 10, (2, 3, 8, 8)).astype(np.float32),
        "labels": rng.integers(-1, 3, (2, 3, 8, 8)).astype(np.int16),
        "index": np.arange(2, dtype=np.int32),
        "shared": {"intensity_range": np.array([80, 120], np.float32), "members": np.arange(3, dtype=np.int32)},
    }
    method = ensemble.method(SETTINGS)
    params, state = method.init(jax.random.key(0), batch)
    return method, params, state, batch


def test_members_start_differently_and_predict_probabilities(trained):
    _, params, state, batch = trained
    segmenter = ensemble.segmenter(SETTINGS)
    probabilities = np.asarray(jax.jit(segmenter.predict)(params, state, batch["image"][:, 0]))
    assert probabilities.shape == (3, 2, 8, 8, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert np.abs(probabilities[0] - probabilities[1]).max() > 1e-3


def test_a_member_of_the_tree_is_that_unet_alone_in_use(trained):
    _, params, state, batch = trained
    state = {**state, "batch_stats": jax.tree.map(lambda x: x + jnp.arange(3.0)[:, None], state["batch_stats"])}
    together = jax.jit(ensemble.segmenter(SETTINGS).predict)(params, state, batch["image"][:, 0])
    one, own = jax.tree.map(lambda x: x[1], (params, state["batch_stats"]))
    x = normalised(batch["image"][:, 0], state["intensity_range"])[..., None]
    logits = jax.jit(ensemble.network(SETTINGS).apply)({"params": one, "batch_stats": own}, x)
    np.testing.assert_allclose(together[1], jax.nn.softmax(logits), atol=1e-5)
    predict = jax.jit(ensemble.segmenter(SETTINGS).predict)
    alone = predict(*ensemble.select_members(params, state, [1]), batch["image"][:, 0])
    np.testing.assert_allclose(together[1], alone[0], atol=1e-6)


def test_a_member_of_the_tree_is_that_unet_alone_in_training_and_another_one_does_not_reach_it(trained):
    _, params, state, batch = trained
    settings = {**SETTINGS, "augmentation": VARIED, "loss": "cross_entropy+dice"}
    together = gradients(settings, params, state, batch)
    alone = gradients({**settings, "members": 1}, *ensemble.select_members(params, state, [1]), of_members(batch, [1]))
    assert_close(jax.tree.map(lambda x: x[1:2], together), alone, atol=3e-5)  # a bias before a norm has no gradient
    disturbed = {**batch, "image": batch["image"].copy(), "labels": batch["labels"].copy()}
    disturbed["image"][:, 2] += 30
    disturbed["labels"][:, 2] = 0
    other = gradients(settings, params, state, disturbed)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:2], b[:2]), together, other)
    assert (np.asarray(together[0][1])[2] != np.asarray(other[0][1])[2]).all()


@pytest.mark.parametrize(("mapping", "chunk"), [("vmap", 0), ("scan", 0), ("unroll", 2), ("vmap", 2)])
def test_however_members_are_mapped_the_results_are_the_same(trained, mapping, chunk):
    _, params, state, batch = trained
    settings = {**SETTINGS, "member_mapping": mapping, "member_chunk": chunk}
    assert_close(gradients(settings, params, state, batch), gradients(SETTINGS, params, state, batch), atol=1e-4)
    image = batch["image"][:, 0]
    here, there = (jax.jit(ensemble.segmenter(s).predict)(params, state, image) for s in (settings, SETTINGS))
    np.testing.assert_allclose(here, there, atol=1e-5)


def test_scanned_and_chunked_members_keep_the_activations_of_no_member():
    def slow(x):
        for _ in range(5):
            x = jnp.sin(x)
        return x

    def kept(mapping, chunk):
        mapped = partial(ensemble.map_members, slow, mapping=mapping, chunk=chunk)
        _, backward = jax.vjp(mapped, jnp.ones((4, 1000)))
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    assert kept("unroll", 0) > 4 * kept("scan", 0) and kept("vmap", 0) > 4 * kept("vmap", 2)


def test_batch_statistics_of_a_member_follow_its_own_crops(trained):
    method, params, state, batch = trained
    _, _, after, _ = jax.jit(method.loss)(params, state, batch, KEY)
    before, after = (np.asarray(s["batch_stats"]["bottom"]["norm0"]["mean"]) for s in (state, after))
    assert before.shape == (3, 4) and (before == 0).all() and (after != 0).any()
    assert np.abs(after[0] - after[1]).max() > 1e-3


def test_augmentation_differs_between_members_and_samples_and_follows_a_sample_to_another_place(trained):
    _, params, state, batch = trained
    params, state = ensemble.select_members(params, state, [0, 0, 0])
    settings = {**SETTINGS, "augmentation": {**NOTHING, "noise": 0.3}}

    def sums(**changes):
        return np.asarray(gradients(settings, params, state, {**batch, **changes})[0][1])

    same = {name: np.broadcast_to(batch[name][:1, :1], batch[name].shape) for name in ("image", "labels")}
    assert len(set(sums(**same).tolist())) == 3, "members are varied alike"
    once, twice = (sums(**same, index=np.array(index, np.int32)) for index in ((0, 0), (0, 1)))
    assert (once != twice).all(), "samples are varied alike"
    swapped = {name: batch[name][::-1] for name in ("image", "labels", "index")}
    np.testing.assert_allclose(sums(), sums(**swapped), rtol=1e-5)


@pytest.mark.parametrize("loss", ensemble.LOSSES)
def test_unknown_pixels_do_not_count(trained, loss):
    _, params, state, batch = trained
    step = jax.jit(ensemble.method({**SETTINGS, "loss": loss}).loss)
    _, weight, _, _ = step(params, state, batch, KEY)
    np.testing.assert_array_equal(weight, (batch["labels"] >= 0).sum((0, 2, 3)))
    nothing = {**batch, "labels": np.full_like(batch["labels"], -1)}
    sums, weight, _, _ = step(params, state, nothing, KEY)
    assert (np.asarray(sums) == 0).all() and (np.asarray(weight) == 0).all()


def test_ambiguous_is_taught_as_a_class_as_unknown_or_to_every_other_member(trained):
    _, params, state, batch = trained
    batch = {**batch, "labels": np.repeat(batch["labels"][:, :1], 3, 1)}
    labels = batch["labels"]
    taught = {
        "class": np.stack([labels[:, i] >= 0 for i in range(3)]),
        "unknown": np.stack([(labels[:, i] >= 0) & (labels[:, i] != 2) for i in range(3)]),
    }
    taught["per_member"] = np.stack([taught["class" if i == 1 else "unknown"][i] for i in range(3)])
    losses, names = {}, {}
    for how, counted in taught.items():
        method = ensemble.method({**SETTINGS, "ambiguous_as": how})
        _, weight, _, _ = jax.jit(method.loss)(params, state, batch, KEY)
        np.testing.assert_array_equal(weight, counted.sum((1, 2, 3)))
        found = jax.jit(method.evaluate)(params, state, judged(batch))
        losses[how] = np.array([found[f"loss_member_{i}"] for i in range(3)])
        np.testing.assert_array_equal(losses[how][:, 1], counted.sum((1, 2, 3)))
        np.testing.assert_allclose(losses[how].sum(0), found["loss"], rtol=1e-6)
        names[how] = set(found)
    np.testing.assert_array_equal(losses["per_member"][1], losses["class"][1])
    np.testing.assert_array_equal(losses["per_member"][::2], losses["unknown"][::2])
    assert names["class"] == names["per_member"] == names["unknown"] | {f"{measure}_ambiguous" for measure in MEASURES}


def test_dice_precision_and_recall_are_counts_of_what_the_mean_decides_over_all_that_is_known(trained):
    method, params, state, batch = trained
    shown = judged(batch)
    probabilities = jax.jit(ensemble.segmenter(SETTINGS).predict)(params, state, shown["image"])
    decided, truth = np.asarray(probabilities).mean(0).argmax(-1), shown["labels"]
    found = jax.jit(method.evaluate)(params, state, shown)
    for i, name in enumerate(SETTINGS["classes"]["names"]):
        said, there = (decided == i) & (truth >= 0), truth == i
        both = (said & there).sum()
        assert tuple(found[f"precision_{name}"]) == (both, said.sum())
        assert tuple(found[f"recall_{name}"]) == (both, there.sum())
        assert tuple(found[f"dice_{name}"]) == (2 * both, said.sum() + there.sum())


def test_how_a_member_is_taught_is_by_its_own_number():
    settings = {**SETTINGS, "members": 5, "ambiguous_as": "per_member"}
    assert ensemble.ambiguous_taught(settings) == ["unknown", "class", "unknown", "class", "unknown"]
    with pytest.raises(BadInput, match="at least 2 members"):
        ensemble.ambiguous_taught({**settings, "members": 1})
    with pytest.raises(BadInput, match="ambiguous_as must be one of"):
        ensemble.method({**settings, "ambiguous_as": "nothing"})


def logits_and_labels():
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, 3, (4, 6, 6))
    labels[0] = np.where(labels[0] == 2, 1, labels[0])  # a crop that lacks a class
    return rng.normal(size=(4, 6, 6, 3)).astype(np.float32), labels


def test_losses_are_what_a_book_says():
    logits, labels = logits_and_labels()
    weights = np.array([1.0, 2.0, 0.5], np.float32)
    found = {
        kind: np.divide(*ensemble.segmentation_loss(kind, logits, labels, jnp.asarray(weights)))
        for kind in ensemble.LOSSES
    }
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    total, weight, dice_total = 0.0, 0.0, 0.0
    for p, y in zip(probabilities, labels, strict=True):
        own = weights[y[y >= 0]]
        total -= (own * np.log(np.take_along_axis(p[y >= 0], y[y >= 0][:, None], 1)[:, 0])).sum()
        weight += own.sum()
        parts = [
            (weights[c], 1 - 2 * p[y == c][:, c].sum() / (p[y >= 0][:, c].sum() + (y == c).sum()))
            for c in range(3)
            if (y == c).any()
        ]
        dice_total += own.sum() * sum(w * d for w, d in parts) / sum(w for w, _ in parts)
    assert np.isclose(found["cross_entropy"], total / weight, rtol=1e-5)
    assert np.isclose(found["dice"], dice_total / weight, rtol=1e-5)
    assert np.isclose(found["cross_entropy+dice"], (total + dice_total) / weight, rtol=1e-5)


@pytest.mark.parametrize("loss", ensemble.LOSSES)
def test_losses_of_micro_batches_add_up_to_that_of_the_batch(loss):
    logits, labels = logits_and_labels()
    labels[3] = -1
    parts = [ensemble.segmentation_loss(loss, logits[i : i + 1], labels[i : i + 1], jnp.ones(3)) for i in range(4)]
    whole = ensemble.segmentation_loss(loss, logits, labels, jnp.ones(3))
    np.testing.assert_allclose(np.sum(parts, axis=0), whole, rtol=1e-5)


def test_dice_is_0_where_all_is_right_and_finite_gradients_come_from_crops_without_labels():
    labels = np.random.default_rng(0).integers(0, 3, (2, 8, 8))
    right = 50.0 * np.eye(3, dtype=np.float32)[labels]
    total, weight = ensemble.segmentation_loss("dice", right, labels, jnp.ones(3))
    assert abs(total / weight) < 1e-5
    wrong, _ = ensemble.segmentation_loss("dice", np.roll(right, 1, -1), labels, jnp.ones(3))
    assert np.isclose(wrong, weight)
    slope = jax.grad(lambda x: ensemble.segmentation_loss("cross_entropy+dice", x, labels * 0 - 1, jnp.ones(3))[0])
    assert (np.asarray(slope(right)) == 0).all()


def test_a_volume_is_predicted_by_members_that_saw_none_of_its_slices():
    volumes = [["/a.tif[0:2]", "/b.tif"], ["/a.tif[4:6]"], ["/c.tif"]]
    assert ensemble.out_of_fold(["/a.tif[1:3]"], volumes) == (1, 2)
    assert ensemble.out_of_fold(["/a.tif"], volumes) == (2,)
    assert ensemble.out_of_fold(["/d.tif"], volumes) is None
    with pytest.raises(BadInput, match="every member"):
        ensemble.out_of_fold(["/b.tif[0:1]"], [["/b.tif"]])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"loss": "dise"}, "loss must be one of"),
        ({"member_mapping": "pmap"}, "member_mapping must be one of"),
        ({"model": {**SETTINGS["model"], "widths": (4, 4)}}, "model.strides"),
        ({"augmentation": {**NOTHING, "noise": -1.0}}, "augmentation.noise"),
        ({"augmentation": {**NOTHING, "elastic_vx": 20.0}}, "elastic_spacing_vx"),
        ({"augmentation": {**NOTHING, "piecewise_share": 0.2}}, "piecewise_share"),
        ({"augmentation": {**NOTHING, "piecewise_grid": 1}}, "piecewise_grid"),
        ({"augmentation": {**NOTHING, "rotation_degrees": 200.0}}, "rotation_degrees"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_starts(changed, expected):
    with pytest.raises(BadInput, match=expected):
        ensemble.method({**SETTINGS, **changed})


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 3, 8, 12)])
def test_over_symmetries_a_turned_image_has_turned_probabilities_and_one_member_becomes_several(shape):
    model = SETTINGS["model"] | ({"strides": ()} if len(shape) == 3 else {})
    known = {
        **SETTINGS,
        "model": model,
        "window": shape[1:],
        "stride": shape[1:],
        "use": {**SETTINGS["use"], "symmetries": True},
    }
    image = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    net, x = ensemble.network(known), jnp.zeros((1, *shape[1:], 1))
    variables = jax.vmap(lambda key: net.init(key, x))(jax.random.split(KEY, 3))
    params, state = variables["params"], {"intensity_range": np.array([0, 255], np.float32)}
    state["batch_stats"] = variables["batch_stats"]
    predict = jax.jit(ensemble.segmenter(known).predict)
    found = np.asarray(predict(params, state, image))
    assert found.shape == (3, *shape, 3)
    flipped = np.asarray(predict(params, state, np.flip(image, -1)))
    np.testing.assert_allclose(np.flip(flipped, -2), found, atol=1e-5)
    one = {**known, "members": 1}
    alone = ensemble.select_members(params, state, [1])
    each = np.asarray(jax.jit(ensemble.segmenter(one).predict)(*alone, image))
    assert each.shape == (8 if shape[-1] == shape[-2] else 4, *shape, 3)
    np.testing.assert_allclose(each.mean(0), found[1], atol=1e-5)
    assert len({view.tobytes() for view in each}) == len(each), "no view is there twice"
    sooner = {**known, "use": {"symmetries": True, "foreground_threshold": 0.2}}
    called = ensemble.segmenter(sooner).predict(params, state, image)
    np.testing.assert_allclose(called, shifted(found, 0.2), atol=1e-5)
