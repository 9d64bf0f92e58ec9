"""training/state.py and training/optimizer.py: one step, its sums, its members, what moves the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.records import MEMBER_LOSS, Method
from maeref_jax.training.optimizer import DIRECTIONS, SCHEDULES, build_optimizer, learning_rate
from maeref_jax.training.state import initial_state, update

SETTINGS = {
    "name": "adamw", "rate": 0.1, "schedule": "constant", "warmup_steps": 0, "clip": 0.0, "b1": 0.9, "b2": 0.999,
    "weight_decay": 0.0, "decay": 0.5, "decay_steps": 4, "patience": 2, "accumulate": 1, "average": 0.0, "steps": 10,
}  # fmt: skip


def line(members=None):
    """Fits y = w x + b by least squares over the samples with known y; with members, one line each."""

    def init(key, batch):
        shape = () if members is None else (members,)
        return {"w": jnp.zeros(shape), "b": jnp.zeros(shape)}, {}

    def loss(params, state, batch, key):
        predicted = params["w"] * batch["x"] + params["b"]
        known = batch["known"]
        error = jnp.where(known, (predicted - batch["y"]) ** 2, 0.0)
        return error.sum(0), known.sum(0).astype(jnp.float32), state, {}

    def evaluate(params, state, batch):
        error = (params["w"] * batch["x"] + params["b"] - batch["y"]) ** 2
        own = {MEMBER_LOSS.format(i): (error[:, i].sum(), jnp.float32(error[:, i].size)) for i in range(members or 0)}
        return {"loss": (error.sum(), jnp.float32(error.size)), **own}

    return Method(init, loss, evaluate, None, members)


def batch(rng, b, members=None):
    shape = (b,) if members is None else (b, members)
    x = rng.normal(size=shape).astype(np.float32)
    index = np.arange(b, dtype=np.int32)
    return {"x": x, "y": 3 * x + 1, "known": np.ones(shape, bool), "index": index, "shared": {}}


def run(method, settings, data, steps=3, **options):
    optimizer = build_optimizer(settings, method.members)
    state = initial_state(method, optimizer, jax.random.key(0), data, options.get("average", 0.0))
    for _ in range(steps):
        state, report = update(method, optimizer, state, data, jax.random.key(0), **options)
    return state, report


def test_a_batch_without_a_valid_sample_changes_nothing():
    data = batch(np.random.default_rng(0), 4)
    data["known"][:] = False
    state, report = run(line(), SETTINGS, data, steps=1)
    assert float(state.params["w"]) == 0.0 and np.isfinite(state.params["b"]) and report.finite


def test_members_do_not_touch_one_another_even_when_clipped():
    settings = {**SETTINGS, "clip": 0.01}
    data = batch(np.random.default_rng(0), 8, members=3)
    together, _ = run(line(3), settings, data)
    disturbed = {**data, "y": data["y"].copy()}
    disturbed["y"][:, 1] = np.nan
    other, report = run(line(3), settings, disturbed)
    assert report.finite.tolist() == [True, False, True], "a member that fails is named, the others are well"
    np.testing.assert_array_equal(together.params["w"][jnp.array([0, 2])], other.params["w"][jnp.array([0, 2])])
    first = {name: value[:, :1] if name in ("x", "y", "known") else value for name, value in data.items()}
    alone, _ = run(line(1), settings, first)
    np.testing.assert_allclose(together.params["w"][0], alone.params["w"][0], rtol=1e-6)


def test_state_is_averaged_over_devices_and_what_nobody_changes_stays_to_the_bit():
    fixed = np.float32(0.1)

    def loss(params, state, batch, key):
        moved = {"mean": 0.5 * state["mean"] + 0.5 * batch["x"].mean(), "fixed": state["fixed"]}
        return (params * batch["x"]).sum(), jnp.float32(batch["x"].size), moved, {}

    method = Method(lambda key, batch: (jnp.float32(1), {"mean": jnp.float32(0), "fixed": fixed}), loss, None, None)
    optimizer = build_optimizer(SETTINGS)
    x = np.arange(12, dtype=np.float32)
    start = initial_state(method, optimizer, jax.random.key(0), {"x": x})

    def on_device(part):
        return update(
            method, optimizer, start, {"x": part}, None, sum_over_devices=lambda tree: jax.lax.psum(tree, "devices")
        )[0].state

    found = jax.vmap(on_device, axis_name="devices")(x.reshape(3, 4))
    np.testing.assert_allclose(found["mean"], [x.mean() / 2] * 3, rtol=1e-6)
    np.testing.assert_array_equal(found["fixed"], [fixed] * 3)


def test_micro_batches_add_up_to_the_batch():
    data = batch(np.random.default_rng(0), 12, members=2)
    data["known"][:7, 0] = False  # the first micro-batch has no valid sample of the first member
    whole, report = run(line(2), SETTINGS, data)
    parts, report_of_parts = run(line(2), SETTINGS, data, accumulate=3)
    np.testing.assert_allclose(whole.params["w"], parts.params["w"], rtol=1e-5)
    np.testing.assert_allclose(report.logs["loss"], report_of_parts.logs["loss"], rtol=1e-5)


def test_the_average_follows_the_parameters_and_is_what_is_used():
    data = batch(np.random.default_rng(0), 8)
    plain, _ = run(line(), SETTINGS, data, steps=20)
    averaged, _ = run(line(), SETTINGS, data, steps=20, average=0.9)
    assert plain.used is plain.params and averaged.params["w"] == plain.params["w"]
    assert 0 < float(averaged.used["w"]) < float(averaged.params["w"])


@pytest.mark.parametrize("name", sorted(DIRECTIONS))
def test_every_optimizer_and_a_lower_rate_scale(name):
    data = batch(np.random.default_rng(0), 8)
    settings = {**SETTINGS, "name": name}
    state, _ = run(line(), settings, data, steps=40)
    assert abs(float(state.params["w"]) - 3) < 1.5
    optimizer = build_optimizer(settings)
    start = initial_state(line(), optimizer, jax.random.key(0), data)
    halved = start._replace(progress=start.progress._replace(rate_scale=jnp.float32(0.5)))
    full, half = (update(line(), optimizer, s, data, jax.random.key(0))[0].params["w"] for s in (start, halved))
    assert np.isclose(full, 2 * half)


def test_weight_decay_pulls_towards_nothing_and_plain_adam_has_none():
    data = batch(np.random.default_rng(0), 8)
    free, decayed = (run(line(), {**SETTINGS, "weight_decay": d}, data, steps=60)[0].params["w"] for d in (0.0, 1.0))
    assert decayed < free
    with pytest.raises(BadInput, match="adamw"):
        build_optimizer({**SETTINGS, "name": "adam", "weight_decay": 0.1})
    with pytest.raises(BadInput, match="sgd"):
        build_optimizer({**SETTINGS, "name": "sgd"})


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_warms_up_first(schedule):
    rate = learning_rate({**SETTINGS, "schedule": schedule, "warmup_steps": 10, "steps": 100})
    assert rate(0) == 0 and np.isclose(rate(5), 0.05) and np.isclose(rate(10), 0.1)


def test_where_the_schedules_end():
    ends = {"constant": 0.1, "plateau": 0.1, "cosine": 0.0, "step": 0.1 * 0.5**25}
    for schedule, end in ends.items():
        assert np.isclose(learning_rate({**SETTINGS, "schedule": schedule, "steps": 100})(100), end, atol=1e-12)
    with pytest.raises(BadInput, match="linear"):
        learning_rate({**SETTINGS, "schedule": "linear"})
