"""training/pieces.py: what is taken in pieces learns what it learns all at once."""

import os
from functools import partial

import jax
import numpy as np
import pytest
import small_settings
from small_settings import ENSEMBLE, MASKED, VARIED
from test_state import SETTINGS as OPTIMIZER
from test_state import batch, line

from maeref_jax.refiners import mae
from maeref_jax.segmenters import ensemble
from maeref_jax.training import loop, pieces
from maeref_jax.training.compiling import Compiled
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.parallel import shared_out, shares_of, split_batch
from maeref_jax.training.state import TrainState, added, initial_state, summed, update
from maeref_jax.volumes import threads

MEMBERS, CLIPPED = ENSEMBLE["members"], {**OPTIMIZER, "clip": 0.3, "weight_decay": 0.01, "rate": 1e-4}


def batch_of(step):
    rng = np.random.default_rng(step)
    return {
        "image": rng.normal(100, 10, (2, MEMBERS, 8, 8)).astype(np.float32),
        "labels": rng.integers(-1, 3, (2, MEMBERS, 8, 8)).astype(np.int16),
        "index": np.arange(2, dtype=np.int32),
        "shared": {"intensity_range": np.array([80, 120], np.float32), "members": np.arange(MEMBERS, dtype=np.int32)},
    }


def stepped(mapping):
    """(the method, a TrainState of numpy arrays after three steps, the last Report), as the loop takes them."""
    given = {"member_mapping": mapping, "ambiguous_as": "per_member", "augmentation": VARIED}
    method = ensemble.method({**ENSEMBLE, **given})
    optimizer, key = build_optimizer(CLIPPED, method.members), jax.random.key(3)
    states = jax.device_get(initial_state(method, optimizer, key, batch_of(0), 0.5))
    step = loop.stepper(method, optimizer, batch_of(0), 0.5).take
    wishes = np.array([[0, 1, 0]], np.int32)
    for number in range(3):
        states, report = step(states, split_batch(batch_of(number), 1), jax.random.fold_in(key, number), wishes)
    return method, pieces.together(jax.device_get(states), method), jax.device_get(report)


def test_members_one_by_one_learn_what_they_learn_all_at_once():
    method, apart, said = stepped("auto")
    assert method.apart == 0
    method, together, heard = stepped("unroll")
    assert method.apart is None
    expected = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path((together, heard))}
    for path, found in jax.tree.leaves_with_path((apart, said)):
        name = jax.tree_util.keystr(path)
        if "conv" in name and "bias" in name:  # before a normalisation it does nothing: its gradient is rounding alone
            continue
        np.testing.assert_allclose(found, expected[name], atol=4e-5, rtol=2e-3, err_msg=name)
    assert int(apart.step) == 3 and said.finite.shape == (MEMBERS,)
    np.testing.assert_array_equal(said.requests, [0, 1, 0])


def test_what_is_taken_apart_is_put_together_again_to_the_bit():
    method = ensemble.method(ENSEMBLE)
    optimizer = build_optimizer(CLIPPED, method.members)
    whole = jax.device_get(initial_state(method, optimizer, jax.random.key(0), batch_of(0), 0.5))
    parts = pieces.apart(whole, method)
    assert len(parts) == MEMBERS and jax.tree.leaves(parts[1].params)[0].shape[0] == 1
    again = pieces.together(parts, method)
    assert isinstance(again, TrainState)
    jax.tree.map(np.testing.assert_array_equal, whole, again)
    for leaf in jax.tree.leaves(parts[0]):  # it is given away to the first step
        leaf[...] = 0
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    assert again is pieces.together(again, method)


def test_a_member_that_is_no_number_is_the_one_that_is_named():
    method = ensemble.method(ENSEMBLE)
    optimizer = build_optimizer(CLIPPED, method.members)
    state = jax.tree.map(np.array, jax.device_get(initial_state(method, optimizer, jax.random.key(0), batch_of(0))))
    jax.tree.leaves(state.params)[0][1] = np.nan
    step = loop.stepper(method, optimizer, batch_of(0)).take
    _, report = step(state, split_batch(batch_of(0), 1), jax.random.key(0), np.zeros((1, 3), np.int32))
    assert np.asarray(report.finite).tolist() == [True, False, True]


def test_the_shares_of_a_batch_are_whole_micro_batches():
    assert [shares_of(samples) for samples in (1, 2, 6, 16)] == [1, 2, 2, 4]
    assert [shares_of(16, accumulate) for accumulate in (2, 4, 8, 16, 3)] == [4, 4, 2, 1, 1]


@pytest.mark.parametrize(("cores", "accumulate"), [(1, 1), (3, 1), (2, 2)])
def test_a_batch_in_shares_moves_everything_as_the_whole_one_does_on_however_many_cores(monkeypatch, cores, accumulate):
    """A method that draws numbers, by the samples' own, keeps a state, and has samples that do not count."""
    plain = line()

    def loss(params, state, part, key):
        drawn = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i)))(part["index"])
        total, weight, _, _ = plain.loss(params, state, {**part, "x": part["x"] + 0.1 * drawn}, key)
        moved = {"mean": 0.5 * state["mean"] + 0.5 * part["x"].mean(), "fixed": state["fixed"]}
        return total, weight, moved, {"drawn": (drawn.sum(), np.float32(len(drawn)))}

    method = plain._replace(
        init=lambda key, data: (plain.init(key, data)[0], {"mean": np.float32(0), "fixed": np.float32(0.1)}), loss=loss
    )
    data = batch(np.random.default_rng(0), 8)
    data["known"][:2] = False
    optimizer, key = build_optimizer(CLIPPED), jax.random.key(1)
    start = jax.device_get(initial_state(method, optimizer, key, data, 0.5))
    lengths, cut = [], pieces.shared_out
    monkeypatch.setattr(pieces, "shared_out", lambda *given: lengths.append(given[1]) or cut(*given))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    step = loop.stepper(method, optimizer, data, 0.5, accumulate).take
    wishes = np.array([[0, 1, 0]], np.int32)
    whole, apart = start, jax.tree.map(np.copy, start)
    for _ in range(3):
        whole, said = update(method, optimizer, whole, data, key, wishes[0], average=0.5, accumulate=accumulate)
        apart, heard = step(apart, split_batch(data, 1), key, wishes)
    assert lengths == [4, 4, 4]
    if accumulate > 1:  # micro-batches hand the state on, so that of a share has heard of fewer of them
        whole, apart = (one._replace(state=one.state["fixed"]) for one in (whole, apart))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), (whole, said), (apart, heard))
    assert float(jax.tree.leaves(apart.state)[0]) == np.float32(0.1)


def test_a_program_is_compiled_once_however_many_threads_call_it():
    """And again for other shapes; results come in the order of the calls."""
    traced = []

    def doubled(x):
        traced.append(x.shape)
        return 2 * x

    program = Compiled(doubled)
    program.prepare(jax.ShapeDtypeStruct((3,), np.float32))
    for length in (3, 3, 5):
        found = program.each([(np.full(length, i, np.float32),) for i in range(4)])
        assert [int(one[0]) for one in found] == [0, 2, 4, 6]
    assert traced == [(3,), (5,)]


@pytest.mark.parametrize("members", [None, MEMBERS])
def test_what_is_prepared_of_shapes_is_what_a_step_needs(monkeypatch, members):
    method = line() if members is None else ensemble.method(ENSEMBLE)
    data = batch(np.random.default_rng(0), 8) if members is None else batch_of(0)
    optimizer, more = (
        build_optimizer(CLIPPED, members),
        (split_batch(data, 1), jax.random.key(0), np.zeros((1, 3), int)),
    )
    state = jax.device_get(initial_state(method, optimizer, jax.random.key(0), data))
    steps = loop.stepper(method, optimizer, data)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    for one in steps.prepare(shapes, *more):
        one()
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    for _ in range(2):
        state, _ = steps.take(state, *more)


def test_shares_of_a_batch_have_the_gradients_of_the_whole():
    """Which holds where what is drawn for a sample, and what it counts, does not depend on those beside it."""
    method, data, key = mae.method(MASKED), small_settings.batch_of(4, 3, MASKED["window"], 8), jax.random.key(2)
    params, state = jax.device_get(method.init(jax.random.key(0), data))
    start = TrainState(np.int32(0), params, state, (), (), None)
    sums_of = jax.jit(partial(summed, method))
    whole = sums_of(start, data, key)
    shares = added([sums_of(start, share, key) for share in shared_out(data, 2)])
    for name in ("gradients", "loss", "weight", "logs"):
        found, expected = (jax.tree.leaves(getattr(sums, name)) for sums in (shares, whole))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(other).max())))


@pytest.mark.parametrize(("chunk", "limit"), [(0, ()), (1, (1,))])
def test_no_more_members_are_computed_at_a_time_than_member_chunk_says(monkeypatch, chunk, limit):
    method = ensemble.method({**ENSEMBLE, "member_chunk": chunk})
    asked, in_order = [], threads.in_order
    monkeypatch.setattr(threads, "in_order", lambda work, items, *most: asked.append(most) or in_order(work, items))
    optimizer = build_optimizer(CLIPPED, method.members)
    state = jax.device_get(initial_state(method, optimizer, jax.random.key(0), batch_of(0)))
    steps = loop.stepper(method, optimizer, batch_of(0))
    steps.take(state, split_batch(batch_of(0), 1), jax.random.key(0), np.zeros((1, 3), np.int32))
    assert asked == [limit]
