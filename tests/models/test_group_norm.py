"""models/group_norm.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.models.group_norm import GroupNorm, group_norm


@pytest.mark.parametrize(("shape", "groups"), [((2, 6, 5, 8), 4), ((3, 2, 4, 3, 6), 6), ((1, 7, 12), 1)])
def test_values_and_gradients_are_those_of_the_form_for_accelerators(monkeypatch, shape, groups):
    rng = np.random.default_rng(0)
    x = (3 * rng.normal(size=shape) + 2).astype(np.float32)
    params = {name: rng.normal(size=shape[-1]).astype(np.float32) for name in ("scale", "bias")}
    weights = rng.normal(size=shape).astype(np.float32)
    fast = group_norm(groups, jnp.float32, None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    plain = group_norm(groups, jnp.float32, None)
    assert isinstance(fast, GroupNorm) and isinstance(plain, nn.GroupNorm)

    def results(module):
        def value(params, x):
            return module.apply({"params": params}, x)

        gradients = jax.jit(jax.grad(lambda *given: (weights * value(*given) ** 2).sum(), (0, 1)))(params, x)
        return jax.tree.leaves((jax.jit(value)(params, x), gradients))

    shapes = [jax.tree.map(jnp.shape, jax.eval_shape(m.init, jax.random.key(0), x)) for m in (fast, plain)]
    assert shapes[0] == shapes[1], "either reads the other's checkpoints"
    for ours, theirs in zip(results(fast), results(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_members_may_be_mapped_over_it():
    rng = np.random.default_rng(0)
    x, params = rng.normal(size=(3, 2, 5, 4)), {"scale": rng.normal(size=(3, 4)), "bias": rng.normal(size=(3, 4))}
    x, params = jax.tree.map(lambda leaf: leaf.astype(np.float32), (x, params))
    gradient = jax.grad(lambda params, x: (GroupNorm(2).apply({"params": params}, x) ** 3).sum(), (0, 1))
    one = jax.tree.map(lambda leaf: leaf[1], (params, x))
    together = jax.tree.map(lambda leaf: leaf[1], jax.jit(jax.vmap(gradient))(params, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), together, jax.jit(gradient)(*one))


def test_half_precision_is_normalised_in_full_and_handed_on_in_half():
    x = jnp.asarray(100 + np.arange(2 * 64 * 4).reshape(2, 64, 4) % 7, jnp.bfloat16)
    params = {"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}
    found, full = (GroupNorm(2, dtype).apply(params, x) for dtype in (jnp.bfloat16, jnp.float32))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, full.astype(jnp.bfloat16))
    np.testing.assert_allclose(full.std(), 1.0, atol=1e-3)


def test_where_all_is_the_same_nothing_is_divided_by_nothing():
    """The variance of such a channel is a difference of equal numbers, which may come out below 0."""
    x = jnp.broadcast_to(jnp.linspace(10.0, 99.0, 64), (1, 9, 9, 64))
    params = {"scale": jnp.ones(64), "bias": jnp.zeros(64)}
    found = jax.value_and_grad(lambda params, x: GroupNorm(64).apply({"params": params}, x).sum(), (0, 1))(params, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
