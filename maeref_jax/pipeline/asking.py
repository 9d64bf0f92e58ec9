"""Before a refiner is let loose on a volume it is asked what is known: visible tokens near hidden ones are hidden too,
and asked back.

What is compared is the refiner and copying the nearest visible label, which learns nothing, both given the very same
visible labels; the visible label is the reference. What the ensemble says cannot be compared: it is what was asked for,
so it is right by definition. Beside them stands the share of the commonest class, which a filler that looks at nothing
has. Whoever is worse than copying at the edge of the holes is not to be trusted inside them.

Places are squares of TILE strides of the refiner, or small planes as a whole, drawn with the run's seed all over the
volume, and cells of a stride in them are what is counted; they do not depend on blocks, parts or workers. One process
asks before it makes the output, and what it found is kept there. It takes SHARE of the run, of a small one
LEAST_WINDOWS, and stops after SECONDS.
"""

import functools
import itertools
import math
import time

import jax
import numpy as np

from maeref_jax.metrics import comparison, overlap
from maeref_jax.metrics.baselines import nearest_visible_label
from maeref_jax.pipeline.asked_back import asked_back, tested_volume
from maeref_jax.pipeline.blockwise import in_3d
from maeref_jax.pipeline.passes import Run, known_to_refiner
from maeref_jax.pipeline.segmenting import kept, means_of, segmented
from maeref_jax.pipeline.shown import seen_by
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.windows import Box, blocks, lattice, round_up, whole, windows_touching

REACH = 3  # token sides: how near a hidden token those lie that are asked back, and how large the squares of them are
TILE = 4  # strides a side of a place
SHARE = 0.05  # of all windows of the run, that asking may take
LEAST_WINDOWS = 1000  # which it may take of a small volume
SECONDS = 60.0  # a slow network is asked at fewer places
TRIES = 4  # places looked at for each one that is wanted: many have nothing hidden
CHEAP_TRIES = 20  # the same where looking is reading


def cannot_be_asked(refiner) -> str:
    """Why a refiner's Model cannot be asked, "" where it can be."""
    if refiner.apply.sees_hidden or refiner.apply.sees_probabilities:
        return f"{refiner.workdir} sees what hidden tokens hold, so it cannot be asked for what it would fill in"
    if refiner.judge is not None:
        return f"what is hidden {refiner.judge.workdir} says later"
    return ""


def ask(run: Run) -> dict | None:
    """What the refiner of a run gets right of visible labels near hidden ones; None where it is not asked, and where no
    place has any of both. Nothing is written.

    Returns:
        "places", "voxels": how many cells and voxels were asked for; "right": the share of them that is right by
        "refiner", "nearest" and "commonest class"; "ahead": {"right", "dice"}: [estimate, low, high] of the refiner
        minus the nearest label, with the 95 % interval of a bootstrap over cells, None where undefined; "classes":
        {name: {"voxels", "refiner", "nearest"}}, the last two shares of them; "worse": whether the refiner is worse by
        more than chance.
    """
    if run.refiner is None or not run.settings.ask or cannot_be_asked(run.refiner):
        return None
    names = run.scheme["names"][: real_classes(run.scheme)]
    counts = list(_places(run, len(names)))
    if not counts:
        return None
    refiner, nearest = (np.stack(found) for found in zip(*counts, strict=True))
    found = comparison.compare(refiner, nearest, run.settings.seed)
    sums = {"refiner": refiner.sum(0), "nearest": nearest.sum(0)}
    by_class = sums["refiner"].sum(1)
    return {
        "places": len(counts),
        "voxels": int(by_class.sum()),
        "right": {name: comparison.right_share(counted) for name, counted in sums.items()}
        | {"commonest class": float(by_class.max() / by_class.sum())},
        "ahead": {
            name: [None if math.isnan(value) else round(value, 6) for value in (one.estimate, one.low, one.high)]
            for name, one in found._asdict().items()
        },
        "classes": {
            name: {"voxels": int(by_class[c])}
            | {who: float(counted[c, c] / by_class[c]) for who, counted in sums.items()}
            for c, name in enumerate(names)
            if by_class[c]
        },
        "worse": comparison.is_worse(found),
    }


def _places(run, classes):
    """Confusions (c, c) of the refiner and of the nearest label, against the visible one, of cells that have any."""
    apply, shape = run.refiner.apply, run.shape
    stride = in_3d(apply)[1]
    side = (stride[0], *(_side(TILE * step, size) for step, size in zip(stride[1:], shape[1:], strict=True)))
    grid = tuple(-(-size // step) for size, step in zip(shape, side, strict=True))
    variables = jax.device_put((run.refiner.params, run.refiner.state))
    means = kept(run, means_of(run))
    image = seen_by(run.refiner, run.job.image) if "image" in apply.needs else None
    key, rng, total = jax.random.key(run.settings.seed), np.random.default_rng(run.settings.seed), math.prod(grid)
    most, spent, places, began = max(SHARE * _windows(run), LEAST_WINDOWS), 0, 0, None
    tries = (TRIES if run.segmenter else CHEAP_TRIES) * run.settings.ask

    def box_of(number):
        start = tuple(int(i) * step for i, step in zip(np.unravel_index(number, grid), side, strict=True))
        return Box(start, tuple(a + s for a, s in zip(start, side, strict=True))).intersect(whole(shape))

    # With a mask of what is worked on, places outside of it are no tries.
    drawn = rng.choice(total, total if run.job.within else min(total, tries), replace=False)
    inside = (box for box in map(box_of, drawn) if run.inside(box).any())
    for box in itertools.islice(inside, tries):
        if places == run.settings.ask or spent >= most or (began and time.monotonic() - began > SECONDS):
            return
        volumes, seen, windows = _around(run, means, image, box)
        spent += windows
        tested = tested_volume(run, volumes, REACH)
        if not (tested.read(box) & (volumes["labels"].read(box) >= 0) & run.inside(box)).any():
            continue
        asked, labels, filled, windows = asked_back(apply, variables, key, volumes, tested, box, run.settings.batch)
        asked &= run.inside(box)
        spent, places = spent + windows, places + 1
        began = began or time.monotonic()  # the first one compiles
        hidden = volumes["hidden"].read(seen) | tested.read(seen)
        copied = nearest_visible_label(volumes["labels"].read(seen), hidden)[box.within(seen).slices]
        copied = np.where(copied < 0, 0, copied)  # nothing to copy is visible
        for cell in blocks(box.shape, stride):
            where = cell.slices
            if asked[where].any():
                answers = (filled[where], copied[where])
                yield tuple(overlap.confusion(labels[where], answer, classes, asked[where]) for answer in answers)


def _side(usual: int, size: int) -> int:
    """How long places are along an axis. What is little longer than one is taken whole: networks see around a place, so
    that several would cost several times the whole.
    """
    return size if size <= 2 * usual else usual


def _around(run, means, image, box) -> tuple[dict[str, Volume], Box, int]:
    """What the refiner is given there, as Volumes that can be read around `box`; how much of them its windows see;
    windows of the segmenter that took. image: as the refiner is shown it, None where it needs none.
    """
    apply, shape, token = run.refiner.apply, run.shape, run.settings.token
    window, stride = in_3d(apply)
    in_tokens = (shape[0], *(round_up(size, token) for size in shape[1:]))
    seen = functools.reduce(Box.hull, windows_touching(in_tokens, window, stride, box), box)
    # Which tokens are asked for at its border depends on what lies beyond.
    frame = seen.grow((0, REACH * token, REACH * token)).intersect(whole(shape))
    found = segmented(run, means, frame)
    entropy = np.round(found.entropy * 255).astype(np.float32) / 255  # as it is stored

    def held(name, array):
        return Volume(name, shape, array.dtype, None, None, None, lambda box: array[box.within(frame).slices])

    arrays = {"labels": known_to_refiner(found.labels, run.scheme), "entropy": entropy, "hidden": found.hidden}
    volumes = {name: held(name, array) for name, array in arrays.items()}
    if image is not None:
        volumes["image"] = image
    return volumes, seen.intersect(whole(shape)), found.windows


def _windows(run) -> float:
    """How many windows the networks of a run have, at most."""
    models = [model for model in (run.segmenter, run.refiner) if model]
    left = run.said.within
    share = left["voxels"] / (left["voxels"] + left["outside"]) if left else 1
    return share * sum(
        math.prod(len(lattice(*one)) for one in zip(run.shape, *in_3d(m.apply), strict=True)) for m in models
    )
