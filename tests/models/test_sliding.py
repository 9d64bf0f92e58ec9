"""models/sliding.py, with networks whose answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.models import sliding
from maeref_jax.models.hierarchical_vae import every_offset


def says_the_middle(windows):
    """Logits that tell a window by its middle and its first voxel."""
    middle = windows[(slice(None), *(side // 2 for side in windows.shape[1:-1]), 0)]
    first = windows.reshape(len(windows), -1)[:, 0]
    return jnp.stack([middle, 0.1 * first, jnp.zeros_like(middle)], -1)


def softmax(logits):
    likely = np.exp(logits)
    return likely / likely.sum(-1, keepdims=True)


def expected(x, window):
    padded = np.pad(x[..., 0], [(0, 0), *((side // 2, side - side // 2) for side in window)], mode="reflect")
    first = padded[(slice(None), *(slice(0, size) for size in x.shape[1:-1]))]
    return softmax(np.stack([x[..., 0], 0.1 * first, 0 * first], -1))


@pytest.mark.parametrize(("shape", "window"), [((9, 12), (4, 6)), ((5, 7, 6), (2, 4, 4))])
def test_every_voxel_is_asked_with_what_lies_around_it(shape, window):
    x = np.random.default_rng(0).normal(size=(2, *shape, 1)).astype(np.float32)
    found = sliding.one_by_one(says_the_middle, x, window, (1,) * len(shape))
    np.testing.assert_allclose(found, expected(x, window), atol=1e-5)


@pytest.mark.parametrize("stride", [(2, 2), (4, 3), (5, 5)])
def test_what_lies_between_is_interpolated(stride):
    grid = np.stack(np.meshgrid(np.arange(9), np.arange(13), indexing="ij"), -1).sum(-1)[None, ..., None]
    x = grid.astype(np.float32)

    def linear(windows):  # a probability that is linear in the place
        share = windows[:, 2, 2, 0] / 40
        return jnp.log(jnp.stack([share, 1 - share], -1))

    found = np.asarray(sliding.one_by_one(linear, x, (4, 4), stride))[..., 0]
    inside = (slice(None), slice(0, 8 // stride[0] * stride[0] + 1), slice(0, 12 // stride[1] * stride[1] + 1))
    np.testing.assert_allclose(found[inside], x[..., 0][inside] / 40, atol=1e-5)
    assert found.shape == x.shape[:-1]


@pytest.mark.parametrize(("shape", "window", "levels"), [((8, 12), (4, 8), 2), ((4, 6, 8), (2, 4, 4), 1)])
def test_windows_that_share_their_work_say_what_each_of_them_says(shape, window, levels):
    """Of a network whose map is the image itself there is no border: both ways are the same."""
    x = np.random.default_rng(1).normal(size=(2, *shape, 1)).astype(np.float32)
    step = 2**levels

    def encoded(x):
        for _ in range(levels):
            x = every_offset(x)
        return x

    def read(tops):
        side = [size // 2 for size in tops.shape[1:-1]]
        flat = tops.reshape(len(tops), -1)
        return jnp.stack([tops[(slice(None), *side, 0)], flat[:, 0], flat[:, -1]], -1)

    def alone(windows):
        return read(windows[(slice(None), *(slice(None, None, step) for _ in window))])

    found = sliding.dense(encoded, read, x, window, levels)
    np.testing.assert_allclose(found, sliding.one_by_one(alone, x, window, (1,) * len(shape)), atol=1e-5)
