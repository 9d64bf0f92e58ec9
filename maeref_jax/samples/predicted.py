"""What a corrector learns from: crops of adjacent slices of what an ensemble said, and what is there. No jax."""

from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.artefacts import ARTEFACTS, add_artefact
from maeref_jax.phantoms.low_signal import LowSignalSettings, lower_signal
from maeref_jax.samples import sampling
from maeref_jax.samples.training_volumes import TrainingVolume

_RANGE = 200.0  # grey values of the images for which LowSignalSettings.noise is given


class Predicted(NamedTuple):
    """probabilities: uint8 (c, z, y, x), value / 255, of all classes of the scheme; target: a TrainingVolume whose
    labels are the truth, -1 unknown, with the image that was predicted.
    """

    probabilities: np.ndarray
    target: TrainingVolume


def check_degraded(settings):
    """Raises BadInput for settings `degraded` of a config of configs/corrector.py that mean nothing."""
    if settings["copies"] < 0:
        raise BadInput(f"degraded.copies is {settings['copies']}, expected 0 or more copies of every volume")
    if unknown := [name for name in settings["artefacts"] if name and name not in ARTEFACTS]:
        raise BadInput(f"degraded.artefacts: no '{unknown[0]}'; expected some of {', '.join(ARTEFACTS)}")


def degraded(image, labels, number, seed, settings, voxel_size_nm):
    """The image float32 (z, y, x) with its signal taken away in places, and, in turn, an artefact of those named: copy
    `number` of it. labels: int16, where foreground is; seed: a tuple of whole numbers.

    settings: copies; regions, fields of LowSignalSettings; artefacts, names, () for none.
    """
    rng = np.random.default_rng((*seed, number))
    low, high = np.quantile(image[:, ::2, ::2], (0.01, 0.99))
    usual = LowSignalSettings(**settings["regions"])
    noise = tuple(value * float(high - low) / _RANGE for value in usual.noise)
    found, _ = lower_signal(image, labels, rng, usual._replace(noise=noise))
    names = settings["artefacts"]
    floor = min(float(found.min()), 0.0)  # artefacts are of signals, which are not negative
    return (
        add_artefact(names[number % len(names)] if names else "", found - floor, [*seed, number], voxel_size_nm) + floor
    )


def batch(volumes, seed, step, indices, size, context, min_foreground, anywhere_share=0.0, intensities=None):
    """Of a `size` (y, x): probabilities uint8 (b, 2 context + 1, y, x, c), the first and last slice of a volume
    repeated beyond its ends, and target int16 (b, y, x), of the middle one. Of a size (z, y, x), where context is 0:
    boxes (b, z, y, x, c), 0 outside the volume, and (b, z, y, x). index int32 (b,), as given in `indices`, the samples
    of the whole batch that are wanted here; with `intensities` also image float32, of as many slices as the
    probabilities have, and intensity_range float32 (2,) in `shared`. -1 is unknown, and outside. In one of the eight
    symmetries of the square, and upside down or not. volumes: of Predicted; size, min_foreground, anywhere_share: of
    the target, as of sampling.crop.
    """
    found, deep = [], len(size) == 3
    box = size if deep else (1, *size)
    for index in indices:
        rng = np.random.default_rng((seed, step, index + 1))
        volume = volumes[rng.integers(len(volumes))]
        z, y, x = sampling.corner(volume.target, rng, box, min_foreground, anywhere_share)
        around = np.clip(np.arange(z - context, z + box[0] + context), 0, len(volume.target.labels) - 1)
        around = slice(z, z + box[0]) if deep else around
        order, shape = slice(None, None, -1 if rng.integers(2) else 1), (box[0] + 2 * context, *box[1:])
        turn = rng.integers(8) & (7 if box[1] == box[2] else 6)  # only a square can be transposed
        window = slice(y, y + box[1]), slice(x, x + box[2])

        def crop(array, value, around=around, order=order, shape=shape, turn=turn, window=window):
            slices = sampling.padded(array[around, *window], shape, value)
            return np.stack([sampling.oriented(one, turn) for one in slices[order]])

        target = crop(volume.target.labels, -1)
        seen = np.stack([crop(one, 0) for one in volume.probabilities], -1)
        one = {"probabilities": seen, "target": target if deep else target[context]}
        if intensities is not None:
            one["image"] = crop(volume.target.image, None).astype(np.float32)
        found.append(one)
    stacked = {name: np.stack([one[name] for one in found]) for name in found[0]}
    shared = {} if intensities is None else {"intensity_range": intensities}
    return {**stacked, "index": np.asarray(indices, np.int32), "shared": shared}
