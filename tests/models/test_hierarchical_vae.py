"""models/hierarchical_vae.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.models.hierarchical_vae import (
    HierarchicalVAE,
    blurred,
    deviation,
    every_offset,
    every_other,
    inside,
    middle,
    spread_out,
    with_middle_hidden,
)

SMALL = {"levels": 2, "blocks": 1, "filters": 8, "latent": 4}


def noise_of(net, samples, seed=None):
    shapes = [(samples, *shape) for shape in net.latent_shapes()]
    if seed is None:
        return tuple(jnp.zeros(shape) for shape in shapes)
    return tuple(np.random.default_rng(seed).normal(size=shape).astype(np.float32) for shape in shapes)


def shapes_of(net):
    x = jnp.zeros((1, *net.window, 1))
    return jax.eval_shape(net.init, jax.random.key(0), x, noise_of(net, 1))["params"]


def test_the_published_size_has_the_published_number_of_parameters():
    params = shapes_of(HierarchicalVAE(4, (64, 64)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 3_843_049
    used = ("stem", "up_blocks", "halving", "guess", "class_", "top_", "posteriors_2", "head_")
    needed = sum(leaf.size for name in params if name.startswith(used) for leaf in jax.tree.leaves(params[name]))
    assert needed == 1_590_952, "what a prediction needs"


def network(window):
    """A network with weights of numpy, and two crops for it."""
    net, rng = HierarchicalVAE(3, window, **SMALL), np.random.default_rng(0)
    x = rng.normal(size=(2, *window, 1)).astype(np.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, noise_of(net, 2))

    def weights(leaf):
        spread = 1 / np.sqrt(max(leaf.size // leaf.shape[-1], 1))
        return (rng.normal(size=leaf.shape) * spread).astype(np.float32)

    params = jax.tree.map(weights, shapes["params"])
    params = jax.tree_util.tree_map_with_path(lambda path, x: x * 0 + 1 if "scale" in str(path[-1]) else x, params)
    statistics = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, "var" in str(path[-1]), np.float32), shapes["batch_stats"]
    )
    return net, {"params": params, "batch_stats": statistics}, x


@pytest.fixture(scope="module", params=[(16, 16), (8, 8, 16)], ids=["planes", "volumes"])
def drawn(request):
    return network(request.param)


@pytest.fixture(scope="module")
def planes():
    return network((16, 16))


def test_shapes_and_types(drawn):
    net, variables, x = drawn
    out = jax.eval_shape(lambda v, x: net.apply(v, x, noise_of(net, 2)), variables, x)
    assert out.reconstruction.shape == x.shape and out.logits.shape == (2, 3)
    assert [mean.shape for mean in out.means] == [(2, *shape) for shape in net.latent_shapes()]
    assert out.means[-1].shape[1:] == (*(side // 4 for side in net.window), 4)
    assert len(out.prior_means) == 1 and {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(jnp.float32)}


def test_the_hidden_middle_reaches_nothing_and_all_around_it_does(drawn):
    """All that the network makes of a crop it makes of these maps, and of noise."""
    net, variables, x = drawn

    def total(x, side, ring):
        maps = net.apply(variables, with_middle_hidden(x, side, ring), method="encoded")
        return sum((leaf**2).sum() for leaf in maps)

    side, ring = (3, 0) if len(net.window) == 2 else (2, 1)
    found = np.asarray(jax.jit(jax.grad(total), static_argnums=(1, 2))(x, side, ring))[..., 0]
    inside = np.asarray(middle(net.window, side))
    assert (found[:, inside] == 0).all() and (found[:, ~inside] != 0).all(), "hidden means hidden"
    assert inside.sum() == side ** len(net.window)


def test_the_middle_is_around_the_voxel_that_a_crop_is_of():
    assert np.argwhere(middle((8, 6), 1)).tolist() == [[4, 3]]
    assert np.argwhere(middle((8,), 3)).ravel().tolist() == [3, 4, 5]
    assert np.argwhere(middle((8,), 2)).ravel().tolist() == [3, 4]
    x = np.zeros((2, 6, 6, 1), np.float32)
    x[0], x[1] = 1, 3
    x[:, 3, 3] = 99
    hidden = np.asarray(with_middle_hidden(x, 1, ring=1))
    assert hidden[0, 3, 3, 0] == 1 and hidden[1, 3, 3, 0] == 3, "the mean around, of each crop by itself"
    assert (np.asarray(with_middle_hidden(x, 1))[:, 3, 3] == 0).all()


def test_noise_reaches_what_is_drawn_and_not_the_class(planes):
    net, variables, x = planes
    apply = jax.jit(lambda x, noise: net.apply(variables, x, noise))
    plain, drawn_ = apply(x, noise_of(net, 2)), apply(x, noise_of(net, 2, seed=3))
    np.testing.assert_array_equal(plain.logits, drawn_.logits)
    assert np.abs(plain.reconstruction - drawn_.reconstruction).max() > 1e-4
    read = jax.jit(lambda x: net.apply(variables, net.apply(variables, x, method="encoded")[-1], method="read"))(x)
    np.testing.assert_allclose(read, plain.logits, atol=1e-5)


def test_dense_maps_are_those_of_windows_at_every_offset_where_no_border_is_near(drawn):
    net, variables, _ = drawn
    axes = len(net.window)
    large = tuple(64 if axes == 2 else 24 for _ in net.window)
    x = np.random.default_rng(2).normal(size=(2, *large, 1)).astype(np.float32)
    dense = jax.jit(lambda x: net.apply(variables, x, method="encoded", dense=True))(x)[-1]
    dense = np.asarray(dense).reshape(*(2,) * axes, *(2,) * axes, 2, *dense.shape[1:])
    offset = (3, 2, 1)[:axes]
    plain = jax.jit(lambda x: net.apply(variables, x, method="encoded"))(
        np.roll(x, [-o for o in offset], range(1, axes + 1))
    )
    coarse, fine = tuple(o // 2 for o in offset), tuple(o % 2 for o in offset)
    found, wanted = (inside(maps, (2,) * axes) for maps in (dense[(*coarse, *fine)], plain[-1]))
    # In three dimensions the border is too near for more than this.
    np.testing.assert_allclose(found, wanted, atol=1e-4 if axes == 2 else 0.5)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98


def test_blur_offsets_and_zeros_between():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 6, 8, 2)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    wanted = sum(kernel[i, j] * padded[:, i : i + 6, j : j + 8] for i in range(3) for j in range(3))
    np.testing.assert_allclose(blurred(x), wanted, atol=1e-6)
    every = every_offset(x)
    np.testing.assert_array_equal(every[0:1], every_other(x))
    np.testing.assert_array_equal(every[1:2], x[:, 0::2, 1::2])
    np.testing.assert_array_equal(every[2:3], x[:, 1::2, 0::2])
    spread = np.asarray(spread_out(x))
    np.testing.assert_array_equal(spread[:, ::2, ::2], x)
    assert spread.shape == (1, 12, 16, 2) and spread[:, 1::2].sum() == 0 and spread[:, :, 1::2].sum() == 0


def test_deviation_grows_straight_where_an_exponential_explodes():
    found = deviation(jnp.array([-10.0, -2.0, 0.0, 10.0]))
    np.testing.assert_allclose(found, [np.exp(-5), np.exp(-1), 1, 11], rtol=1e-6)
    assert np.isfinite(jax.vmap(jax.grad(deviation))(jnp.array([-1e4, 0.0, 1e4]))).all()


def test_half_precision_is_close_and_hands_out_single(planes):
    net, variables, x = planes
    half = net.clone(dtype=jnp.bfloat16)
    out = jax.eval_shape(lambda v, x: half.apply(v, x, noise_of(net, 2)), variables, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(jnp.float32)}

    def coarsest(net):
        return jax.jit(lambda x: net.apply(variables, net.apply(variables, x, method="encoded")[-1], method="coarsest"))

    one, other = coarsest(net)(x), coarsest(half)(x)
    assert (one != other).any() and np.abs(one - other).max() < 0.05 * np.abs(one).max()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"filters": 10}, "filters must be twice model.latent"),
        ({"window": (16, 18)}, r"multiples of 4 for 2 levels, found \(16, 18\)"),
        ({"classes": 5}, "a latent channel for every class"),
        ({"blocks": 0}, "0 blocks"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(changed, message):
    with pytest.raises(BadInput, match=message):
        shapes_of(HierarchicalVAE(**{"classes": 3, "window": (16, 16), **SMALL, **changed}))
