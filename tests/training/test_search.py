"""A search keeps the best candidate in a workdir that is a model, and goes on where it was stopped."""

import json

import numpy as np
import pytest

from maeref_jax.errors import CannotGoOn
from maeref_jax.training import checkpoint
from maeref_jax.training.search import search

CANDIDATES = [{"a": np.float32(value)} for value in (0, 3, 7, 3)]
STATE = {"offset": np.float32(2)}


def closeness(tried):
    def evaluate(params, state, batches):
        tried.append(float(params["a"]))
        return {"score": -abs(float(params["a"]) - sum(batches)), "other": 1.0}

    return evaluate


def run(workdir, tried, evaluate=None, candidates=CANDIDATES):
    return search(candidates, STATE, evaluate or closeness(tried), [1, 2], {"seed": 0}, workdir)


def test_the_best_is_kept_of_equals_the_first(tmp_path, capsys):
    tried = []
    summary = run(tmp_path, tried)
    assert tried == [0, 3, 7, 3]
    assert summary["parameters"] == {"a": 3} and summary["steps"] == 4
    assert summary["validation"] == {"step": 2, "validation_score": 0.0, "validation_other": 1.0}
    assert checkpoint.load_best(tmp_path) == ({"a": 3}, {"offset": 2}, 2, (), ())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["parameters"]["a"] for row in rows] == [0, 3, 7, 3]
    assert summary["seconds"] == pytest.approx(sum(row["seconds"] for row in rows), abs=0.06)


def test_finished_trials_are_not_repeated_and_a_cut_line_is(tmp_path, capsys):
    tried = []

    def killed(params, state, batches):
        if len(tried) == 2:
            raise KeyboardInterrupt
        return closeness(tried)(params, state, batches)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tried, killed)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "valida')
    tried.clear()
    assert run(tmp_path, tried)["steps"] == 4
    assert tried == [7, 3] and "2 of 4 trials are done already" in capsys.readouterr().out
    before = (tmp_path / "metrics.jsonl").read_text()
    assert run(tmp_path, tried)["parameters"] == {"a": 3} and len(tried) == 2
    assert (tmp_path / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("damage", [b"[1, 2]", b"3", b"\xff{", b'{"a":' * 20_000, b'{"step": "3"}', b'{"step": 3}'])
def test_whatever_a_line_of_the_log_holds_the_trials_behind_it_are_made_again(tmp_path, capsys, damage):
    tried, path = [], tmp_path / "metrics.jsonl"
    run(tmp_path, tried)
    whole = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*whole[:2], damage, *whole[3:]]))
    tried.clear()
    assert run(tmp_path, tried)["parameters"] == {"a": 3} and tried == [7, 3]


def test_scores_that_are_no_numbers_lose_and_all_of_them_are_an_error(tmp_path, capsys):
    def sometimes(params, state, batches):
        return {"score": float("nan") if params["a"] == 0 else float(params["a"])}

    assert run(tmp_path / "a", [], sometimes)["parameters"] == {"a": 7}
    with pytest.raises(CannotGoOn, match="no trial has a score"):
        run(tmp_path / "b", [], sometimes, CANDIDATES[:1])
