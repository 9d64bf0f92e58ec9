"""calibrate.py: an overconfident refiner is found out, and refine.py's confidence says what the calibration says."""

import json

import numpy as np
import pytest
from fakes import SCHEME, TOKEN, label_job, refiner, result, settings

from maeref_jax.commands import calibrate as command
from maeref_jax.errors import BadInput
from maeref_jax.experiments import calibrate
from maeref_jax.pipeline import refining
from maeref_jax.records import Refiner
from maeref_jax.uncertainty.confidence import Calibration


def boastful(params, state, inputs, key):
    """Half of the pixels right, .95 sure."""
    import jax.numpy as jnp

    b, y, x = inputs["labels"].shape
    answer = jnp.broadcast_to((jnp.arange(x) % 2)[None, None], (b, y, x))
    return jnp.where(jnp.arange(3) == answer[..., None], 0.95, 0.025)


def model(tmp_path, apply):
    known = {"threshold": 0.4, "train_threshold": 0.3, "use": {"rounds": 1}}
    return refiner()._replace(workdir=str(tmp_path), settings=known, apply=apply)


def batches(seed=0):
    labels = np.random.default_rng(seed).integers(0, 2, (8, 16, 16)).astype(np.int16)
    labels[:, :2] = 4  # no class of the refiner
    shared = {"hidden_count": np.int32(8), "slots": np.arange(8)}
    entropy = np.zeros(labels.shape, np.float32)
    return [{"labels": labels, "entropy": entropy, "index": np.arange(8, dtype=np.int32), "shared": shared}] * 2


def test_a_boastful_refiner_is_brought_down_to_how_often_it_is_right(tmp_path):
    apply = Refiner(boastful, (16, 16), (8, 8), 2, (), TOKEN)
    table = calibrate.calibrate(model(tmp_path, apply), batches())
    known = json.loads((tmp_path / "calibration.json").read_text())
    everything = known["errors"][0]
    assert everything["before"] == pytest.approx(0.45, abs=0.05) and everything["after"] < 0.06
    assert min(known["temperatures"]) > 2 and known["use"] == {"rounds": 1}
    assert len(table.rows) == 5 and table.rows[0][0] == "all"
    assert everything["pixels"] < 2 * 8 * 8 * TOKEN**2, "pixels that are no class of the refiner do not count"


def test_what_sees_hidden_labels_or_needs_an_image_is_refused(tmp_path):
    for changes in ({"needs": ("image",)}, {"sees_hidden": True}):
        apply = Refiner(boastful, (16, 16), (8, 8), 2, (), TOKEN)._replace(**changes)
        with pytest.raises(BadInput, match="from labels alone"):
            calibrate.calibrate(model(tmp_path, apply), batches())
    assert not list(tmp_path.iterdir())


def test_confidence_of_a_volume_is_tempered_whatever_the_blocks_and_labels_stay(tmp_path):
    warm = refiner()._replace(calibration=Calibration((2.0, 4.0, 6.0, 8.0)))
    for name, one, block in (
        ("plain", refiner(), (2, 16, 16)),
        ("warm", warm, (2, 16, 16)),
        ("other", warm, (1, 8, 12)),
    ):
        refining.refine_volume(label_job(tmp_path / name), None, one, settings(block=block))
    np.testing.assert_array_equal(result(tmp_path / "plain", "refined"), result(tmp_path / "warm", "refined"))
    plain, tempered, other = (result(tmp_path / name, "confidence").astype(int) for name in ("plain", "warm", "other"))
    assert (tempered <= plain).all() and (tempered < plain).any()
    np.testing.assert_array_equal(tempered, other)


def test_what_has_learned_nothing_is_refused_by_the_command(tmp_path):
    known = {"token": 4, "window": [16, 16], "stride": [8, 8], "classes": SCHEME}
    (tmp_path / "config.json").write_text(json.dumps({"method": "nearest", "config": known, "facts": {}}))
    with pytest.raises(BadInput, match="method 'nearest': only refiners that have learned"):
        command.main(["--refiner", str(tmp_path)])
