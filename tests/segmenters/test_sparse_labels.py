"""segmenters/sparse_labels.py, with the smallest network there is: what it is made of is tested in tests/models."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.models import variational
from maeref_jax.models.hierarchical_vae import with_middle_hidden
from maeref_jax.records import DEVICES
from maeref_jax.segmenters import sparse_labels
from maeref_jax.training.state import update

KEY, MEMBERS = jax.random.key(5), 2
SETTINGS = {
    "members": MEMBERS,
    "member_mapping": "unroll",
    "member_chunk": 0,
    "phases": ("clicks",),
    "window": (4, 4),
    "stride": (2, 2),
    "hidden": {"side": 1, "ring": 0},
    "classes": {"names": ("background", "inside")},
    "losses": {
        "inpainting": 1.0, "divergence": 0.5, "contrastive": 0.3, "cross_entropy": 0.7,
        "margin": 20.0, "prior_height": 5.0,
    },
    "pseudo_labels": {"temperature": 5.0},
    "use": {"dense": True, "tile": (8, 8)},
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
    return jax.jit(sparse_labels.method(SETTINGS).init)(jax.random.key(0), CLICKS)


def losses(settings, model, batch, **changed):
    """(sums, weights, state, logs) of one step, not compiled anew for other numbers."""
    return jax.jit(partial(sparse_labels.method(settings, **changed).loss))(*model, batch, KEY)


def member_of(tree, i):
    return jax.tree.map(lambda leaf: leaf[i : i + 1], tree)


def test_the_loss_of_a_member_is_the_weighted_sum_of_its_terms_over_crops_with_the_middle_hidden(model):
    settings = {**SETTINGS, "losses": {**SETTINGS["losses"], "inpainting": 0.0}}  # the only term that noise reaches
    sums, weights, _, _ = losses(settings, model, CLICKS)
    net, (params, state), given = sparse_labels.network(SETTINGS), model, SETTINGS["losses"]
    for i in range(MEMBERS):
        variables = {"params": member_of(params, i), "batch_stats": member_of(state["batch_stats"], i)}
        variables, labels = jax.tree.map(lambda x: x[0], variables), CLICKS["labels"][:, i].astype(int)
        x = with_middle_hidden((CLICKS["image"][:, i, ..., None] - 100) / 10, 1)
        nothing = tuple(jnp.zeros((4, *shape)) for shape in net.latent_shapes())
        out, _ = net.apply(variables, x, nothing, train=True, mutable=["batch_stats"])
        total, count = variational.cross_entropy(out.logits, labels)
        wanted = given["cross_entropy"] * total / count
        wanted += given["contrastive"] * variational.contrastive(out.means, labels, 2, given["margin"])
        ((total, count),) = variational.latent_divergences(out, labels, given["prior_height"])
        wanted += given["divergence"] * total / count
        np.testing.assert_allclose(sums[i] / weights[i], wanted, rtol=1e-4)


def test_what_is_hidden_is_asked_for_and_reaches_nothing_else(model):
    """The middle of a crop changes what inpainting costs, and no other term."""
    changed = {**CLICKS, "image": CLICKS["image"].copy()}
    changed["image"][:, :, 2, 2] += 50
    before, after = (losses(SETTINGS, model, batch)[3] for batch in (CLICKS, changed))
    assert after["inpainting"][0] > before["inpainting"][0] + 1
    for name in ("cross_entropy", "contrastive", "divergence"):
        np.testing.assert_array_equal(before[name], after[name])


def test_members_never_reach_one_another(model):
    def gradients(model, batch, members):
        settings = {**SETTINGS, "members": members}

        def total(params):
            sums, *rest = sparse_labels.method(settings).loss(params, model[1], batch, KEY)
            return sums.sum(), rest[1]["batch_stats"]

        return jax.jit(jax.grad(total, has_aux=True))(model[0])

    together = gradients(model, CLICKS, 2)
    other = {**CLICKS, "image": CLICKS["image"].copy()}
    other["image"][:, 0] += 30
    disturbed = gradients(model, other, 2)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), together, disturbed)
    params, state = model
    own = member_of(params, 1), {**state, "batch_stats": member_of(state["batch_stats"], 1)}
    batch = {**CLICKS, **{name: CLICKS[name][:, 1:] for name in ("image", "labels")}}
    alone = gradients(own, {**batch, "shared": {**CLICKS["shared"], "members": np.array([1], np.int32)}}, 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b[0], atol=1e-4, rtol=1e-3), together, alone)


@pytest.mark.parametrize(("settings", "batch"), [(SETTINGS, CLICKS), (GROUPED, NEIGHBOURS)], ids=["clicks", "pseudo"])
def test_two_devices_learn_what_one_does_from_all_pairs_and_prototypes(model, settings, batch):
    """The axis of devices is one of vmap here; sums and gradients are added up over it as in training."""
    method = sparse_labels.method(settings)

    class Optimizer:
        update = staticmethod(lambda gradients, *_: (gradients, ()))

    def stepped(batch, sum_over_devices):
        from maeref_jax.training.state import Progress, TrainState

        before = TrainState(jnp.int32(0), *model, (), (), Progress())
        after, report = update(method, Optimizer, before, batch, KEY, sum_over_devices=sum_over_devices)
        return after.params, after.state["batch_stats"], report.logs["loss"]

    alone = jax.jit(lambda batch: stepped(batch, lambda tree: tree))(batch)
    parts = {name: x.reshape(2, 2, *x.shape[1:]) for name, x in batch.items() if name != "shared"}
    axes = {**dict.fromkeys(parts, 0), "shared": None}
    both = jax.jit(
        jax.vmap(lambda one: stepped(one, lambda t: jax.lax.psum(t, DEVICES)), (axes,), axis_name=DEVICES)
    )({**parts, "shared": batch["shared"]})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], atol=2e-4, rtol=2e-3), alone, both)


def test_neighbours_are_learned_from_as_far_as_they_are_admitted(model):
    none = losses(GROUPED, model, NEIGHBOURS, admitted=lambda confidence, threshold: confidence > 1)
    some = losses(GROUPED, model, NEIGHBOURS)
    assert none[3]["cross_entropy"][1] == 8 and none[3]["admitted"][0] == 0
    assert some[3]["cross_entropy"][1] == 24 and some[3]["admitted"][0] == 16
    assert (some[1] == 12).all() and np.isfinite(some[0]).all()


@pytest.mark.parametrize("labels", [[-1] * 8, [1] * 8, [0, 1, 1, 0, -1, -1, -1, -1]], ids=["none", "one", "one a class"])
def test_labels_may_be_missing(model, labels):
    """Sums, gradients and statistics stay finite."""
    batch = {**NEIGHBOURS, "labels": np.array(labels, np.int16).reshape(4, 2)}

    def total(params):
        sums, _, state, _ = sparse_labels.method(GROUPED).loss(params, model[1], batch, KEY)
        return sums.sum(), state

    found = jax.jit(jax.grad(total, has_aux=True))(model[0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_a_tile_is_segmented_as_its_voxels_are_one_by_one_but_for_what_lies_beyond_their_windows(model):
    image = np.random.default_rng(3).normal(100, 10, (2, 8, 8)).astype(np.float32)
    each = {**SETTINGS, "stride": (1, 1), "use": {"dense": False, "tile": (8, 8)}}
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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"use": {"dense": True, "tile": (9, 8)}}, r"above those of the window \(4, 4\), multiples of 2; found \(9, 8\)"),
        ({"use": {"dense": False, "tile": (4, 8)}}, "use.tile must be 2 numbers"),
        ({"phases": ("clicks", "labels")}, "phases must be clicks, or clicks, pseudo_labels"),
        ({"hidden": {"side": 2, "ring": 1}}, "fit into the window"),
        ({"losses": {"inpainting": -1.0}}, "must not be negative"),
        ({"member_mapping": "all"}, "member_mapping must be one of"),
        ({"window": (4, 5)}, "multiples of 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changed, message):
    with pytest.raises(BadInput, match=message):
        sparse_labels.method({**SETTINGS, **changed})
