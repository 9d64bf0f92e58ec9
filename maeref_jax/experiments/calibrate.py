"""Makes a refiner's confidence honest, on its validation volumes; train.py ends with it:

    maeref calibrate --refiner runs/mae

Hides scattered and contiguous tokens of validation crops, lets the refiner fill them in as the workdir says it is used,
and fits a temperature per depth of the hole (confidence.py). Writes WORKDIR/calibration.json, which refine.py reads.
A crop's error is measured with temperatures fitted on other crops; neighbouring crops of a volume are alike, though.
"""

import json

import jax
import numpy as np
from etils import epath

from maeref_jax import report
from maeref_jax.errors import BadInput
from maeref_jax.masking.hidden import shaped_tokens
from maeref_jax.masking.tokens import token_mean, token_spread
from maeref_jax.metrics import calibration
from maeref_jax.pipeline import methods
from maeref_jax.training.workdir import write_text
from maeref_jax.uncertainty import confidence

SHAPES = (1.0, 1.0, 0.0)  # scattered and contiguous
MOST = 400_000  # pixels to fit with, drawn at random from more


def calibrate(model, batches):
    """Fits and writes calibration.json into the workdir of a refiner's Model; a report.Table of what it did.

    batches: of validation, as samples.sampling.label_batch makes them. Raises BadInput for a refiner that needs more
    than labels or knows no hidden tokens, and where nothing is known.
    """
    workdir, settings = model.workdir, model.settings
    check(model)
    parts = [filled(model, batch, number) for number, batch in enumerate(batches)]
    probabilities, truth, depth, crop = (np.concatenate(found) for found in zip(*parts, strict=True))
    if not len(truth):
        raise BadInput(f"{workdir}: no pixel of the validation volumes is known; nothing can be calibrated on them")
    chosen = np.random.default_rng(0).permutation(len(truth))[:MOST]
    probabilities, truth, depth, crop = (found[chosen] for found in (probabilities, truth, depth, crop))
    after = np.empty_like(probabilities)
    for half in (0, 1):
        there = crop % 2 == half
        fitted = confidence.fit(probabilities[~there], truth[~there], depth[~there])
        after[there] = confidence.tempered(probabilities[there], depth[there], fitted)
    final = confidence.fit(probabilities, truth, depth)
    rows = errors(probabilities, after, truth, depth)
    known = {"temperatures": final.temperatures, "depths": confidence.DEPTHS, "use": settings["use"], "errors": rows}
    text = json.dumps(known, indent=1)
    write_text(epath.Path(workdir) / "calibration.json", text + "\n")
    return table(rows, final)


def check(model):
    """BadInput for a Model that has no calibration."""
    if model.name in methods.UNLEARNED or not can_be_calibrated(model.apply):
        wanted = "only refiners that have learned to fill hidden tokens from labels alone have a calibration"
        raise BadInput(f"{model.workdir} holds a model of method '{model.name}': {wanted}")


def can_be_calibrated(apply):
    """Whether `calibrate` knows how to try this Refiner: it needs labels and hidden tokens only."""
    return not apply.needs and not apply.sees_hidden


def filled(model, batch, number):
    """(class probabilities (n, c), truth, depth, crop: (n,) each) of the hidden pixels of a batch that can be judged.

    batch: as samples.sampling.label_batch makes it; number: which, for the random draw.
    """
    settings, token = model.settings, model.apply.token
    labels, entropy = batch["labels"].astype(np.int16), batch["entropy"]
    grid = (labels.shape[1] // token, labels.shape[2] // token)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(number), i))(batch["index"])
    count = batch["shared"]["hidden_count"]
    drawn = jax.vmap(lambda key: shaped_tokens(key, count, grid, SHAPES))(keys).reshape(len(labels), *grid)
    undecided = token_mean(entropy, token) > settings["threshold"]
    hidden = np.asarray(token_spread(drawn | undecided, token))
    inputs = {"labels": np.where(hidden, np.int16(-1), labels), "entropy": entropy, "hidden": hidden}
    refine = jax.jit(model.apply.refine)
    found = np.asarray(refine(model.params, model.state, inputs, jax.random.key(0)))
    judged = hidden & (labels >= 0) & (labels < found.shape[-1]) & (entropy < settings["train_threshold"])
    crop = np.broadcast_to(batch["index"][:, None, None], labels.shape)
    return found[judged], labels[judged], confidence.depth_of(hidden, token)[judged], crop[judged]


def errors(before, after, truth, depth):
    """Expected calibration errors by depth and of all: [{"depth", "pixels", "right", "before", "after"}]."""
    place, bounds = np.searchsorted(confidence.DEPTHS, depth), (*confidence.DEPTHS, None)
    parts = [("all", np.ones(len(truth), bool))]
    parts += [
        (f"up to {bound:g}" if bound else f"over {bounds[i - 1]:g}", place == i) for i, bound in enumerate(bounds)
    ]
    rows = []
    for name, part in parts:
        counts = [calibration.count_confidence(found[part], truth[part]) for found in (before, after)]
        values = [calibration.expected_calibration_error(found) for found in counts]
        right = counts[0].right.sum() / max(counts[0].voxels.sum(), 1)
        values = [None if np.isnan(value) else value for value in values]
        rows.append(
            {"depth": name, "pixels": int(part.sum()), "right": float(right), "before": values[0], "after": values[1]}
        )
    return rows


def table(rows, final):
    """A report.Table of `errors`; final: the Calibration that was stored."""
    temperatures = ("", *(f"{value:.2f}" for value in final.temperatures))
    body = tuple(
        (
            row["depth"],
            f"{row['pixels']:,}",
            f"{row['right']:.3f}",
            *("-" if row[name] is None else f"{row[name]:.4f}" for name in ("before", "after")),
            temperature,
        )
        for row, temperature in zip(rows, temperatures, strict=True)
    )
    header = ("depth in token sides", "pixels", "share right", "error before", "after", "temperature")
    note = "Expected calibration error of the chosen class; after: by temperatures fitted on other crops."
    return report.Table("Confidence inside holes, by distance from what is visible", header, body, (), note)
