"""What a segmentation says of a box: labels, entropy and what they hide; the probabilities behind them, computed again
or kept. `run` is a passes.Run.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from maeref_jax.pipeline.blockwise import (
    RULES,
    decide,
    hide,
    hide_and_count,
    mean_of,
    means_of_members,
    real_probabilities,
    segment_block,
    windows_around,
    windows_showing,
)
from maeref_jax.pipeline.shown import seen_by
from maeref_jax.results import maps
from maeref_jax.volumes import progress
from maeref_jax.volumes.inputs import read_entropy
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.windows import Box, whole

_FEW_WINDOWS = 128  # of a small volume, which is computed at once: about as many as asking.py needs around a place


class Segmented(NamedTuple):
    """One box (z, y, x). labels: int16; entropy: float32 in [0, 1]; hidden: bool; tokens: how many are hidden, as of
    `hide_and_count`; windows: that took; mean: probabilities float32 (z, y, x, c), None where labels are given.
    """

    labels: np.ndarray
    entropy: np.ndarray
    hidden: np.ndarray
    tokens: dict[str, int]
    windows: int
    mean: np.ndarray | None


def segmented(run, means, box) -> Segmented:
    """The Segmented of `box`, which begins at tokens. means: what `means_of(run)` gives.

    Outside of what is worked on labels are background and entropy is 0. A token across its border is hidden where its
    mean is above the threshold with these zeros, and as a whole, as refiners want it.
    """
    job, settings, scheme = run.job, run.settings, run.scheme
    inside, windows, kind, painted, mean = run.inside(box), 0, settings.entropy_kind, False, None
    if not inside.any():
        none = np.zeros(box.shape, np.float32)
        return Segmented(none.astype(np.int16), none, none > 0, dict.fromkeys(RULES, 0), 0, None)
    if means is not None:
        found, windows = means(box, kind, inside)
        labels, entropy, ambiguous = decide(found, scheme["ambiguous"], kind)
        mean = mean_of(found, kind)
    else:
        labels = job.labels.read(box)  # classes: see refining.open_run
        ambiguous = ((labels == scheme["ambiguous"]) & (labels >= 0)).astype(np.float32)
        entropy = np.zeros(box.shape, np.float32)
        if job.entropy is not None:
            entropy = read_entropy(job.entropy, box)
        if job.hidden is not None:
            # One painted voxel hides its token, whatever the threshold; the refiner hears full entropy there.
            painted = hide((job.hidden.read(box) != 0) & inside, ambiguous * 0, settings.token, 0.0, 1.0)
            entropy = np.where(painted, np.float32(1), entropy)
    labels, entropy, ambiguous = np.where(inside, labels, np.int16(0)), entropy * inside, ambiguous * inside
    if settings.labelled_slices:  # nobody doubts them
        unsure = ~run.labelled(box)
        entropy, ambiguous, painted = entropy * unsure, ambiguous * unsure, painted & unsure
    limits = settings.token, settings.threshold, settings.ambiguous_threshold
    hidden, tokens = hide_and_count(entropy + painted, ambiguous, *limits)  # 2 is above any threshold
    return Segmented(labels, entropy, hidden, tokens, windows, mean)


def kept_probabilities(run, mean, inside) -> dict[str, np.ndarray]:
    """Probabilities as they are kept, uint8 by role, where they are; classes that nobody spoke of have none."""
    roles = [role for role in maps.probabilities(len(run.scheme["names"])) if role in run.arrays]
    found = {role: np.zeros(inside.shape, np.uint8) for role in roles}
    for role, values in zip(roles, np.moveaxis(mean, -1, 0) if mean is not None else (), strict=False):
        found[role] = np.rint(255 * values * inside).astype(np.uint8)
    if roles:  # outside of what is worked on is background
        found[roles[0]] = np.where(inside, found[roles[0]], np.uint8(255))
    return found


def means_of(run) -> Callable[[Box, str, np.ndarray], tuple[np.ndarray, int]] | None:
    """Of a box, what a kind of entropy needs of the members, averaged over them, float32 (z, y, x, n), and how many
    windows that took; None where labels are given. The array is of the box, bool: where that means something, as of
    blockwise.segment_block; it may be left out.
    """
    job, segmenter = run.job, run.segmenter
    if segmenter is not None and segmenter.apply.statistics:

        def ruled(box, kind, wanted=None):
            return means_of_members(segmenter.apply.predict(run.said.statistics, job.image, box), kind), 0

        return ruled
    if segmenter is not None:
        variables, image = jax.device_put((segmenter.params, segmenter.state)), seen_by(segmenter, job.image)
        source, batch = (segmenter.apply, variables, job.members, image), run.settings.batch

        def computed(box, kind, wanted=None):
            return segment_block(*source, box, batch, kind, wanted if job.within else None)

        return computed
    if not job.probabilities:
        return None

    def given(box, kind, wanted=None):
        members = np.stack([np.moveaxis(v.read(box), 0, -1).astype(np.float32) for v in job.probabilities])
        return means_of_members(members, kind), 0

    return given


def kept(run, means):
    """What `means_of(run)` gives, of a volume of one block and few windows: all of it is computed when a part is first
    asked for, and kept in the run, since the refiner is asked before the passes begin. Windows are counted as used.
    """
    network = run.segmenter is not None and not run.segmenter.apply.statistics
    if run.kept is None or not network or len(run.boxes) > 1:
        return means
    everything, given = whole(run.shape), (run.segmenter.apply, run.shape)
    if len(windows_around(*given, everything)) > _FEW_WINDOWS:
        return means

    def found(box, kind, wanted=None):
        if kind not in run.kept:
            with progress.showing(f"{run.job.stem}: segmenting all of it"):
                run.kept[kind], _ = means(everything, kind, run.inside(everything))
        return run.kept[kind][box.slices], len(windows_showing(*given, box, wanted if run.job.within else None))

    return found


def probabilities_again(run, means) -> Volume:
    """The class probabilities that the segmentation was decided by, computed (or read) again for whatever box is asked.

    The alternative is to store them: as many times the volume as there are classes, rounded to bytes, and one more
    thing to resume. Boxes are asked for only where something is hidden, and the numbers are the same to the bit.
    """
    scheme, kind = run.scheme, run.settings.entropy_kind
    classes = real_classes(scheme)
    background = np.eye(classes, dtype=np.float32)[0]

    def read(box):
        inside = run.inside(box)
        if not inside.any():
            return np.broadcast_to(background[:, None, None, None], (classes, *box.shape))
        found, _ = means(box, kind, inside)
        found = np.where(inside[..., None], real_probabilities(found, scheme["ambiguous"], kind), background)
        return np.moveaxis(found, -1, 0)

    return Volume("probabilities", run.shape, np.dtype(np.float32), None, None, classes, read)


def stored_probabilities(run) -> Volume:
    """The probabilities that the pass "segment" kept, float32 of all classes of the scheme."""
    arrays = [run.arrays[role] for role in maps.probabilities(len(run.scheme["names"]))]

    def read(box):
        return np.stack([array.read(box) for array in arrays]).astype(np.float32) / 255

    return Volume("probabilities", run.shape, np.dtype(np.float32), None, None, len(arrays), read)
