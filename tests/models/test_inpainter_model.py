"""models/inpainter.py."""

import jax
import numpy as np

from maeref_jax.models.inpainter import Inpainter


def test_hidden_unknown_and_background_are_three_different_things_and_what_is_hidden_is_not_looked_at():
    net = Inpainter(3, (8, 8), (1,))
    labels, hidden = np.zeros((1, 9, 7), int), np.zeros((1, 9, 7), bool)
    params = jax.jit(net.init)(jax.random.key(0), labels, hidden)
    apply = jax.jit(net.apply)
    unknown, masked = labels.copy(), hidden.copy()
    unknown[0, 3, 3], masked[0, 3, 3] = -1, True
    found = [apply(params, *given) for given in ((labels, hidden), (unknown, hidden), (labels, masked))]
    assert found[0].shape == (1, 9, 7, 3) and found[0].dtype == np.float32, "any window"
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(found[i] - found[j]).max() > 1e-4
    for other in (1, 2, -1, 7):
        given = labels.copy()
        given[0, 3, 3] = other
        np.testing.assert_array_equal(apply(params, given, masked), found[2])
