"""segmenters/sparse_labels.py, with the smallest network there is: what it is made of is tested in tests/models."""

from functools import cache
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.models import variational
from maeref_jax.models.hierarchical_vae import with_middle_hidden
from maeref_jax.records import DEVICES
from maeref_jax.segmenters import sparse_labels

KEY, MEMBERS = jax.random.key(5), 2
SETTINGS = {
    "members": MEMBERS,
    "member_mapping": "vmap",
    "member_chunk": 0,
    "phases": ("clicks",),
    "window": (4, 4),
    "margin": 0,
    "stride": (2, 2),
    "hidden": {"side": 1, "ring": 0},
    "classes": {"names": ("background", "inside")},
    "losses": {
        "inpainting": 1.0, "divergence": 0.5, "contrastive": 0.3, "cross_entropy": 0.7,
        "margin": 20.0, "prior_height": 5.0,
    },
    "pseudo_labels": {"temperature": 5.0},
    "use": {"dense": True, "tile": (8, 8), "symmetries": False},
    "model": {
        "levels": 1, "blocks": 1, "filters": 4, "latent": 2, "remat": False, "compute_dtype": "float32",
    },
}  # fmt: skip
GROUPED = {**SETTINGS, "phases": ("pseudo_labels",)}


def batch_of(shape, labels):
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(100, 10, (4, MEMBERS, *shape)).astype(np.float32),
        "labels": np.asarray(labels, np.int16).reshape(4, MEMBERS),
        "index": np.arange(4, dtype=np.int32),
        "shared": {
            "grey": np.array([100, 10], np.float32),
            "members": np.arange(MEMBERS, dtype=np.int32),
            "threshold": np.float32(0.0),
        },
    }


CLICKS = batch_of((4, 4), [0, 1, 1, 0, 0, 1, 1, 0])
NEIGHBOURS = batch_of((3, 4, 4), [0, 1, 1, 0, 0, 1, 1, 0])


@pytest.fixture(scope="module")
def model():
    params, state = jax.eval_shape(sparse_labels.method(SETTINGS).init, jax.random.key(0), CLICKS)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) * 0.3, params)
    statistics = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, "var" in str(path[-1]), np.float32), state["batch_stats"]
    )
    return params, {"grey": CLICKS["shared"]["grey"], "batch_stats": statistics}


@cache
def stepping(grouped=False, devices=1):
    """(model, batch) -> (gradients, loss sums, weights, state, logs) of one step, compiled once for all tests.
    Gradients are those of the layers behind latents, class and image: all that is special goes through these.
    """
    method = sparse_labels.method(GROUPED if grouped else SETTINGS)

    def total(some, params, state, batch):
        sums, *rest = method.loss({**params, **some}, state, batch, KEY)
        return sums.sum(), (sums, *rest)

    def step(model, batch):
        params, state = model
        some = {name: params[name] for name in ("posteriors_0", "head_classes", "out")}
        gradients, rest = jax.grad(total, has_aux=True)(some, params, state, batch)
        return gradients, *rest

    if devices == 1:
        return jax.jit(step)

    def shared_out(model, batch):
        parts = {name: x.reshape(devices, -1, *x.shape[1:]) for name, x in batch.items() if name != "shared"}
        axes = {**dict.fromkeys(parts, 0), "shared": None}
        each = jax.vmap(lambda one: step(model, one), (axes,), axis_name=DEVICES)({**parts, "shared": batch["shared"]})
        return jax.tree.map(lambda leaf: leaf.sum(0), each)

    return jax.jit(shared_out)


def member_of(tree, i):
    return jax.tree.map(lambda leaf: leaf[i : i + 1], tree)


def test_the_loss_is_the_weighted_sum_of_its_terms_over_crops_with_the_middle_hidden(model):
    _, sums, weights, _, logs = stepping()(model, CLICKS)
    net, (params, state), given = sparse_labels.network(SETTINGS), model, SETTINGS["losses"]
    nothing = tuple(jnp.zeros((4, *shape)) for shape in net.latent_shapes())
    apply = jax.jit(lambda variables, x: net.apply(variables, x, nothing, train=True, mutable=["batch_stats"])[0])
    wanted = given["inpainting"] * logs["inpainting"][0] / 4  # noise reaches this term alone
    for i in range(MEMBERS):
        variables = member_of({"params": params, "batch_stats": state["batch_stats"]}, i)
        labels = CLICKS["labels"][:, i].astype(int)
        out = apply(
            jax.tree.map(itemgetter(0), variables), with_middle_hidden((CLICKS["image"][:, i, ..., None] - 100) / 10, 1)
        )
        total, count = variational.cross_entropy(out.logits, labels)
        wanted += given["cross_entropy"] * total / count
        wanted += given["contrastive"] * variational.contrastive(out.means, labels, 2, given["margin"])
        ((total, count),) = variational.latent_divergences(out, labels, given["prior_height"])
        wanted += given["divergence"] * total / count
    np.testing.assert_allclose((sums / weights).sum(), wanted, rtol=1e-4)
    assert (weights == 4).all()


def test_what_is_hidden_is_asked_for_and_reaches_nothing_else(model):
    """The middle of a crop changes what inpainting costs, and no other term."""
    changed = {**CLICKS, "image": CLICKS["image"].copy()}
    changed["image"][:, :, 2, 2] += 50
    before, after = (stepping()(model, batch)[-1] for batch in (CLICKS, changed))
    assert after["inpainting"][0] > before["inpainting"][0] + 1
    for name in ("cross_entropy", "contrastive", "divergence"):
        np.testing.assert_array_equal(before[name], after[name])


def test_members_never_reach_one_another(model):
    together = stepping()(model, CLICKS)
    other = {**CLICKS, "image": CLICKS["image"].copy()}
    other["image"][:, 0] += 30
    disturbed = stepping()(model, other)
    assert (np.asarray(together[1])[0] != disturbed[1][0]).all()
    for one, two in zip(together[:2], disturbed[:2], strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), one, two)
    params, state = model
    own = member_of(params, 1), {**state, "batch_stats": member_of(state["batch_stats"], 1)}
    batch = {**CLICKS, **{name: CLICKS[name][:, 1:] for name in ("image", "labels")}}
    batch["shared"] = {**CLICKS["shared"], "members": np.array([1], np.int32)}
    alone = jax.jit(sparse_labels.method({**SETTINGS, "members": 1}).loss)(*own, batch, KEY)
    np.testing.assert_allclose(alone[0][0], together[1][1], rtol=1e-4)


def test_two_devices_learn_what_one_does_from_all_pairs_and_prototypes(model):
    """The axis of devices is one of vmap here; sums and gradients are added up over it as in training."""
    one, two = (stepping(grouped=True, devices=devices)(model, NEIGHBOURS) for devices in (1, 2))
    gradients = ((found[0], found[1]) for found in (one, two))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3, rtol=2e-3), *gradients)
    assert two[2].tolist() == [12, 12] and (two[-1]["admitted"][0], two[-1]["admitted"][1]) == (16, 16)


def test_neighbours_are_learned_from_as_far_as_they_are_admitted(model):
    strict = {**NEIGHBOURS, "shared": {**NEIGHBOURS["shared"], "threshold": np.float32(1)}}
    some, none = (stepping(grouped=True)(model, batch)[-1] for batch in (NEIGHBOURS, strict))
    assert none["cross_entropy"][1] == 8 and none["admitted"][0] == 0
    assert some["cross_entropy"][1] == 24 and some["admitted"][0] == 16


@pytest.mark.parametrize(
    "labels", [[-1] * 8, [1] * 8, [0, 1, 1, 0, -1, -1, -1, -1]], ids=["none", "one", "one a class"]
)
def test_labels_may_be_missing(model, labels):
    """Sums, gradients and statistics stay finite."""
    found = stepping(grouped=True)(model, {**NEIGHBOURS, "labels": np.array(labels, np.int16).reshape(4, 2)})
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_a_tile_is_segmented_as_its_voxels_are_one_by_one_but_for_what_lies_beyond_their_windows(model):
    image = np.random.default_rng(3).normal(100, 10, (2, 8, 8)).astype(np.float32)
    each = {**SETTINGS, "stride": (1, 1), "use": {"dense": False, "tile": (8, 8), "symmetries": False}}
    found, wanted = (jax.jit(sparse_labels.segmenter(s).predict)(*model, image) for s in (SETTINGS, each))
    assert found.shape == wanted.shape == (MEMBERS, 2, 8, 8, 2)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert np.abs(found - wanted).max() < 0.2 and np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9
    crops = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    windows = np.stack([crops[0, y : y + 4, x : x + 4] for y, x in ((0, 0), (3, 5))])
    batch = {**CLICKS, "image": windows, "labels": np.array([0, 1], np.int16)}
    metrics = jax.jit(sparse_labels.method(SETTINGS).evaluate)(*model, batch)
    likely = np.stack([wanted[:, 0, 0, 0], wanted[:, 0, 3, 5]], 1)
    for i in range(MEMBERS):
        np.testing.assert_allclose(metrics[f"loss_member_{i}"][0], -np.log(likely[i, [0, 1], [0, 1]]).sum(), rtol=1e-4)
    segmenter = sparse_labels.segmenter(SETTINGS)
    assert (segmenter.window, segmenter.stride, segmenter.dims) == ((8, 8), (4, 4), 2)


def test_with_margins_as_wide_as_convolutions_look_a_tile_is_what_its_voxels_are_one_by_one(model):
    image, wide = np.random.default_rng(3).normal(100, 10, (1, 16, 16)).astype(np.float32), {**SETTINGS, "margin": 12}
    wide["stride"] = (1, 1)
    ways = ({**wide, "use": {"dense": dense, "tile": (30, 30), "symmetries": False}} for dense in (True, False))
    found, wanted = (jax.jit(sparse_labels.segmenter(settings).predict)(*model, image) for settings in ways)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_margin_is_seen_in_training_and_is_not_painted(model):
    settings = {**SETTINGS, "margin": 2, "use": {"dense": True, "tile": (10, 10), "symmetries": False}}
    batch = batch_of((8, 8), [0, 1, 1, 0, 0, 1, 1, 0])
    loss = jax.jit(sparse_labels.method(settings).loss)
    around = batch["image"].copy()
    around[..., 0, :] += 50.0
    found, other = (loss(*model, {**batch, "image": image}, KEY)[0] for image in (batch["image"], around))
    assert np.isfinite(found).all() and np.abs(other - found).min() > 1e-3
    painted = jax.eval_shape(sparse_labels.method(settings).preview, *model, {"image": batch["image"][:, 0]})
    assert {shown.shape for shown in painted.values()} == {(4, 4, 4)}


def test_over_symmetries_a_turned_image_has_turned_probabilities(model):
    """Also of a single member: its orientations are then handed on as members."""
    settings = {**SETTINGS, "members": 1, "use": {"dense": True, "tile": (8, 8), "symmetries": True}}
    image = np.random.default_rng(3).normal(100, 10, (1, 8, 8)).astype(np.float32)
    params, state = model
    own = member_of(params, 0), {**state, "batch_stats": member_of(state["batch_stats"], 0)}
    predict = jax.jit(sparse_labels.segmenter(settings).predict)
    found, turned = predict(*own, image), predict(*own, image[:, ::-1].copy())
    assert found.shape == (8, 1, 8, 8, 2) and np.abs(found[0] - found[1]).max() > 1e-4
    np.testing.assert_allclose(found.mean(0), turned.mean(0)[:, ::-1], atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"use": {"dense": True, "tile": (9, 8)}},
            r"above those of the window with its margin \(4, 4\), multiples of 2; found \(9, 8\)",
        ),
        ({"use": {"dense": False, "tile": (4, 8)}}, "use.tile must be 2 numbers"),
        ({"hidden": {"side": 2, "ring": 1}}, "fit into the window"),
        ({"losses": {"inpainting": -1.0}}, "must not be negative"),
        ({"member_mapping": "all"}, "member_mapping must be one of"),
        ({"window": (4, 5)}, "multiples of 2"),
        ({"margin": 3}, "margin must be 0 or a multiple of 2 for 1 levels, found 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changed, message):
    with pytest.raises(BadInput, match=message):
        sparse_labels.method({**SETTINGS, **changed})
