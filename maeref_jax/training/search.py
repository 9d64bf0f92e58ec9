"""How a method without gradients is fitted: every candidate is tried on validation data, the best one is kept.

The workdir is like that of a training run: metrics.jsonl has a line per trial, the checkpoint is the best candidate.
Finished trials are not repeated, so an interrupted search goes on where it was.
"""

import json
import time

import jax
import numpy as np
from etils import epath

from maeref_jax.errors import CannotGoOn
from maeref_jax.training import checkpoint
from maeref_jax.training.logs import read_lines
from maeref_jax.training.state import Progress, TrainState
from maeref_jax.training.workdir import write_text

SCORE = "score"  # what evaluate must yield, the higher the better


def search(candidates, state, evaluate, batches, settings, workdir):
    """Try all candidates and save the best one, of equal ones the first.

    candidates: list of params, dicts of numpy scalars; state: what goes with each of them; batches: validation data;
    evaluate(params, state, batches) -> {name: float} with SCORE among them. settings: the config.
    Returns {"steps": how many were tried, "seconds": spent on trials, "parameters": the best, "validation": its
    metrics}.
    Raises CannotGoOn where no score is a number.
    """
    path = epath.Path(workdir) / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = _finished(path)
    if rows:
        print(f"{len(rows)} of {len(candidates)} trials are done already", flush=True)
    # Written anew: a line that a kill cut off would spoil the next one.
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    for step in range(len(rows), len(candidates)):
        began = time.monotonic()
        metrics = {f"validation_{name}": value for name, value in evaluate(candidates[step], state, batches).items()}
        row = {"step": step + 1, **metrics, "seconds": round(time.monotonic() - began, 3)}
        row |= {"parameters": {name: round(float(value), 6) for name, value in candidates[step].items()}}
        rows.append(row)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"trial {step + 1} of {len(candidates)}: {_said(row)}", flush=True)
    scores = np.array([row[f"validation_{SCORE}"] for row in rows])
    if not np.isfinite(scores).any():
        raise CannotGoOn("no trial has a score that is a number; the validation data show none of the judged classes")
    best = int(np.nanargmax(scores))
    found = jax.tree.map(np.asarray, (candidates[best], state))
    with checkpoint.open_checkpoints(workdir) as checkpoints:
        chosen = TrainState(np.int32(best + 1), *found, (), (), Progress())
        checkpoint.save(checkpoints, chosen, settings, -scores[best])
    metrics = {name: value for name, value in rows[best].items() if name == "step" or name.startswith("validation_")}
    seconds = round(sum(row["seconds"] for row in rows), 1)
    return {"steps": len(rows), "seconds": seconds, "parameters": rows[best]["parameters"], "validation": metrics}


def _finished(path):
    """The rows of an earlier run, up to the first that is not whole: the last one may have been cut off."""
    rows = []
    for row in read_lines(path):
        numbers = (row["step"], row.get(f"validation_{SCORE}"), row.get("seconds"))
        whole = all(isinstance(number, int | float) for number in numbers) and isinstance(row.get("parameters"), dict)
        if not whole or row["step"] != len(rows) + 1:
            break
        rows.append(row)
    return rows


def _said(row):
    values = ", ".join(f"{name} {value:g}" for name, value in row["parameters"].items())
    return f"score {row[f'validation_{SCORE}']:.4f} with {values}"
