"""filling.py with fills in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.masking import filling, symmetries

KEY = jax.random.key(0)


def planes(shape=(2, 8, 8), seed=0):
    rng = np.random.default_rng(seed)
    hidden = np.repeat(np.repeat(rng.random((shape[0], shape[1] // 2, shape[2] // 2)) < 0.5, 2, 1), 2, 2)
    return jnp.asarray(rng.integers(0, 3, shape)), jnp.asarray(hidden)


def leaning(labels, hidden):
    """Depends on direction: class 1 where the neighbour to the left is visible and > 0, more certain to the right."""
    left = jnp.roll(jnp.where(hidden, -1, labels), 1, 2) > 0
    sure = 0.6 + 0.3 * jnp.arange(labels.shape[2]) / labels.shape[2]
    p = jnp.where(left, sure, 1 - sure)
    return jnp.stack([1 - p, p, jnp.zeros_like(p)], -1)


@pytest.mark.parametrize(("shape", "which"), [((2, 8, 8), range(8)), ((2, 8, 12), (0, 2, 4, 6))])
def test_an_average_over_symmetries_has_them(shape, which):
    labels, hidden = planes(shape)
    fill = filling.over_symmetries(leaning)
    found = fill(labels, hidden)
    assert (np.abs(found - leaning(labels, hidden)) > 0.01).any()
    for symmetry in which:
        turned = fill(symmetries.turned(labels, symmetry), symmetries.turned(hidden, symmetry))
        np.testing.assert_allclose(symmetries.turned_back(turned, symmetry), found, atol=1e-6)


def test_one_round_is_the_fill_itself():
    labels, hidden = planes()
    np.testing.assert_allclose(filling.in_rounds(leaning, labels, hidden, 2, 1), leaning(labels, hidden), atol=1e-6)
    plain = filling.filled(leaning, labels, hidden, KEY, 2, symmetries=False, rounds=1, samples=0)
    np.testing.assert_array_equal(plain, leaning(labels, hidden))


def test_later_rounds_see_what_the_most_certain_tokens_became():
    """A row of hidden tokens left of a foreground one: each continues its right neighbour once that is filled."""

    def spreading(labels, hidden):
        seen = jnp.where(hidden, 0, labels)
        beside = (jnp.roll(seen, -1, 2) > 0) & (jnp.arange(labels.shape[2]) < 5)
        p = jnp.where(beside, 0.9, 0.4)
        return jnp.stack([1 - p, p], -1)

    labels = jnp.zeros((1, 1, 6), jnp.int32).at[0, 0, 5].set(1)
    hidden = jnp.arange(6)[None, None] < 5
    once = filling.in_rounds(spreading, labels, hidden, 1, 1).argmax(-1)
    assert once[0, 0, :5].tolist() == [0, 0, 0, 0, 1]
    after = filling.in_rounds(spreading, labels, hidden, 1, 5).argmax(-1)
    assert after[0, 0, :5].tolist() == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("rounds", [1, 2, 3, 50])
def test_every_hidden_token_is_filled_however_many_rounds(rounds):
    labels, hidden = planes()
    hidden = hidden.at[1].set(False)
    found = filling.in_rounds(leaning, labels, hidden, 2, rounds)
    np.testing.assert_allclose(np.asarray(found).sum(-1), 1, atol=1e-6)


def test_samples_agree_as_often_as_the_probabilities_say_and_do_not_know_the_batch():
    labels, hidden = planes()
    found = filling.over_samples(leaning, labels, hidden, KEY, 2, 1, 400)
    np.testing.assert_allclose(np.asarray(found).sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(found, leaning(labels, hidden), atol=0.12)
    assert np.abs(np.asarray(found).mean((0, 1, 2)) - np.asarray(leaning(labels, hidden)).mean((0, 1, 2))).max() < 0.02
    alone = filling.over_samples(leaning, labels[1:], hidden[1:], KEY, 2, 1, 400)
    np.testing.assert_array_equal(alone[0], found[1])


@pytest.mark.parametrize("use", [(True, 1, 0), (False, 3, 0), (True, 2, 2)])
def test_hidden_labels_change_nothing(use):
    labels, hidden = planes()
    other = jnp.where(hidden, 2 - labels, labels)
    settings = dict(zip(("symmetries", "rounds", "samples"), use, strict=True))
    found = [filling.filled(leaning, given, hidden, KEY, 2, **settings) for given in (labels, other)]
    np.testing.assert_array_equal(*found)
