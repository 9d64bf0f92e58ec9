"""training/one_by_one.py: an ensemble that steps member by member learns what it learns all at once."""

from functools import partial

import jax
import numpy as np
from small_settings import ENSEMBLE, VARIED
from test_state import SETTINGS as OPTIMIZER

from maeref_jax.segmenters import ensemble
from maeref_jax.training import loop, one_by_one
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.parallel import split_batch, sum_over_devices
from maeref_jax.training.state import TrainState, initial_state, update

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
    stepping = partial(update, method, optimizer, average=0.5, sum_over_devices=sum_over_devices)
    step = loop.stepper(stepping, method, batch_of(0))
    wishes = np.array([[0, 1, 0]], np.int32)
    for number in range(3):
        states, report = step(states, split_batch(batch_of(number), 1), jax.random.fold_in(key, number), wishes)
    return method, one_by_one.together(jax.device_get(states), method), jax.device_get(report)


def test_members_one_by_one_learn_what_they_learn_all_at_once():
    method, apart, said = stepped("auto")
    assert one_by_one.fits(method)
    method, together, heard = stepped("unroll")
    assert not one_by_one.fits(method)
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
    parts = one_by_one.apart(whole, method)
    assert len(parts) == MEMBERS and jax.tree.leaves(parts[1].params)[0].shape[0] == 1
    again = one_by_one.together(parts, method)
    assert isinstance(again, TrainState)
    jax.tree.map(np.testing.assert_array_equal, whole, again)
    for leaf in jax.tree.leaves(parts[0]):  # it is given away to the first step
        leaf[...] = 0
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    assert again is one_by_one.together(again, method)


def test_a_member_that_is_no_number_is_the_one_that_is_named():
    method = ensemble.method(ENSEMBLE)
    optimizer = build_optimizer(CLIPPED, method.members)
    state = jax.tree.map(np.array, jax.device_get(initial_state(method, optimizer, jax.random.key(0), batch_of(0))))
    jax.tree.leaves(state.params)[0][1] = np.nan
    step = loop.stepper(partial(update, method, optimizer, sum_over_devices=sum_over_devices), method, batch_of(0))
    _, report = step(state, split_batch(batch_of(0), 1), jax.random.key(0), np.zeros((1, 3), np.int32))
    assert np.asarray(report.finite).tolist() == [True, False, True]
