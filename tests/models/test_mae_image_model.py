"""models/mae_image.py, and what MaskedAutoencoder does with a context."""

import jax
import numpy as np
import pytest

from maeref_jax.models.mae import MaskedAutoencoder
from maeref_jax.models.mae_image import ImageMaskedAutoencoder

GRID, N = (3, 4), 12


@pytest.fixture(scope="module")
def small():
    net = ImageMaskedAutoencoder(MaskedAutoencoder(3, 2, 8, 1, 2, 8, 1, 2), 8, 1, 2)
    rng = np.random.default_rng(0)
    kept = np.arange(4, dtype=np.int32)[None]
    decoded = np.arange(N, dtype=np.int32)[None]
    arguments = (rng.integers(0, 3, (1, N, 4)), GRID, kept, np.ones((1, 4), bool), decoded, np.ones((1, N), bool))
    image = rng.random((1, N, 4)).astype(np.float32)
    params = jax.jit(net.init, static_argnums=2)(jax.random.key(0), *arguments, image)
    return jax.jit(net.apply, static_argnums=2), params, arguments, image


def test_image_tokens_that_are_not_kept_are_seen_and_their_labels_are_not(small):
    apply, params, (labels, *rest), image = small
    plain = np.asarray(apply(params, labels, *rest, image))
    assert plain.shape == (1, N, 4, 3)
    other = labels.copy()
    other[:, 4:] = 2 - other[:, 4:]
    np.testing.assert_array_equal(apply(params, other, *rest, image), plain)
    brighter = image.copy()
    brighter[:, 9] += 1.0
    assert (np.abs(np.asarray(apply(params, labels, *rest, brighter)) - plain).max((0, 2, 3)) > 1e-6).all()


def test_the_context_lies_at_its_own_token_kept_or_not():
    """A decoder without blocks sees one token at a time: context at one token changes that one only."""
    net = MaskedAutoencoder(3, 2, 8, 1, 2, 8, 0, 2)
    labels, kept = np.zeros((1, N, 4), int), np.array([[1, 2]], np.int32)
    decoded = np.arange(N, dtype=np.int32)[None]
    given = (labels, GRID, kept, np.ones((1, 2), bool), decoded, np.ones((1, N), bool))
    context = np.zeros((1, N, 8), np.float32)
    params = jax.jit(net.init, static_argnums=2)(jax.random.key(0), *given, context)
    apply = jax.jit(net.apply, static_argnums=2)
    plain = np.asarray(apply(params, *given))
    np.testing.assert_array_equal(apply(params, *given, context), plain)
    for token in (2, 7):
        context[:] = 0
        context[0, token] = np.arange(8)
        changed = (np.asarray(apply(params, *given, context)) != plain).any((0, 2, 3))
        assert np.flatnonzero(changed).tolist() == [token]
