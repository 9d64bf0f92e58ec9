from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.uncertainty import entropy
from maeref_jax.uncertainty.entropy import member_means, normalised_entropy

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "entropy.npz", allow_pickle=False)


@partial(jax.jit, static_argnums=1)
def of_members(probabilities, kind):
    return entropy.entropy_of_means(member_means(probabilities, kind), kind)


def certain(votes, classes):
    return np.eye(classes, dtype=np.float32)[votes]


@settings(max_examples=10)
@given(classes=st.sampled_from((2, 5, 20)), seed=st.integers(0, 1000))
def test_entropy_lies_between_certain_and_uniform(classes, seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), size=7).astype(np.float32)
    normalised = jax.jit(normalised_entropy)
    found = np.asarray(normalised(probabilities))
    assert found.min() >= 0 and found.max() <= 1
    assert np.isclose(normalised(np.full(classes, 1 / classes, np.float32)), 1, atol=1e-5)
    assert normalised(np.eye(classes, dtype=np.float32)[0]) == 0


@pytest.mark.parametrize(("classes", "expected"), [(5, (0, 0.28, 0.395, 0.43)), (2, (0, 0.65, 0.918, 1))])
def test_six_hard_votes_give_the_known_steps(classes, expected):
    votes = np.array([[0] * 6, [0] * 5 + [1], [0] * 4 + [1] * 2, [0] * 3 + [1] * 3]).T
    np.testing.assert_allclose(of_members(certain(votes, classes), "votes"), expected, atol=2e-3)


def test_entropy_of_the_mean_equals_the_golden_vectors():
    found = of_members(GOLDEN["probs"], "mean")
    np.testing.assert_allclose(found, GOLDEN["entropy_soft_normalised"], atol=2e-6)


@pytest.mark.parametrize(("votes", "expected"), [("votes", "entropy"), ("votes_missing", "entropy_missing_correct")])
def test_entropy_of_votes_equals_the_originals_with_all_classes_counted(votes, expected):
    """The original does not normalise, and forgets classes that its first member never chose."""
    found = of_members(certain(GOLDEN[votes], 5), "votes")
    np.testing.assert_allclose(found * np.log(5), GOLDEN[expected], atol=2e-6)


def test_votes_are_cast_for_the_likeliest_class():
    found = of_members(GOLDEN["probs"], "votes")
    np.testing.assert_allclose(found * np.log(5), GOLDEN["entropy_hard_of_probs"], atol=2e-6)
    shares = np.asarray(entropy.vote_shares(GOLDEN["probs"]))
    counts = (GOLDEN["probs"].argmax(-1)[..., None] == np.arange(5)).mean(0)
    np.testing.assert_allclose(shares, counts, atol=1e-6)


def test_mutual_information_is_about_disagreement_alone():
    undecided = np.full((6, 1, 4), 0.25, np.float32)
    quarrelling = certain(np.array([[0], [0], [1], [1], [2], [3]]), 4)
    assert np.isclose(of_members(undecided, "mutual_information"), 0, atol=1e-6)
    assert np.isclose(of_members(undecided, "mean"), 1, atol=1e-6)
    np.testing.assert_allclose(of_members(quarrelling, "mutual_information"), of_members(quarrelling, "mean"))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), (5, 100)).astype(np.float32)
    divergence = (probabilities * np.log(probabilities / probabilities.mean(0))).sum(-1).mean(0) / np.log(3)
    np.testing.assert_allclose(of_members(probabilities, "mutual_information"), divergence, atol=1e-5)


@pytest.mark.parametrize("kind", entropy.KINDS)
def test_the_mean_probability_comes_first_whatever_the_kind(kind):
    means = np.asarray(member_means(GOLDEN["probs"], kind))
    assert entropy.class_count(means.shape[-1], kind) == 5
    np.testing.assert_allclose(means[..., :5], GOLDEN["probs"].mean(0), atol=1e-6)


def test_members_are_added_up_in_one_order():
    members = np.random.default_rng(0).random((10, 4096, 2), np.float32)
    expected = members[0]
    for member in members[1:]:
        expected = expected + member
    found = jax.jit(entropy.mean_probability)(members)
    np.testing.assert_allclose(found, expected / np.float32(10), rtol=1.2e-7)  # a division may be a product
    program = str(jax.make_jaxpr(entropy.mean_probability)(members))
    assert "reduce" not in program, "which adds in another order where it has more threads"
