"""Intensities of an image as a network sees them: 0 to 1, by the statistics that a model keeps in its state."""

import jax.numpy as jnp


def scaled(image, intensity_range):
    """Intensities with `intensity_range` (low, high) scaled to [0, 1], not clipped."""
    low, high = intensity_range
    return (image - low) / (high - low)


def normalised(image, intensity_range):
    """Intensities clipped to `intensity_range` (low, high) and scaled to [0, 1]."""
    return jnp.clip(scaled(image, intensity_range), 0.0, 1.0)
