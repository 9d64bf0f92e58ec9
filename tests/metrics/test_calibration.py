"""metrics/calibration.py against definitions written out over every voxel."""

import numpy as np
import pytest

from maeref_jax.metrics import calibration
from maeref_jax.metrics.calibration import add, area_under_risk_coverage, auroc, count_confidence, count_doubt


@pytest.fixture(scope="module")
def voxels():
    """(doubt uint8 with many ties, predicted, truth): errors are likelier where doubt is high."""
    rng = np.random.default_rng(0)
    doubt = (rng.integers(0, 12, (6, 50)) * 20).astype(np.uint8)
    truth = rng.integers(-1, 3, doubt.shape)
    wrong = rng.random(doubt.shape) < doubt / 400
    return doubt, np.where(wrong, (truth + 1) % 3, np.maximum(truth, 0)), truth


def test_auroc_counts_pairs(voxels):
    doubt, predicted, truth = voxels
    known = truth >= 0
    right, wrong = (doubt[known & part].astype(int) for part in (predicted == truth, predicted != truth))
    pairs = np.sign(wrong[:, None] - right[None])
    assert np.isclose(auroc(count_doubt(*voxels)), (pairs + 1).mean() / 2)
    assert 0.6 < auroc(count_doubt(*voxels)) < 0.95
    flat = count_doubt(np.zeros_like(doubt), predicted, truth)
    assert auroc(flat) == 0.5
    assert np.isnan(auroc(count_doubt(doubt, truth, truth)))


def test_entropy_as_float_and_as_stored_are_the_same_doubt(voxels):
    doubt, predicted, truth = voxels
    np.testing.assert_array_equal(count_doubt(doubt / np.float32(255), predicted, truth), count_doubt(*voxels))


def test_a_class_is_judged_where_it_is_or_is_claimed(voxels):
    doubt, predicted, truth = voxels
    found = count_doubt(doubt, predicted, truth, of_class=1)
    concerned = (truth >= 0) & ((truth == 1) | (predicted == 1))
    assert found.right.sum() + found.wrong.sum() == concerned.sum()
    assert found.wrong.sum() == (concerned & (truth != predicted)).sum()


def test_risk_coverage_keeps_the_surest_first(voxels):
    doubt, predicted, truth = voxels
    coverage, risk = calibration.risk_coverage(count_doubt(*voxels))
    known = truth >= 0
    kept = known & (doubt <= 100)
    assert np.isclose(coverage[100], kept.sum() / known.sum()) and coverage[-1] == 1
    assert np.isclose(risk[100], (predicted != truth)[kept].mean())
    assert np.isnan(calibration.risk_coverage(count_doubt(doubt | 1, predicted, truth))[1][0])


def test_the_area_under_risk_and_coverage_is_the_mean_over_random_orders_of_equals():
    doubt, wrong = np.array([0, 0, 0, 7, 7, 9, 9, 9, 9] * 300, np.uint8), np.array([0, 0, 1, 0, 1, 1, 1, 0, 1] * 300)
    rng, areas = np.random.default_rng(0), []
    for _ in range(30):
        order = np.lexsort((rng.random(len(doubt)), doubt))
        areas.append((np.cumsum(wrong[order]) / np.arange(1, len(doubt) + 1)).mean())
    found = area_under_risk_coverage(count_doubt(doubt, wrong, np.zeros_like(wrong)))
    assert np.isclose(found, np.mean(areas), rtol=5e-3)
    worse = area_under_risk_coverage(count_doubt(9 - doubt, wrong, np.zeros_like(wrong)))
    assert worse > found


def test_honest_confidence_has_no_calibration_error_and_boasting_has():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 200_000)
    probabilities = np.stack([confidence, 1 - confidence], -1)
    honest = (rng.random(len(confidence)) > confidence).astype(int)
    assert calibration.expected_calibration_error(count_confidence(probabilities, honest)) < 0.01
    coin = rng.integers(0, 2, len(confidence))
    assert np.isclose(calibration.expected_calibration_error(count_confidence(probabilities, coin)), 0.25, atol=0.01)
    certain = count_confidence(np.array([[1.0, 0.0]] * 4), np.array([0, 0, 1, -1]))
    assert np.isclose(calibration.expected_calibration_error(certain), 1 / 3)


def test_counts_add_up(voxels):
    doubt, predicted, truth = voxels
    halves = [count_doubt(doubt[part], predicted[part], truth[part]) for part in (slice(3), slice(3, None))]
    np.testing.assert_array_equal(add(*halves), count_doubt(*voxels))
    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), truth.shape)
    halves = [count_confidence(probabilities[part], truth[part]) for part in (slice(3), slice(3, None))]
    np.testing.assert_allclose(add(*halves), count_confidence(probabilities, truth))
