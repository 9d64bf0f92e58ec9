"""Which step of every ensemble member is kept for use: the one where its own validation loss was lowest (design law 6).

What is kept never goes to the devices: training goes on from the current parameters, and nothing of the best reaches
them. It changes at evaluations only, and is saved with every checkpoint.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from maeref_jax.errors import CannotGoOn
from maeref_jax.records import MEMBER_LOSS


class Best(NamedTuple):
    """Every member at its own best. loss: float32 (k,), infinite before the first evaluation; step: int32 (k,);
    params, state: numpy arrays, as `records.Method` has them, those of member i as they were used at step[i].
    """

    loss: Any
    step: Any
    params: Any
    state: Any


def untried(train_state, members):
    """The Best of a TrainState of numpy arrays that was never evaluated; None without members."""
    if members is None:
        return None
    # Copies: the state itself is given away to the first step.
    params, state = jax.tree.map(np.copy, (train_state.used, train_state.state))
    return Best(np.full(members, np.inf, np.float32), np.zeros(members, np.int32), params, state)


def own_losses(metrics, members):
    """float32 (k,) of {name: float}, what an evaluation found."""
    return np.array([metrics[MEMBER_LOSS.format(i)] for i in range(members)], np.float32)


def improved(best, train_state, losses, member_state):
    """The Best after an evaluation of `train_state` that gave `losses`: members that were never better are taken from
    it, the others stay as they are, to the bit. member_state: as in `records.Method`.

    Raises CannotGoOn for a loss that is no number.
    """
    if not np.isfinite(losses).all():
        wrong = np.flatnonzero(~np.isfinite(losses)).tolist()
        raise CannotGoOn(
            f"validation at step {train_state.step} gives members {wrong} a loss that is no number; the last good "
            "checkpoint is kept; set a lower optimizer.rate or compute_dtype=float32, in a new --workdir"
        )
    better = losses < best.loss

    def chosen(old, new):
        return np.where(better.reshape(better.shape + (1,) * (new.ndim - 1)), new, old)

    state = {
        name: jax.tree.map(chosen, best.state[name], now) if name in member_state else now
        for name, now in train_state.state.items()
    }
    params = jax.tree.map(chosen, best.params, train_state.used)
    step = np.where(better, np.int32(train_state.step), best.step)
    return Best(np.where(better, losses, best.loss), step, params, state)
