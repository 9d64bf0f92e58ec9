import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.models.unet import UNet, max_pooled

PLANE, STACK = ((2, 2), (2, 2)), ((1, 2, 2), (2, 2, 2))


def image(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def count(net, *shape):
    found = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros(shape))
    return sum(leaf.size for leaf in jax.tree.leaves(found["params"]))


@pytest.mark.parametrize(
    ("net", "shape", "parameters"),
    [
        (UNet(1, (64, 128, 256, 512), ((2, 2),) * 3, norm="batch"), (1, 16, 16, 1), 7_701_825),
        (UNet(1, (64, 128, 256, 512), ((2, 2),) * 3, norm="none"), (1, 16, 16, 1), 7_696_193),
        (UNet(5, (8, 16), ((1, 2, 2),)), (1, 4, 8, 8, 2), 18_469),
        # 1 x 1 projections of 1 -> 8, 8 -> 16 and 16 -> 8 channels, each with a bias.
        (UNet(5, (8, 16), ((1, 2, 2),), block="residual"), (1, 4, 8, 8, 1), 18_469 - 216 + 16 + 144 + 136),
    ],
    ids=["batch norm", "no norm", "stack", "residual"],
)
def test_the_numbers_of_parameters_are_known(net, shape, parameters):
    assert count(net, *shape) == parameters


@pytest.mark.parametrize(
    ("shape", "strides", "norm", "block"),
    [
        ((13, 18), PLANE, "group", "plain"),
        ((1, 3), PLANE, "instance", "residual"),
        ((1, 3, 14), STACK, "batch", "residual"),
        ((5, 9, 14), STACK, "none", "plain"),
    ],
)
def test_any_size_comes_back_with_one_logit_per_class(shape, strides, norm, block):
    net = UNet(3, (4, 6, 8), strides, norm=norm, block=block)
    logits, variables = jax.eval_shape(net.init_with_output, jax.random.key(0), image(1, *shape, 2))
    assert logits.shape == (1, *shape, 3) and logits.dtype == np.float32
    assert set(variables) == ({"params", "batch_stats"} if norm == "batch" else {"params"})


def test_what_lies_far_away_does_not_matter_and_what_lies_near_does():
    net = UNet(2, (4, 4), ((2, 2),), norm="none")
    x = image(1, 64, 64, 1)
    variables = jax.jit(net.init)(jax.random.key(1), x)
    changed = x.copy()
    changed[0, 60:, 60:] += 1
    apply = jax.jit(net.apply)
    difference = np.abs(apply(variables, changed) - apply(variables, x)).max(-1)[0]
    assert difference[62, 62] > 0 and difference[:32, :32].max() == 0


@pytest.mark.parametrize(("plane_levels", "reach"), [(0, 6), (1, 2), (2, 0)])
def test_a_level_that_is_not_pooled_along_z_keeps_slices_apart(plane_levels, reach):
    """Strides (1, 2, 2): two convolutions at either level see 2 slices up and down each, three blocks 6 in all; those
    of a level that convolves in the plane see none.
    """
    net = UNet(2, (4, 4), ((1, 2, 2),), plane_levels, norm="none")
    x = image(1, 16, 8, 8, 1)
    variables = jax.jit(net.init)(jax.random.key(1), x)
    changed = x.copy()
    changed[0, 0] += 1
    apply = jax.jit(net.apply)
    difference = np.abs(apply(variables, changed) - apply(variables, x)).max((0, 2, 3, 4))
    assert (difference[: max(reach, 1)] > 0).all() and (difference[reach + 1 :] == 0).all()


def test_batch_statistics_move_in_training_alone_and_are_what_use_normalises_by():
    net, x = UNet(2, (4,), (), norm="batch"), 5 + 3 * image(4, 8, 8, 1)
    variables = jax.jit(net.init)(jax.random.key(0), x)
    train = jax.jit(lambda v: net.apply(v, x, train=True, mutable=["batch_stats"]))
    for _ in range(100):
        trained, changed = train(variables)
        variables = {**variables, **changed}
    used = jax.jit(net.apply)(variables, x)
    np.testing.assert_allclose(used, trained, atol=0.05)
    alone = jax.jit(net.apply)(variables, x[:1])
    np.testing.assert_allclose(alone, used[:1], atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_recomputing_activations_changes_neither_gradients_nor_statistics(norm):
    x, found = image(2, 8, 8, 1), []
    for remat in (False, True):
        net = UNet(2, (4, 6), ((2, 2),), norm=norm, remat=remat)
        variables = jax.jit(net.init)(jax.random.key(0), x)

        def total(params, net=net, variables=variables):
            logits, changed = net.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
            return (logits**2).sum(), changed

        found.append(jax.jit(jax.grad(total, has_aux=True))(variables["params"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *found)


def test_bfloat16_computes_coarsely_with_float32_parameters():
    x, nets = image(1, 16, 16, 1), [UNet(2, (8, 8), ((2, 2),), dtype=t) for t in (jnp.float32, jnp.bfloat16)]
    variables = jax.jit(nets[1].init)(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    fine, coarse = (np.asarray(jax.jit(net.apply)(variables, x)) for net in nets)
    assert coarse.dtype == np.float32
    assert 0 < np.abs(fine - coarse).max() < 0.1 * np.abs(fine).max()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"norm": "layer"}, "model.norm"),
        ({"block": "dense"}, "model.block"),
        ({"strides": ((2, 2),)}, "model.strides must be 2"),
        ({"strides": ((1, 2, 2), (2, 2, 2))}, "of 2 numbers each"),
        ({"plane_levels": 4}, "plane_levels must be 0 to 3"),
        ({"plane_levels": 1}, "plane_levels is for a window of three numbers"),
    ],
)
def test_attributes_that_do_not_fit_are_named(settings, expected):
    net = UNet(**{"classes": 2, "widths": (4, 4, 4), "strides": PLANE, **settings})
    with pytest.raises(BadInput, match=expected):
        net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


@pytest.mark.parametrize(("shape", "stride"), [((2, 6, 4, 3), (3, 2)), ((1, 4, 6, 2, 2), (1, 2, 2))])
def test_the_largest_value_of_every_box_is_pooled_and_has_the_gradient(shape, stride):
    x = np.random.default_rng(0).permutation(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)

    def results(pool):
        return pool(x), jax.grad(lambda x: (pool(x) ** 2).sum())(x)

    found = results(lambda x: max_pooled(x, stride))
    for ours, theirs in zip(found, results(lambda x: nn.max_pool(x, stride, stride)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_of_values_after_a_relu_of_which_many_are_0_the_same_have_the_gradient():
    x = image(2, 8, 8, 3)
    found, wanted = (
        jax.jit(jax.grad(lambda x, pool=pool: (pool(nn.relu(x)) + 1).prod(-1).sum()))(x)
        for pool in (lambda x: max_pooled(x, (4, 2)), lambda x: nn.max_pool(x, (4, 2), (4, 2)))
    )
    np.testing.assert_array_equal(found, wanted)


def test_equal_values_share_the_gradient():
    found = jax.grad(lambda x: (max_pooled(x, (2, 3)) * jnp.array([1.0, 2.0])).sum())(jnp.ones((1, 4, 6, 2)))
    np.testing.assert_allclose(found.reshape(2, 2, 2, 3, 2).sum((1, 3)), np.broadcast_to([1.0, 2.0], (2, 2, 2)))
    assert (np.asarray(found) > 0).all()
