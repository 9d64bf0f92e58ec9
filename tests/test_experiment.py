"""experiment.py: what a masked autoencoder is given to learn from."""

import json

import jax.numpy as jnp
import numpy as np

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


def test_what_the_ensemble_calls_ambiguous_is_neither_target_nor_context(root, tmp_path, monkeypatch):
    settings = load_config(f"{root / 'configs' / 'mae.py'}:smoke").to_dict()
    apply = Segmenter(bright_is_ambiguous, (32, 32), (16, 16), 2)
    known = json.loads(json.dumps(settings))
    model = jobs.Model("E", "ensemble", known, {}, {}, apply, {"member_volumes": [[]]})
    monkeypatch.setattr(pipeline, "load_model", lambda workdir, kind: model)
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
