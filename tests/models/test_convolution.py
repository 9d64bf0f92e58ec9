"""The form of a convolution changes neither what comes out nor its gradients."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from maeref_jax.models import convolution
from maeref_jax.models.convolution import Conv


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((2, 9, 7, 8), {}),  # the form of its own
        ((2, 3, 6, 8, 16), {}),  # planes of a stack
        ((2, 9, 7, 8), {"kernel_dilation": (2, 2)}),
        ((2, 8, 6, 8), {"strides": (2, 2)}),
        ((2, 8, 6, 8), {"padding": "VALID"}),
        ((3, 65, 64, 8), {}),  # by strips of rows, which do not divide
        ((1, 3, 4099, 8), {}),  # by strips of one row
        ((2, 9, 7, 1), {}),
    ],
)
def test_values_and_gradients_are_those_of_flax(shape, settings):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    params = nn.Conv(5, (3, 3), **settings).init(jax.random.key(0), x)

    def results(layer):
        gradient = jax.jit(jax.grad(lambda params, x: (layer.apply(params, x) ** 2).sum(), (0, 1)))
        return jax.tree.leaves((layer.apply(params, x), gradient(params, x)))

    for ours, theirs in zip(*(results(kind(5, (3, 3), **settings)) for kind in (Conv, nn.Conv)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize(("shape", "by_strips"), [((2, 64, 64, 8), False), ((1, 8, 2048, 8), True)])
def test_many_pixels_are_taken_strip_by_strip(monkeypatch, shape, by_strips):
    seen, form = [], convolution._by_strips
    monkeypatch.setattr(convolution, "_by_strips", lambda *arrays: seen.append(1) or form(*arrays))
    layer, x = Conv(8, (3, 3)), np.zeros(shape, np.float32)
    params = layer.init(jax.random.key(0), x)
    jax.eval_shape(jax.grad(lambda params: layer.apply(params, x).sum()), params)
    assert bool(seen) == by_strips


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((2, 5, 9, 7, 8), {}),
        ((1, 1, 9, 7, 8), {}),  # nothing above or below
        ((2, 2, 6, 8, 1), {}),
        ((2, 5, 6, 8, 3), {"strides": (2, 2, 2)}),
        ((2, 5, 6, 8, 4), {"feature_group_count": 2}),
    ],
)
def test_volumes_are_convolved_by_planes_alike(monkeypatch, shape, settings):
    seen, form = [], convolution._of_volume
    monkeypatch.setattr(convolution, "_of_volume", lambda *arrays: seen.append(1) or form(*arrays))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    params = nn.Conv(6, (3, 3, 3), **settings).init(jax.random.key(0), x)

    def results(layer):
        gradient = jax.jit(jax.grad(lambda params, x: (layer.apply(params, x) ** 2).sum(), (0, 1)))
        return jax.tree.leaves((layer.apply(params, x), gradient(params, x)))

    for ours, theirs in zip(*(results(kind(6, (3, 3, 3), **settings)) for kind in (Conv, nn.Conv)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
    assert bool(seen) == (not settings)
