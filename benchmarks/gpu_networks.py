"""The parts of gpu.py that measure networks: parity with the CPU, speed, attention, mapping of members, batches."""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import measuring
import numpy as np
import optax
from gpu_setup import (
    PRECISIONS,
    RATIO,
    Found,
    applied,
    attempt,
    first_state,
    first_weights,
    is_out_of_memory,
    method_and_optimizer,
    number,
    precision,
    random_batch,
    step_operations,
)

from maeref_jax.models import blocks
from maeref_jax.models.attention import at_once, attention
from maeref_jax.report.table import Table
from maeref_jax.training.state import update

STEPS = 20
# Largest difference from the CPU that still is the same: of values and of gradients, by their norms, and of losses.
TOLERANCES = {"float32": (1e-4, 1e-3, 1e-3), "tf32": (1e-2, 3e-2, 3e-2), "bfloat16": (5e-2, 0.3, 0.1)}
TINY = ("float32",)  # the precisions of --tiny
_steps = {}  # what compiled_step has compiled
MODELS = {"mae": "masked autoencoder", "ensemble": "six U-Nets"}
MIB = 2**20


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
    name = json.dumps((settings, shapes, how, form.__qualname__), default=str)
    if name not in _steps:
        method, optimizer = method_and_optimizer(settings)
        state, began = first_state(settings, batch), time.perf_counter()
        step = jax.jit(functools.partial(update, method, optimizer), donate_argnums=0)
        with mock.patch.object(blocks, "attention", form):
            _steps[name] = step.lower(state, batch, jax.random.key(1)).compile(), time.perf_counter() - began
    return _steps[name]


def parity(setup):
    """The same weights, batches and keys here and on the CPU: values in use, gradients, and losses of a training."""
    rows = []
    for model, name in MODELS.items():
        wanted = reference(setup, model)
        for how in setup.sized(tuple(PRECISIONS), TINY):
            setup.check_time()

            def compared(model=model, how=how, wanted=wanted):
                found, limits = answers(setup, model, how), TOLERANCES[how]
                values, gradients = (distance(found[kind], wanted[kind]) for kind in ("values", "gradients"))
                losses = np.abs(found["losses"] / wanted["losses"] - 1).max()
                differences = (values, gradients, losses)
                cells = [f"{one:.1e} of {most:g}" for one, most in zip(differences, limits, strict=True)]
                same = all(one <= most for one, most in zip(differences, limits, strict=True))  # NaN never passes
                return (*cells, f"{wanted['losses'][-1]:.4f}", f"{found['losses'][-1]:.4f}", "yes" if same else "NO")

            rows.append(attempt(f"{name}, {how}", 7, compared))
    header = ("", "values", "gradients", f"losses of {STEPS} steps", "last, CPU", "last, here", "within tolerance")
    note = (
        "Of the CPU in float32: ‖difference‖ / ‖CPU‖ of class probabilities and of all gradients, and the largest "
        "relative difference of a loss; behind each, what is tolerated."
    )
    return Found([Table("Parity with the CPU", header, rows, (), note)])


def distance(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def answers(setup, model, how):
    """{"values", "gradients", "losses"}: float32 arrays of one dimension, of two crops (and two members)."""
    settings = setup.settings(model, how, **({"members": 2} if model == "ensemble" else {}))
    batch, key, apply = random_batch(settings, 2), jax.random.key(1), applied(settings)
    hidden = np.zeros((2, *settings["window"]), bool)
    hidden[:, : hidden.shape[1] // 2] = True

    def values(params, rest):
        if model == "ensemble":
            return apply.predict(params, rest, batch["image"][:, 0])
        return apply.refine(params, rest, {"labels": batch["labels"], "hidden": hidden}, key)

    with precision(how):
        found = jax.jit(values)(*first_weights(settings))
        step, _ = compiled_step(settings, batch, how)
        state, losses = jax.device_put(first_state(settings, batch)), []
        for number_of_step in range(STEPS):
            state, report = step(state, batch, jax.random.fold_in(key, number_of_step))
            losses.append(report.logs["loss"])
            if number_of_step == 0:  # after one step that is a tenth of the gradient, clipped
                gradients = jax.device_get(optax.tree_utils.tree_get(state.optimizer, "mu"))
        losses = [float(total / weight) for total, weight in jax.device_get(losses)]
    gradients = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradients)])
    return {"values": np.ravel(found), "gradients": gradients, "losses": np.array(losses, np.float32)}


def reference(setup, model):
    """The answers of the CPU in float32: of a process of its own, which takes the forms that the CPU takes."""
    if jax.default_backend() == "cpu":
        return answers(setup, model, "float32")
    path = setup.scratch / f"reference_{model}.npz"
    if not path.exists():
        setup.scratch.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(Path(__file__).parent / "gpu.py"), "--reference", str(path), "--only", "parity"]
        subprocess.run(command + ["--tiny"] * setup.tiny, check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    with np.load(path) as found:
        return dict(found)


def write_reference(setup, path):
    """What the process of `reference` does: path is that of the model that its name ends with."""
    found = answers(setup, path.stem.removeprefix("reference_"), "float32")
    part = path.with_suffix(".part.npz")
    np.savez(part, **found)
    part.replace(path)


def speed(setup):
    """Both models in all precisions, by the batch of their configs, or by half of it as often as memory ends."""
    rows, facts = [], {}
    for model, name in MODELS.items():
        for how in setup.sized(tuple(PRECISIONS), TINY):
            setup.check_time()

            def measured(model=model, how=how):
                settings, peak = setup.settings(model, how), peak_of(setup, how)
                batch, timed = largest_that_fits(setup, settings, setup.sized(settings["batch"], 2), how)
                work = step_operations(settings, random_batch(settings, batch)) / timed.step
                facts[f"{model}/{how}"] = {"batch": batch, "step": timed.step}
                cells = (batch, 1000 * timed.step, 1 / timed.step, crops_of(settings, batch) / timed.step, work / 1e12)
                cells = (*cells, peak / 1e12, work / peak, timed.compiling, timed.memory / MIB)
                return tuple(map(number, cells))

            rows.append(attempt(f"{name}, {how}", 10, measured))
    header = (
        "training step",
        "batch",
        "ms",
        "steps/s",
        "crops/s",
        "TFLOP/s",
        "peak TFLOP/s",
        "MFU",
        "compile s",
        "MiB",
    )
    note = (
        "Peak: a large matrix product of that precision on this device. MFU: the operations of matrix products and "
        "convolutions, three times those of the forward pass, by time and peak. MiB: temporary memory of a step. "
        f"{RATIO:.0%} of the tokens are hidden; crops of all members count."
    )
    return Found([Table("Speed of training", header, rows, (), note)], facts)


def largest_that_fits(setup, settings, batch, how):
    """(batch, Timed) of the given batch, halved until memory suffices."""
    while True:
        try:
            return batch, timed_step(settings, random_batch(settings, batch), how, setup.sized(20, 2))
        except Exception as error:
            if not is_out_of_memory(error) or batch == 1:
                raise
        batch //= 2
        setup.check_time()


def crops_of(settings, batch):
    return batch * (settings["members"] if settings["method"] == "ensemble" else 1)


def peak_of(setup, how):
    with precision(how):
        return measuring.best_flops(setup.sized(None, 64), jnp.dtype(PRECISIONS[how][0]))


def attention_forms(setup):
    """Every form at the shapes of the masked autoencoder, and a training step with each of them in it."""
    how, batch = setup.sized("bfloat16", "float32"), setup.sized(64, 2)
    settings = setup.settings("mae", how)
    rows, steps = [], []
    for what, shape in attention_shapes(settings, batch).items():
        wanted = prepared(at_once, shape, "float32")[0]()[0]
        for name, form in setup.sized(FORMS, TINY_FORMS).items():
            setup.check_time()

            def measured(form=form, shape=shape, wanted=wanted):
                forward, both = prepared(form, shape, PRECISIONS[how][0])
                wrong = distance(np.asarray(forward()[0], np.float32), np.asarray(wanted))
                seconds = measuring.alternating({"forward": forward, "both": both}, setup.sized(20, 1))
                return (*(number(1e6 * one) for one in seconds.values()), f"{wrong:.1e}")

            rows.append(attempt(f"{what} {shape}, {name}", 4, measured))
    crops = random_batch(settings, batch)
    for name, form in setup.sized(FORMS, TINY_FORMS).items():
        setup.check_time()

        def stepped(form=form):
            timed = timed_step(settings, crops, how, setup.sized(20, 2), form)
            return tuple(map(number, (1000 * timed.step, batch / timed.step, timed.memory / MIB)))

        steps.append(attempt(name, 4, stepped))
    note = f"{how}; error: ‖difference‖ / ‖einsum in float32‖. A form that cannot do a shape here says why."
    header = ("(batch, tokens, heads, width)", "forward µs", "and backward µs", "error")
    step = Table(
        f"A training step of the masked autoencoder, {batch} crops, by form of attention",
        *(("form", "ms", "crops/s", "MiB"), steps, (), f"{how}; the first is the library's own."),
    )
    return Found([Table("Forms of attention", header, rows, (), note), step])


def attention_shapes(settings, batch):
    model, token = settings["model"], settings["token"]
    tokens = settings["window"][0] * settings["window"][1] // token**2
    kept = len(random_batch(settings, 1)["shared"]["slots"])

    def shape(which, length):
        heads = model[f"{which}_heads"]
        return batch, length + 1, heads, model[f"{which}_width"] // heads

    return {"encoder": shape("encoder", kept), "decoder": shape("decoder", tokens)}


def prepared(form, shape, dtype):
    """Two calls that wait for their results: attention, and it with its gradients, of fixed random inputs."""
    rng = np.random.default_rng(0)
    arrays = [jax.device_put(rng.normal(size=shape).astype(dtype)) for _ in range(3)]
    valid = jax.device_put(np.arange(shape[1])[None] < np.full((shape[0], 1), shape[1] - 5))

    def total(*arrays):
        found = form(*arrays, valid).astype(jnp.float32)
        return (found**2).sum(), found

    with precision("float32"):
        both = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True)).lower(*arrays).compile()
        forward = jax.jit(lambda *arrays: (form(*arrays, valid),)).lower(*arrays).compile()
    return (lambda: jax.block_until_ready(forward(*arrays))), (lambda: jax.block_until_ready(both(*arrays)))


def by_jax(implementation):
    def form(query, key, value, valid):
        mask = jnp.broadcast_to(valid[:, None, None], (len(valid), 1, query.shape[1], key.shape[1]))
        return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation=implementation)

    return form


def by_pallas(query, key, value, valid):
    """The kernel that comes with jax: lengths are a multiple of its blocks, heads at least 16 wide."""
    from jax.experimental.pallas.ops.gpu import attention as kernel

    length, width = query.shape[1], query.shape[-1]
    pads = ((0, 0), (0, -length % 128), (0, 0), (0, max(16 - width, 0)))
    query, key, value = (jnp.pad(x, pads) for x in (query, key, value))
    segments = jnp.pad(valid, pads[:2]).astype(jnp.int32)  # attention stays within a segment
    found = kernel.mha(query, key, value, segments, sm_scale=width**-0.5)
    return found[:, :length, :, :width]


def by_tokamax(query, key, value, valid):
    import tokamax

    return tokamax.dot_product_attention(query, key, value, mask=valid[:, None, None])


FORMS = {
    "the library's": attention,
    "jax.nn, XLA": by_jax("xla"),
    "jax.nn, cuDNN": by_jax("cudnn"),
    "Pallas": by_pallas,
    "tokamax": by_tokamax,
}


TINY_FORMS = {name: form for name, form in FORMS.items() if name != "jax.nn, XLA"}


def mapping(setup):
    """All members at once, or one after the other."""
    rows = []
    for how in setup.sized(("tf32", "bfloat16"), TINY):
        for mapped in ("vmap", "scan"):
            setup.check_time()

            def measured(how=how, mapped=mapped):
                settings = setup.settings("ensemble", how, member_mapping=mapped)
                batch = random_batch(settings, setup.sized(settings["batch"], 2))
                timed = timed_step(settings, batch, how, setup.sized(20, 2))
                use = prediction(settings, batch["image"][:, 0], how, setup.sized(20, 2))
                return tuple(map(number, (1000 * timed.step, 1000 * use, timed.compiling, timed.memory / MIB)))

            rows.append(attempt(f"{mapped}, {how}", 5, measured))
    settings = setup.settings("ensemble")
    title = f"Mapping of {settings['members']} members, {settings['batch']} crops each"
    header = ("", "training step ms", "prediction ms", "compile s", "MiB")
    note = "Scan computes activations again in the backward pass. MiB: temporary memory of a training step."
    return Found([Table(title, header, rows, (), note)])


def prediction(settings, images, how, times):
    """Seconds of a prediction of all members, such as refine.py asks for."""
    with precision(how):
        predict = jax.jit(applied(settings).predict)
        given = jax.device_put((*first_weights(settings), images))
        jax.block_until_ready(predict(*given))
        began = time.perf_counter()
        found = [predict(*given).sum() for _ in range(times)]
        jax.block_until_ready(found)
    return (time.perf_counter() - began) / times


def batches(setup):
    """Twice the batch until memory ends."""
    rows = []
    for model, name in MODELS.items():
        for how in setup.sized(("float32", "bfloat16"), TINY):
            settings = setup.settings(model, how)
            first = setup.sized(max(1, settings["batch"] // 4), 2)
            for batch in (first * 2**i for i in range(setup.sized(10, 1))):
                setup.check_time()

                def measured(settings=settings, batch=batch, how=how):
                    timed = timed_step(settings, random_batch(settings, batch), how, setup.sized(5, 2))
                    crops = crops_of(settings, batch) / timed.step
                    return tuple(map(number, (1000 * timed.step, crops, timed.memory / MIB)))

                rows.append(attempt(f"{name}, {how}, batch {batch}", 4, measured))
                if not rows[-1][-1]:  # it failed: so will larger ones
                    break
    header = ("training step", "ms", "crops/s", "MiB")
    return Found([Table("Batches up to the memory's end", header, rows, (), "MiB: temporary memory of a step.")])
