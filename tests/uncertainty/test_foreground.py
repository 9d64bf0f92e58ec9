"""foreground.py: the odds of foreground against background, and nothing else."""

import numpy as np
import pytest

from maeref_jax.uncertainty import foreground


@pytest.mark.parametrize("threshold", [0.1, 0.35, 0.8])
def test_a_class_is_called_from_the_threshold_on(threshold):
    share = np.linspace(0.005, 0.995, 100, dtype=np.float32)
    found = np.asarray(foreground.shifted(np.stack([1 - share, share], -1), threshold))
    np.testing.assert_array_equal(found.argmax(-1), share > threshold)
    assert (np.diff(found[:, 1]) > 0).all()


def test_among_foreground_classes_nothing_changes_and_all_sum_to_one():
    drawn = np.random.default_rng(0).dirichlet(np.ones(4), (5, 6)).astype(np.float32)
    found = np.asarray(foreground.shifted(drawn, 0.2))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(found[..., 1] / found[..., 3], drawn[..., 1] / drawn[..., 3], rtol=1e-4)
    assert (found[..., 0] < drawn[..., 0]).all()
    assert foreground.shifted(drawn, foreground.EVEN) is drawn


def test_what_a_workdir_may_say():
    assert foreground.is_chosen({"threshold": 0.3})
    assert not any(foreground.is_chosen(wrong) for wrong in (None, [], {}, {"threshold": "0.3"}, {"threshold": 1.0}))
