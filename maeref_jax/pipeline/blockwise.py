"""One block of a volume: windows of a model blended, entropy and hidden tokens decided, hidden voxels filled in.

Everything here gives the same result whatever the block: windows lie on the volume's lattice, are summed in one order,
and go through the network in batches of one size, as voxels go through what else is compiled; tokens lie on a lattice
of their own, anchored at the origin, and are hidden by whole numbers (masking/exact.py).
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.masking import exact
from maeref_jax.masking.slices import agreed, opinions
from maeref_jax.pipeline.cutting import PADDING, blend, complete_tokens, read_around, read_padded, stack
from maeref_jax.pipeline.programs import Program, calls_beside, compile_for, computed
from maeref_jax.records import Refiner, Segmenter
from maeref_jax.uncertainty.confidence import DEPTHS, Calibration, depth_of, tempered
from maeref_jax.uncertainty.entropy import class_count, entropy_of_means, member_means
from maeref_jax.uncertainty.gain import replaced
from maeref_jax.volumes import threads
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.windows import Box, round_up, whole, windows_touching

# Windows per call on a CPU where they need different lengths: more at a time cost as much each, and the last call of
# every length is filled up. Of others one: on some processors the place in a batch changes the last bit.
_CPU_BATCH = 8
RULES = ("entropy", "ambiguous", "both")  # why a token is hidden: by one rule alone, or by both
_VOXELS = 65536  # per call: one shape, one compilation, one order of operations


def halo(apply: Refiner) -> tuple[int, int, int]:
    """How far beyond a block (z, y, x) `refine_block` may read, in voxels: as far as windows that touch it reach, and
    as far as it takes to know how deep in a hole a voxel lies.
    """
    depth = math.ceil(DEPTHS[-1] * apply.token)
    z, y, x = (max(size - 1, least) for size, least in zip(in_3d(apply)[0], (0, depth, depth), strict=True))
    return z + apply.context, y, x


def in_3d(apply: Segmenter | Refiner) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Window and stride as (z, y, x): a 2-D model sees one slice at a time."""
    lead = (1,) * (3 - apply.dims)
    return lead + tuple(apply.window), lead + tuple(apply.stride)


def windows_around(apply: Segmenter | Refiner, shape: Sequence[int], box: Box, rounds: int = 0) -> list[Box]:
    """The windows of a model that touch `box` of a volume of that shape, and so many slices on either side of it."""
    grown = box.grow((rounds, 0, 0)).intersect(whole(shape))
    return windows_touching(_in_tokens(apply, shape), *in_3d(apply), grown)


def windows_showing(apply: Segmenter | Refiner, shape: Sequence[int], box: Box, wanted: np.ndarray | None) -> list[Box]:
    """The windows of a model that touch `box`, and of these, where not None, the ones that show a `wanted` voxel."""
    windows = windows_around(apply, shape, box)
    return windows if wanted is None else list(itertools.compress(windows, hold_any(windows, wanted, box)))


def _in_tokens(apply, shape) -> tuple[int, int, int]:
    """The shape of the volume in whole tokens, where a model has any."""
    return (shape[0], *(round_up(size, getattr(apply, "token", 1)) for size in shape[1:]))


def segment_block(
    apply: Segmenter,
    variables,
    members,
    image: Volume,
    box: Box,
    batch: int,
    kind: str = "mean",
    wanted: np.ndarray | None = None,
) -> tuple[np.ndarray, int]:
    """The members' mean probabilities and whatever else the kind of entropy needs of them (entropy.member_means),
    float32 (z, y, x, n) in `box`, and how many windows that took.

    variables: (params, state); members: indices to average, None for all. An image smaller than the window is
    mirrored at its far faces. wanted: bool (z, y, x) of the box with some True, None for all: windows that show no such
    voxel are not computed. Wanted voxels get the same bits, as all their windows are; the others mean nothing.
    """
    if apply.statistics:
        raise BadInput(
            f"what segments {image.path} goes by the texture of all of it; only maeref refine and maeref tissue do that"
        )
    if jax.default_backend() == "cpu":
        batch = 1  # some processors round a window otherwise in another place of a batch, and blocks decide on places
    windows = windows_showing(apply, image.shape, box, wanted)
    frame = functools.reduce(Box.hull, windows)
    around = read_padded(image, frame, mode="symmetric").astype(np.float32)

    def probabilities(groups: list[list[Box]]) -> list[np.ndarray]:
        stacks, how = [stack(around, group, frame, apply.dims) for group in groups], (apply.predict, members, kind)
        key = *how, stacks[0].shape
        program = Program("the ensemble", key, _segmented, lambda image: (*how, *variables, image))
        return _in_3d_again(computed(program, stacks), apply)

    return blend([windows], box, probabilities, batch, calls_beside()), len(windows)


def _in_3d_again(found: list[np.ndarray], apply: Segmenter | Refiner) -> list[np.ndarray]:
    return found if apply.dims == 3 else [each[:, None] for each in found]


def decide(means: np.ndarray, ambiguous: int, kind: str = "mean") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What entropy.member_means made for that kind, (..., n), of probabilities of c classes -> labels int16, entropy
    float32 in [0, 1], mean probability of "ambiguous" float32.

    labels: the likeliest class other than `ambiguous`. Where no such class is among the c (-1, or probabilities of the
    real classes only), its probability is 0.
    """
    mean = mean_of(means, kind)
    entropy = _of_voxels(_entropy, means[None], kind).reshape(mean.shape[:-1])
    if not 0 <= ambiguous < mean.shape[-1]:
        doubt, decided = np.zeros(mean.shape[:-1], np.float32), mean
    else:
        doubt, decided = mean[..., ambiguous], mean.copy()
        decided[..., ambiguous] = -1.0
    return decided.argmax(-1).astype(np.int16), entropy, doubt


def means_of_members(members: np.ndarray, kind: str) -> np.ndarray:
    """entropy.member_means of class probabilities that are given, float32 (k, z, y, x, c) -> (z, y, x, n)."""
    return _of_voxels(_means, members, kind).reshape(*members.shape[1:-1], -1)


def _of_voxels(compute: Callable, values: np.ndarray, kind: str) -> np.ndarray:
    """What `compute` makes of values (k, ..., n) of voxels, one row for each; so many at a time, whatever the block."""
    flat, found = values.reshape(len(values), -1, values.shape[-1]), []
    for start in range(0, flat.shape[1], _VOXELS):
        part = flat[:, start : start + _VOXELS]
        missing = _VOXELS - part.shape[1]
        found.append(np.asarray(compute(np.pad(part, ((0, 0), (0, missing), (0, 0))), kind))[: part.shape[1]])
    return np.concatenate(found)


def real_probabilities(means: np.ndarray, ambiguous: int, kind: str = "mean") -> np.ndarray:
    """What entropy.member_means made for that kind, (..., n), -> the mean probability of every class but `ambiguous`
    (the last one, or -1 or none among them), float32 (..., c), summing to 1; equal where "ambiguous" had all of it.
    """
    mean = mean_of(means, kind)
    mean = mean[..., :ambiguous] if 0 <= ambiguous < mean.shape[-1] else mean
    total = mean.sum(-1, keepdims=True)
    some = total > np.float32(1e-6)
    return np.where(some, mean / np.where(some, total, 1), np.float32(1 / mean.shape[-1])).astype(np.float32)


def mean_of(means: np.ndarray, kind: str) -> np.ndarray:
    """The mean probability of every class, of what entropy.member_means made for that kind, (..., n)."""
    return means[..., : class_count(means.shape[-1], kind)]


def hide(
    entropy: np.ndarray, ambiguous: np.ndarray, token: int, threshold: float, ambiguous_threshold: float
) -> np.ndarray:
    """Which voxels (z, y, x) lie in hidden tokens (bool): the first of `hide_and_count`."""
    return hide_and_count(entropy, ambiguous, token, threshold, ambiguous_threshold)[0]


def hide_and_count(
    entropy: np.ndarray, ambiguous: np.ndarray, token: int, threshold: float, ambiguous_threshold: float
) -> tuple[np.ndarray, dict[str, int]]:
    """Which voxels (z, y, x) lie in hidden tokens (bool), those whose mean is above a threshold, equal stays visible:
    see masking/exact.py; and how many tokens are hidden by one rule alone and by both, by RULES.

    entropy, ambiguous: float (z, y, x) of a box that starts at a multiple of `token` in y and x. A token cut by the
    far border averages the pixels that it has.
    """
    undecided = exact.above(entropy, token, threshold)
    called = exact.above(ambiguous, token, ambiguous_threshold)
    tokens = (undecided & ~called, called & ~undecided, undecided & called)
    counts = {rule: int(np.count_nonzero(some)) for rule, some in zip(RULES, tokens, strict=True)}
    return exact.spread(undecided | called, token, entropy.shape), counts


def whole_tokens(hidden: np.ndarray, token: int) -> np.ndarray:
    """Bool (z, y, x) of a box that starts at tokens: every token with a True is True as a whole."""
    return exact.spread(exact.any_in_tokens(hidden, token), token, hidden.shape)


def refine_block(
    apply: Refiner,
    variables,
    key,
    volumes: dict[str, Volume],
    box: Box,
    batch: int,
    calibration: Calibration | None = None,
    rounds: int = 0,
    inside: Callable[[Box], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Labels int16 (z, y, x) of `box` with hidden voxels filled in, all of them by a refiner that works everywhere; how
    sure the refiner is of those; windows computed; windows there are.

    How sure: the probability of the chosen class as uint8, value / 255, 0 where nothing is hidden; with a calibration,
    tempered by the depth of the hole. rounds: of agreement with the slices above and below (slices.agreed), as many of
    which are read, and filled in where a hidden voxel of the box can hear of them.

    volumes: "labels" (int16, -1 unknown), "entropy" (float32), "hidden" (bool) and, if the refiner needs them, "image",
    "probabilities" and "stored_probabilities" (with classes), as Volumes. Windows that show no hidden voxel of the box
    are not computed. inside: of a refiner that works everywhere, which voxels of a box (bool) it is asked for,
    None for all.
    """
    grown = box.grow((rounds, 0, 0)).intersect(whole(volumes["labels"].shape))
    inner = box.within(grown).slices
    labels, hidden = volumes["labels"].read(grown), volumes["hidden"].read(grown)
    wanted = hidden
    if apply.everywhere:
        wanted = np.ones_like(hidden) if inside is None else inside(grown)
    wanted = wanted & wanted[inner].any(0)  # columns are apart
    blended, computed, there = likelihoods(apply, variables, key, volumes, grown, wanted, batch)
    if blended is None:
        return labels[inner], np.zeros(box.shape, np.uint8), 0, there
    if rounds:
        blended = agreed(blended, labels, wanted, rounds, _opinions(volumes, grown, labels, blended.shape[-1]))
    blended = blended[inner]
    labels, filled, sure = labels[inner].copy(), wanted[inner], np.zeros(box.shape, np.uint8)
    found = blended[filled]
    labels[filled] = chosen = replaced(found, labels[filled], apply.caution)
    if calibration is not None:
        found = tempered(found, _depth(volumes["hidden"], box, apply.token)[filled], calibration)
    found = np.take_along_axis(found, chosen[:, None].astype(np.int64), -1)[:, 0]
    sure[filled] = np.rint(255 * found.clip(0, 1))
    return labels, sure, computed, there


def likelihoods(
    apply: Refiner, variables, key, volumes: dict[str, Volume], box: Box, wanted: np.ndarray, batch: int
) -> tuple[np.ndarray | None, int, int]:
    """The refiner's class probabilities float32 (z, y, x, c) in `box`, None where no voxel is wanted; windows computed;
    windows there are. wanted: bool (z, y, x) of the box: windows that show no such voxel are not computed, so that the
    others mean nothing. The rest as of `refine_block`.
    """
    shape = volumes["labels"].shape
    windows, touching = windows_showing(apply, shape, box, wanted), len(windows_around(apply, shape, box))
    if not windows:
        return None, 0, touching
    frame = functools.reduce(Box.hull, windows)
    deeper = tuple(apply.needs) if apply.context else ()
    seen = {"labels", "entropy", "hidden", *apply.needs}.difference(deeper)
    around = {name: read_padded(volumes[name], frame, **PADDING[name]) for name in volumes if name in seen}
    # Of one that sees adjacent slices; labels in them, which may be hidden, only of one that sees hidden ones.
    hears = apply.context and apply.sees_hidden
    along = {name: read_around(volumes[name], frame, apply.context, name) for name in deeper}
    along |= {"slices": read_around(volumes["labels"], frame, apply.context, "labels")} if hears else {}
    for arrays in (around, along):
        arrays |= {name: arrays[name].astype(np.float32) for name in ("image",) if name in arrays}
    # The part of a hidden token that lies outside the volume is hidden too: hidden is constant inside a token.
    around["hidden"] = complete_tokens(around["hidden"], frame, shape, _in_tokens(apply, shape))
    if not apply.sees_hidden:
        # No refiner can look at them by mistake: hidden means hidden (design law 3).
        around["labels"] = np.where(around["hidden"], np.int16(-1), around["labels"])
    more = (apply.context, 0, 0)
    lengths = _lengths_of(apply, windows, around, frame, batch)
    if jax.default_backend() == "cpu":
        batch = min(batch, 1 if apply.lengths is None else _CPU_BATCH)

    def stacked(group: Sequence[Box]) -> dict[str, np.ndarray]:
        seen = {name: stack(array, group, frame, apply.dims) for name, array in around.items()}
        return seen | {
            name: stack(array, [w.grow(more) for w in group], frame.grow(more), 3) for name, array in along.items()
        }

    def program(length: tuple[int, ...]) -> Program:
        own = apply.refine, batch, length
        return Program("the refiner", own, _refined, lambda inputs: (apply.refine, *variables, inputs, key, length))

    def probabilities(groups: list[list[Box]]) -> list[np.ndarray]:
        stacks = [stacked(group) for group in groups]
        return _in_3d_again(computed(program(lengths[groups[0][0]]), stacks), apply)

    # Windows of the same lengths go together, in one order whatever the block.
    together = [[w for w in windows if lengths[w] == some] for some in sorted(set(lengths.values()))]
    # The compiler of an accelerator times programs, which nothing may disturb.
    several = len(together) > 1 and jax.default_backend() == "cpu"
    soon = [(program(lengths[some[0]]), stacked(some[:1] * batch)) for some in together] if several else []
    with threads.begun(lambda one: compile_for(*one), soon):
        return blend(together, box, probabilities, batch, calls_beside()), len(windows), touching


def hold_any(windows: Sequence[Box], wanted: np.ndarray, frame: Box) -> np.ndarray:
    """Which windows hold a True of `wanted`, bool (z, y, x) of `frame`: counted by sums from the first voxel on."""
    sums = np.pad(wanted, ((1, 0),) * 3).astype(np.int32)
    for axis in range(3):
        np.cumsum(sums, axis, out=sums)
    corners = np.array([(window.start, window.stop) for window in windows]).clip(frame.start, frame.stop) - frame.start
    counts = np.zeros(len(windows), np.int32)
    for z, y, x in itertools.product((0, 1), repeat=3):
        corner = sums[corners[:, z, 0], corners[:, y, 1], corners[:, x, 2]]
        counts += corner if (z + y + x) % 2 else -corner
    return counts > 0


def _lengths_of(apply: Refiner, windows, around, frame: Box, batch: int) -> dict[Box, tuple[int, ...]]:
    """How many places each window needs: a matter of the window alone, not of what it is computed together with."""
    if apply.lengths is None:
        return dict.fromkeys(windows, ())
    found = {}
    for start in range(0, len(windows), batch):
        group = windows[start : start + batch]
        filled_up = [*group, *[group[0]] * (batch - len(group))]
        stacked = (stack(around[name], filled_up, frame, apply.dims) for name in ("labels", "hidden"))
        numbers = np.asarray(_lengths(apply.lengths, *stacked)).tolist()
        found |= {window: tuple(wanted) for window, wanted in zip(group, numbers, strict=False)}
    return found


def _opinions(volumes: dict[str, Volume], box: Box, labels: np.ndarray, classes: int) -> np.ndarray:
    """How sure visible voxels of the box are of their labels, (z, y, x, classes): as they were segmented, or, where
    probabilities are not kept, by their entropy.
    """
    if "stored_probabilities" not in volumes:
        return opinions(labels, volumes["entropy"].read(box), classes)
    stored = np.moveaxis(volumes["stored_probabilities"].read(box), 0, -1)
    return real_probabilities(stored, classes)  # "ambiguous" is behind the others


def _depth(hidden: Volume, box: Box, token: int) -> np.ndarray:
    """confidence.depth_of in `box`; as far around as it takes is read."""
    by = math.ceil(DEPTHS[-1] * token)
    start = tuple(max(at - reach, 0) for at, reach in zip(box.start, (0, by, by), strict=True))
    stop = tuple(min(at + reach, n) for at, reach, n in zip(box.stop, (0, by, by), hidden.shape, strict=True))
    around = Box(start, stop)
    return depth_of(hidden.read(around), token)[box.within(around).slices]


def one_segmentation(predict, members, kind, params, state, image):
    """What a call of the network computes: entropy.member_means of a batch of windows."""
    found = predict(params, state, image)
    if members is not None:
        found = jnp.stack([found[i] for i in members])
    return member_means(found, kind)


def one_refinement(refine, params, state, inputs, key, lengths=()):
    """What a call of the network computes: class probabilities of a batch of windows. lengths: as in Refiner."""
    return refine(params, state, inputs, key, lengths) if lengths else refine(params, state, inputs, key)


def one_count(lengths, labels, hidden):
    """What a call of Refiner.lengths computes."""
    return lengths(labels, hidden)


_segmented = jax.jit(one_segmentation, static_argnums=(0, 1, 2))
_refined = jax.jit(one_refinement, static_argnums=(0, 5))
_lengths = jax.jit(one_count, static_argnums=0)
_entropy = jax.jit(lambda means, kind: entropy_of_means(means[0], kind), static_argnums=1)
_means = jax.jit(member_means, static_argnums=1)
