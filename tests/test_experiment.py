"""experiment.py: what a masked autoencoder is given to learn from."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax import experiment, jobs, pipeline
from maeref_jax.command_line import load_config
from maeref_jax.records import Segmenter
from maeref_jax.volumes.phantom import phantom
from maeref_jax.volumes.windows import whole

BRIGHT = 150.0


def bright_is_ambiguous(params, state, image):
    """One member: certain of "ambiguous" where it is bright, its second choice is class 2; elsewhere undecided."""
    bright = jnp.array([0.0, 0.0, 0.01, 0.0, 0.99])
    return jnp.where(image[None, ..., None] > BRIGHT, bright, jnp.array([0.2, 0.4, 0.2, 0.2, 0.0]))


@pytest.fixture
def ensemble(root, monkeypatch):
    """An ensemble that is no network, for the phantoms of the smoke modes."""
    known = json.loads(json.dumps(load_config(f"{root / 'configs' / 'mae.py'}:smoke").to_dict()))
    apply = Segmenter(bright_is_ambiguous, (32, 32), (16, 16), 2)
    model = jobs.Model("E", "ensemble", known, {}, {}, apply, {"member_volumes": [[]]})
    monkeypatch.setattr(pipeline, "load_model", lambda workdir, kind: model)


def test_what_the_ensemble_calls_ambiguous_is_neither_target_nor_context(root, tmp_path, ensemble):
    settings = load_config(f"{root / 'configs' / 'mae.py'}:smoke").to_dict()
    prepared = experiment.prepare(settings, tmp_path, range(settings["batch"]))

    bright = phantom(3, tuple(settings["data"]["phantom"]["shape"])).image > BRIGHT
    depth, height, width = bright.shape
    tokens = bright.reshape(depth, height // 4, 4, width // 4, 4).mean((2, 4)) > 0.5
    share = tokens.mean()
    assert 0.01 < share < 0.9
    stored = pipeline.open_result(tmp_path / "predictions", "phantom_3", "hidden")
    np.testing.assert_array_equal(stored.read(whole(stored.shape))[:, ::4, ::4] > 0, tokens)
    for step in range(3):
        batch = prepared.batches(step)
        assert 0 < (batch["labels"] == -1).mean() < 1
        np.testing.assert_array_equal(batch["labels"] == -1, batch["entropy"] == 1)


def test_a_refiner_that_needs_the_image_is_given_that_of_the_phantom_and_its_range(root, tmp_path, ensemble):
    settings = load_config(f"{root / 'configs' / 'mae_image.py'}:smoke").to_dict()
    prepared = experiment.prepare(settings, tmp_path, range(settings["batch"]))
    batch, low_high = prepared.batches(0), prepared.facts["intensity_range"]
    np.testing.assert_array_equal(batch["shared"]["intensity_range"], np.float32(low_high))
    assert batch["image"].shape == batch["labels"].shape
    # Where this ensemble says "ambiguous" it is bright, so image and labels belong together.
    bright, unknown = batch["image"] > BRIGHT, batch["labels"] == -1
    assert bright[unknown].mean() > 0.5 > bright[~unknown].mean()
    assert prepared.validation[0]["image"].shape == prepared.validation[0]["labels"].shape


def test_an_autoencoder_is_given_no_masks(root, tmp_path, ensemble):
    settings = load_config(f"{root / 'configs' / 'autoencoder.py'}:smoke").to_dict()
    prepared = experiment.prepare(settings, tmp_path, range(settings["batch"]))
    assert prepared.batches(0)["shared"] == {} and "image" not in prepared.batches(0)
