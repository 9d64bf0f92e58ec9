"""The grey values of an image: a bounded sample of them, the volume's own range, and doubt whether a model knows such.

All of it follows from the volume alone, whoever asks: not from blocks, parts or workers, nor from whether it is to be
learned from or segmented.
"""

import dataclasses
import itertools

import numpy as np
import scipy

from maeref_jax.errors import BadInput
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.windows import Box, whole

# "training": every volume is seen in the range of the training volumes; "volume": in its own.
NORMALISATIONS = ("training", "volume")
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)  # of the quantiles that a workdir remembers
MOST = 2**20  # voxels of a sample
_SLICES, _TILES, _SIDE = 16, 4, 128  # of a larger volume: slices, tiles in each, side of a tile: MOST voxels at most
_OUTSIDE = 0.25  # share of voxels beyond the range of training from which on one is warned
_CONTRAST = 2.0  # so many times less, or more, contrast than in training
_SIGN = {"asymmetry": 0.08, "local_skewness": 0.1}  # from which on the sign of these means something
_FINE, _COARSE = 3, 15  # sides of the squares whose means are compared: structures between them


def check(normalisation: str) -> None:
    """Raises BadInput for what is none of NORMALISATIONS."""
    if normalisation not in NORMALISATIONS:
        raise BadInput(f"normalisation must be one of {', '.join(NORMALISATIONS)}, found {normalisation!r}")


def sample(image: Volume) -> list[np.ndarray]:
    """Planes float32 (y, x), MOST voxels together at most: all of a small volume; of a larger one tiles that lie in a
    fixed pattern, in slices from the first to the last.
    """
    if np.prod(image.shape, dtype=float) <= MOST:
        return list(image.read(whole(image.shape)).astype(np.float32))
    slices = np.unique(np.linspace(0, image.shape[0] - 1, _SLICES).astype(int))
    rows, columns = (_tiles(size) for size in image.shape[1:])
    found = []
    for (i, z), j in itertools.product(enumerate(slices.tolist()), range(_TILES)):
        # Every slice shows a tile of each row, the next slice those one column on.
        (top, bottom), (left, right) = rows[j], columns[(i + j) % _TILES]
        found.append(image.read(Box((z, top, left), (z + 1, bottom, right)))[0].astype(np.float32))
    return found


def _tiles(size: int) -> list[tuple[int, int]]:
    """(start, stop) of _TILES pieces along an axis, spread over it."""
    side = min(_SIDE, size)
    return [(start, start + side) for start in np.linspace(0, size - side, _TILES).astype(int).tolist()]


def statistics(planes: list[np.ndarray]) -> dict:
    """What a workdir remembers of a `sample`: quantiles, of LEVELS; and what changes its sign when dark and bright are
    exchanged: asymmetry of the quantiles, -1 to 1, and local_skewness, of small structures against what is around them
    (dark membranes make it negative).
    """
    found = np.quantile(_values(planes), LEVELS)
    place = (found - found[0]) / max(found[-1] - found[0], 1e-6)
    blurred = scipy.ndimage.uniform_filter
    fine = [blurred(plane, _FINE) - blurred(plane, _COARSE) for plane in planes]
    local = _values(fine).astype(np.float64)
    local -= local.mean()
    skewness = (local**3).mean() / max((local**2).mean(), 1e-12) ** 1.5
    return {
        "quantiles": [float(np.float32(value)) for value in found],
        "asymmetry": round(float((place + place[::-1] - 1)[1:-1].mean()), 4),
        "local_skewness": round(float(skewness), 4),
    }


def _values(planes):
    return np.concatenate([plane.ravel() for plane in planes])


def shown_range(image: Volume, normalisation: str) -> tuple[np.float32, np.float32]:
    """The grey values that are 0 and 1 to a model, before the range of its training: for "volume" the volume's own
    quantiles, 1 % and 99 % of `sample`; else 0 and 1 themselves.
    """
    if normalisation == "training":
        return np.float32(0), np.float32(1)
    low, high = np.quantile(_values(sample(image)), (LEVELS[0], LEVELS[-1])).astype(np.float32)
    return low, max(high, low + np.float32(1e-6) * max(abs(low), np.float32(1)))


def scaled(values: np.ndarray, shown: tuple[np.float32, np.float32]) -> np.ndarray:
    """Grey values float32 of which those of a `shown_range` are 0 and 1."""
    low, high = shown
    return (values.astype(np.float32) - low) * (np.float32(1) / (high - low))


def as_seen(image: Volume, normalisation: str) -> Volume:
    """The image as a model is shown it: itself, or for "volume" `scaled` to its own range."""
    if normalisation == "training":
        return image
    shown = shown_range(image, normalisation)
    return dataclasses.replace(
        image, dtype=np.dtype(np.float32), _read=lambda box: scaled(image.read(box), shown), _write=None, levels=tuple
    )


def doubts_about_grey_values(name: str, planes: list[np.ndarray], workdir: str, facts: dict) -> list[str]:
    """What to tell a user whose volume has other grey values than those that a model was trained on, none where there
    is no such doubt, or the model remembers none.

    planes: `sample` of the volume as the model is shown it; facts: of the workdir: intensity_range, and, but for an
    older one, grey_values, the `statistics` of training.
    """
    if "intensity_range" not in facts:
        return []
    low, high = facts["intensity_range"]
    values, found = _values(planes), statistics(planes)
    first, *_, last = found["quantiles"]
    if first == last:
        return [f"{name} has the grey value {first:.4g} nearly everywhere: is it the right file, or the right channel?"]
    doubts = []
    outside = float(np.mean((values < low) | (values > high)))
    ratio = (last - first) / (high - low)
    if outside > _OUTSIDE or not 1 / _CONTRAST <= ratio <= _CONTRAST:
        depth = " (another bit depth, or scaled to 0 ... 1?)" if max(ratio, 1 / ratio) > 8 else ""
        doubts.append(
            f"{name} has grey values from {first:.4g} to {last:.4g}{depth}, but {workdir} was trained on {low:.4g} "
            f"to {high:.4g}, and {outside:.0%} of the voxels lie outside; rescale the intensities to that range, or "
            "train a model that scales every volume by itself (train.py --config.normalisation=volume)"
        )
    if _inverted(found, facts.get("grey_values", {})):
        doubts.append(
            f"{name} looks inverted, or is of another kind: its grey values are spread as if dark and bright were "
            f"exchanged in what {workdir} was trained on; if they are, invert the image"
        )
    return doubts


def _inverted(found: dict, trained: dict) -> bool:
    """Whether a clear sign of training (none of an older workdir) is clearly the other one here, and none the same."""
    clear = [name for name, least in _SIGN.items() if min(abs(found[name]), abs(trained.get(name, 0))) >= least]
    return bool(clear) and all(found[name] * trained[name] < 0 for name in clear)
