"""models/mae.py and models/blocks.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.models.attention import at_once, attention, by_head
from maeref_jax.models.blocks import Transformer, sine_cosine_positions, turned, turns
from maeref_jax.models.mae import MaskedAutoencoder

GRID, N = (4, 5), 20
PAPER = {"encoder_width": 128, "encoder_depth": 14, "encoder_heads": 1}
PAPER |= {"decoder_width": 64, "decoder_depth": 7, "decoder_heads": 8}


@pytest.fixture(scope="module")
def small():
    """The network as a function, compiled, its parameters, and what it is given."""
    net = MaskedAutoencoder(4, 4, 16, 2, 2, 16, 1, 2)
    labels = np.random.default_rng(0).integers(0, 4, (2, N, 16))
    kept = np.stack([np.arange(8), np.arange(8, 16)]).astype(np.int32)
    decoded = np.tile(np.arange(N, dtype=np.int32), (2, 1))
    arguments = (labels, GRID, kept, np.ones((2, 8), bool), decoded, np.ones((2, N), bool))
    params = jax.jit(net.init, static_argnums=2)(jax.random.key(0), *arguments)
    return jax.jit(net.apply, static_argnums=2), params, arguments


def test_labels_that_are_not_kept_are_never_read(small):
    apply, params, (labels, grid, kept, *rest) = small
    other = labels.copy()
    other[0, 8:] = 3 - other[0, 8:]
    assert (other != labels).any()
    before, after = apply(params, labels, grid, kept, *rest), apply(params, other, grid, kept, *rest)
    np.testing.assert_array_equal(before, after)


def test_padding_changes_nothing(small):
    apply, params, (labels, grid, kept, valid, decoded, decoded_valid) = small
    plain = apply(params, labels, grid, kept, valid, decoded, decoded_valid)
    longer = np.concatenate([kept, np.full((2, 5), 17, np.int32)], 1)
    longer_valid = np.concatenate([valid, np.zeros((2, 5), bool)], 1)
    padded = apply(params, labels, grid, longer, longer_valid, decoded, decoded_valid)
    np.testing.assert_allclose(padded, plain, atol=1e-5)


def test_the_order_of_kept_tokens_does_not_matter(small):
    apply, params, (labels, grid, kept, *rest) = small
    shuffled = kept[:, np.random.default_rng(1).permutation(8)]
    np.testing.assert_allclose(
        apply(params, labels, grid, shuffled, *rest),
        apply(params, labels, grid, kept, *rest),
        atol=1e-5,
    )


def test_decoding_fewer_tokens_changes_none_of_them(small):
    apply, params, (labels, grid, kept, valid, decoded, _) = small
    some = np.concatenate([kept, np.array([[16, 18], [16, 18]], np.int32)], 1)
    wanted = np.zeros((2, N), bool)
    np.put_along_axis(wanted, some, True, 1)
    everywhere = apply(params, labels, grid, kept, valid, decoded, wanted)
    there = apply(params, labels, grid, kept, valid, some, np.ones(some.shape, bool))
    np.testing.assert_allclose(there, np.take_along_axis(everywhere, some[..., None, None], 1), atol=1e-5)


def test_the_papers_architecture_has_the_known_size():
    """The decoder's 247,952 of the original minus its fifth class; positions are computed, not stored."""
    net = MaskedAutoencoder(5, 4, **PAPER)
    indices, valid = np.zeros((1, 16), int), np.ones((1, 16), bool)
    sizes = jax.eval_shape(
        lambda: net.init(jax.random.key(0), np.zeros((1, 16, 16), int), (4, 4), indices, valid, indices, valid)
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(sizes))
    # The original reads one number a pixel (16 * 128 weights); one-hot input reads five.
    assert count == 2_105_232 + 4 * 16 * 128


def test_positions_follow_the_stated_formula():
    positions = sine_cosine_positions((3, 4), 8)
    row, column, frequency = 2, 3, 10000.0 ** (-np.arange(2) / 2)
    expected = [
        np.sin(column * frequency),
        np.cos(column * frequency),
        np.sin(row * frequency),
        np.cos(row * frequency),
    ]
    np.testing.assert_allclose(positions[row * 4 + column], np.concatenate(expected), rtol=1e-6)


def test_attention_equals_a_plain_softmax_over_the_valid_keys():
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(3, 1, 6, 2, 4)).astype(np.float32)
    valid = np.array([[True, True, False, True, False, True]])
    result = np.asarray(attention(query, key, value, valid))
    for head in range(2):
        scores = query[0, :, head] @ key[0, valid[0], head].T / 2
        weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        np.testing.assert_allclose(result[0, :, head], weights @ value[0, valid[0], head], atol=1e-5)


def test_attention_by_head_is_attention_at_once_with_its_gradients():
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=(2, 7, 3, 4)) + offset, jnp.bfloat16) for offset in (0, 0, 5)]
    weights = rng.normal(size=(2, 7, 3, 4)).astype(np.float32)
    valid = jnp.asarray(np.arange(7)[None] < np.array([[5], [7]]))

    def results(function, dtype):
        def total(arrays):
            return (weights * function(*arrays, valid).astype(jnp.float32)).sum()

        given = [x.astype(dtype) for x in arrays]
        found = function(*given, valid), *jax.jit(jax.grad(total))(given)
        assert all(x.dtype == dtype for x in found)
        return [np.asarray(x, np.float32) for x in found]

    plain, fine, coarse = results(at_once, jnp.float32), results(by_head, jnp.float32), results(by_head, jnp.bfloat16)
    for expected, exact, rounded in zip(plain, fine, coarse, strict=True):
        np.testing.assert_allclose(exact, expected, atol=2e-5)
        np.testing.assert_allclose(rounded, expected, atol=2**-7 * np.abs(expected).max())
    of_key, of_value = fine[2:]
    assert not np.any(of_key[0, 5:]) and not np.any(of_value[0, 5:]), "padding has no gradient"


@pytest.mark.parametrize("remat", [False, True])
def test_blocks_are_the_same_in_the_form_for_accelerators(monkeypatch, remat):
    net, x = Transformer(2, 2, mlp_ratio=2.0, remat=remat), np.random.default_rng(0).normal(size=(2, 5, 8))
    valid = jnp.asarray(np.arange(5)[None] < np.array([[3], [5]]))
    params = jax.jit(net.init)(jax.random.key(0), x, valid)

    def results():
        def total(params):
            found = net.apply(params, x, valid)
            return (found**3).sum(), found

        return jax.jit(jax.grad(total, has_aux=True))(params)

    here = results()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-4), results(), here)


def test_on_a_cpu_blocks_keep_their_input_and_attention_for_the_backward_pass_and_nothing_else():
    depth, b, length, heads, width = 3, 2, 5, 2, 8
    net, x = Transformer(depth, heads, mlp_ratio=3.0), jnp.ones((b, length, width))
    params = jax.eval_shape(net.init, jax.random.key(0), x, jnp.ones((b, length), bool))

    def kept(params, x):
        return jax.vjp(lambda params, x: net.apply(params, x, jnp.ones((b, length), bool)), params, x)[1]

    shapes = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(kept, params, x))]
    of_parameters = {leaf.shape for leaf in jax.tree.leaves(params)}
    of_blocks = [shape[1:] for shape in shapes if shape[:1] == (depth,) and shape not in of_parameters]
    head = (b * heads, length)
    assert sorted(of_blocks) == sorted([(b, length, width), (*head, width // heads), (*head, 1)])


def test_rotary_positions_show_how_far_apart_two_tokens_are_and_nothing_else():
    rng = np.random.default_rng(0)
    query, key = (rng.normal(size=(1, 1, 2, 8)).astype(np.float32) for _ in range(2))

    def score(here, there):
        both = turned(query, turns(np.array([[here]]), 8)), turned(key, turns(np.array([[there]]), 8))
        return np.asarray((both[0] * both[1]).sum(-1)).ravel()

    np.testing.assert_allclose(score((2, 3), (4, 8)), score((12, 1), (14, 6)), atol=1e-5)
    np.testing.assert_allclose(turned(query, turns(np.zeros((1, 1, 2)), 8)), query)
    others = [score((2, 3), there) for there in ((4, 7), (5, 8), (0, -2))]
    assert all(np.abs(score((2, 3), (4, 8)) - other).min() > 1e-3 for other in others)
    with pytest.raises(ValueError, match="multiple of 4"):
        turns(np.zeros((1, 1, 2)), 6)
