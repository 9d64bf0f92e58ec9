"""Single labelled voxels, in two phases: networks learn from them, and go on with labels that they give themselves to
voxels nearby. The workdir is the model of the last phase; the first one is in its folder `clicks`, a model as well.

The same command again goes on with the phase in which it was stopped, and the workdir may be moved in between. After
"ε-Seg" (arXiv 2510.18637).
"""

from pathlib import Path

from maeref_jax.errors import BadInput
from maeref_jax.experiments import run, train_settings
from maeref_jax.experiments.clicked import FIRST
from maeref_jax.pipeline import methods
from maeref_jax.segmenters.sparse_labels import PHASES
from maeref_jax.training import workdir as folder

METHOD = "sparse_labels"


def train(settings, workdir):
    """The phases of a config of configs/sparse_labels.py into `workdir`, or what is missing of them."""
    if "://" in str(workdir):
        raise BadInput(f"{workdir}: the first phase is trained beside the second one, on a local disk only")
    workdir = Path(workdir)
    if tuple(settings["phases"]) not in (PHASES, PHASES[:1]):
        raise BadInput(f"phases must be {PHASES[0]}, or {', '.join(PHASES)}, found {tuple(settings['phases'])}")
    train_settings.check(settings)
    methods.SEGMENTERS[METHOD].method(settings)
    if len(settings["phases"]) == 1:
        folder.check_same_run(workdir, settings)
        folder.check_starting_point(settings, workdir)
        return run.train(settings, workdir)
    check_whole_batches(settings)
    first, before, last = workdir / FIRST, {**settings, "phases": PHASES[:1]}, of_pseudo_labels(settings)
    folder.check_same_run(workdir, last)
    # What the second phase has settings of its own in place of, the first alone knows.
    folder.check_same_run(first, before)
    folder.check_starting_point(settings, workdir)
    if all((first / name).exists() for name in ("config.json", "summary.json")):
        check_long_enough(first, settings["steps"])
    else:
        run.train(before, first)
    run.train(last, workdir)


def of_pseudo_labels(settings):
    """The settings of the second phase. It starts from the first one in its own workdir, wherever that is, so that
    init_from names nothing.
    """
    own = settings["pseudo_labels"]
    taken = {"steps": own["steps"], "batch": own["groups"], "init_from": ""}
    return {**settings, **taken, "phases": PHASES[1:], "optimizer": {**settings["optimizer"], "rate": own["rate"]}}


def check_whole_batches(settings):
    """Raises BadInput for micro-batches: the mean latent of a class is that of all clicks computed at once, and each of
    them would admit another number of neighbours. So together they would not learn what the batch does.
    """
    if (parts := settings["optimizer"]["accumulate"]) > 1:
        raise BadInput(
            f"optimizer.accumulate must be 1 where phases has {PHASES[1]}, found {parts}: who is near a class is "
            "decided in a batch as a whole. For less memory set a smaller --config.batch and "
            "--config.pseudo_labels.groups, or --config.model.remat=true; or leave the second phase out, "
            f"--config.phases={PHASES[0]},"
        )


def check_long_enough(first, steps):
    """Raises BadInput for a finished first phase, a workdir, that was to take fewer steps than are wanted now."""
    taken = folder.read_config(first)["config"]["steps"]
    if taken < steps:
        raise BadInput(
            f"the first phase is finished with {taken:,} steps, and the second one starts from it: {first}; for "
            f"--config.steps={steps} take a new --workdir, or give the second more: --config.pseudo_labels.steps"
        )
