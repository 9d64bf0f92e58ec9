"""The network of adjacent slices: what it sees, how it averages, what counts in its loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.masking.symmetries import turned
from maeref_jax.refiners import continuity_network

SETTINGS = {
    "slices": 5, "slices_nm": 0.0, "voxel_size_nm": (5.0, 5.0, 5.0), "token": 4, "window": (16, 16), "stride": (8, 8),
    "classes": {"names": ("background", "cell", "nucleus", "ambiguous"), "ambiguous": 3},
    "class_weights": (1.0, 1.0, 1.0), "labelled_weight": 1.0, "use": {"symmetries": True, "everywhere": True},
    "model": {"widths": (4, 8), "strides": ((2, 2),), "norm": "group", "compute_dtype": "float32"},
}  # fmt: skip


def batch(seed=0, number=5, count=3):
    rng = np.random.default_rng(seed)
    slices = rng.integers(-1, 4, (count, number, 16, 16)).astype(np.int16)
    labelled = np.arange(count) % 2 == 0
    return {"slices": slices, "target": slices[:, number // 2], "labelled": labelled, "index": np.arange(count)}


@pytest.fixture(scope="module")
def variables():
    return jax.jit(continuity_network.method(SETTINGS).init)(jax.random.key(0), batch())


def test_every_class_of_every_slice_is_a_channel_and_unknown_is_none():
    slices = batch()["slices"]
    found = np.asarray(continuity_network.encoded(jnp.asarray(slices), 3))
    assert found.shape == (3, 16, 16, 10)
    for z in range(5):
        for c in (1, 2):
            np.testing.assert_array_equal(found[..., 2 * z + c - 1], slices[:, z] == c)


def test_the_mean_is_over_all_eight_orientations_so_that_it_has_none(variables):
    """The published test script adds its last view eight times, which is no mean."""
    refine = jax.jit(continuity_network.refiner(SETTINGS).refine)
    slices = jnp.asarray(batch()["slices"])

    def look(planes):
        return refine(*variables, {"slices": planes}, jax.random.key(0))

    straight = look(slices)
    np.testing.assert_allclose(straight.sum(-1), 1, atol=1e-5)
    for turn in (1, 2, 7):
        turned_slices = jax.vmap(lambda planes, turn=turn: turned(planes, turn))(slices)
        np.testing.assert_allclose(look(turned_slices), turned(straight, turn), atol=1e-5)
    once = continuity_network.refiner(SETTINGS | {"use": {"symmetries": False, "everywhere": True}})
    single = jax.jit(once.refine)(*variables, {"slices": slices}, jax.random.key(0))
    assert np.abs(single - straight).max() > 1e-3


def test_what_it_tells_the_pipeline_of_itself():
    apply = continuity_network.refiner(SETTINGS | {"use": {"symmetries": True, "everywhere": False}})
    assert (apply.context, apply.dims, apply.sees_hidden, apply.everywhere) == (2, 2, True, False)


def test_labelled_slices_weigh_as_much_as_is_said_and_unknown_pixels_nothing(variables):
    given = batch(count=2)  # the first one is labelled
    sums = {}
    for weight in (1.0, 3.0):
        method = continuity_network.method(SETTINGS | {"labelled_weight": weight})
        total, weights, _, _ = jax.jit(method.loss)(*variables, given, jax.random.key(0))
        sums[weight] = float(total), float(weights)
    known = ((given["target"] >= 0) & (given["target"] < 3)).sum((1, 2))
    assert sums[1.0][1] == known.sum() and sums[3.0][1] == 3 * known[0] + known[1]
    assert sums[1.0][0] < sums[3.0][0] < 3 * sums[1.0][0]


def test_it_learns_to_fill_a_dropped_slice_from_those_around(variables):
    rng = np.random.default_rng(0)
    masks = (rng.random((8, 1, 4, 4)) < 0.5).repeat(5, 1).repeat(4, 2).repeat(4, 3).astype(np.int16)
    given = batch(count=8) | {"slices": masks.copy(), "target": masks[:, 2]}
    given["slices"][:, 2] = 0
    params, state = variables
    method, optimizer = continuity_network.method(SETTINGS), optax.adam(0.02)

    @jax.jit
    def step(params, moments):
        def mean(params):
            total, weight, _, _ = method.loss(params, state, given, jax.random.key(0))
            return total / weight

        updates, moments = optimizer.update(jax.grad(mean)(params), moments)
        return optax.apply_updates(params, updates), moments

    moments = optimizer.init(params)
    for _ in range(40):
        params, moments = step(params, moments)
    right, count = jax.jit(method.evaluate)(params, state, given)["accuracy"]
    assert right / count > 0.97


def test_the_number_of_slices_may_be_a_length_which_follows_the_voxels():
    def number(z, length=75.0):
        return continuity_network.seen_slices(SETTINGS | {"slices_nm": length, "voxel_size_nm": (z, 5.0, 5.0)})

    assert [number(z) for z in (5.0, 10.0, 15.0, 25.0, 50.0)] == [15, 7, 5, 3, 3]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slices": 4}, "slices is 4, expected an odd number, 3 or more"),
        ({"slices": 1}, "slices is 1, expected an odd number"),
        ({"labelled_weight": 0.0}, "labelled_weight must be above 0, found 0.0"),
        ({"model": SETTINGS["model"] | {"norm": "batch"}}, "model.norm is batch, expected group, instance or none"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, said):
    with pytest.raises(BadInput, match=said):
        continuity_network.method(SETTINGS | changes)
