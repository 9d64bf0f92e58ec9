"""Training crops of adjacent slices: what a network sees of masks, and what the middle slice is to become. No jax."""

from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.samples import sampling
from maeref_jax.samples.labelled_slices import check_same_slices, for_each, numbers_of
from maeref_jax.samples.training_volumes import TrainingVolume, masks_of, volumes_from_files
from maeref_jax.volumes.dataset import given_of


class Stack(NamedTuple):
    """masks: int16 (z, y, x), -1 unknown; targets: a TrainingVolume whose labels they are to become; labelled: bool
    (z,), the slices whose target is the truth.
    """

    masks: np.ndarray
    targets: TrainingVolume
    labelled: np.ndarray


def stacks(data, split, scheme, say):
    """The Stacks that data[split] names: labels, the masks, and targets, one file for each; labelled_slices, of all of
    them or of each; within, which is of the targets.

    Raises:
        BadInput: none of them, unequal numbers, other shapes, slices that are not there.
    """
    given, flag = data[split], "--" if split == "train" else f"--{split}_"
    if not given["labels"] or len(given["labels"]) != len(given["targets"]):
        raise BadInput(
            f"expected masks ({flag}labels) and what they are to become (--config.data.{split}.targets), as many of "
            f"both, found {len(given['labels'])} and {len(given['targets'])}"
        )
    found, each = [], for_each(given["labelled_slices"], len(given["labels"]))
    inside = masks_of(given, len(given["labels"]))
    for mask, target, slices, left in zip(given["labels"], given["targets"], each, inside, strict=True):
        pair = {"images": (), "entropy": (), "labels": (mask, target), "labelled_slices": (), "within": ("", left)}
        masks, targets = volumes_from_files(pair, data, scheme, False, say)
        if masks.labels.shape != targets.labels.shape:
            shapes = masks.labels.shape, targets.labels.shape
            raise BadInput(f"{target} of shape {shapes[1]} is no target of {mask} of shape {shapes[0]}: give one of it")
        labelled = np.zeros(len(masks.labels), bool)
        if slices:
            check_same_slices(given_of(data).open(target, "labels"))
            labelled[numbers_of(slices, len(labelled), target)] = True
        found.append(Stack(masks.labels, targets, labelled))
    return found


def batch(stacks, seed, step, indices, size, context, min_foreground, anywhere_share=0.0):
    """slices int16 (b, 2 context + 1, y, x), the first and last of a stack repeated beyond its ends; target int16
    (b, y, x), of the middle one; labelled bool (b,), whether it is the truth; index int32 (b,), as given in `indices`,
    the samples of the whole batch that are wanted here. -1 is unknown, and outside. Every slice of a stack may be the
    middle one; in one of the eight symmetries of the square, and upside down or not. size, min_foreground,
    anywhere_share: of the target, as of sampling.crop.
    """
    found = []
    for index in indices:
        rng = np.random.default_rng((seed, step, index + 1))
        stack = stacks[rng.integers(len(stacks))]
        z, y, x = sampling.corner(stack.targets, rng, (1, *size), min_foreground, anywhere_share)
        around = np.clip(np.arange(z - context, z + context + 1), 0, len(stack.masks) - 1)
        plane = slice(y, y + size[0]), slice(x, x + size[1])
        slices, target = stack.masks[around, *plane], stack.targets.labels[z, *plane]
        turn = rng.integers(8) & (7 if size[0] == size[1] else 6)  # only a square can be transposed
        if rng.integers(2):
            slices = slices[::-1]
        planes = [sampling.oriented(sampling.padded(one, size, -1), turn) for one in (*slices, target)]
        found.append((np.stack(planes[:-1]), planes[-1], stack.labelled[z]))
    slices, target, labelled = (np.stack(one) for one in zip(*found, strict=True))
    return {
        "slices": slices,
        "target": target,
        "labelled": labelled,
        "index": np.asarray(indices, np.int32),
        "shared": {},
    }
