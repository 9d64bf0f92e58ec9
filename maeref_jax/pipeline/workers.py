"""The blocks of one volume, shared out to worker processes by daisy (version 2 or newer; an extra: pip install daisy).

daisy knows the blocks, which of them a block of the second pass reads, and starts, watches and restarts the workers.
Each worker is a process of its own, which opens the same output and does, with the same function as a single process,
what it is given; where that has a mark already there is nothing to do. A worker that dies loses its block, and another
one does it. All of them end with the process that started them (watched.py), and come to daisy by a gate that asks for
the run's token (gate.py). What daisy believes to be done is done where it is marked and nowhere else: a worker does
itself what its block needs of the pass before, and is not.
"""

import functools
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from maeref_jax.errors import BadInput, CannotGoOn, tell
from maeref_jax.pipeline import gate, parts, watched
from maeref_jax.results import marks
from maeref_jax.results.place import Output
from maeref_jax.volumes import progress
from maeref_jax.volumes.windows import Box

RESTARTS = 3  # of workers, and of a block
LONGEST_S = 86400.0  # a block; then another worker does it. daisy's own limit, ten minutes, is less than some take
PASS = "MAEREF_PASS"  # the environment variable of what a worker is let in by
# Thread pools of XLA, of numpy's libraries; and memory of an accelerator is taken as needed: workers may share one.
_THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def share_out(
    place: Output,
    grid: Sequence[int],
    steps: dict[str, Sequence[int]],
    workers: int,
    command: Sequence[str],
    local: bool = True,
    host: str = "",
    say: Callable[[str], None] = tell,
) -> None:
    """Has all blocks of the passes done, by so many worker processes at a time; those whom daisy believes may say so of
    blocks that have no mark.

    grid: number of blocks along z, y, x; steps: the passes in order, and how many blocks around a block each of them
    reads of the one before; command: starts a worker, which calls `serve`; local: all workers are on this machine;
    host: where they reach it, "" for this machine alone.

    Raises:
        BadInput: daisy is not installed, or nobody can listen at that host.
        CannotGoOn: a block failed, or workers died, too often.
    """
    daisy = _daisy()
    with gate.guarded(host or gate.LOOPBACK) as given:
        near = "this machine only" if given.host == gate.LOOPBACK else "with the token of this run only"
        say(f"{place.stem}: {workers} workers, who come to {given.host} port {given.port}, {near}")
        _share_out(daisy, place, grid, steps, workers, command, local, given)


def _share_out(daisy, place, grid, steps, workers, command, local, given) -> None:
    # Elsewhere, whoever starts the worker says how many cores it has.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = max(1, cores // workers) if local else None
    become = functools.partial(_become, list(command), threads, given.text)
    daisy.logging.set_log_basedir(place.progress / "logs")
    pipeline = None
    for step, reach in steps.items():
        task = daisy.Task(
            step,
            total_roi=daisy.Roi([-n for n in reach], [size + 2 * n for size, n in zip(grid, reach, strict=True)]),
            read_roi=daisy.Roi([-n for n in reach], [1 + 2 * n for n in reach]),
            write_roi=daisy.Roi((0, 0, 0), (1, 1, 1)),
            process_function=become,
            read_write_conflict=False,
            max_workers=workers,
            max_retries=RESTARTS,
            max_worker_restarts=RESTARTS,
            timeout=LONGEST_S,
            requires={"processes": 1},
        )
        pipeline = task if pipeline is None else pipeline + task

    def finished():
        return sum(len(marks.finished(place, step)) for step in steps)

    total = len(steps) * math.prod(grid)
    with progress.showing(f"{place.stem}: {workers} workers", total, "block", done=finished(), count=finished):
        # A Server gives the states where run_blockwise raises something that does not tell the worker's last words.
        states = daisy.Server().run_blockwise(
            pipeline,
            resources={"processes": workers},
            progress=False,
            block_tracking=False,
            summary=False,
            host=gate.LOOPBACK,
        )
    for step in steps:  # daisy has them in another order; the first one that failed says why
        state = states[step]
        if state.completed_count != state.total_block_count:
            failed = state.total_block_count - state.completed_count
            why = _last_line(state.last_worker_error or "")
            raise CannotGoOn(f"{place.stem}: {failed} blocks of the pass '{step}' could not be done; {why}")


def serve(
    passes: dict[str, Callable[[Box], None]],
    place: Output,
    shape: Sequence[int],
    block: Sequence[int],
    before: dict[str, dict[str, Any]],
) -> None:
    """A worker: does the blocks that daisy gives it, until there are no more.

    before: of each pass, `Run.before` of it.

    Raises:
        CannotGoOn: there is no way to the run, or it does not know this worker.
    """
    daisy = _daisy()
    if missing := [name for name in (PASS, daisy.Context.ENV_VARIABLE) if name not in os.environ]:
        raise CannotGoOn(
            f"a worker finds its run by {' and '.join(missing)} of its environment, which are not there; "
            "--config.worker_command has to pass the environment on"
        )
    context = daisy.Context.from_env()
    with gate.passage(gate.read_pass(os.environ[PASS]), int(context["port"])) as port:
        context["hostname"], context["port"] = gate.LOOPBACK, str(port)
        client = daisy.Client(context)
        step = client.task_id
        while True:
            with client.acquire_block() as given:
                if given is None:
                    return
                start = tuple(i * size for i, size in zip(given.write_roi.offset, block, strict=True))
                _do(step, _box(start, shape, block), passes, place, shape, block, before)


def _do(step, box, passes, place, shape, block, before) -> None:
    if marks.is_finished(place, step, box):
        return
    if before[step]:
        earlier = before[step]["before"]
        for start in sorted(parts.needed(box, shape, block, before[step]["reach"])):
            _do(earlier, _box(start, shape, block), passes, place, shape, block, before)
    passes[step](box)


def _box(start, shape, block) -> Box:
    return Box(start, tuple(min(a + b, n) for a, b, n in zip(start, block, shape, strict=True)))


def _become(command: list[str], threads: int | None, given: str) -> None:
    """Replaces this process, which daisy started, by the command under watch: what daisy and the gate want to hear is
    in the environment.
    """
    few = {name: os.environ.get(name, str(threads)) for name in _THREADS} if threads else {}
    memory = {"XLA_PYTHON_CLIENT_PREALLOCATE": os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "false")}
    # -S -E: without other packages it is as small and as quick as it can be.
    watching = [sys.executable, "-S", "-E", watched.__file__, str(os.getppid()), *command]
    os.execve(sys.executable, watching, os.environ | few | memory | {PASS: given})


def _daisy():
    try:
        import daisy.logging
    except ImportError as error:
        raise BadInput("--workers needs daisy: pip install 'daisy>=2', or use --num_parts and --part_id") from error
    return daisy


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "see progress/logs in the output"
