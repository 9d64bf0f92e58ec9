"""Checkpoints through orbax: the latest, to continue from, and the best by validation loss, to use.

Everything goes through numpy on the host: orbax refuses the output of pmap, and pmap must not be handed arrays that
somebody else owns.
"""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from maeref_jax.errors import BadInput
from maeref_jax.training.state import TrainState


def open_checkpoints(workdir):
    """The checkpoint manager of a workdir: keeps the latest and the one with the lowest validation loss."""
    keep = preservation_policy.AnyPreservationPolicy(
        [
            preservation_policy.LatestN(1),
            preservation_policy.BestN(get_metric_fn=lambda metrics: metrics["loss"], reverse=True, n=1),
        ]
    )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=keep,
        best_fn=lambda metrics: metrics["loss"],
        best_mode="min",
        enable_async_checkpointing=False,
    )
    return ocp.CheckpointManager(_directory(workdir), options=options, item_names=("model", "optimizer"))


def save(checkpoints, train_state, metrics):
    """Save a TrainState of numpy arrays under its step. Durable when it returns."""
    step = int(train_state.step)
    if step in checkpoints.all_steps():
        return
    items = {name: ocp.args.StandardSave(item) for name, item in _items(train_state).items()}
    checkpoints.save(step, args=ocp.args.Composite(**items), metrics=metrics)
    checkpoints.wait_until_finished()


def restore_latest(checkpoints, like):
    """The latest saved TrainState as numpy arrays, None when nothing was saved. like: its shapes and dtypes."""
    step = checkpoints.latest_step()
    if step is None:
        return None
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    items = {name: ocp.args.StandardRestore(item) for name, item in _items(like).items()}
    restored = checkpoints.restore(step, args=ocp.args.Composite(**items))
    model, rest = restored["model"], restored["optimizer"]
    return jax.tree.map(np.asarray, TrainState(rest["step"], model["params"], model["state"], rest["optimizer"]))


def best_step(workdir):
    """Step of the checkpoint that use should take. BadInput if `workdir` has none."""
    directory = _directory(workdir)
    if not directory.is_dir():
        raise BadInput(f"{workdir} has no checkpoints/; expected the workdir of a train.py run that has saved once")
    with open_checkpoints(workdir) as checkpoints:
        step = checkpoints.best_step()
    if step is None:
        raise BadInput(f"{directory} holds no finished checkpoint; let train.py run until its first evaluation")
    return step


def load_model_variables(workdir):
    """(params, state) of the best checkpoint, as numpy arrays. BadInput if there is none."""
    step = best_step(workdir)
    with open_checkpoints(workdir) as checkpoints:
        model = checkpoints.restore(step, args=ocp.args.Composite(model=ocp.args.StandardRestore()))["model"]
    model = jax.tree.map(np.asarray, model)
    return model["params"], model["state"]


def _items(train_state):
    """What is saved together: the model, which use needs, apart from the optimiser, which only training needs."""
    return {
        "model": {"params": train_state.params, "state": train_state.state},
        "optimizer": {"optimizer": train_state.optimizer, "step": np.asarray(train_state.step)},
    }


def _directory(workdir):
    return Path(workdir).absolute() / "checkpoints"
