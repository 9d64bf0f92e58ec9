"""How fast a network is on this machine, and what its calls take, without a volume: for a plan (plan.py)."""

import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from maeref_jax.pipeline.blockwise import one_refinement, one_segmentation
from maeref_jax.pipeline.jobs import Model, Settings
from maeref_jax.pipeline.programs import calls_beside
from maeref_jax.records import Segmenter
from maeref_jax.volumes import progress, threads
from maeref_jax.volumes.labels import real_classes

_TIMED_WINDOWS = 2
_TIMED_S = 2.0


class Speed(NamedTuple):
    """Of one network: seconds a window on this machine, operations a window, bytes that a call of `batch` windows needs
    beside its input."""

    seconds: float
    operations: float
    bytes: int


def measure(model: Model, settings: Settings, members: Sequence[int] | None = None) -> Speed:
    """Times a few windows of zeros, after compiling. Time does not depend on the values, but for refiners with
    Refiner.lengths, for which this is the most that a window takes.
    """
    variables = model.params, model.state
    function, make = _call(model, settings, members)
    batch = settings.batch if jax.default_backend() != "cpu" else min(settings.batch, _TIMED_WINDOWS)
    with progress.showing(f"compiling {model.workdir}"):
        compiled = jax.jit(function).lower(*variables, *make(batch)).compile()
        jax.block_until_ready(compiled(*variables, *make(batch)))
    count, began = 0, time.perf_counter()
    while not count or time.perf_counter() - began < _TIMED_S:  # as blockwise.py calls it
        calls = [(*variables, *make(batch)) for _ in range(calls_beside())]
        list(threads.in_order(lambda arguments: jax.block_until_ready(compiled(*arguments)), calls))
        count += batch * len(calls)
    seconds = (time.perf_counter() - began) / count
    operations = operations_of(jax.make_jaxpr(function)(*variables, *make(batch)).jaxpr) / batch
    analysis = compiled.memory_analysis()
    needed = (analysis.temp_size_in_bytes + analysis.output_size_in_bytes) * settings.batch // batch if analysis else 0
    return Speed(seconds, operations, needed)


def operations_of(jaxpr) -> float:
    """Floating-point operations of the matrix products and convolutions of a jaxpr, loops with their known lengths."""
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            lengths = (equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(lengths)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / outputs
        inner = [operations_of(getattr(part, "jaxpr", part)) for part in _inner(params)]
        # Of the branches of a condition one is taken, the others of these have one part.
        total += params.get("length", 1) * (max(inner, default=0.0) if name == "cond" else sum(inner))
    return total


def _inner(params: dict) -> Iterable:
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                yield part


def _call(model: Model, settings: Settings, members) -> tuple[Callable, Callable]:
    """The function of one call of a network, and what makes its input for so many windows."""
    apply = model.apply
    if isinstance(apply, Segmenter):
        function = functools.partial(one_segmentation, apply.predict, members, settings.entropy_kind)
        return function, lambda batch: (np.zeros((batch, *apply.window), np.float32),)
    dtypes = {"labels": np.int16, "entropy": np.float32, "hidden": bool}
    dtypes |= dict.fromkeys(apply.needs, np.float32)
    scheme = model.settings["classes"]
    classes = {"probabilities": (real_classes(scheme),), "stored_probabilities": (len(scheme["names"]),)}

    def make(batch):
        shapes = {name: (batch, *apply.window, *classes.get(name, ())) for name in dtypes}
        if apply.context:
            dtypes["slices"], shapes["slices"] = np.int16, (batch, *apply.window)
            for name in (*apply.needs, "slices"):
                shapes[name] = (batch, 2 * apply.context + 1, *shapes[name][1:])
        return {name: np.zeros(shapes[name], dtype) for name, dtype in dtypes.items()}, jax.random.key(0)

    return functools.partial(one_refinement, apply.refine), make
