"""The parts of gpu.py that measure networks: parity with the CPU, speed, mapping of members, batches."""

import os
import subprocess
import sys
import time
from pathlib import Path

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
    distance,
    first_state,
    first_weights,
    is_out_of_memory,
    number,
    precision,
    random_batch,
    step_operations,
)
from gpu_steps import MIB, compiled_step, timed_step

from maeref_jax.report.table import Table

STEPS = 20
# Largest difference from the CPU that still is the same: of values and of gradients, by their norms, and of losses.
TOLERANCES = {"float32": (1e-4, 1e-3, 1e-3), "tf32": (1e-2, 3e-2, 3e-2), "bfloat16": (5e-2, 0.3, 0.1)}
TINY = ("float32",)  # the precisions of --tiny
MODELS = {"mae": "masked autoencoder", "ensemble": "six U-Nets"}


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
    losses = f"losses of {setup.sized(STEPS, 3)} steps"
    header = ("", "values", "gradients", losses, "last, CPU", "last, here", "within tolerance")
    note = (
        "Of the CPU in float32: ‖difference‖ / ‖CPU‖ of class probabilities and of all gradients, and the largest "
        "relative difference of a loss; behind each, what is tolerated."
    )
    return Found([Table("Parity with the CPU", header, rows, (), note)])


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
        for number_of_step in range(setup.sized(STEPS, 3)):
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


def forget(setup, part):
    """Removes what the CPU answered."""
    for path in setup.scratch.glob("reference_*.npz"):
        path.unlink()


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
        except Exception as error:  # jax has no class of its own for memory that is out
            if not is_out_of_memory(error) or batch == 1:
                raise
        batch //= 2
        setup.check_time()


def crops_of(settings, batch):
    return batch * (settings["members"] if settings["method"] == "ensemble" else 1)


def peak_of(setup, how):
    with precision(how):
        return measuring.best_flops(setup.sized(None, 64), jnp.dtype(PRECISIONS[how][0]))


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
    title = f"Mapping of {settings['members']} members, {setup.sized(settings['batch'], 2)} crops each"
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
