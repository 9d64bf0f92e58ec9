"""evaluation/openings_log.py and evaluation/summary.py: one evaluation at a time; numbers for any program."""

import json

import closed_form
import numpy as np
import pytest
from closed_form import SETTINGS, evaluate

from maeref_jax.commands.evaluate import TASKS, main
from maeref_jax.errors import CannotGoOn
from maeref_jax.evaluation import openings_log, summary
from maeref_jax.pipeline import methods

MODES = {"phantoms": "phantom", "continuity": "epfl_hippocampus", "sparse": "sparse", "tissue": "tissue_smoke"}


def test_while_one_evaluation_works_no_other_begins_in_its_workdir(tmp_path):
    with openings_log.opened(tmp_path, ["a", "b"], {"ensemble": "E"}):
        with pytest.raises(CannotGoOn, match="is being evaluated already, by process"):
            openings_log.check_free(tmp_path)
        for task in TASKS:
            typed = ["--config", f"evaluate:{MODES.get(task, 'smoke')}", "--workdir", str(tmp_path)]
            with pytest.raises(CannotGoOn, match="is being evaluated already"):
                main([*typed, f"--config.task={task}"])
    openings_log.check_free(tmp_path)
    assert (tmp_path / "openings.log").read_text().endswith("UTC  volumes a, b  models ensemble E\n")
    assert {path.name for path in tmp_path.iterdir()} == {"openings.log", "claims"}


@pytest.mark.parametrize("task", ["refinement", "uncertainty", "places", "tissue"])
def test_every_task_claims_its_workdir_before_it_counts(root, tmp_path, monkeypatch, task):
    found = closed_form.models()
    found["segmenter"] = found["segmenter"]._replace(settings=SETTINGS | {"members": 3})
    monkeypatch.setattr(methods, "load_model", lambda _, kind: found[kind])
    with openings_log.opened(tmp_path, [], {}):
        monkeypatch.setattr(openings_log, "check_free", lambda workdir: None)  # it began a moment later
        with pytest.raises(CannotGoOn, match="is being evaluated already"):
            if task == "tissue":
                main(["--config", "evaluate:tissue_smoke", "--workdir", str(tmp_path)])
            else:
                evaluate(root, tmp_path, f"--config.task={task}", "--config.phantom.shape=4,64,64")
    assert (tmp_path / "openings.log").read_text().count("\n") == 1, "nobody else has looked"
    assert not list(tmp_path.glob("*.html")) and not list(tmp_path.glob("*.json"))


def test_what_is_undefined_is_null_however_deep_it_lies(tmp_path):
    numbers = {"a": float("nan"), "b": [1.5, np.float64("nan")], "c": {"d": (float("nan"), "text", 2, None)}}
    summary.write(tmp_path / "summary.json", numbers)

    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    found = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert found == {"a": None, "b": [1.5, None], "c": {"d": [None, "text", 2, None]}}
