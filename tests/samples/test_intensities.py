"""intensities.py."""

import numpy as np

from maeref_jax.samples.intensities import normalised, scaled


def test_intensities_are_clipped_to_the_range_of_training():
    image, known = np.array([0.0, 80.0, 100.0, 500.0]), np.array([80.0, 120.0])
    np.testing.assert_allclose(normalised(image, known), [0, 0, 0.5, 1])
    np.testing.assert_allclose(scaled(image, known), [-2, 0, 0.5, 10.5])
