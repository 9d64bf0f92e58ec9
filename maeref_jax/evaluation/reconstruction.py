"""Table 1 of the paper (EVALUATION E3): labels of test crops, as the ensemble predicted them, hidden and asked back.

Labels that the ensemble was unsure of are visible context here, which in use they are not; they are no truth. Two
columns, never mixed. Paper-like: share of right pixels, background included, within 10 pixels of foreground and of low
entropy; Macro: mean Dice of the foreground classes over all hidden pixels. Rows: what learns nothing, and every refiner
that sees visible labels alone.
"""

import jax
import numpy as np
from scipy import ndimage

from maeref_jax import report
from maeref_jax.masking.hidden import shaped_tokens
from maeref_jax.masking.tokens import token_spread
from maeref_jax.metrics import overlap
from maeref_jax.metrics.baselines import nearest_visible_label
from maeref_jax.report.dice_tables import name_of
from maeref_jax.samples.sampling import crop

RATIOS = (0.1, 0.25, 0.5, 0.75, 0.9)
PAPER = (0.97, 0.97, 0.95, 0.92, 0.86)
NEAR_PX = 10
MIN_FOREGROUND = 0.3  # of a crop
NEAREST = "nearest"
SHAPES = {"scattered": (1.0, 0.0, 0.0), "contiguous": (0.0, 1.0, 0.0)}


def cut(volume, number, size, min_foreground, seed):
    """Labels int16 and entropy float32, (number, y, x) each, of random crops of a TrainingVolume; entropy 0 where the
    volume has none.
    """
    drawn = [crop(volume, np.random.default_rng((seed, i)), size, min_foreground) for i in range(number)]
    labels = np.stack([one["labels"] for one in drawn])
    return labels, np.stack([one.get("entropy", np.zeros(size, np.float32)) for one in drawn])


def hidden_tokens(key, number, ratio, size, token, shape):
    """Which pixels of so many crops are hidden, bool (number, y, x). shape: of SHAPES."""
    grid = tuple(side // token for side in size)
    count = round(ratio * grid[0] * grid[1])
    masks = jax.vmap(lambda key: shaped_tokens(key, count, grid, SHAPES[shape]))(jax.random.split(key, number))
    return np.asarray(token_spread(masks.reshape(number, *grid), token))


def counts(labels, filled, hidden, sure, classes):
    """{"near" | "all": confusion int64 (c, c)} of hidden pixels; sure: bool, entropy low enough to be a truth."""
    distance = np.stack([ndimage.distance_transform_edt(plane <= 0) for plane in labels])
    return {
        "near": overlap.confusion(labels, filled, classes, hidden & sure & (distance <= NEAR_PX)),
        "all": overlap.confusion(labels, filled, classes, hidden & sure),
    }


def paper_like(found):
    """Share of right pixels of the "near" counts."""
    return overlap.pooled_dice(found["near"], range(len(found["near"])))


def macro(found):
    """Mean Dice of the foreground classes of the "all" counts."""
    return overlap.macro_dice(found["all"], range(1, len(found["all"])))


def nearest(labels, hidden):
    """Each hidden pixel takes the label of the nearest visible one of its crop; background where there is none."""
    return np.maximum(nearest_visible_label(np.where(hidden, -1, labels), hidden), 0)


def filler(model):
    """(labels, hidden) -> labels of a refiner's Model on crops of its own window; hidden ones are -1 before it sees
    them.
    """
    refine = jax.jit(model.apply.refine)

    def fill(labels, hidden):
        given = {"labels": np.where(hidden, -1, labels).astype(labels.dtype), "hidden": hidden}
        return np.asarray(refine(model.params, model.state, given, jax.random.key(0)).argmax(-1))

    return fill


def comparable(models):
    """Those of {name: Model} that fill crops of the first one's window and tokens, from visible labels alone: one that
    sees what is hidden would be shown the answer.
    """
    first = next(iter(models.values())).apply
    return {
        name: model
        for name, model in models.items()
        if (model.apply.window, model.apply.token) == (first.window, first.token)
        and not model.apply.needs
        and not model.apply.sees_hidden
    }


def count(volume, models, classes, sure_below, crops, seed):
    """{name: {ratio: `counts`}} of one TrainingVolume of predicted labels. models: {name: Model} of `comparable`
    refiners; sure_below: entropy from which on a label is no truth; crops: how many.
    """
    apply = next(iter(models.values())).apply
    labels, entropy = cut(volume, crops, apply.window, MIN_FOREGROUND, seed)
    fills = {NEAREST: nearest, **{name: filler(model) for name, model in models.items()}}
    found = {name: {} for name in fills}
    for ratio in RATIOS:
        key = jax.random.fold_in(jax.random.key(seed), round(1000 * ratio))
        hidden = hidden_tokens(key, crops, ratio, apply.window, apply.token, "scattered")
        for name, fill in fills.items():
            found[name][ratio] = counts(labels, fill(labels, hidden), hidden, entropy < sure_below, classes)
    return found


def table(counted):
    """A report.Table of `count` of every volume."""
    rows = []
    for column, measure in (("paper-like", paper_like), ("macro foreground", macro)):
        rows.append((column, *[""] * len(RATIOS)))
        for name in counted[0]:
            each = [[measure(volume[name][ratio]) for volume in counted] for ratio in RATIOS]
            rows.append((f"  {name_of(name)}", *(report.number(float(np.nanmean(values))) for values in each)))
        if column == "paper-like":
            rows.append(("  paper, on its own data", *(f"{value:.2f}" for value in PAPER)))
    header = ("share of tokens hidden", *(f"{ratio:g}" for ratio in RATIOS))
    note = (
        "Random tokens of what the ensemble said of the held-out volumes, asked back; pixels that it was unsure of do "
        f"not count. Mean over {len(counted)} volumes. Paper-like: right pixels, background included, within "
        f"{NEAR_PX} px of foreground; the paper's figures are of its training tiles."
    )
    return report.Table("Table 1: labels hidden at random", header, tuple(rows), ("refined",), note)
