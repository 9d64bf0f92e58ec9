"""One volume by worker processes, which are this same command once more with --serve: see workers.py."""

import shlex
import sys

from maeref_jax.pipeline import passes, refining, workers
from maeref_jax.pipeline.jobs import Job, Model, Settings


def refine_volume(job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings, config) -> dict | None:
    """As `refining.refine_volume`, the blocks being done by workers."""
    run = refining.open_run(job, segmenter, refiner, settings)
    if run is None:
        return refining.load_summary(job)
    command = [*shlex.split(config.worker_command), sys.executable, *sys.orig_argv[1:], "--serve", job.stem]
    workers.share_out(run.place, *refining.block_grid(run), config.workers, command, local=not config.worker_command)
    return refining.finish(run)


def serve(job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings) -> None:
    """What a worker does: the blocks that it is given of one input."""
    run = refining.open_run(job, segmenter, refiner, settings._replace(overwrite=False), lambda line: None)
    if run is not None:
        workers.serve(passes.passes(run), run.place, run.shape, run.settings.block)
