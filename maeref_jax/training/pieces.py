"""On one CPU a step is taken in pieces, each computed by one thread, as many at a time as there are cores.

An ensemble is taken apart by its members, each by one program of one member, which is quicker to compile than as many
copies of it; any other batch into shares. The operations of small networks are too short for several cores to share
each of them. The numbers are those of the whole but for their last digits, and to the bit the same on however many
cores: pieces are added up in their order.
"""

from functools import partial

import jax
import numpy as np

from maeref_jax.training.parallel import by_threads, shared_out
from maeref_jax.training.state import Report, TrainState, added


def share_by_share(summing, moving, shares):
    """step(train_state, batch, key, requests) -> (train_state, Report), batches for one device in front.

    summing(train_state, share of a batch, key) -> state.Sums; moving(train_state, Sums, requests) -> what a step gives.
    """
    sums_of = by_threads(jax.jit(summing))

    @partial(jax.jit, donate_argnums=0)
    def move(train_state, found, requests):
        return moving(train_state, added(found), requests[0])

    def step(train_state, batch, key, requests):
        whole = {name: value if name == "shared" else value[0] for name, value in batch.items()}

        found = sums_of([(train_state, share, key) for share in shared_out(whole, shares)])
        return move(train_state, found, requests)

    return step


def member_by_member(step, method):
    """step(train_state, batch, key, requests) -> (train_state, Report) of one member, batches for one device in front,
    as the same of all members. What it takes is a TrainState, or what it gave: a list, one TrainState a member.
    """

    step_of = by_threads(step)

    def stepping(states, batch, key, requests):
        states = apart(states, method) if isinstance(states, TrainState) else states
        found = step_of([(state, _of_member(batch, i), key, requests) for i, state in enumerate(states)])
        return [state for state, _ in found], _reported([report for _, report in found])

    return stepping


def apart(train_state, method):
    """A TrainState of numpy arrays as a list of them, one for every member; each has arrays of its own."""
    each = (slice(i, i + 1) for i in range(method.members))
    return [_mapped(lambda leaf, i=i: np.copy(leaf[i]), np.copy, method, train_state) for i in each]


def together(states, method):
    """The TrainState of what `apart` gave, or of steps taken since, of numpy arrays."""
    if isinstance(states, TrainState):
        return states
    return _mapped(lambda *leaves: np.concatenate(leaves), lambda first, *_: np.array(first), method, *states)


def _mapped(of_members, shared, method, *states):
    """A TrainState of those given: arrays with a leading member axis by `of_members`, others by `shared`."""

    def numbered(*leaves):  # of parameters, or of the optimizer, whose counters are shared
        return (of_members if np.ndim(leaves[0]) else shared)(*leaves)

    def own(name):
        return of_members if name in method.member_state else shared

    return TrainState(
        step=shared(*(one.step for one in states)),
        params=jax.tree.map(numbered, *(one.params for one in states)),
        state={name: jax.tree.map(own(name), *(one.state[name] for one in states)) for name in states[0].state},
        optimizer=jax.tree.map(numbered, *(one.optimizer for one in states)),
        averaged=jax.tree.map(numbered, *(one.averaged for one in states)),
        progress=jax.tree.map(shared, *(one.progress for one in states)),
    )


def _of_member(batch, i):
    """The batch of one member, for one device: samples (1, b, k, …) of all, but their numbers and what is shared."""
    own = {name: value[:, :, i : i + 1] for name, value in batch.items() if name not in ("index", "shared")}
    shared = {**batch["shared"], "members": batch["shared"]["members"][i : i + 1]}
    return {"index": batch["index"], **own, "shared": shared}


def _reported(reports):
    """What all members report together; what the host asks for it asks every one of them."""
    logs = jax.tree.map(lambda *sums: sum(sums[1:], sums[0]), *(report.logs for report in reports))
    finite = jax.numpy.concatenate([report.finite for report in reports])
    return Report(logs, finite, reports[0].requests)
