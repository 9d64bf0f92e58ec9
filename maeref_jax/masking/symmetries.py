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


def over_orientations(predict, image, apart):
    """What predict(image) -> probabilities (k, b, [z,] y, x, c) says of an image (b, [z,] y, x) in all orientations of
    its planes, turned back: the mean; or, `apart`, all of it one by one, as if they were members.
    """
    planes, found = image.reshape(-1, *image.shape[-2:]), []
    for symmetry in orientations(planes.shape):
        turned_image = turned(planes, symmetry)
        one = predict(turned_image.reshape(*image.shape[:-2], *turned_image.shape[1:]))
        back = turned_back(one.reshape(-1, *one.shape[-3:]), symmetry)
        found.append(back.reshape(len(one), *image.shape, one.shape[-1]))
    return jnp.concatenate(found) if apart else sum(found) / len(found)
