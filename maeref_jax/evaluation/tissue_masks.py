"""Masks of tissue from a score of it: chosen on validation blocks, counted against the truth.

Of every method two masks are judged. The closest: the threshold with the highest Dice. The safe one: the mask of
another threshold, grown by a length, with the highest Dice among those that lose next to nothing; what is lost is lost
for everything after. And, where a user gets it without choosing anything, the one that `maeref tissue` makes.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np

from maeref_jax.masking import cleaning
from maeref_jax.masking.cleaning import Cleaning
from maeref_jax.metrics import overlap
from maeref_jax.pipeline.tissue import usual

RECALL = 0.995  # of the safe mask, on validation blocks
THRESHOLDS = (0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8)  # of a probability
QUANTILES = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)  # of other scores, over all validation blocks
GROWN_NM = (0.0, 80.0, 160.0, 240.0, 320.0)
KINDS = ("as it comes", "closest", "safe")
CLEANINGS = ("none", "light", "usual")


class Choice(NamedTuple):
    """A mask: tissue where the score is at least `threshold`, cleaned in one of CLEANINGS and then grown by a length.
    sizes: which of a method's filters' sizes; counted: on validation blocks, as `counts` gives them.
    """

    sizes: Any
    threshold: float
    cleaning: str
    grown_nm: float
    counted: np.ndarray


class Rules(NamedTuple):
    """Of the light clean-up, which is tried beside none: what is thinner than twice open_nm goes, and what is smaller
    than smallest_um3; what the rest encloses is filled. usual: of configs/tissue_mask.py, which grows as well.
    """

    open_nm: float
    smallest_um3: float
    usual: dict


def counts(truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Voxels int64 (2, 2), row truth, column mask; they add up over blocks. truth: 0 and 1, mask: bool, (z, y, x)."""
    return overlap.confusion(truth, mask.astype(np.int16), 2)


def dice(counted: np.ndarray) -> float:
    """Of tissue, NaN where there is none."""
    return float(overlap.dice(counted)[1]) if counted[1].any() else float("nan")


def recall(counted: np.ndarray) -> float:
    """The share of the tissue that the mask has, NaN where there is none."""
    return _share(counted[1, 1], counted[1].sum())


def false_share(counted: np.ndarray) -> float:
    """The share of what is no tissue that the mask has, NaN where all is tissue."""
    return _share(counted[0, 1], counted[0].sum())


def kept(counted: np.ndarray) -> float:
    """The share of all voxels that the mask has: what is still to be worked on."""
    return _share(counted[:, 1].sum(), counted.sum())


def masks(score, threshold, how, grown_nm, rules: Rules, voxel_size_nm) -> list[np.ndarray]:
    """bool (z, y, x) of a score of that shape, cleaned in the way `how`, for each of the lengths grown_nm."""
    mask = score >= threshold
    if how == "light":
        smallest = round(1e9 * rules.smallest_um3 / np.prod(voxel_size_nm))
        asked = Cleaning(fill_holes="3d", open_nm=rules.open_nm, smallest_vx=smallest)
        mask = cleaning.cleaned(mask, asked, voxel_size_nm)
    elif how == "usual":
        mask = cleaning.cleaned(mask, usual(rules.usual, voxel_size_nm), voxel_size_nm)
    return cleaning.grown_by_each(mask, grown_nm, voxel_size_nm)


def mask_of(score: np.ndarray, choice: Choice, rules: Rules, voxel_size_nm) -> np.ndarray:
    """bool (z, y, x): the chosen mask of another block."""
    return masks(score, choice.threshold, choice.cleaning, (choice.grown_nm,), rules, voxel_size_nm)[0]


def choose(
    validation: dict[Any, list[tuple[np.ndarray, np.ndarray]]], probability: bool, rules: Rules, voxel_size_nm
) -> dict[str, Choice]:
    """{kind of KINDS: Choice}. validation: {sizes: [(truth, score) of every block]}, all of one voxel size.

    probability: whether scores are probabilities, with THRESHOLDS, or in a unit of their own, with QUANTILES. Of equal
    ones the first is taken.

    Where nothing reaches RECALL, the safe mask is the one that loses least.
    """
    tried = []
    for sizes, blocks in validation.items():
        values = np.concatenate([score[::2, ::2, ::2].ravel() for _, score in blocks])
        thresholds = THRESHOLDS if probability else np.quantile(values, QUANTILES).tolist()
        for threshold, how in itertools.product(thresholds, ("none", "light")):
            counted = np.zeros((len(GROWN_NM), 2, 2), np.int64)
            for truth, score in blocks:
                found = masks(score, threshold, how, GROWN_NM, rules, voxel_size_nm)
                counted += np.stack([counts(truth, mask) for mask in found])
            tried += [Choice(sizes, threshold, how, by, one) for by, one in zip(GROWN_NM, counted, strict=True)]
    closest = max((one for one in tried if not one.grown_nm), key=lambda one: dice(one.counted))
    good = [one for one in tried if recall(one.counted) >= RECALL]
    safe = max(good, key=lambda one: dice(one.counted)) if good else max(tried, key=lambda one: recall(one.counted))
    return {"closest": closest, "safe": safe}


def as_it_comes(blocks: list[tuple[np.ndarray, np.ndarray]], sizes: Any, rules: Rules, voxel_size_nm) -> Choice:
    """What `maeref tissue` makes of probabilities; blocks: validation ones, as in `choose`, which decide nothing."""
    counted = sum(counts(truth, masks(score, 0.5, "usual", (0.0,), rules, voxel_size_nm)[0]) for truth, score in blocks)
    return Choice(sizes, 0.5, "usual", 0.0, counted)


def _share(part, everything):
    return float(part / everything) if everything else float("nan")
