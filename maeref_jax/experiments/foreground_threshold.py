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
    """Writes foreground.json into a segmenter's workdir, from where methods.load_model takes it. validation:
    samples.whole_slices.WholeSlices. Returns what was written: that of `chosen`, and "judged_on".
    """
    model = methods.load_model(workdir, "segmenter")
    even = {**model.settings, "use": {**model.settings["use"], "foreground_threshold": EVEN}}
    predict = jax.jit(methods.SEGMENTERS[model.name].segmenter(even).predict)
    members = ((predict(model.params, model.state, batch["image"]), batch["labels"]) for batch in validation)
    found = {**chosen(members, even["classes"]), "judged_on": validation.name}
    write_text(epath.Path(workdir) / methods.FOREGROUND, json.dumps(found, indent=1))
    return found


def chosen(batches, scheme):
    """{"threshold", "dice": {candidate: Dice or None}}: the one of CANDIDATES with the highest mean Dice of the
    foreground classes, each over all pixels of all batches; of equal ones the one nearest to EVEN, which it is too
    where no foreground is known.

    batches: pairs of probabilities (k, b, [z,] y, x, c), their threshold EVEN, and truth (b, [z,] y, x), -1 unknown.
    """
    classes = real_classes(scheme)
    counts = np.zeros((len(CANDIDATES), classes, classes), np.int64)
    for members, truth in batches:
        truth = np.where(np.asarray(truth) < classes, truth, -1)
        for i, threshold in enumerate(CANDIDATES):
            mean = np.asarray(shifted(members, threshold).mean(0))
            counts[i] += overlap.confusion(truth, mean[..., :classes].argmax(-1), classes)
    dice = [overlap.macro_dice(count, range(1, classes)) for count in counts]
    order = sorted(zip(np.nan_to_num(dice), CANDIDATES, strict=True), key=lambda one: (-one[0], abs(one[1] - EVEN)))
    shown = {f"{t:g}": None if np.isnan(d) else round(d, 5) for t, d in zip(CANDIDATES, dice, strict=True)}
    return {"threshold": order[0][1], "dice": shown}
