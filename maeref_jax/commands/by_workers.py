"""One volume by worker processes, which are this same command once more with --serve: see workers.py."""

import shlex
import sys

from maeref_jax.errors import MARK, tell
from maeref_jax.pipeline import parts, passes, refining, workers
from maeref_jax.pipeline.jobs import Job, Model, Settings


def refine_volume(job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings, config) -> dict | None:
    """As `refining.refine_volume`, the blocks being done by workers."""
    run = refining.open_run(job, segmenter, refiner, settings)
    if run is None:
        return refining.load_summary(job)
    command = [*shlex.split(config.worker_command), sys.executable, *sys.orig_argv[1:], "--serve", job.stem]
    where = {"local": not config.worker_command, "host": config.worker_host}
    workers.share_out(run.place, *refining.block_grid(run), config.workers, command, **where)
    _do_what_was_not_done(run)
    return refining.finish(run)


def _do_what_was_not_done(run) -> None:
    """Does the blocks that somebody took and reported as done without doing them."""
    place, given = run.place, (run.shape, run.settings.block)
    lost = sum(sum(parts.missing_parts(place, step, *given, 1).values()) for step in run.steps)
    if not lost:
        return
    tell(
        f"{MARK}{place.stem}: {lost} blocks were reported as done and have no mark: a foreign process took them, or "
        "this file system shows new files late; they are done now, by this process"
    )
    for step, work in passes.passes(run).items():
        parts.run_pass(place, step, *given, work, **run.before(step))


def serve(job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings) -> None:
    """What a worker does: the blocks that it is given of one input."""
    settings = settings._replace(overwrite=False)
    run = refining.open_run(job, segmenter, refiner, settings, lambda line: None, serving=True)
    if run is not None:
        before = {step: run.before(step) for step in run.steps}
        workers.serve(passes.passes(run), run.place, run.shape, run.settings.block, before)
