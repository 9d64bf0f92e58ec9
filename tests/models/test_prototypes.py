"""models/prototypes.py."""

import numpy as np

from maeref_jax.models.prototypes import above, nearest_class, prototypes


def test_the_nearest_class_of_those_that_are_there_with_its_share_of_a_softmax():
    latents = np.array([[0.0, 0], [2, 0], [9, 9], [0, 7]], np.float32)
    means, present = prototypes(latents, np.array([0, 0, -1, 2]), 3)
    np.testing.assert_allclose(means, [[1, 0], [0, 0], [0, 7]])
    assert present.tolist() == [True, False, True]
    asked = np.array([[0.0, 0], [0, 6]], np.float32)
    labels, confidence = nearest_class(asked, means, present, 10.0)
    assert labels.tolist() == [0, 2], "an absent class has no prototype, not one at the origin"
    score = np.exp(-np.array([[1, 49], [37, 1]]) / 10)
    np.testing.assert_allclose(confidence, score.max(1) / score.sum(1), rtol=1e-5)
    assert above(confidence, float(confidence[0])).tolist() == [False, bool(confidence[1] > confidence[0])]


def test_without_any_label_nothing_is_admitted():
    latents = np.ones((3, 2), np.float32)
    means, present = prototypes(latents, np.full(3, -1), 2)
    _, confidence = nearest_class(latents, means, present, 1.0)
    assert confidence.tolist() == [0, 0, 0]
    means, present = prototypes(latents, np.array([1, -1, -1]), 2)
    labels, confidence = nearest_class(latents + 100, means, present, 1.0)
    assert labels.tolist() == [1, 1, 1] and np.isfinite(confidence).all()


def test_samples_of_several_devices_have_the_prototypes_of_all():
    latents, labels = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), np.array([0, 1, 0, 1, 1, -1])
    whole = prototypes(latents, labels, 2)
    seen = []
    prototypes(latents[:3], labels[:3], 2, lambda sums: seen.append(sums) or sums)
    both = prototypes(latents[3:], labels[3:], 2, lambda sums: [a + b for a, b in zip(sums, seen[0], strict=True)])
    np.testing.assert_allclose(both[0], whole[0], rtol=1e-5)
