"""The segmentation's own opinion of hidden voxels: how it is weighed, and that it is off unless asked for."""

import numpy as np
import pytest
from test_pipeline import image_job, label_job, refiner, result, segmenter, settings

from maeref_jax import pipeline
from maeref_jax.errors import BadInput
from maeref_jax.evidence import weighed


def test_it_weighs_more_the_deeper_a_voxel_lies_up_to_four_tokens():
    filled = np.tile(np.float32([0.8, 0.2]), (5, 1))
    opinion = np.tile(np.float32([0.1, 0.9]), (5, 1))
    found = weighed(filled, opinion, np.array([0.0, 1.0, 2.0, 4.0, np.inf]), 0.5)
    expected = filled * opinion ** np.array([[0.0], [0.5], [1.0], [2.0], [2.0]])
    np.testing.assert_allclose(found, expected / expected.sum(-1, keepdims=True), rtol=1e-5)
    assert found.dtype == np.float32
    certain = weighed(np.float32([[1.0, 0.0]]), np.float32([[0.0, 1.0]]), np.array([1.0]), 0.5)
    assert np.isfinite(certain).all() and (certain > 0).all(), "no opinion is a veto"


def test_results_do_not_depend_on_blocks_and_differ_from_those_without(tmp_path):
    made = []
    for i, (block, batch) in enumerate([((1, 8, 12), 1), ((3, 64, 64), 7), ((2, 20, 8), 4)]):
        given = settings(block=block, batch=batch, agree_within_nm=30.0, evidence=0.7)
        pipeline.refine_volume(image_job(tmp_path / str(i)), segmenter(), refiner(), given)
        made.append([result(tmp_path / str(i), role) for role in ("hidden", "refined", "confidence", "initial")])
    for other in made[1:]:
        for first, second in zip(made[0], other, strict=True):
            np.testing.assert_array_equal(first, second)
    pipeline.refine_volume(image_job(tmp_path / "0nm"), segmenter(), refiner(), settings(agree_within_nm=30.0))
    hidden, refined, _, initial = made[0]
    without = result(tmp_path / "0nm", "refined")
    assert (refined != without).any()
    assert (refined[hidden == 0] == initial[hidden == 0]).all()
    nearer = [(one == initial)[hidden == 1].mean() for one in (refined, without)]
    assert nearer[0] > nearer[1], "it pulls towards what the segmentation thought"


def test_it_needs_probabilities_and_a_sensible_number(tmp_path):
    with pytest.raises(BadInput, match=r"a: evidence is 0\.1, which takes class probabilities"):
        pipeline.refine_volume(label_job(tmp_path), None, refiner(), settings(evidence=0.1))
    with pytest.raises(BadInput, match="a refiner that does not see them already"):
        given = settings(evidence=0.1)
        pipeline.refine_volume(image_job(tmp_path), segmenter(), refiner(needs=("probabilities",)), given)
    for wrong in (-0.1, float("inf"), float("nan")):
        with pytest.raises(BadInput, match="evidence is an exponent"):
            pipeline.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(evidence=wrong))
    assert not list(tmp_path.iterdir())
