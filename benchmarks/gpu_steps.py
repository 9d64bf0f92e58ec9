"""A training step of gpu.py's models: compiled once, and timed."""

import functools
import json
import time
from typing import NamedTuple
from unittest import mock

import jax
import numpy as np
from gpu_setup import first_state, method_and_optimizer, precision

from maeref_jax.models import blocks
from maeref_jax.models.attention import attention
from maeref_jax.training.state import update

MIB = 2**20
_steps = {}  # what compiled_step has compiled


class Timed(NamedTuple):
    """Seconds of a step and of compiling it; bytes that the compiler sets aside for a step, NaN where it is silent."""

    step: float
    compiling: float
    memory: float


def timed_step(settings, batch, how, steps, form=attention):
    """The Timed of a training step in one of PRECISIONS: `steps` of them, sent off one after the other, as training
    does, and waited for together. form: of attention.
    """
    with precision(how):
        step, compiling = compiled_step(settings, batch, how, form)
        state, batch, key = jax.device_put((first_state(settings, batch), batch, jax.random.key(1)))
        state, _ = jax.block_until_ready(step(state, batch, key))
        began = time.perf_counter()
        for _ in range(steps):
            state, report = step(state, batch, key)
        jax.block_until_ready((state, report))
        seconds, memory = (time.perf_counter() - began) / steps, step.memory_analysis()
    return Timed(seconds, compiling, memory.temp_size_in_bytes if memory else float("nan"))


def compiled_step(settings, batch, how, form=attention):
    """step(state, batch, key), which gives the state away, and the seconds that compiling it took; compiled once."""
    shapes = jax.tree.map(lambda leaf: (np.shape(leaf), str(leaf.dtype)), batch)
    name = json.dumps((settings, shapes, how), default=str), form
    if name not in _steps:
        method, optimizer = method_and_optimizer(settings)
        state, began = first_state(settings, batch), time.perf_counter()
        step = jax.jit(functools.partial(update, method, optimizer), donate_argnums=0)
        with mock.patch.object(blocks, "attention", form):
            _steps[name] = step.lower(state, batch, jax.random.key(1)).compile(), time.perf_counter() - began
    return _steps[name]
