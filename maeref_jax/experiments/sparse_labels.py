"""Single labelled voxels, in two phases: networks learn from them, and go on with labels that they give themselves to
voxels nearby. The workdir is the model of the last phase; the first one is in its folder `clicks`, a model as well.

The same command again goes on with the phase in which it was stopped. After "ε-Seg" (arXiv 2510.18637).
"""

from pathlib import Path

from maeref_jax.errors import BadInput
from maeref_jax.experiments import run, train_settings
from maeref_jax.pipeline import methods
from maeref_jax.segmenters.sparse_labels import PHASES
from maeref_jax.training import workdir as folder

METHOD = "sparse_labels"
FIRST = "clicks"  # the folder of the first phase


def train(settings, workdir):
    """The phases of a config of configs/sparse_labels.py into `workdir`, or what is missing of them."""
    workdir = Path(workdir)
    if tuple(settings["phases"]) not in (PHASES, PHASES[:1]):
        raise BadInput(f"phases must be {PHASES[0]}, or {', '.join(PHASES)}, found {tuple(settings['phases'])}")
    train_settings.check(settings)
    methods.SEGMENTERS[METHOD].method(settings)
    last = settings if len(settings["phases"]) == 1 else of_pseudo_labels(settings, workdir)
    folder.check_same_run(workdir, last)
    folder.check_starting_point(settings, workdir)
    if last is not settings:
        first = workdir / FIRST
        if not (first / "summary.json").exists():
            run.train({**settings, "phases": PHASES[:1]}, first)
    run.train(last, workdir)


def of_pseudo_labels(settings, workdir):
    """The settings of the second phase, which starts from the best step of the first."""
    own = settings["pseudo_labels"]
    taken = {"steps": own["steps"], "batch": own["groups"], "init_from": str(Path(workdir) / FIRST)}
    return {**settings, **taken, "phases": PHASES[1:], "optimizer": {**settings["optimizer"], "rate": own["rate"]}}
