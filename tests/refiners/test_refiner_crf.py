"""The dense CRF: against the formula pixel by pixel, against another implementation, and what it may read."""

import jax
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.refiners import crf

mean_field = jax.jit(crf.mean_field, static_argnames="chunk")


def params(*values):
    return {
        name: np.asarray(value, np.int32 if name == "iterations" else np.float32)
        for name, value in zip(crf.PARAMETERS, values, strict=True)
    }


def window(height, width, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.random((height, width)), 1).astype(np.float32)
    image = (image - image.min()) / np.ptp(image)
    logits = np.stack([gaussian_filter(rng.normal(size=(height, width)), 1) * 6 for _ in range(classes)], -1)
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    return (probabilities / probabilities.sum(-1, keepdims=True)).astype(np.float32), image


def written_out(probabilities, image, found, outside):
    """Mean field of the paper with a loop over every pair of pixels."""
    height, width, classes = probabilities.shape
    pixels = [(y, x) for y in range(height) for x in range(width) if not outside[y, x]]

    def kernel(i, j, sigma, sigma_intensity):
        exponent = ((i[0] - j[0]) ** 2 + (i[1] - j[1]) ** 2) / (2 * sigma**2)
        if sigma_intensity is not None:
            exponent += (float(image[i]) - float(image[j])) ** 2 / (2 * sigma_intensity**2)
        return np.exp(-exponent)

    terms = (
        (found["smoothness_weight"], found["smoothness_vx"], None),
        (found["appearance_weight"], found["appearance_vx"], found["appearance_intensity"]),
    )
    sums = [{i: sum(kernel(i, j, *sigmas) for j in pixels) for i in pixels} for _, *sigmas in terms]
    q = {i: probabilities[i].astype(np.float64) for i in pixels}
    for _ in range(int(found["iterations"])):
        new = {}
        for i in pixels:
            energy = np.log(np.maximum(probabilities[i].astype(np.float64), crf.SMALLEST))
            for (weight, *sigmas), total in zip(terms, sums, strict=True):
                for j in pixels:
                    normal = kernel(i, j, *sigmas) / np.sqrt(total[i] * total[j])
                    for label in range(classes):
                        # Potts: every other label of the neighbour costs.
                        energy[label] -= weight * normal * (q[j].sum() - q[j][label])
            odds = np.exp(energy - energy.max())
            new[i] = odds / odds.sum()
        q = new
    return q


@pytest.mark.parametrize("found", [(2, 1.5, 0, 1, 1, 1), (0, 1, 3, 2, 0.2, 3), (1.5, 1, 4, 3, 0.3, 4)])
def test_mean_field_equals_the_formula_pixel_by_pixel(found):
    probabilities, image = window(4, 6)
    outside = np.zeros((4, 6), bool)
    outside[:, 5] = outside[3, :2] = True
    probabilities[outside] = 0
    given = params(*found)
    expected = written_out(probabilities, image, given, outside)
    result = np.asarray(mean_field(probabilities, image, given, chunk=5))
    for place, values in expected.items():
        np.testing.assert_allclose(result[place], values, atol=2e-5)
    assert np.abs(result - probabilities)[~outside].max() > 0.05
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("found", [(3, 3, 0, 10, 0.1, 5), (0, 3, 5, 10, 0.1, 5), (3, 2, 5, 20, 0.05, 10)])
def test_another_implementation_agrees_up_to_its_approximation(found):
    """pydensecrf2 wraps the authors' program, which blurs on a permutohedral lattice."""
    dense = pytest.importorskip("pydensecrf.densecrf")
    probabilities, image = window(48, 48, classes=4)
    given = params(*found)
    reference = dense.DenseCRF2D(48, 48, 4)
    unary = -np.log(np.maximum(probabilities, crf.SMALLEST)).reshape(-1, 4).T
    reference.setUnaryEnergy(np.ascontiguousarray(unary))
    kind = {"kernel": dense.DIAG_KERNEL, "normalization": dense.NORMALIZE_SYMMETRIC}
    reference.addPairwiseGaussian(sxy=found[1], compat=found[0], **kind)
    places = np.meshgrid(np.arange(48) / found[3], np.arange(48) / found[3], indexing="ij")
    features = np.stack([*places, image / found[4]]).reshape(3, -1).astype(np.float32)
    reference.addPairwiseEnergy(np.ascontiguousarray(features), compat=found[2], **kind)
    expected = np.array(reference.inference(found[5])).reshape(4, 48, 48).transpose(1, 2, 0)
    result = np.asarray(mean_field(probabilities, image, given, chunk=500))
    moved = (probabilities.argmax(-1) != result.argmax(-1)).mean()
    assert np.abs(result - expected).mean() < 0.02
    assert (result.argmax(-1) != expected.argmax(-1)).mean() < min(0.04, moved / 3)


def test_chunks_do_not_matter_and_bound_the_memory():
    probabilities, image = window(24, 20)
    given = params(2, 2, 5, 6, 0.1, 3)
    whole, parts = (np.asarray(mean_field(probabilities, image, given, chunk)) for chunk in (480, 77))
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    big, grey = window(64, 64)
    compiled = mean_field.lower(big, grey, given, chunk=64).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 64 * 64 * 64 * 4 < 64**4 * 4 / 8


def test_without_weights_nothing_changes():
    probabilities, image = window(12, 12)
    result = mean_field(probabilities, image, params(0, 1, 0, 1, 1, 10), 144)
    np.testing.assert_allclose(result, probabilities, atol=1e-4)


def test_specks_go_and_edges_of_the_image_stay():
    truth = np.repeat(np.arange(20) >= 10, 20).reshape(20, 20).T  # left and right half
    noisy = truth ^ (np.random.default_rng(0).random(truth.shape) < 0.15)
    probabilities = np.where(noisy[..., None], [0.3, 0.7], [0.7, 0.3]).astype(np.float32)
    result = mean_field(probabilities, truth.astype(np.float32), params(0, 1, 10, 5, 0.1, 5), 100)
    assert (noisy != truth).mean() > 0.1
    np.testing.assert_array_equal(np.asarray(result).argmax(-1), truth)


def smoke(root):
    return load_config(f"{root / 'configs' / 'crf.py'}:smoke").to_dict()


def test_the_refiner_reads_no_label_and_nothing_outside_the_volume(root):
    apply = crf.refiner(smoke(root))
    assert set(apply.needs) == {"image", "probabilities"} and apply.dims == 2
    probabilities, image = window(32, 32, classes=4)
    probabilities[:, 28:] = 0
    given, state = params(3, 2, 5, 10, 0.1, 4), {"intensity_range": np.array([10.0, 60.0], np.float32)}
    blank = np.zeros((1, 32, 32))
    inputs = {"labels": blank.astype(np.int16), "hidden": blank > 0, "entropy": blank.astype(np.float32)}
    inputs |= {"image": 10 + 50 * image[None], "probabilities": probabilities[None]}
    first = np.asarray(jax.jit(apply.refine)(given, state, inputs, jax.random.key(0)))
    other = {**inputs, "labels": inputs["labels"] + 3, "hidden": blank == 0, "image": inputs["image"].copy()}
    other["image"][..., 28:] = 1e6
    second = np.asarray(jax.jit(apply.refine)(given, state, other, jax.random.key(1)))
    np.testing.assert_array_equal(first[:, :, :28], second[:, :, :28])
    alone = mean_field(probabilities, image, given, 100)
    np.testing.assert_allclose(first[0, :, :28], alone[:, :28], atol=1e-4)


def test_candidates_start_with_none_and_come_from_the_grid_once(root):
    settings = {**smoke(root), "trials": 50}
    found = crf.candidates(settings)
    assert len(found) == 50 and found[0]["smoothness_weight"] == found[0]["appearance_weight"] == 0
    values = [tuple(float(one[name]) for name in crf.PARAMETERS) for one in found[1:]]
    assert len(set(values)) == 49
    for name, column in zip(crf.PARAMETERS, zip(*values, strict=True), strict=True):
        assert set(np.float32(column)) <= set(np.float32(settings["search"][name]))
    again = crf.candidates(settings)
    assert found == again
    assert crf.candidates({**settings, "seed": 1})[1] != found[1]
    one_each = {name: settings["search"][name][:1] for name in crf.PARAMETERS}
    assert len(crf.candidates({**settings, "search": one_each})) == 2, "the grid has no more"


@pytest.mark.parametrize(
    ("name", "values"),
    [("smoothness_vx", (0.0,)), ("iterations", (0,)), ("appearance_weight", (-1.0,)), ("appearance_vx", ())],
)
def test_impossible_values_are_refused(root, name, values):
    settings = smoke(root)
    settings["search"][name] = values
    with pytest.raises(BadInput, match=f"search.{name} must be"):
        crf.check(settings)
