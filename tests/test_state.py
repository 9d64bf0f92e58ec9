"""training/state.py and training/parallel.py: one step, its sums, its members, its devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.records import Method
from maeref_jax.training.parallel import split_batch
from maeref_jax.training.state import build_optimizer, initial_state, learning_rate, update

SETTINGS = {
    "rate": 0.1, "schedule": "constant", "warmup_steps": 0, "clip": 0.0, "b2": 0.999, "weight_decay": 0.0, "steps": 10,
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

    return Method(init, loss, None, None, members)


def batch(rng, b, members=None):
    shape = (b,) if members is None else (b, members)
    x = rng.normal(size=shape).astype(np.float32)
    return {"x": x, "y": 3 * x + 1, "known": np.ones(shape, bool), "shared": {}}


def run(method, settings, data, steps=3):
    optimizer = build_optimizer(settings, method.members)
    state = initial_state(method, optimizer, jax.random.key(0), data)
    for _ in range(steps):
        state, logs = update(method, optimizer, state, data, jax.random.key(0))
    return state, logs


def test_a_batch_without_a_valid_sample_changes_nothing():
    data = batch(np.random.default_rng(0), 4)
    data["known"][:] = False
    state, _ = run(line(), SETTINGS, data, steps=1)
    assert float(state.params["w"]) == 0.0 and np.isfinite(state.params["b"])


def test_members_do_not_touch_one_another_even_when_clipped():
    settings = {**SETTINGS, "clip": 0.01}
    data = batch(np.random.default_rng(0), 8, members=3)
    together, _ = run(line(3), settings, data)
    disturbed = {**data, "y": data["y"].copy()}
    disturbed["y"][:, 1] *= 1000
    other, _ = run(line(3), settings, disturbed)
    np.testing.assert_array_equal(together.params["w"][jnp.array([0, 2])], other.params["w"][jnp.array([0, 2])])
    alone, _ = run(line(1), settings, {name: value[:, :1] if name != "shared" else {} for name, value in data.items()})
    np.testing.assert_allclose(together.params["w"][0], alone.params["w"][0], rtol=1e-6)


def test_the_schedule_warms_up_and_the_cosine_ends_at_nothing():
    rate = learning_rate({**SETTINGS, "schedule": "cosine", "warmup_steps": 10, "steps": 100})
    assert rate(0) == 0 and np.isclose(rate(10), 0.1) and np.isclose(rate(100), 0, atol=1e-6)
    constant = learning_rate({**SETTINGS, "warmup_steps": 10})
    assert np.isclose(constant(5), 0.05) and np.isclose(constant(500), 0.1)
    with pytest.raises(BadInput, match="linear"):
        learning_rate({**SETTINGS, "schedule": "linear"})


def test_a_batch_that_does_not_divide_is_refused_with_the_numbers_to_use():
    with pytest.raises(BadInput, match="multiple of 4, for example 8"):
        split_batch({"x": np.zeros(10), "shared": {}}, 4)


DEVICES = """
import sys; sys.path.insert(0, "tests")
import jax, numpy as np
from functools import partial
from test_state import SETTINGS, batch, line
from maeref_jax.training.parallel import parallel, split_batch, sum_over_devices
from maeref_jax.training.state import build_optimizer, initial_state, update
data = batch(np.random.default_rng(0), 16)
data["known"][:9] = False  # the first devices of eight see no valid sample at all
method, optimizer = line(), build_optimizer(SETTINGS)
state = jax.device_get(initial_state(method, optimizer, jax.random.key(0), data))
step = parallel(partial(update, method, optimizer, sum_over_devices=sum_over_devices), data)
for _ in range(5):
    state, logs = step(state, split_batch(data, jax.local_device_count()), jax.random.key(0))
print(jax.local_device_count(), float(state.params["w"]), float(logs["loss"][0] / logs["loss"][1]))
"""


def test_eight_devices_equal_one(root):
    found = []
    for devices in (1, 8):
        environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        command = [sys.executable, "-c", DEVICES]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
        count, *numbers = map(float, done.stdout.split())
        assert count == devices
        found.append(numbers)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
