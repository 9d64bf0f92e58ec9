"""What a training run carries from step to step, and how one step changes it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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


class Sums(NamedTuple):
    """What of a step adds up over devices and shares of a batch: gradients and loss, of sums; weight; logs, {name:
    (sum, count)}; parts: of how many; state: by how much they changed the method's, which takes their mean.
    """

    gradients: Any
    loss: Any
    weight: Any
    logs: dict
    parts: Any
    state: Any


def update(
    method, optimizer, train_state, batch, key, requests=0, *, average=0.0, accumulate=1, sum_over_devices=lambda t: t
):
    """One step. Returns the next TrainState and a Report, summed over devices (laws 1 and 4).

    gradient = sum over devices and micro-batches of d(loss sum) / max(sum of the weights, tiny): no valid pixel means a
    gradient of zero, not NaN. With members, sum and weight have one entry per member.
    average: decay of the moving average of parameters, 0 for none; accumulate: micro-batches, one after another.
    """
    sums = summed(method, train_state, batch, key, accumulate=accumulate)
    return moved(optimizer, train_state, *sum_over_devices((sums, requests)), average=average)


def moved(optimizer, train_state, sums, requests, *, average=0.0):
    """The step itself, as `update` does it, of the Sums of all devices and their requests."""
    scale = 1.0 / jnp.maximum(sums.weight, 1e-8)
    gradients = jax.tree.map(lambda g: g * scale.reshape(scale.shape + (1,) * (g.ndim - scale.ndim)), sums.gradients)
    updates, optimizer_state = optimizer.update(gradients, train_state.optimizer, train_state.params)
    updates = jax.tree.map(lambda u: u * train_state.progress.rate_scale, updates)
    params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), train_state.params, updates)
    averaged = train_state.averaged
    if average:
        # Early on the average must not remember the initialisation: its memory grows with the steps taken.
        memory = jnp.minimum(average, (1.0 + train_state.step) / (10.0 + train_state.step))
        averaged = jax.tree.map(lambda old, new: memory * old + (1 - memory) * new, averaged, params)
    # The mean of what each of them made of the state; what nobody changed stays as it is, to the bit.
    state = jax.tree.map(lambda old, by: old + (by / sums.parts).astype(old.dtype), train_state.state, sums.state)
    logs = {"loss": (sums.loss.sum(), sums.weight.sum()), **sums.logs}
    report = Report(logs, _finite(sums.loss, gradients), requests)
    step = train_state.step + 1
    return TrainState(step, params, state, optimizer_state, averaged, train_state.progress), report


def added(found):
    """The Sums of several of them, in their order."""
    return jax.tree.map(lambda first, *others: sum(others, first), *found)


def summed(method, train_state, batch, key, *, accumulate=1):
    """The Sums of a batch, in so many micro-batches: every accumulate-th sample of it."""

    def total(params, state, part):
        loss_sum, weight, state, logs = method.loss(params, state, part, key)
        return loss_sum.sum(), (loss_sum, weight, state, logs)

    def sums(state, part):
        gradients, (loss_sum, weight, state, logs) = jax.grad(total, has_aux=True)(train_state.params, state, part)
        return state, (gradients, loss_sum, weight, logs)

    if accumulate == 1:
        state, found = sums(train_state.state, batch)
    else:
        samples = {name: value for name, value in batch.items() if name != "shared"}
        # The same ones belong together however the batch is shared among devices.
        parts = jax.tree.map(
            lambda x: x.reshape(len(x) // accumulate, accumulate, *x.shape[1:]).swapaxes(0, 1), samples
        )

        def add(carry, part):
            state, found = sums(carry[0], {**part, "shared": batch["shared"]})
            return (state, jax.tree.map(jnp.add, carry[1], found)), None

        part = {**jax.tree.map(lambda x: x[0], parts), "shared": batch["shared"]}
        _, shapes = jax.eval_shape(sums, train_state.state, part)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        (state, found), _ = jax.lax.scan(add, (train_state.state, nothing), parts)
    return Sums(*found, jnp.int32(1), jax.tree.map(jnp.subtract, state, train_state.state))


def _finite(loss_sum, gradients):
    """Whether loss and gradients are numbers, bool of the shape of loss_sum: one answer per member."""
    leading = loss_sum.ndim
    good = [jnp.isfinite(g).all(axis=tuple(range(leading, g.ndim))) for g in jax.tree.leaves(gradients)]
    return jnp.isfinite(loss_sum) & jnp.stack(good).all(0)
