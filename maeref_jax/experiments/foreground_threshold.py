"""From which probability on a segmenter calls foreground: chosen by its Dice on slices whose truth is known."""

import json

import jax
import numpy as np
from etils import epath

from maeref_jax.metrics import overlap
from maeref_jax.pipeline import methods
from maeref_jax.training.workdir import write_text
from maeref_jax.uncertainty.foreground import EVEN, shifted
from maeref_jax.volumes.labels import real_classes

CANDIDATES = tuple(round(step / 20, 2) for step in range(1, 20))


def choose(workdir, validation):
    """Writes foreground.json into a segmenter's workdir, from where methods.load_model takes it: the threshold with the
    highest mean Dice of the foreground classes, each over all pixels; of equal ones the one nearest to EVEN.

    validation: samples.whole_slices.WholeSlices. Returns what was written: {"threshold", "dice": {candidate: Dice},
    "judged_on"}.
    """
    model = methods.load_model(workdir, "segmenter")
    even = {**model.settings, "use": {**model.settings["use"], "foreground_threshold": EVEN}}
    predict = jax.jit(methods.SEGMENTERS[model.name].segmenter(even).predict)
    counts = sum(_counts(predict(model.params, model.state, b["image"]), b["labels"], even) for b in validation)
    classes = range(1, real_classes(even["classes"]))
    dice = {t: overlap.macro_dice(count, classes) for t, count in zip(CANDIDATES, counts, strict=True)}
    best = max(CANDIDATES, key=lambda t: (np.nan_to_num(dice[t]), -abs(t - EVEN)))
    found = {"threshold": best, "dice": {str(t): round(value, 5) for t, value in dice.items()}}
    found["judged_on"] = validation.name
    write_text(epath.Path(workdir) / methods.FOREGROUND, json.dumps(found, indent=1))
    return found


def _counts(members, truth, settings):
    """Confusion counts int64 (candidates, c, c) of a batch. members: (k, b, [z,] y, x, c)."""
    classes = real_classes(settings["classes"])
    truth = np.where(np.asarray(truth) < classes, truth, -1)
    found = []
    for threshold in CANDIDATES:
        mean = np.asarray(shifted(members, threshold).mean(0))
        found.append(overlap.confusion(truth, mean[..., :classes].argmax(-1), classes))
    return np.stack(found)
