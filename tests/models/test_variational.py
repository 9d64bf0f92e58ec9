"""models/variational.py: every term against plain numpy, and finite where labels are missing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.models import variational
from maeref_jax.models.hierarchical_vae import Latents

CLASSES, MARGIN = 3, 4.0


def deviation(log_variance):
    return np.where(log_variance < 0, np.exp(0.5 * log_variance), 1 + log_variance)


def divergence(mean, log_variance, prior_mean, prior_deviation):
    """Of one normal distribution from another, element by element, by its definition as an integral."""
    own = float(deviation(log_variance))
    x, step = np.linspace(mean - 12 * own, mean + 12 * own, 20001, retstep=True)
    density = np.exp(-0.5 * ((x - mean) / own) ** 2) / (own * np.sqrt(2 * np.pi))
    ratio = (
        np.log(prior_deviation / own) + 0.5 * ((x - prior_mean) / prior_deviation) ** 2 - 0.5 * ((x - mean) / own) ** 2
    )
    return (density * ratio).sum() * step


def contrast(x, labels, margin):
    x = x.reshape(len(x), -1).astype(np.float64)
    same, pairs = [], {}
    for i, j in itertools.combinations(range(len(x)), 2):
        if min(labels[i], labels[j]) < 0:
            continue
        distance = np.sqrt(((x[i] - x[j]) ** 2).sum() + 1e-6)
        if labels[i] == labels[j]:
            same.append(distance)
        else:
            pushed = (1 / (distance + 1e-6) + (margin - distance) ** 2) if distance < margin else 0.0
            pairs.setdefault(tuple(sorted((labels[i], labels[j]))), []).append(pushed)
    apart = np.array([np.mean(found) for found in pairs.values()])
    share = np.exp(apart - apart.max(initial=0)) / max(np.exp(apart - apart.max(initial=0)).sum(), 1e-30)
    return 0.5 * (np.mean(same) if same else 0.0) + 0.5 * (share * apart).sum()


def latents(seed=0, samples=5):
    rng = np.random.default_rng(seed)

    def draw(side, channels=7):
        return rng.normal(size=(samples, side, side, channels)).astype(np.float32)

    means, logs = ((draw(4), draw(2)) for _ in range(2))
    logits = rng.normal(size=(samples, CLASSES)).astype(np.float32)
    return Latents(draw(8, 1), means, logs, (draw(4),), (draw(4),), logits)


def test_divergence_is_the_integral():
    rng = np.random.default_rng(0)
    mean, log_variance, prior = rng.normal(size=(3, 2, 1, 1, 2)).astype(np.float32)
    spread = deviation(rng.normal(size=mean.shape)).astype(np.float32)
    found = variational.divergence(mean, log_variance, prior, spread)
    every = zip(*(x.ravel() for x in (mean, log_variance, prior, spread)), strict=True)
    wanted = np.array([divergence(*one) for one in every]).reshape(2, 2).mean(1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_every_class_has_channels_of_its_own_and_what_is_left_over_stays_0():
    wanted = np.zeros((3, 7))
    for c in range(3):
        wanted[c, 2 * c : 2 * c + 2] = 5
    np.testing.assert_array_equal(variational.component_means(3, 7, 5.0), wanted)


def test_lower_levels_diverge_from_what_came_down_and_the_coarsest_from_the_component_of_its_label():
    given, labels = latents(), np.array([0, -1, 2, 2, 9])
    (lower, count), (top, known) = variational.latent_divergences(given, labels, 5.0)
    one = variational.divergence(given.means[0], given.log_variances[0], given.prior_means[0],
                                 deviation(given.prior_log_variances[0]))  # fmt: skip
    np.testing.assert_allclose(lower, np.asarray(one).sum(), rtol=1e-5)
    assert (count, known) == (5, 3)
    mean, own = given.means[1].astype(float), deviation(given.log_variances[1].astype(float))
    component = np.zeros((5, 1, 1, 7))
    for i in (0, 2, 3):
        component[i, ..., 2 * labels[i] : 2 * labels[i] + 2] = 5
    wanted = (-np.log(own) + 0.5 * (own**2 + (mean - component) ** 2 - 1)).reshape(5, -1).mean(1)
    np.testing.assert_allclose(top, wanted[[0, 2, 3]].sum(), rtol=1e-5)


@pytest.mark.parametrize(
    "labels",
    [[0, 0, 1, 2, 2], [0, 1, -1, 1, 7], [1, 1, 1, -1, 1], [-1] * 5, [0, 1, 2, -1, -1], [2, -1, -1, -1, -1]],
    ids=["three classes", "two", "one class", "no label", "one label a class", "one label"],
)
def test_contrast_is_that_of_a_loop_over_pairs_and_has_gradients(labels):
    x, labels = latents().means[1] * 0.3, np.array(labels)
    known = np.where(labels < CLASSES, labels, -1)
    found, gradient = jax.value_and_grad(variational.contrast)(x, labels, CLASSES, MARGIN)
    np.testing.assert_allclose(found, contrast(x, known, MARGIN), rtol=1e-4, atol=1e-6)
    assert np.isfinite(gradient).all() and (np.asarray(gradient)[known < 0] == 0).all()
    assert (found == 0) == ((known >= 0).sum() < 2)
    assert (gradient != 0).any() == ((known >= 0).sum() > 1)


def test_the_classes_that_are_nearest_count_most_and_the_weights_have_gradients():
    x = np.array([[0.0], [1.0], [3.5]], np.float32)  # 0 and 1 are near, 2 is nearly a margin from 1
    gradient = jax.grad(variational.contrast)(x, np.arange(3), 3, MARGIN)[:, 0]
    step = 1e-3
    for i in range(3):
        moved = np.array([contrast(x + sign * step * np.eye(3)[i][:, None], np.arange(3), MARGIN) for sign in (1, -1)])
        np.testing.assert_allclose(gradient[i], (moved[0] - moved[1]) / (2 * step), rtol=1e-2, atol=1e-3)
    assert abs(gradient[0]) > 10 * abs(gradient[2])


def test_equal_latents_have_finite_gradients_in_both_precisions():
    for dtype in (jnp.float32, jnp.bfloat16):
        x = jnp.ones((4, 6), dtype)
        found, gradient = jax.value_and_grad(variational.contrast)(x, np.array([0, 0, 1, 1]), 2, 20.0)
        assert np.isfinite(found) and np.isfinite(np.asarray(gradient, np.float32)).all()
    near = jnp.asarray([[1.0], [1.0 + 2**-7]], jnp.bfloat16)
    np.testing.assert_allclose(variational.distances(near)[0, 1], np.hypot(2**-7, 1e-3), rtol=1e-4)


def test_coarser_levels_count_twice_as_much():
    means, labels = latents().means, np.array([0, 0, 1, 2, 2])
    wanted = 0.5 * contrast(means[0], labels, MARGIN) + contrast(means[1], labels, MARGIN)
    np.testing.assert_allclose(variational.contrastive(means, labels, CLASSES, MARGIN), wanted, rtol=1e-4)


def test_inpainting_is_of_the_middle_alone():
    rng = np.random.default_rng(0)
    there, x = rng.normal(size=(2, 3, 8, 8, 1)).astype(np.float32)
    total, count = variational.inpainting(there, x, 2)
    wanted = (0.5 * (there - x) ** 2)[:, 3:5, 3:5].mean((1, 2, 3))
    np.testing.assert_allclose(total, wanted.sum(), rtol=1e-5)
    assert count == 3
    np.testing.assert_allclose(
        variational.inpainting(there, x, 1)[0], (0.5 * (there - x) ** 2)[:, 4, 4].sum(), rtol=1e-5
    )


def test_cross_entropy_leaves_unknown_labels_out():
    logits, labels = latents().logits, np.array([2, -1, 0, 3, 1])
    total, count = variational.cross_entropy(logits, labels)
    likely = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(total, -np.log([likely[0, 2], likely[2, 0], likely[4, 1]]).sum(), rtol=1e-5)
    assert count == 3
    nothing, gradient = jax.value_and_grad(lambda x: variational.cross_entropy(x, np.full(5, -1))[0])(logits)
    assert nothing == 0 and (gradient == 0).all()
