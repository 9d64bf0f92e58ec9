from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.entropy import mean_probability, normalised_entropy

GOLDEN = Path(__file__).parent / "golden" / "entropy_soft.npz"


@settings(max_examples=10)
@given(classes=st.integers(2, 20), seed=st.integers(0, 1000))
def test_entropy_lies_between_certain_and_uniform(classes, seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), size=7).astype(np.float32)
    entropy = np.asarray(normalised_entropy(probabilities))
    assert entropy.min() >= 0 and entropy.max() <= 1
    assert np.isclose(normalised_entropy(np.full(classes, 1 / classes, np.float32)), 1, atol=1e-5)
    assert normalised_entropy(np.eye(classes, dtype=np.float32)[0]) == 0


def test_hard_votes_give_the_known_steps():
    votes = np.array([(5, 1, 0, 0, 0), (4, 2, 0, 0, 0), (3, 3, 0, 0, 0)], np.float32) / 6
    steps = normalised_entropy(votes)
    np.testing.assert_allclose(steps, [0.28, 0.395, 0.43], atol=2e-3)


def test_entropy_of_the_mean_equals_the_golden_vectors():
    golden = np.load(GOLDEN, allow_pickle=False)
    entropy = normalised_entropy(mean_probability(golden["probs"]))
    np.testing.assert_allclose(entropy, golden["entropy_soft_normalised"], atol=2e-6)
