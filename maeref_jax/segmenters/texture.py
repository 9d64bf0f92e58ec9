"""Tissue and resin told apart by texture, which learns nothing: three votes on every voxel, in numpy.

    deviation   how much grey values differ in a square around the voxel (box filter), weight .4
    coherence   whether the gradients near it point one way (structure tensor of the plane's y and x), weight .3
    edges       how steep the image is (Scharr), weight .3

Everything is done slice by slice: a slice is one exposure, and two that differ in brightness are no texture. Grey
values, between the 1st and 99th percentile of the volume, become whole numbers, so that the sums of the box filter are
exact; the other filters add in an order of their own. With what is read around a box, the result is therefore the same
to the bit, however the volume is cut. Every vote has Otsu's threshold, found once for the volume (`statistics`), never
for a piece of it: pieces of pure resin would become masks of noise.

The votes are soft: from 0 at the mean of the voxels below the threshold to 1 at the mean of those above it. They are
"members" of an ensemble as far as the pipeline is concerned, as many of each as it has ballots.

Otsu's split always finds two halves, also of noise alone. So `statistics` asks whether there are two: of one flat heap
the split explains at most three quarters of the variance, of a normal one 2/π; what is above that is two heaps. Of one
heap it is asked whether neighbouring voxels have anything in common. If not, it is noise, and only what stands out of
it by more than noise ever does in so many voxels is tissue; otherwise all of it is tissue, and nothing is lost. Either
way there is a warning.

Other FEATURES, difference of Gaussians and entropy of grey values, are there to look at, as configs with that vote
alone: they find structure rather than tissue.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.records import Segmenter
from maeref_jax.volumes.texture_filters import (
    FEATURES,
    UNKNOWN_NM,
    Sizes,
    box_sums,
    bridged,
    flat,
    levels_of,
    shrinking,
    sizes_of,
    smooth,
)
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.windows import Box, whole

PERCENTILES = (1, 99)
MOST = 2**22  # voxels of a sample
_SLICES, _TILES = 16, 4  # of a volume with larger planes: slices, tiles in each
FLATTEST = 0.75  # Otsu's split explains no more of the variance of any flat heap
NOISE = 0.5  # neighbours that share less than half of their variance are mostly noise


class Split(NamedTuple):
    """Otsu's: the threshold, the means below and above it, and the share of the variance that lies between these."""

    threshold: float
    low: float
    high: float
    explained: float


def otsu(values: np.ndarray) -> Split:
    """The threshold that puts most of the variance between two classes. Of values that are all the same: explained 0.

    Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9, 62 (1979); here without a histogram.
    """
    values = np.sort(values, axis=None).astype(np.float64)
    count, sums = len(values), np.cumsum(values)
    below = np.arange(1, count)
    low, high = sums[:-1] / below, (sums[-1] - sums[:-1]) / (count - below)
    between = np.where(values[1:] > values[:-1], below * (count - below) * (high - low) ** 2, 0) / count**2
    variance = values.var() if count else 0.0
    if count < 2 or not between.max() > 0 or not variance > 0:
        same = float(values[0]) if count else 0.0
        return Split(same, same, same, 0.0)
    at = int(between.argmax())
    found = ((values[at] + values[at + 1]) / 2, low[at], high[at], between[at] / variance)
    return Split(*map(float, found))


def _sample(shape: Sequence[int]) -> list[Box]:
    """Boxes of one slice each, MOST voxels together at most: all of a small volume; of a larger one whole slices, or
    tiles in a fixed pattern, from the first slice to the last.
    """
    depth, height, width = shape
    count = min(depth, max(MOST // (height * width), _SLICES))
    slices = np.unique(np.linspace(0, depth - 1, count).round().astype(int)).tolist()
    if len(slices) * height * width <= MOST:
        return [Box((z, 0, 0), (z + 1, height, width)) for z in slices]
    side = int((MOST / len(slices) / _TILES) ** 0.5)
    found = []
    for number, z in enumerate(slices):
        for row in range(_TILES):
            at = (_start(height, side, row), _start(width, side, (row + number) % _TILES))
            found.append(Box((z, *at), (z + 1, *(min(a + side, n) for a, n in zip(at, (height, width), strict=True)))))
    return found


def _start(size: int, side: int, number: int) -> int:
    """Where one of _TILES tiles begins along an axis."""
    return max(size - side, 0) * number // (_TILES - 1)


def statistics(image: Volume, settings: Mapping) -> dict:
    """What the votes have to know of the whole volume, as JSON: the same whoever asks.

    Returns:
        "low", "high": the grey values that become 0 and LEVELS; "kind": "two" heaps, "noise", "tissue" or "nothing";
        "common": what neighbours have in common, a correlation; "votes": {feature: {threshold, low, high, explained}};
        "doubts", "notes": sentences.
    """
    sizes, names = sizes_of(settings["lengths"], image.shape, image.voxel_size_nm), settings["votes"]
    boxes, notes = _sample(image.shape), _notes(image, settings)
    grey = np.concatenate([image.read(box).ravel() for box in boxes]).astype(np.float64)
    low, high = np.percentile(grey, PERCENTILES)
    low, high = (low, high) if low < high else (grey.min(), grey.max())
    values, products = {name: [] for name in names}, np.zeros(2)
    for box in boxes if low < high else ():
        around = box.grow(sizes.reach).intersect(whole(image.shape))
        grey, inner = image.read(around), box.within(around).slices
        there = ~flat(grey)
        levels = bridged(levels_of(grey, low, high), there, sizes)
        for name in names:
            values[name].append(FEATURES[name](levels, sizes, there)[inner][there[inner]])
        products += _neighbours(levels[inner], there[inner], sizes)
    found = {"low": float(low), "high": float(high), "notes": notes}
    flattened = {name: np.concatenate(some) for name, some in values.items() if some}
    if not flattened or not len(flattened[names[0]]):
        doubt = (
            f"{image.path} has the grey value {low:.4g} nearly everywhere, so there is nothing to tell tissue from "
            "resin by, and all of it is taken as resin: is it the right file, or the right channel?"
        )
        return found | {"kind": "nothing", "common": 0.0, "votes": {}, "doubts": [doubt]}
    common = float(products[0] / products[1]) if products[1] > 0 else 0.0
    splits = {name: otsu(some) for name, some in flattened.items()}
    kind = "two" if splits[names[0]].explained > FLATTEST else "noise" if common < NOISE else "tissue"
    if kind == "noise":
        splits = {name: beyond_noise(some, np.prod(image.shape, dtype=float)) for name, some in flattened.items()}
    told = {name: split._asdict() for name, split in splits.items()}
    return found | {"kind": kind, "common": common, "votes": told, "doubts": _doubts(image.path, kind, common)}


def beyond_noise(values: np.ndarray, count: float) -> Split:
    """The threshold that none of `count` values of the noise that most of `values` are is expected to reach: their
    median plus √(2 ln count) standard deviations, by the median deviation; `low` is the median.

    Donoho and Johnstone, Biometrika 81, 425 (1994).
    """
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    beyond = max((2 * np.log(max(count, 2.0))) ** 0.5 * spread, 1e-6)
    return Split(middle + beyond, middle, middle + 2 * beyond, 0.0)


def votes_of(image: np.ndarray, sizes: Sizes, names: Sequence[str], found: Mapping) -> np.ndarray:
    """The soft votes for tissue of grey values, float32 (k, z, y, x) in [0, 1], never NaN: 0 at the mean of the class
    below the threshold, 1 at that above it, smoothed by a Gaussian of `texture`; 0 where the image is `flat`.

    names: of FEATURES; found: of `statistics`.
    """
    there, ballots = ~flat(image), []
    levels = bridged(levels_of(image, found["low"], found["high"]), there, sizes)
    for name in names:
        split = found["votes"][name]
        width = split["high"] - split["low"]
        if found["kind"] == "tissue":
            vote = np.ones(levels.shape)
        else:
            vote = ((FEATURES[name](levels, sizes, there) - split["low"]) / width).clip(0, 1) if width > 0 else 0.0
        ballots.append(smooth(vote * there, sizes.texture).clip(0, 1))
    return np.stack(ballots).astype(np.float32)


def texture_votes(image: Volume, box: Box, settings: Mapping, found: Mapping) -> np.ndarray:
    """`votes_of` a box of an image, of which as much around it is read as they depend on; float32 (k, z, y, x).

    settings: of configs/texture.py; found: `statistics` of the image with them. Their mean, weighted by
    settings["ballots"], is the probability of tissue. Of an array: array_volume(array, name, voxel_size_nm).
    """
    if found["kind"] == "nothing":
        return np.zeros((len(settings["votes"]), *box.shape), np.float32)
    sizes = sizes_of(settings["lengths"], image.shape, image.voxel_size_nm)
    around = box.grow(sizes.reach).intersect(whole(image.shape))
    grey, (_, *inner) = image.read(around), box.within(around).slices
    # A slice at a time: all filters are of the plane.
    slices = (votes_of(grey[z : z + 1], sizes, settings["votes"], found)[:, :, *inner] for z in range(len(grey)))
    return np.concatenate(list(slices), axis=1)


def segmenter(settings: Mapping) -> Segmenter:
    """The Segmenter of a config of configs/texture.py: classes resin and tissue, as many members of each vote as it has
    ballots.
    """
    check(settings)
    ballots = settings["ballots"]

    def predict(found, image, box):
        tissue = np.repeat(texture_votes(image, box, settings, found), ballots, axis=0)
        return np.stack([1 - tissue, tissue], -1)

    return Segmenter(predict, (64, 64), (64, 64), 2, statistics=lambda image: statistics(image, settings))


def check(settings: Mapping) -> None:
    """Raises BadInput for lengths, votes or ballots that no mask can be made with, and for members that are not as many
    as the ballots.
    """
    for name, length in settings["lengths"].items():
        if not 0 < length < math.inf:
            raise BadInput(f"lengths.{name} must be a length above 0, in nm, found {length:g}")
    votes, ballots = tuple(settings["votes"]), tuple(settings["ballots"])
    if unknown := [name for name in votes if name not in FEATURES]:
        raise BadInput(f"votes must be of {', '.join(FEATURES)}, found {', '.join(map(str, unknown))}")
    if not votes or len(ballots) != len(votes):
        raise BadInput(f"ballots must be a number for each of the votes {', '.join(votes)}, found {ballots}")
    if any(not isinstance(number, int) or number < 0 for number in ballots) or not any(ballots):
        raise BadInput(f"ballots must be whole numbers from 0 on, and not all 0, found {ballots}")
    if settings["members"] != sum(ballots):
        raise BadInput(
            f"members must be as many as all ballots {ballots} together, found {settings['members']}: "
            f"maeref train --config texture wants --config.members={sum(ballots)} as well"
        )


def _neighbours(levels, there, sizes) -> np.ndarray:
    """Of neighbours in the plane, less the mean around them: the sum of their products, and what it would be if they
    were the same.
    """
    count = np.maximum(box_sums(there.astype(np.int64), sizes.half), 1)
    rest, found = (levels - box_sums(levels * there, sizes.half) / count) * there, np.zeros(2)
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[:, :, 1:], np.s_[:, :, :-1])):
        both = there[one] & there[other]
        found += ((rest[one] * rest[other])[both].sum(), ((rest[one] ** 2 + rest[other] ** 2)[both] / 2).sum())
    return found


def _notes(image, settings) -> list[str]:
    size, given = image.voxel_size_nm, settings["lengths"]["window_nm"]
    shrunk = shrinking(given, image.shape, size)
    notes = []
    if size is None:
        notes.append(
            f"{image.path}: no file says how large a voxel is, so texture is looked for as in voxels of "
            f"{UNKNOWN_NM:g} nm; --voxel_size_nm Z,Y,X says it"
        )
    if shrunk < 1:
        notes.append(
            f"{image.path}: texture is looked for in squares of {given * shrunk:.4g} nm, {1 / shrunk:.3g} times "
            "smaller than set, as its planes are small"
        )
    return notes


def _doubts(path, kind, common) -> list[str]:
    if kind == "two":
        return []
    if kind == "noise":
        return [
            f"{path}: no two kinds of texture were found, and neighbouring voxels have little in common (correlation "
            f"{common:.2f}): it looks like noise, so it is taken as resin but for what stands out; if it is tissue, "
            "look at finer voxels, or use a trained model"
        ]
    return [
        f"{path}: no two kinds of texture were found, so all of it is taken as tissue; if there is resin, use a "
        "trained model, or paint a mask"
    ]
