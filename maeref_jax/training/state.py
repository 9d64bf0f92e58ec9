"""What a training run carries from step to step, and how one step changes it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Progress(NamedTuple):
    """What evaluations decide, float32 and int32: the lowest score so far and the step that had it, how many
    evaluations ago that was, and what the learning rate is multiplied by (plateau schedule).
    """

    best: Any = np.float32(np.inf)
    best_step: Any = np.int32(0)
    stale: Any = np.int32(0)
    rate_scale: Any = np.float32(1.0)


class TrainState(NamedTuple):
    """step: int, steps already taken; params; state: what changes without gradients; optimizer: optax's state;
    averaged: moving average of params, or () without one; progress.
    """

    step: Any
    params: Any
    state: Any
    optimizer: Any
    averaged: Any
    progress: Progress

    @property
    def used(self):
        """The parameters to evaluate and to apply: averaged, if they are."""
        return self.params if isinstance(self.averaged, tuple) else self.averaged


class Report(NamedTuple):
    """What a step tells the host. logs: {name: (sum, count)}; finite: bool, () or one per member; requests: sum over
    devices of what the hosts asked for.
    """

    logs: dict
    finite: Any
    requests: Any


def initial_state(method, optimizer, key, batch, average=0.0):
    """TrainState at step 0. `batch` gives the shapes and whatever statistics the method keeps."""
    params, state = method.init(key, batch)
    averaged = jax.tree.map(jnp.copy, params) if average else ()
    progress = jax.tree.map(jnp.asarray, Progress())
    return TrainState(jnp.zeros((), jnp.int32), params, state, optimizer.init(params), averaged, progress)


def update(
    method, optimizer, train_state, batch, key, requests=0, *, average=0.0, accumulate=1, sum_over_devices=lambda t: t
):
    """One step. Returns the next TrainState and a Report, summed over devices (laws 1 and 4).

    gradient = sum over devices and micro-batches of d(loss sum) / max(sum of the weights, tiny): no valid pixel means a
    gradient of zero, not NaN. With members, sum and weight have one entry per member.
    average: decay of the moving average of parameters, 0 for none; accumulate: micro-batches, one after another.
    """
    gradients, loss_sum, weight, state, logs = _accumulated(method, train_state, batch, key, accumulate)
    gradients, loss_sum, weight, logs, requests = sum_over_devices((gradients, loss_sum, weight, logs, requests))
    state = _averaged_state(train_state.state, state, sum_over_devices)
    scale = 1.0 / jnp.maximum(weight, 1e-8)
    gradients = jax.tree.map(lambda g: g * scale.reshape(scale.shape + (1,) * (g.ndim - scale.ndim)), gradients)
    updates, optimizer_state = optimizer.update(gradients, train_state.optimizer, train_state.params)
    updates = jax.tree.map(lambda u: u * train_state.progress.rate_scale, updates)
    params = optax.apply_updates(train_state.params, updates)
    averaged = train_state.averaged
    if average:
        # Early on the average must not remember the initialisation: its memory grows with the steps taken.
        memory = jnp.minimum(average, (1.0 + train_state.step) / (10.0 + train_state.step))
        averaged = jax.tree.map(lambda old, new: memory * old + (1 - memory) * new, averaged, params)
    report = Report({"loss": (loss_sum.sum(), weight.sum()), **logs}, _finite(loss_sum, gradients), requests)
    step = train_state.step + 1
    return TrainState(step, params, state, optimizer_state, averaged, train_state.progress), report


def _accumulated(method, train_state, batch, key, count):
    """Sums over `count` micro-batches: gradients, loss sum, weight, the method's last state, logs."""

    def total(params, state, part):
        loss_sum, weight, state, logs = method.loss(params, state, part, key)
        return loss_sum.sum(), (loss_sum, weight, state, logs)

    def sums(state, part):
        gradients, (loss_sum, weight, state, logs) = jax.grad(total, has_aux=True)(train_state.params, state, part)
        return state, (gradients, loss_sum, weight, logs)

    if count == 1:
        state, found = sums(train_state.state, batch)
    else:
        samples = {name: value for name, value in batch.items() if name != "shared"}
        # Every count-th sample: the same ones belong together however the batch is shared among devices.
        parts = jax.tree.map(lambda x: x.reshape(len(x) // count, count, *x.shape[1:]).swapaxes(0, 1), samples)

        def add(carry, part):
            state, found = sums(carry[0], {**part, "shared": batch["shared"]})
            return (state, jax.tree.map(jnp.add, carry[1], found)), None

        part = {**jax.tree.map(lambda x: x[0], parts), "shared": batch["shared"]}
        _, shapes = jax.eval_shape(sums, train_state.state, part)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        (state, found), _ = jax.lax.scan(add, (train_state.state, nothing), parts)
    gradients, loss_sum, weight, logs = found
    return gradients, loss_sum, weight, state, logs


def _averaged_state(old, new, sum_over_devices):
    """The mean over devices of what each of them made of the state; what nobody changed stays as it is, to the bit."""
    devices = sum_over_devices(1)
    return jax.tree.map(lambda a, b: a + (sum_over_devices(b - a) / devices).astype(a.dtype), old, new)


def _finite(loss_sum, gradients):
    """Whether loss and gradients are numbers, bool of the shape of loss_sum: one answer per member."""
    leading = loss_sum.ndim
    good = [jnp.isfinite(g).all(axis=tuple(range(leading, g.ndim))) for g in jax.tree.leaves(gradients)]
    return jnp.isfinite(loss_sum) & jnp.stack(good).all(0)
