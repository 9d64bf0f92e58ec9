"""The training loop. It runs any Method and knows none."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from maeref_jax.training import checkpoint
from maeref_jax.training.parallel import parallel, split_batch, sum_over_devices
from maeref_jax.training.state import initial_state, update


def train(method, optimizer, batches, validation, settings, workdir):
    """Train until settings["steps"], continuing from the latest checkpoint of `workdir` if there is one.

    batches(step) -> batch of numpy arrays, a pure function of the step; validation: list of batches; settings: steps,
    seed, log_every, evaluate_every. Writes checkpoints/ and metrics.jsonl; a checkpoint is saved at every evaluation.
    Returns {"steps", "seconds", "validation": {name: value}} with the validation metrics of the best checkpoint.
    """
    devices = jax.local_device_count()
    key = jax.random.key(settings["seed"])
    checkpoints = checkpoint.open_checkpoints(workdir)
    first = batches(0)
    fresh = partial(initial_state, method, optimizer)
    train_state = checkpoint.restore_latest(checkpoints, jax.eval_shape(fresh, key, first))
    if train_state is None:
        train_state = jax.device_get(jax.jit(fresh)(key, first))
    step_function = parallel(partial(update, method, optimizer, sum_over_devices=sum_over_devices), first)
    evaluate = jax.jit(method.evaluate)
    start, end, began = int(train_state.step), settings["steps"], time.monotonic()
    log = MetricsLog(workdir, start)
    bar = tqdm(total=end, initial=start, unit="step", desc="train", disable=None, dynamic_ncols=True)
    running = None
    for step, batch in prefetch(batches, range(start, end)):
        train_state, logs = step_function(train_state, split_batch(batch, devices), jax.random.fold_in(key, step))
        if running is not None:  # the logs of the step before, read while this one runs
            log.add(*running, bar)
        running = (step, logs)
        bar.update()
        if (step + 1) % settings["evaluate_every"] == 0 or step + 1 == end:
            log.add(*running, bar)
            running = None
            host_state = jax.device_get(train_state)
            metrics = mean_metrics([evaluate(host_state.params, host_state.state, b) for b in validation])
            log.write(step + 1, metrics)
            checkpoint.save(checkpoints, host_state, metrics)
    bar.close()
    checkpoints.close()
    return {"steps": end, "seconds": round(time.monotonic() - began, 1), "validation": log.best()}


def seconds_per_step(method, optimizer, batch, samples=2):
    """About how long a step takes on one device: two samples of the batch are timed, once compiled, and scaled up."""
    size = len(batch["index"])
    few = {name: value if name == "shared" else value[:samples] for name, value in batch.items()}
    key = jax.random.key(0)
    train_state = jax.jit(partial(initial_state, method, optimizer))(key, few)
    step = jax.jit(partial(update, method, optimizer))
    jax.block_until_ready(step(train_state, few, key))
    began = time.monotonic()
    jax.block_until_ready(step(train_state, few, key))
    return (time.monotonic() - began) * size / min(samples, size)


def prefetch(batches, steps):
    """(step, batch) pairs, the next batch being made while the device works on this one."""
    with ThreadPoolExecutor(1) as worker:
        pending = [(step, worker.submit(batches, step)) for step in list(steps)[:2]]
        for step in steps:
            current, batch = pending.pop(0)
            if step + 2 < steps.stop:
                pending.append((step + 2, worker.submit(batches, step + 2)))
            yield current, batch.result()


def mean_metrics(sums):
    """[{name: (sum, count)}] over batches -> {name: float}: sums and counts added first, divided once (law 4)."""
    total = jax.tree.map(lambda *values: np.sum(values, axis=0), *jax.device_get(sums))
    return {name: float(value / max(count, 1e-8)) for name, (value, count) in total.items()}


class MetricsLog:
    """metrics.jsonl, one line per log or evaluation; lines behind the restored step are dropped on a restart."""

    def __init__(self, workdir, start, every=50):
        self.path, self.every, self.sums = Path(workdir) / "metrics.jsonl", every, []
        # A kill may have cut the last line; what lies behind the checkpoint is written again anyway.
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        whole = [json.loads(line) for line in lines if line.endswith("}")]
        self.lines = [line for line in whole if line["step"] <= start]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def add(self, step, logs, bar):
        self.sums.append(logs)
        if (step + 1) % self.every == 0:
            means = mean_metrics(self.sums)
            self.sums = []
            bar.set_postfix({name: f"{value:.4f}" for name, value in means.items()}, refresh=False)
            self._append({"step": step + 1, **{f"train_{name}": value for name, value in means.items()}})

    def write(self, step, metrics):
        line = {"step": step, **{f"validation_{name}": value for name, value in metrics.items()}}
        self._append(line)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        tqdm.write(f"step {step}: validation {shown}")

    def best(self):
        evaluated = [line for line in self.lines if "validation_loss" in line]
        return min(evaluated, key=lambda line: line["validation_loss"]) if evaluated else {}

    def _append(self, line):
        self.lines.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
