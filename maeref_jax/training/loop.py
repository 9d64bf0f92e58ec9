"""The training loop. It runs any Method and knows none."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.training import checkpoint, pieces
from maeref_jax.training.compiling import RUNS_ONCE, jitted
from maeref_jax.training.interrupt import Requests, agreed
from maeref_jax.training.logs import Logs, mean_metrics
from maeref_jax.training.members import improved, own_losses, untried
from maeref_jax.training.parallel import (
    from_primary,
    is_primary,
    on_one_cpu,
    parallel,
    parallel_sums,
    samples_of,
    shares_of,
    split_batch,
    sum_over_devices,
)
from maeref_jax.training.pictures import ROWS
from maeref_jax.training.state import initial_state, moved, summed, update
from maeref_jax.volumes import progress

WARM_STEPS, PROFILED = 10, 5  # steps before a profile, which are compiled then, and how many it shows


class Run(NamedTuple):
    """What the loop works with. steps: pieces.Steps; pause(train_state, best, evaluate, wait) -> both on
    the host, evaluated and saved; read(running) -> (exit code or None, whether to save).
    """

    steps: Any
    pause: Any
    read: Any
    requests: Requests
    key: Any


@contextmanager
def memory_explained():
    """Turns the device's lack of memory into advice."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise CannotGoOn(
            "out of memory; set a smaller batch, or the same in more micro-batches (optimizer.accumulate), or "
            "model.remat=true, or model.compute_dtype=bfloat16, or, of an ensemble, member_chunk=1"
        ) from error


@memory_explained()
def train(method, optimizer, batches, validation, settings, workdir, start_from=None, profile=False, judged_on="crops"):
    """Train until settings["steps"], continuing from the latest checkpoint of `workdir` if there is one.

    batches(step) -> this process's share of a batch, numpy arrays, a pure function of the step; validation: sequence of
    batches; judged_on: what these are, for people; settings: the config; start_from: params -> params, applied to those
    of a fresh run. Writes checkpoints/, metrics.jsonl and tensorboard/; with `profile`, a trace of a few steps in
    profile/.
    Returns {"steps", "seconds", "validated_on": judged_on, "validation": {name: value}} with the validation metrics of
    what use will take: of the best checkpoint, and its step; with members, of every one at its best, and
    "member_steps", the list of their steps.
    Raises CannotGoOn if loss or gradients stop being numbers, or memory ends. A signal saves and ends in SystemExit.
    """
    workdir, began = epath.Path(workdir), time.monotonic()
    key, first = jax.random.key(settings["seed"]), batches(0)
    average, accumulate = settings["optimizer"]["average"], settings["optimizer"]["accumulate"]
    fresh = jitted(partial(initial_state, method, optimizer, average=average), RUNS_ONCE)
    with checkpoint.open_checkpoints(workdir, settings["checkpoint"]["keep"]) as checkpoints:
        shapes = fresh.eval_shape(key, first)
        check_best(settings, method.evaluate, shapes, validation[0])
        restored = checkpoint.restore_latest(checkpoints, shapes, method.members)
        saving, devices = settings["checkpoint"], jax.local_device_count()
        requests = Requests(saving["minutes"], is_primary(), saving["patience_s"])
        steps = stepper(method, optimizer, first, average, accumulate)
        if restored is None:
            like = shapes, split_batch(first, devices), key, requests.wishes(devices)
            told = "drawing weights" + (", compiling the first step" if steps.prepare else "")
            with progress.showing(told), ThreadPoolExecutor() as beside:
                compiled = [beside.submit(one) for one in (steps.prepare(*like) if steps.prepare else ())]
                train_state = jax.device_get(fresh(key, first))
                for one in compiled:
                    one.result()
            train_state = started(train_state, start_from, average)
            restored = train_state, untried(train_state, method.members)
        train_state, best = restored
        start = int(train_state.step)
        end = start if exhausted(train_state.progress, settings) else settings["steps"]
        logs = Logs(workdir, start, end, settings["batch"], judged_on, is_primary())
        run = Run(
            steps,
            pausing(method, validation, settings, checkpoints, logs, requests),
            partial(read, logs=logs, checkpoints=checkpoints),
            requests,
            key,
        )
        if start >= end:
            logs.say(f"nothing to do: {start} steps are taken already")
        trace = Profile(workdir / "profile" if profile and is_primary() else None, end - start)
        with logs, requests:
            if jax.process_count() > 1:  # the others must not wait for one that has left
                requests.listen()
            train_state, best = take_steps(run, train_state, best, batches, range(start, end), settings, trace)
    seconds = round(time.monotonic() - began, 1)
    summary = {"steps": int(train_state.step), "seconds": seconds, "validated_on": judged_on}
    if best is None:
        return {**summary, "validation": logs.at(int(train_state.progress.best_step))}
    found = validated(parallel_sums(method.evaluate), best.params, best.state, validation)
    named = {f"validation_{name}": value for name, value in found.items()}
    return {**summary, "member_steps": best.step.tolist(), "validation": named}


def stepper(method, optimizer, batch, average=0.0, accumulate=1):
    """The pieces.Steps over all devices, of whose batches one is given; on one CPU in pieces, by threads."""
    if on_one_cpu() and method.members is None:
        summing, shares = partial(summed, method, accumulate=accumulate), shares_of(len(batch["index"]), accumulate)
        return pieces.share_by_share(summing, partial(moved, optimizer, average=average), shares)
    stepping = partial(update, method, optimizer, average=average, accumulate=accumulate)
    if on_one_cpu() and method.apart is not None:
        return pieces.member_by_member(stepping, method)
    step = parallel(partial(stepping, sum_over_devices=sum_over_devices), batch)
    return pieces.Steps(step)


def take_steps(run, train_state, best, batches, steps, settings, profile):
    """The loop itself. Returns the last TrainState and members.Best, on the host. The report of a step is read while
    the next one runs; a batch is made while two steps before it run, and sent while one does.
    """
    devices, running = jax.local_device_count(), None
    with profile:
        for step, batch in prefetch(batches, steps):
            profile.at(step - steps.start)
            sent = split_batch(batch, devices), jax.random.fold_in(run.key, step), run.requests.wishes(devices)
            train_state, report = run.steps.take(train_state, *sent)
            run.requests.listen()  # compiled: from here on there is something to save
            exit_code, save = run.read(running)
            running = (step, report, batch["index"])
            evaluate = (step + 1) % settings["evaluate_every"] == 0 or step + 1 == steps.stop
            if not (evaluate or save):
                continue
            late_code, _ = run.read(running)
            exit_code, running = exit_code or late_code, None
            train_state, best = run.pause(train_state, best, evaluate, wait=exit_code is not None)
            if exit_code is not None:
                run.requests.leave(exit_code, step + 1)
            if exhausted(train_state.progress, settings):
                break
    return train_state, best


def read(running, logs, checkpoints):
    """Log the report of a step: (exit code or None, whether to save) that all processes agreed on at that step.

    Raises CannotGoOn where loss or gradients were not finite; such a step is never saved.
    """
    if running is None:
        return None, False
    step, report, index = running
    report = jax.device_get(report)
    if not np.all(report.finite):
        members = f" of members {np.flatnonzero(~report.finite).tolist()}" if report.finite.ndim else ""
        last = checkpoints.latest_step()
        raise CannotGoOn(
            f"loss or gradients{members} are not finite at step {step + 1}, samples {index[0]} to {index[-1]} of its "
            f"batch; the last good checkpoint is {'none yet' if last is None else f'that of step {last}'}. Set a lower "
            "optimizer.rate, a smaller optimizer.clip or compute_dtype=float32, in a new --workdir"
        )
    logs.add(step, report.logs)
    return agreed(report.requests)


def pausing(method, validation, settings, checkpoints, logs, requests):
    """pause(train_state, best, evaluate, wait): bring the state to the host, evaluate it if asked, save it, hand it
    back with the members.Best so far.

    Without `wait` the checkpoint is written while training goes on.
    """
    evaluate_batch, preview = parallel_sums(method.evaluate), jax.jit(method.preview) if method.preview else None
    few = samples_of(validation[0], 0, ROWS)

    def pause(train_state, best, evaluate, wait):
        # Copies: what the device holds is given away to the next step.
        train_state, score = pieces.together(jax.device_get(train_state), method), np.inf
        train_state = jax.tree.map(np.array, train_state)
        if evaluate:
            model = train_state.used, train_state.state
            with progress.showing("validating"):
                metrics = validated(evaluate_batch, *model, validation)
            score = from_primary(scored(metrics, settings))
            if not np.isfinite(score):
                raise CannotGoOn(f"validation at step {train_state.step} gives {metrics}, which cannot be compared")
            train_state = train_state._replace(progress=progressed(train_state, score, settings))
            if best is not None:
                losses = from_primary(own_losses(metrics, method.members))
                best = improved(best, train_state, losses, method.member_state)
                score = best.loss.sum(dtype=np.float64)
            shown = jax.device_get(preview(*model, few)) if preview else None
            logs.evaluated(int(train_state.step), metrics, shown, settings)
        checkpoint.save(checkpoints, train_state, settings, score, best)
        if wait:
            checkpoints.wait_until_finished()
        requests.was_saved()
        return train_state, best

    return pause


def validated(evaluate_batch, params, state, validation):
    """{name: float} over all validation batches."""
    return mean_metrics([evaluate_batch(params, state, batch) for batch in validation])


def scored(metrics, settings):
    """What the best checkpoint is chosen by, the lower the better."""
    name = settings["checkpoint"]["best"]
    return -metrics[name[1:]] if name.startswith("-") else metrics[name]


def check_best(settings, evaluate, train_state, batch):
    """BadInput unless checkpoint.best is something that evaluation yields."""
    names = sorted(jax.eval_shape(evaluate, train_state.params, train_state.state, batch))
    if settings["checkpoint"]["best"].removeprefix("-") not in names:
        found = settings["checkpoint"]["best"]
        raise BadInput(f"checkpoint.best must be one of {', '.join(names)}, or -NAME for the highest; found {found}")


def progressed(train_state, score, settings):
    """The Progress after an evaluation. On a plateau, the rate is lowered every `patience` evaluations without a better
    score.
    """
    old, optimizer = train_state.progress, settings["optimizer"]
    if score < old.best:
        return old._replace(best=np.float32(score), best_step=np.int32(train_state.step), stale=np.int32(0))
    stale = int(old.stale) + 1
    lower = optimizer["schedule"] == "plateau" and stale % optimizer["patience"] == 0
    scale = old.rate_scale * np.float32(optimizer["decay"] if lower else 1)
    return old._replace(stale=np.int32(stale), rate_scale=np.float32(scale))


def exhausted(progress, settings):
    """Early stopping: `stop_after` evaluations in a row without a better score; 0 never stops."""
    return 0 < settings["stop_after"] <= int(progress.stale)


def started(train_state, start_from, average):
    """A fresh TrainState, with the parameters that `start_from` makes of its own."""
    if start_from is None:
        return train_state
    params = start_from(train_state.params)
    return train_state._replace(params=params, averaged=jax.tree.map(np.copy, params) if average else ())


class Profile:
    """A trace of PROFILED steps, or as many as there are, in `folder`; None for none."""

    def __init__(self, folder, steps):
        self.folder, self.running = folder, False
        self.first = max(0, min(WARM_STEPS, steps - PROFILED))

    def __enter__(self):
        return self

    def at(self, step):
        """To be called before every step, counted from the start of this run."""
        if self.folder is not None and step == self.first:
            jax.profiler.start_trace(str(self.folder))
            self.running = True
        elif step == self.first + PROFILED:
            self.__exit__()

    def __exit__(self, *error):
        if self.running:
            jax.profiler.stop_trace()
            self.running = False
            print(f"wrote a profile to {self.folder}", file=sys.stderr, flush=True)


def prefetch(batches, steps):
    """(step, batch) pairs, the next two batches being made while the devices work on this one."""
    with ThreadPoolExecutor(1) as worker:
        pending = [(step, worker.submit(batches, step)) for step in list(steps)[:2]]
        for step in steps:
            current, batch = pending.pop(0)
            if step + 2 < steps.stop:
                pending.append((step + 2, worker.submit(batches, step + 2)))
            yield current, batch.result()
