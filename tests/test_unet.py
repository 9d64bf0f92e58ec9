import jax
import numpy as np
import pytest

from maeref_jax.models.unet import UNet


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((13, 18), ((2, 2), (2, 2))), ((5, 9, 14), ((1, 2, 2), (2, 2, 2)))],
    ids=["plane", "anisotropic stack"],
)
def test_any_size_comes_back_with_one_logit_per_class(shape, strides):
    net = UNet(3, (4, 6, 8), strides)
    image = np.random.default_rng(0).normal(size=(1, *shape, 2)).astype(np.float32)
    logits, _ = jax.jit(net.init_with_output)(jax.random.key(0), image)
    assert logits.shape == (1, *shape, 3) and np.isfinite(logits).all()


def test_what_lies_far_away_does_not_matter_and_what_lies_near_does():
    net = UNet(2, (4, 4), ((2, 2),), norm="none")
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 1)).astype(np.float32)
    variables = jax.jit(net.init)(jax.random.key(1), image)
    changed = image.copy()
    changed[0, 60:, 60:] += 1
    apply = jax.jit(net.apply)
    difference = np.abs(apply(variables, changed) - apply(variables, image)).max(-1)[0]
    assert difference[62, 62] > 0 and difference[:32, :32].max() == 0
