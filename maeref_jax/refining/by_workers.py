"""One volume by worker processes, which are this same command once more with --serve: see workers.py."""

import shlex
import sys
from collections.abc import Sequence

from maeref_jax import passes, pipeline, workers
from maeref_jax.jobs import Job, Model, Settings


def refine_volume(
    job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings, config, argv: Sequence[str]
) -> dict | None:
    """As `pipeline.refine_volume`, the blocks being done by workers. argv: of the script that was started."""
    run = pipeline.open_run(job, segmenter, refiner, settings)
    if run is None:
        return pipeline.load_summary(job)
    command = [*shlex.split(config.worker_command), sys.executable, sys.argv[0], *argv, "--serve", job.stem]
    workers.share_out(run.place, *pipeline.block_grid(run), config.workers, command, local=not config.worker_command)
    return pipeline.finish(run)


def serve(job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings) -> None:
    """What a worker does: the blocks that it is given of one input."""
    run = pipeline.open_run(job, segmenter, refiner, settings._replace(overwrite=False), lambda line: None)
    if run is not None:
        workers.serve(passes.passes(run), run.place, run.shape, run.settings.block)
