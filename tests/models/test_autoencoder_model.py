"""models/autoencoder.py."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.models.autoencoder import Autoencoder, DoublingConvolution


def test_the_architecture_is_the_published_one_and_takes_any_multiple_of_64_and_any_number_of_classes():
    net = Autoencoder(255, (64, 64, 128, 128, 256, 256), 512)
    labels = jax.ShapeDtypeStruct((2, 128, 64), np.int32)
    logits, variables = jax.eval_shape(net.init_with_output, jax.random.key(0), labels)
    assert logits.shape == (2, 128, 64, 255) and logits.dtype == np.float32
    kernels = {name: layer["kernel"].shape for name, layer in variables["params"].items() if "kernel" in layer}
    assert [kernels[name][-1] for name in ("embed", *(f"down{i}" for i in range(1, 6)))] == [64, 64, 128, 128, 256, 256]
    assert [kernels[f"up{i}"][-1] for i in range(6)] == [64, 64, 128, 128, 256, 256]
    assert kernels["to_latent"] == (2 * 1 * 256, 512) and kernels["from_latent"] == (512, 2 * 1 * 256)


def test_another_window_is_refused():
    with pytest.raises(BadInput, match=r"multiples of 4, found \(8, 6\)"):
        jax.eval_shape(Autoencoder(2, (4, 4), 2).init, jax.random.key(0), np.zeros((1, 8, 6), int))


def test_unknown_is_not_background_and_any_other_id_is_unknown():
    net = Autoencoder(3, (8, 8), 4)
    labels = np.zeros((1, 8, 8), int)
    apply = jax.jit(net.apply)
    params = jax.jit(net.init)(jax.random.key(0), labels)
    found = {}
    for value in (0, 1, -1, 3, 9):
        labels[0, 2:6, 2:6] = value
        found[value] = np.asarray(apply(params, labels))
    assert np.abs(found[0] - found[-1]).max() > 1e-4 and np.abs(found[1] - found[-1]).max() > 1e-4
    np.testing.assert_array_equal(found[-1], found[3])
    np.testing.assert_array_equal(found[-1], found[9])


@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (1, 1, 1, 4)])
def test_a_doubling_convolution_is_a_transposed_one(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    plain = nn.ConvTranspose(5, (4, 4), (2, 2))
    variables = jax.tree.map(lambda leaf: leaf + 0.1, plain.init(jax.random.key(0), x))

    def loss(net):
        return lambda variables, x: (net.apply(variables, x) ** 2).sum()

    fast = DoublingConvolution(5)
    np.testing.assert_allclose(fast.apply(variables, x), plain.apply(variables, x), atol=1e-5)
    found, wanted = (jax.grad(loss(net), (0, 1))(variables, x) for net in (fast, plain))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4), found, wanted)
