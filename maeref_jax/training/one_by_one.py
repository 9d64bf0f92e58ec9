"""On one CPU an ensemble takes its steps member by member: one program of one member, called for each of them.

As many copies of a network in one program take as many times as long to compile, and run no faster. The numbers are
those of all members at once but for their last digits: no member hears of another one (design law 6).
"""

import jax
import numpy as np

from maeref_jax.training.state import Report, TrainState


def fits(method):
    """Whether the steps of a Method can be taken so, and should: by this process alone, on one CPU."""
    return method.one_by_one and jax.default_backend() == "cpu" and jax.device_count() == 1


def one_by_one(step, method):
    """step(train_state, batch, key, requests) -> (train_state, Report) of one member, batches for one device in front,
    as the same of all members. What it takes is a TrainState, or what it gave: a list, one TrainState a member.
    """

    def stepping(states, batch, key, requests):
        states = apart(states, method) if isinstance(states, TrainState) else states
        found = [step(state, _of_member(batch, i), key, requests) for i, state in enumerate(states)]
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
