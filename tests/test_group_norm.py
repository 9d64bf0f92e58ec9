"""The fast form of group normalisation is flax's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.models.group_norm import EPSILON, GroupNorm


@pytest.mark.parametrize(("shape", "groups"), [((2, 6, 5, 8), 4), ((3, 2, 4, 3, 6), 6), ((1, 7, 12), 1)])
def test_values_and_gradients_are_those_of_flax(shape, groups):
    rng = np.random.default_rng(0)
    x = (3 * rng.normal(size=shape) + 2).astype(np.float32)
    params = {name: rng.normal(size=shape[-1]).astype(np.float32) for name in ("scale", "bias")}
    weights = rng.normal(size=shape).astype(np.float32)

    def results(module):
        def value(params, x):
            return module.apply({"params": params}, x)

        gradients = jax.jit(jax.grad(lambda *given: (weights * value(*given) ** 2).sum(), (0, 1)))(params, x)
        return jax.tree.leaves((jax.jit(value)(params, x), gradients))

    flax_own = nn.GroupNorm(groups, epsilon=EPSILON)
    names = [set(jax.eval_shape(m.init, jax.random.key(0), x)["params"]) for m in (GroupNorm(groups), flax_own)]
    assert names == [{"scale", "bias"}] * 2, "either reads the other's checkpoints"
    for ours, theirs in zip(results(GroupNorm(groups)), results(flax_own), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_half_precision_is_normalised_in_full_and_handed_on_in_half():
    x = (100 + np.arange(2 * 64 * 4).reshape(2, 64, 4) % 7).astype(np.float32)
    found = GroupNorm(2, jnp.bfloat16).apply({"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}, x)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(np.float32).std(), 1.0, atol=0.05)
