"""training/loop.py, training/checkpoint.py and training/workdir.py: a run that stops and goes on is one run."""

import json

import numpy as np
import pytest
from test_state import SETTINGS, batch, line

from maeref_jax.errors import BadInput
from maeref_jax.training import checkpoint, loop, workdir
from maeref_jax.training.state import build_optimizer


def evaluate(params, state, data):
    return {"loss": (((params["w"] * data["x"] + params["b"] - data["y"]) ** 2).sum(), np.float32(len(data["x"])))}


METHOD = line()._replace(evaluate=evaluate)


def batches(step):
    return batch(np.random.default_rng(step), 4)


def train(folder, steps, every=5):
    settings = {"seed": 0, "steps": steps, "evaluate_every": every}
    return loop.train(METHOD, build_optimizer(SETTINGS), batches, [batches(1000), batches(1001)], settings, folder)


def test_a_run_continued_equals_a_run_in_one_go(tmp_path):
    for name, stops in (("whole", [20]), ("continued", [10, 20])):
        (tmp_path / name).mkdir()
        for steps in stops:
            train(tmp_path / name, steps)
    whole, continued = (checkpoint.load_model_variables(tmp_path / name)[0] for name in ("whole", "continued"))
    assert whole["w"] == continued["w"] and whole["b"] == continued["b"]
    lines = [json.loads(text) for text in (tmp_path / "continued" / "metrics.jsonl").read_text().splitlines()]
    assert [found["step"] for found in lines] == [5, 10, 15, 20]


def test_the_best_checkpoint_is_used_not_the_latest(tmp_path):
    diverging = build_optimizer({**SETTINGS, "rate": 3.0})
    settings = {"seed": 0, "steps": 8, "evaluate_every": 1}
    summary = loop.train(METHOD, diverging, batches, [batches(1000)], settings, tmp_path)
    losses = [json.loads(text)["validation_loss"] for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses.index(min(losses)) + 1 == summary["validation"]["step"] == checkpoint.best_step(tmp_path)
    params, _ = checkpoint.load_model_variables(tmp_path)
    error = evaluate(params, {}, batches(1000))["loss"]
    assert np.isclose(error[0] / error[1], min(losses), rtol=1e-5)


def test_prefetched_batches_come_in_order():
    assert [(step, got) for step, got in loop.prefetch(lambda step: step * 10, range(3, 8))] == [
        (step, step * 10) for step in range(3, 8)
    ]


def test_an_error_while_making_a_batch_reaches_the_user():
    def broken(step):
        raise BadInput("no such volume")

    with pytest.raises(BadInput, match="no such volume"):
        list(loop.prefetch(broken, range(3)))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no checkpoints"):
        checkpoint.load_model_variables(tmp_path)
    with pytest.raises(BadInput, match=r"config\.json"):
        workdir.read_config(tmp_path)


def test_a_workdir_of_other_settings_is_refused_naming_the_difference(tmp_path):
    settings = {"method": "line", "steps": 10, "model": {"width": 4, "strides": ((2, 2),)}}
    workdir.claim(tmp_path, settings)
    workdir.write_config(tmp_path, settings, {})
    workdir.claim(tmp_path, {**settings, "steps": 20})
    with pytest.raises(BadInput, match=r"model\.width: 4 there, 8 here"):
        workdir.claim(tmp_path, {**settings, "model": {"width": 8, "strides": ((2, 2),)}})
