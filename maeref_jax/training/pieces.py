"""On one CPU a step is taken in pieces, each computed by one thread, as many at a time as there are cores.

An ensemble is taken apart by its members, each by one program of one member, which is quicker to compile than as many
copies of it; any other batch into shares. The operations of small networks are too short for several cores to share
each of them (measured on 2 cores). The numbers are those of the whole but for their last digits. Pieces are added up in
their order, whichever is ready first, so that a training repeated on the same machine ends with the same bits.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from maeref_jax.training.compiling import Compiled
from maeref_jax.training.parallel import shared_out
from maeref_jax.training.state import Report, TrainState, added


class Steps(NamedTuple):
    """take(train_state, batch, key, requests) -> (train_state, Report), batches with an axis of devices in front;
    prepare, of the same but shapes for a TrainState: traces it, and returns functions that compile it, which may be
    called beside each other. None where that cannot be done before.
    """

    take: Callable
    prepare: Callable | None = None


def share_by_share(summing, moving, shares):
    """The Steps of a method that is taken in so many shares of a batch.

    summing(train_state, share of a batch, key) -> state.Sums; moving(train_state, Sums, requests) -> what a step gives.
    """
    sums_of = Compiled(summing)
    move = Compiled(lambda train_state, found, requests: moving(train_state, added(found), requests[0]), donated=0)

    def calls(train_state, batch, key):
        whole = {name: value if name == "shared" else value[0] for name, value in batch.items()}
        return [(train_state, share, key) for share in shared_out(whole, shares)]

    def take(train_state, batch, key, requests):
        return move(train_state, sums_of.each(calls(train_state, batch, key)), requests)

    def prepare(train_state, batch, key, requests):
        first, *_ = calls(train_state, batch, key)
        then = train_state, [sums_of.lower(*first).out_info] * shares, requests
        move.lower(*then)
        return [partial(sums_of.prepare, *first), partial(move.prepare, *then)]

    return Steps(take, prepare)


def member_by_member(stepping, method):
    """The Steps of an ensemble, member by member. stepping(train_state, batch, key, requests) -> (train_state, Report).

    What is taken is a TrainState, or what was given: a list, one TrainState a member.
    """
    step = Compiled(stepping, donated=0)

    def take(states, batch, key, requests):
        states = apart(states, method) if isinstance(states, TrainState) else states
        calls = [(one, _of_member(batch, i), key, requests[0]) for i, one in enumerate(states)]
        found = step.each(calls, method.apart)
        return [state for state, _ in found], _reported([report for _, report in found])

    def prepare(train_state, batch, key, requests):
        one = jax.eval_shape(partial(_mapped, lambda leaf: leaf[:1], lambda leaf: leaf, method), train_state)
        first = one, _of_member(batch, 0), key, requests[0]
        step.lower(*first)
        return [partial(step.prepare, *first)]

    return Steps(take, prepare)


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
    """The batch (b, 1, …) of one member, of one for one device: (1, b, k, …), but for numbers and what is shared."""
    own = {name: value[0, :, i : i + 1] for name, value in batch.items() if name not in ("index", "shared")}
    shared = {**batch["shared"], "members": batch["shared"]["members"][i : i + 1]}
    return {"index": batch["index"][0], **own, "shared": shared}


def _reported(reports):
    """What all members report together; what the host asks for it asks every one of them."""
    logs = jax.tree.map(lambda *sums: sum(sums[1:], sums[0]), *(report.logs for report in reports))
    finite = jax.numpy.concatenate([report.finite for report in reports])
    return Report(logs, finite, reports[0].requests)
