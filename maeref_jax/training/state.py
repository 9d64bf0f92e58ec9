"""What a training run carries from step to step, and how one step changes it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from maeref_jax.errors import BadInput


class TrainState(NamedTuple):
    """step: int, steps already taken; params; state: what changes without gradients; optimizer: optax's state."""

    step: Any
    params: Any
    state: Any
    optimizer: Any


SCHEDULES = ("constant", "cosine")


def learning_rate(settings):
    """Schedule of `settings` (rate, schedule, warmup_steps) over `steps`: constant or cosine, both after a warm-up."""
    if settings["schedule"] not in SCHEDULES:
        raise BadInput(f"optimizer.schedule must be one of {', '.join(SCHEDULES)}, found {settings['schedule']!r}")
    warmup, steps, rate = settings["warmup_steps"], settings["steps"], settings["rate"]
    if settings["schedule"] == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0 if warmup else rate, rate, warmup, max(steps, warmup + 1))
    return optax.join_schedules(
        [optax.linear_schedule(0.0, rate, max(warmup, 1)), optax.constant_schedule(rate)], [warmup]
    )


def build_optimizer(settings, members=None):
    """AdamW with optional clipping (0 = off). With `members`, every ensemble member is clipped by itself (law 6)."""
    clip = optax.clip_by_global_norm(settings["clip"]) if settings["clip"] else optax.identity()
    adamw = optax.adamw(learning_rate(settings), b2=settings["b2"], weight_decay=settings["weight_decay"])
    # AdamW works number by number, so only the clipping has to be told about the member axis.
    return optax.chain(clip if members is None else _per_member(clip), adamw)


def _per_member(transformation):
    """A transformation without state, applied to every slice of the leading axis by itself."""

    def update(updates, state, params=None):
        return jax.vmap(lambda u: transformation.update(u, state)[0])(updates), state

    return optax.GradientTransformation(transformation.init, update)


def initial_state(method, optimizer, key, batch):
    """TrainState at step 0. `batch` gives the shapes and whatever statistics the method keeps."""
    params, state = method.init(key, batch)
    return TrainState(jnp.zeros((), jnp.int32), params, state, optimizer.init(params))


def update(method, optimizer, train_state, batch, key, sum_over_devices=lambda tree: tree):
    """One step. Returns the next TrainState and logs {name: (sum, count)}, summed over devices (laws 1 and 4).

    gradient = sum over devices of d(loss sum) / max(sum over devices of the weights, tiny): no valid pixel means a
    gradient of zero, not NaN. With members, sum and weight have one entry per member.
    """

    def total(params):
        loss_sum, weight, state, logs = method.loss(params, train_state.state, batch, key)
        return loss_sum.sum(), (loss_sum, weight, state, logs)

    gradients, (loss_sum, weight, state, logs) = jax.grad(total, has_aux=True)(train_state.params)
    gradients, loss_sum, weight, logs = sum_over_devices((gradients, loss_sum, weight, logs))
    scale = 1.0 / jnp.maximum(weight, 1e-8)
    gradients = jax.tree.map(lambda g: g * scale.reshape(scale.shape + (1,) * (g.ndim - scale.ndim)), gradients)
    updates, optimizer_state = optimizer.update(gradients, train_state.optimizer, train_state.params)
    params = optax.apply_updates(train_state.params, updates)
    logs = {"loss": (loss_sum.sum(), weight.sum()), **logs}
    return TrainState(train_state.step + 1, params, state, optimizer_state), logs
