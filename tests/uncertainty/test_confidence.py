"""confidence.py: after calibration 80 % sure is right four times of five, and the class stays what it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maeref_jax.metrics.calibration import count_confidence, expected_calibration_error
from maeref_jax.uncertainty.confidence import DEPTHS, Calibration, depth_of, fit, tempered


def overconfident(rng, pixels, sharpness):
    """Probabilities raised to a power of what the classes are drawn from."""
    honest = rng.dirichlet(np.ones(4), pixels)
    truth = np.array([rng.choice(4, p=p) for p in honest])
    sharp = honest**sharpness
    return (sharp / sharp.sum(-1, keepdims=True)).astype(np.float32), truth


def test_what_was_too_sure_is_made_honest_depth_by_depth():
    rng = np.random.default_rng(0)
    depths, sharpness = (0.5, 1.5, 3.0, 9.0), (1.0, 1.5, 2.0, 3.0)
    drawn = [overconfident(rng, 4000, power) for power in sharpness]
    probabilities, truth = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    depth = np.repeat(depths, 4000).astype(np.float32)
    found = fit(probabilities, truth, depth)
    np.testing.assert_allclose(found.temperatures, sharpness, rtol=0.08)
    after = tempered(probabilities, depth, found)
    errors = [expected_calibration_error(count_confidence(p, truth)) for p in (probabilities, after)]
    assert errors[1] < 0.015 < errors[0]


@given(st.integers(0, 100), st.floats(0.2, 5.0))
def test_the_class_stays_and_sums_stay_one(seed, temperature):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3) * 0.3, (2, 5, 6)).astype(np.float32)
    found = tempered(probabilities, rng.uniform(0, 9, (2, 5, 6)), Calibration((temperature,) * (len(DEPTHS) + 1)))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    chosen = np.take_along_axis(found, probabilities.argmax(-1)[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, found.max(-1), rtol=1e-5)


def test_depth_is_counted_in_tokens_from_what_is_visible_in_the_plane():
    hidden = np.zeros((3, 8, 16), bool)
    hidden[0, :, 4:12] = True
    hidden[1] = True
    depth = depth_of(hidden, 4)
    assert depth[0, 3].tolist() == [0] * 4 + [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25] + [0] * 4
    assert np.isinf(depth[1]).all() and not depth[2].any()


def test_few_pixels_of_a_depth_take_the_temperature_of_all_and_none_is_one():
    probabilities, truth = overconfident(np.random.default_rng(1), 3000, 2.0)
    depth = np.full(3000, 0.5, np.float32)
    depth[:10] = 9.0
    found = fit(probabilities, truth, depth).temperatures
    assert found[-1] == found[1] == pytest.approx(2.0, rel=0.1) == pytest.approx(found[0], rel=0.05)
    nothing = fit(probabilities, np.full(3000, -1), depth)
    assert nothing.temperatures == (1.0,) * 4
