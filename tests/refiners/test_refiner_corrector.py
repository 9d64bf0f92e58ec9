"""The corrector: it begins as the ensemble, learns what the ensemble gets wrong, and never sees a label."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.masking.symmetries import turned
from maeref_jax.refiners import corrector

SETTINGS = {
    "context": 1, "with_image": False, "token": 4, "window": (16, 16), "stride": (8, 8),
    "most_hidden": 0.1, "repaired_per_broken": 6.0,
    "classes": {"names": ("background", "cell", "nucleus", "ambiguous"), "ambiguous": 3},
    "class_weights": (1.0, 1.0, 1.0), "use": {"symmetries": False, "temperature": 1.0, "gain": 0.1, "caution": 1.0},
    "model": {"widths": (4, 8), "strides": ((2, 2),), "plane_levels": 0, "norm": "group", "compute_dtype": "float32"},
}  # fmt: skip

BOXES = SETTINGS | {
    "context": 0, "window": (4, 16, 16), "stride": (2, 8, 8),
    "model": SETTINGS["model"] | {"strides": ((2, 2, 2),), "plane_levels": 1},
}  # fmt: skip


def batch(seed=0, count=3, **more):
    rng = np.random.default_rng(seed)
    likely = rng.dirichlet((1, 1, 1, 1), (count, 3, 16, 16))
    target = rng.integers(-1, 4, (count, 16, 16)).astype(np.int16)
    shown = np.rint(255 * likely).astype(np.uint8)
    return {"probabilities": shown, "target": target, "index": np.arange(count), "shared": {}} | more


def given(one):
    return {"stored_probabilities": jnp.asarray(one["probabilities"]) / 255}


@pytest.fixture(scope="module")
def variables():
    return jax.jit(corrector.method(SETTINGS).init)(jax.random.key(0), batch())


def moved(params):
    """Parameters of a network that has learned something."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, noisy)


def test_it_begins_by_saying_what_the_ensemble_said(variables):
    found = jax.jit(corrector.refiner(SETTINGS).refine)(*variables, given(batch()), jax.random.key(0))
    said = np.maximum(batch()["probabilities"][:, 1, ..., :3] / 255, corrector.SMALLEST)
    np.testing.assert_allclose(found, said / said.sum(-1, keepdims=True), atol=1e-5)


def test_it_reads_the_slices_above_and_below(variables):
    params, refine = moved(variables[0]), jax.jit(corrector.refiner(SETTINGS).refine)
    one = given(batch())["stored_probabilities"]
    before = refine(params, {}, {"stored_probabilities": one}, jax.random.key(0))
    for z in (0, 1, 2):
        other = one.at[:, z].set(one[:, z, ::-1])
        changed = refine(params, {}, {"stored_probabilities": other}, jax.random.key(0))
        assert np.abs(changed - before).max() > 1e-3, f"slice {z} is not looked at"


def test_labels_hidden_or_not_are_not_looked_at(variables):
    apply = corrector.refiner(SETTINGS)
    assert (apply.sees_hidden, apply.everywhere, apply.needs) == (False, False, ("stored_probabilities",))
    assert (apply.context, apply.dims, apply.token) == (1, 2, 4)


def test_the_mean_over_orientations_has_none(variables):
    use = SETTINGS["use"] | {"symmetries": True}
    refine, params = jax.jit(corrector.refiner(SETTINGS | {"use": use}).refine), moved(variables[0])
    seen = given(batch())["stored_probabilities"]

    def look(slices):
        return refine(params, {}, {"stored_probabilities": slices}, jax.random.key(0))

    straight = look(seen)
    np.testing.assert_allclose(straight.sum(-1), 1, atol=1e-5)
    for turn in (1, 2, 7):
        other = jax.vmap(lambda planes, turn=turn: turned(planes, turn))(seen)
        np.testing.assert_allclose(look(other), turned(straight, turn), atol=1e-5)


def test_a_box_is_read_as_a_whole_and_judged_as_a_whole():
    one = batch(count=2)
    box = {name: np.concatenate([one[name]] * 2, 1)[:, :4] for name in ("probabilities",)}
    target = np.stack([one["target"]] * 4, 1)
    method, apply = corrector.method(BOXES), corrector.refiner(BOXES)
    assert (apply.dims, apply.window, apply.context) == (3, (4, 16, 16), 0)
    given_box = {"stored_probabilities": jnp.asarray(box["probabilities"]) / 255}
    params, state = jax.jit(method.init)(jax.random.key(0), one | box | {"target": target})
    refine = jax.jit(apply.refine)
    said = np.maximum(box["probabilities"][..., :3] / 255, corrector.SMALLEST)
    found = refine(params, state, given_box, jax.random.key(0))
    np.testing.assert_allclose(found, said / said.sum(-1, keepdims=True), atol=1e-5)
    before = refine(moved(params), state, given_box, jax.random.key(0))
    other = {"stored_probabilities": given_box["stored_probabilities"].at[:, 3].set(0)}
    changed = np.abs(refine(moved(params), state, other, jax.random.key(0)) - before).max((0, 2, 3, 4))
    assert (changed > 1e-4).all(), "every slice hears of every other one"
    _, weight, _, _ = jax.jit(method.loss)(params, state, one | box | {"target": target}, jax.random.key(0))
    np.testing.assert_allclose(weight, weight_of(box["probabilities"], target), rtol=1e-4)
    turned_box = jax.vmap(lambda planes: turned(planes, 1))(given_box["stored_probabilities"])
    everyway = jax.jit(corrector.refiner(BOXES | {"use": SETTINGS["use"] | {"symmetries": True}}).refine)
    straight = everyway(moved(params), state, given_box, jax.random.key(0))
    back = everyway(moved(params), state, {"stored_probabilities": turned_box}, jax.random.key(0))
    np.testing.assert_allclose(back, jax.vmap(lambda planes: turned(planes, 1))(straight), atol=1e-5)


def test_a_temperature_makes_it_less_sure_and_changes_no_label(variables):
    params = moved(variables[0])
    hot = SETTINGS | {"use": SETTINGS["use"] | {"temperature": 3.0}}
    one, other = (
        np.asarray(jax.jit(corrector.refiner(s).refine)(params, {}, given(batch()), jax.random.key(0)))
        for s in (SETTINGS, hot)
    )
    np.testing.assert_array_equal(one.argmax(-1), other.argmax(-1))
    assert (other.max(-1) <= one.max(-1) + 1e-6).all() and other.max(-1).mean() < one.max(-1).mean() - 0.05


def weight_of(probabilities, target):
    """Of known pixels alone, and of those as much as the ensemble doubts them; probabilities: uint8 (…, 4) of 255."""
    likely = np.maximum(probabilities / 255, 1e-9)
    doubt = -(likely * np.log(likely)).sum(-1) / np.log(4)
    return (0.05 + doubt)[(target >= 0) & (target < 3)].sum()


def test_unknown_and_ambiguous_pixels_do_not_count(variables):
    method, one = corrector.method(SETTINGS), batch()
    total, weight, _, _ = jax.jit(method.loss)(*variables, one, jax.random.key(0))
    np.testing.assert_allclose(weight, weight_of(one["probabilities"][:, 1], one["target"]), rtol=1e-4)
    assert np.isfinite(total)
    nothing = one | {"target": np.full_like(one["target"], -1)}
    total, weight, _, _ = jax.jit(method.loss)(*variables, nothing, jax.random.key(0))
    assert (float(total), float(weight)) == (0.0, 0.0)


def test_it_learns_that_an_ensemble_mistakes_one_class_for_another(variables):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (4, 1, 4, 4)).repeat(4, 2).repeat(4, 3)
    said = np.where(truth == 2, 1, truth).repeat(3, 1)  # all of class 2 is called 1, but with a hint of 2
    likely = 0.8 * np.eye(4)[said] + 0.15 * np.eye(4)[truth] + 0.0125
    one = batch(count=4) | {"probabilities": np.rint(255 * likely).astype(np.uint8), "target": truth[:, 0]}
    method, optimizer = corrector.method(SETTINGS), optax.adam(3e-2)

    @jax.jit
    def step(params, moments):
        def mean(params):
            total, weight, _, _ = method.loss(params, {}, one, jax.random.key(0))
            return total / weight

        changes, moments = optimizer.update(jax.grad(mean)(params), moments)
        return optax.apply_updates(params, changes), moments

    params, moments = variables[0], optimizer.init(variables[0])
    for _ in range(60):
        params, moments = step(params, moments)
    metrics = jax.jit(method.evaluate)(params, {}, one)
    right, before = (float(metrics[name][0] / metrics[name][1]) for name in ("accuracy", "accuracy_before"))
    assert before < 0.75 and right > 0.95


def test_with_the_image_it_sees_it_in_the_range_of_training(variables):
    settings = SETTINGS | {"with_image": True}
    image = np.random.default_rng(0).uniform(0, 200, (3, 3, 16, 16)).astype(np.float32)
    one = batch(image=image, shared={"intensity_range": np.array([0, 200], np.float32)})
    params, state = jax.jit(corrector.method(settings).init)(jax.random.key(0), one)
    apply = corrector.refiner(settings)
    assert apply.needs == ("stored_probabilities", "image")
    refine, params = jax.jit(apply.refine), moved(params)
    looks = [refine(params, state, given(one) | {"image": shown}, jax.random.key(0)) for shown in (image, 0 * image)]
    assert np.abs(looks[0] - looks[1]).max() > 1e-3
    clipped = refine(params, state, given(one) | {"image": np.where(image > 150, 900, image)}, jax.random.key(0))
    assert np.isfinite(clipped).all()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"context": -1}, "context is -1"),
        ({"most_hidden": 0.0}, "most_hidden is a share"),
        ({"repaired_per_broken": -1.0}, "repaired_per_broken is a ratio"),
        ({"use": SETTINGS["use"] | {"temperature": 0.0}}, "use.temperature must be above 0"),
        ({"use": SETTINGS["use"] | {"caution": 0.5}}, "use.caution 1 or more"),
        ({"model": SETTINGS["model"] | {"norm": "batch"}}, "model.norm is batch"),
        ({"model": SETTINGS["model"] | {"strides": ()}}, "model.strides must be 1 tuples"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, what):
    with pytest.raises(BadInput, match=what):
        corrector.method(SETTINGS | change)
