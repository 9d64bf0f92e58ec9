"""Softmax attention with padding left out, in the form that is fastest where it runs."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

ATTENTION = "attention"  # what to keep for the backward pass, where the rest is computed again


def attention(query, key, value, valid):
    """Softmax attention (b, l, heads, e) that gives keys with valid = False no weight. valid: bool (b, l), True for at
    least one key of every sample.

    On CPUs one head of one sample after another, and its weights again in the backward pass: they then stay in the
    cache (benchmarks/attention.py says what that buys). Elsewhere all at once.
    """
    return (by_head if jax.default_backend() == "cpu" else at_once)(query, key, value, valid)


def at_once(query, key, value, valid):
    """All heads together, with the softmax alone in float32."""
    query = query * query.shape[-1] ** -0.5
    scores = jnp.einsum("bqhe,bkhe->bhqk", query, key)
    scores = jnp.where(valid[:, None, None, :], scores.astype(jnp.float32), -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bhqk,bkhe->bqhe", weights, value)


def by_head(query, key, value, valid):
    """One head at a time. All of it in float32, since its gradient is a difference of numbers that are nearly equal."""
    b, length, heads, e = query.shape

    def listed(x):
        return jnp.swapaxes(x, 1, 2).reshape(b * heads, length, e).astype(jnp.float32)

    bias = jnp.repeat(jnp.where(valid, 0.0, -jnp.inf)[:, None], heads, axis=0)
    result = _heads(listed(query) * e**-0.5, listed(key), listed(value), bias).astype(value.dtype)
    return jnp.swapaxes(result.reshape(b, heads, length, e), 1, 2)


@jax.custom_vjp
def _heads(query, key, value, bias):
    """Attention of float32 (n, l, e) heads, one after another; bias (n, 1, l) is added to the scores, 0 or -inf."""
    return _forward(query, key, value, bias)[0]


def _forward(query, key, value, bias):
    def head(inputs):
        query, key, value, bias = inputs
        scores = query @ key.T + bias
        most = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - most)
        total = weights.sum(-1, keepdims=True)
        return (weights @ value) / total, most + jnp.log(total)

    found, log_total = jax.lax.map(head, (query, key, value, bias))
    found, log_total = checkpoint_name(found, ATTENTION), checkpoint_name(log_total, ATTENTION)
    return found, (query, key, value, bias, found, log_total)


def _backward(kept, gradient):
    """The gradients of Dao et al. 2022, appendix B.2, from weights computed again."""

    def head(inputs):
        query, key, value, bias, found, log_total, gradient = inputs
        weights = jnp.exp(query @ key.T + (bias - log_total))
        scores = weights * (gradient @ value.T - (gradient * found).sum(-1, keepdims=True))
        # A large transposed matrix is slow to multiply, so the small ones are transposed, and what comes of it outside.
        scores, weights = jax.lax.optimization_barrier((scores, weights))
        return scores @ key, query.T @ scores, gradient.T @ weights

    query, key, value = jax.lax.map(head, (*kept, gradient))
    return query, jnp.swapaxes(key, 1, 2), jnp.swapaxes(value, 1, 2), None


_heads.defvjp(_forward, _backward)
