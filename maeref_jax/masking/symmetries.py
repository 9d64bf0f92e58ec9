"""The eight orientations of a square plane, numbered 0 … 7; 0 is the plane itself, odd ones transpose."""

import jax.numpy as jnp


def orientations(shape):
    """The numbers of the orientations that keep the shape (b, y, x): eight of a square, four of another plane."""
    return [symmetry for symmetry in range(8) if shape[1] == shape[2] or not symmetry & 1]


def turned(planes, symmetry):
    """(b, y, x) in one of the eight orientations; trailing axes are kept."""
    planes = jnp.swapaxes(planes, 1, 2) if symmetry & 1 else planes
    planes = jnp.flip(planes, 1) if symmetry & 2 else planes
    return jnp.flip(planes, 2) if symmetry & 4 else planes


def turned_back(planes, symmetry):
    """The inverse of `turned`; trailing axes are kept."""
    planes = jnp.flip(planes, 2) if symmetry & 4 else planes
    planes = jnp.flip(planes, 1) if symmetry & 2 else planes
    return jnp.swapaxes(planes, 1, 2) if symmetry & 1 else planes
