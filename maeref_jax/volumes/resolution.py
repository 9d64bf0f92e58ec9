"""Volumes on another grid, lazily: coarser ones averaged (or by vote), finer ones interpolated; axes may differ.

Both grids share the corner of their first voxel, not its centre. What a voxel becomes follows from its place alone, by
whole numbers in one order, so that it is the same whatever box it is read in.
"""

import functools
import math
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.stored import Placement, joined
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.voxel_size import size_text
from maeref_jax.volumes.windows import Box

# "mean": images, entropy, probabilities: what a voxel covers, weighted by the share covered; linear between the centres
# of voxels along axes that become finer. "mode": labels, the most frequent one, the smallest of several; the nearest
# along finer axes. "largest": masks, so that a voxel is hidden where any of it is. "nearest": the voxel that holds the
# centre.
HOWS = ("mean", "mode", "largest", "nearest")
_MOST_COVERED = 2**24  # voxels that one voxel may stand for
_MOST_CUT = 2**15  # voxels that one voxel may be cut into where a size is asked for: more is a slip of a unit
_AT_ONCE = 2**22  # voxels read at once, all classes together
_FINEST = 2**16  # parts of a voxel in which shares are counted; of coarser voxels all together


class _Axis(NamedTuple):
    """From what voxels of the source each target voxel comes, whole numbers (target, member): `index` and `weight`.
    Where there are fewer members than columns, the last one is repeated with no weight."""

    index: np.ndarray
    weight: np.ndarray


def coarser_shape(
    shape: tuple[int, int, int], voxel_size_nm: tuple[float, float, float], wanted_nm: tuple[float, float, float]
) -> tuple[int, int, int]:
    """The shape (z, y, x) of the grid of voxels of `wanted_nm` that covers a volume: rounded up, at least 1."""
    ratios = map(_ratio, voxel_size_nm, wanted_nm)
    return tuple(max(1, math.ceil(size / ratio)) for size, ratio in zip(shape, ratios, strict=True))


def at_voxel_size(
    volume: Volume, wanted_nm: tuple[float, float, float], how: str, shape: tuple[int, int, int] | None = None
) -> Volume:
    """The volume on the grid of voxels of `wanted_nm` (z, y, x) that covers it; itself where that is its own. An axis
    that is shorter than one voxel has one, and the note says so.

    Of an OME-Zarr image the coarsest level is read that is of that size, or half of it or less, by "mean" only, and the
    note says so: its levels are means already, while a vote of votes is another vote.

    Args:
        shape: of another volume that shows the same, whose grid is to be met.

    Raises:
        BadInput: no voxel size is known, nothing would be left of a plane, one voxel would become more than 32
            thousand; or as in `onto`.
    """
    found, bring = _known(volume), functools.partial(at_voxel_size, wanted_nm=wanted_nm, how=how, shape=shape)
    if math.prod(max(1.0, size / wanted) for size, wanted in zip(found, wanted_nm, strict=True)) > _MOST_CUT:
        raise BadInput(
            f"every voxel of {volume.path}, of {size_text(found)} nm (z y x), would be cut into over {_MOST_CUT:,} of "
            f"{size_text(wanted_nm)} nm; ask for larger voxels (lengths are in nm)"
        )
    shape = shape or coarser_shape(volume.shape, found, wanted_nm)
    if any(few == 1 < many for few, many in zip(shape[1:], volume.shape[1:], strict=True)):
        raise BadInput(
            f"{volume.path} of shape {volume.shape} and voxels of {size_text(found)} nm (z y x) would have shape "
            f"{shape} at {size_text(wanted_nm)} nm: nothing is left of it; ask for smaller voxels"
        )
    source, note = _level(volume, wanted_nm) if how == "mean" else (volume, "")
    read = onto(source, shape, wanted_nm, how)
    if read is volume:
        return volume
    # It is still the file that was given, and its identity is the whole of it.
    at = f"at {size_text(wanted_nm)} nm"
    slices, thick = volume.shape[0], volume.shape[0] * found[0]
    thin = f"{at} its {slices} slice{'s are' * (slices > 1) or ' is'} one, of {thick:g} nm together"
    thin = thin if thick < wanted_nm[0] * 0.999 else ""
    return replace(
        read,
        path=volume.path,
        source=volume.source,
        voxel_size_nm=tuple(wanted_nm),
        view=joined(volume.view, f"{at} by {how}", note and f"from {note}"),
        note=joined(volume.note, note and f"{at} it is read from its {note}", thin),
        levels=tuple,
        file=volume,
        bring=bring,
        placement=_placed(volume, list(map(_ratio, found, wanted_nm))),
        _write=None,
    )


def onto(volume: Volume, shape: tuple[int, int, int], voxel_size_nm: tuple[float, float, float], how: str) -> Volume:
    """A lazy view of the volume on the grid of that shape and voxel size (z, y, x) with the same corner: of the same
    dtype (whole numbers are rounded), with its classes in front where it has some; itself where the grids are one.

    how: one of HOWS. A read takes memory for some 4 million voxels of the volume, or for what one voxel covers.

    Raises:
        BadInput: no voxel size is known, the two do not cover the same extent (to one voxel of the coarser one), or one
            voxel would stand for more than 16 million.
    """
    if how not in HOWS:
        raise ValueError(f"expected one of {', '.join(HOWS)}, found {how!r}")
    found = _known(volume)
    shape, wanted = tuple(shape), tuple(map(float, voxel_size_nm))
    ratios = list(map(_ratio, found, wanted))
    _check_extent(volume, shape, wanted)
    if math.prod(max(1, ratio) for ratio in ratios) > _MOST_COVERED:
        raise BadInput(
            f"one voxel of {size_text(wanted)} nm (z y x) would stand for over {_MOST_COVERED:,} voxels of "
            f"{volume.path}, which are of {size_text(found)} nm; ask for smaller ones"
        )
    if shape == volume.shape and set(ratios) == {1}:
        return volume
    sizes = tuple(zip(volume.shape, ratios, strict=True))

    def read(box: Box, reader=volume.read) -> np.ndarray:
        axes = [
            _axis(size, ratio, *ends, how) for (size, ratio), ends in zip(sizes, zip(*box, strict=True), strict=True)
        ]
        start, stop = (tuple(int(end(axis.index)) for axis in axes) for end in (np.min, np.max))
        hull = Box(start, tuple(last + 1 for last in stop))
        longest = int(np.argmax(box.shape))
        most = max(math.prod(hull.shape), math.prod(box.shape)) * (volume.classes or 1)
        if most > _AT_ONCE and box.shape[longest] > 1:
            return np.concatenate([read(half, reader) for half in _halves(box, longest)], axis=longest - 3)
        axes = [axis._replace(index=axis.index - first) for axis, first in zip(axes, start, strict=True)]
        return _gather(reader(hull), axes, how)

    return replace(
        volume,
        shape=shape,
        voxel_size_nm=wanted,
        view=joined(volume.view, f"onto {shape} of {size_text(wanted)} nm by {how}"),
        placement=_placed(volume, ratios),
        colours=tuple(lambda box, colour=colour: read(box, colour) for colour in volume.colours),
        levels=tuple,
        file=None,
        bring=None,
        _read=read,
        _write=None,
    )


def _known(volume):
    if volume.voxel_size_nm is None:
        raise BadInput(
            f"{volume.path} cannot be read at another voxel size, as its own is not known; give it: "
            "--voxel_size_nm Z,Y,X"
        )
    return volume.voxel_size_nm


def _ratio(found: float, wanted: float) -> Fraction:
    """How many voxels a target voxel is long, as a fraction of small numbers: sizes are rarely known to six digits, and
    10.000001 is 10."""
    if wanted < found:
        return 1 / _ratio(wanted, found)
    ratio = Fraction(wanted) / Fraction(found)
    return ratio.limit_denominator(max(1, math.floor(_FINEST / ratio)))


def _check_extent(volume, shape, wanted):
    found = volume.voxel_size_nm
    ends = [(n * a, m * b, max(a, b)) for n, a, m, b in zip(volume.shape, found, shape, wanted, strict=True)]
    if any(abs(one - other) > coarser * 1.001 for one, other, coarser in ends):
        raise BadInput(
            f"{volume.path} has shape {volume.shape} and voxels of {size_text(found)} nm (z y x), which covers "
            f"{size_text(tuple(one for one, *_ in ends))} nm, but {shape} voxels of {size_text(wanted)} nm cover "
            f"{size_text(tuple(other for _, other, _ in ends))} nm; both must show the same place"
        )


def _level(volume, wanted):
    """The coarsest level that will do and shows the same extent, and its name; the volume and "" where none will."""
    best, name = volume, ""
    for number, level in enumerate(volume.levels(), 1):
        if level.voxel_size_nm is None or level.dtype != volume.dtype or not _same_extent(volume, level):
            continue
        # Voxels that are split are a mean already: they must be small, or whole ones make up what is wanted.
        ratios = list(map(_ratio, level.voxel_size_nm, wanted))
        fine = all(ratio >= 2 or ratio == 1 for ratio in ratios)
        if fine and math.prod(level.shape) < math.prod(best.shape):
            best, name = level, f"level {number} of {size_text(level.voxel_size_nm)} nm"
    return best, name


def _same_extent(volume, level):
    pairs = zip(volume.shape, volume.voxel_size_nm, level.shape, level.voxel_size_nm, strict=True)
    return all(abs(n * a - m * b) <= b * 1.001 for n, a, m, b in pairs)


def _placed(volume, ratios):
    """Where the target voxels lie: their steps are longer, and the centre of the first is further from the corner."""
    if volume.placement is None:
        return None
    columns, origin = dict(volume.placement.columns), list(volume.placement.origin)
    for axis, ratio in zip("ZYX", map(float, ratios), strict=True):
        origin = [o + c * (ratio - 1) / 2 for o, c in zip(origin, columns[axis], strict=True)]
        columns[axis] = tuple(c * ratio for c in columns[axis])
    return Placement(columns, tuple(origin), volume.placement.unit)


def _halves(box, axis):
    middle = (box.start[axis] + box.stop[axis]) // 2
    first, second = (list(end) for end in (box.stop, box.start))
    first[axis] = second[axis] = middle
    return Box(box.start, tuple(first)), Box(tuple(second), box.stop)


def _axis(size: int, ratio: Fraction, start: int, stop: int, how: str) -> _Axis:
    """For the target voxels start to stop of an axis whose source has `size` voxels."""
    p, q = (
        ratio.numerator,
        ratio.denominator,
    )  # a target voxel i covers i p to (i + 1) p, a source voxel j q to (j + 1) q
    target = np.arange(start, stop, dtype=np.int64)[:, None]
    if how == "nearest" or (p < q and how != "mean"):
        index = (2 * target + 1) * p // (2 * q)
        return _Axis(np.clip(index, 0, size - 1), np.ones_like(index))
    if p < q:
        centre = (2 * target + 1) * p - q  # in 2 q-ths, from the centre of the first source voxel
        lower = centre // (2 * q)
        share = centre - lower * 2 * q
        return _Axis(np.clip(np.hstack([lower, lower + 1]), 0, size - 1), np.hstack([2 * q - share, share]))
    first = np.minimum(target * p // q, size - 1)
    index = first + np.arange(-(-p // q) + 1)
    weight = np.minimum((index + 1) * q, (target + 1) * p) - np.maximum(index * q, target * p)
    weight = np.where(index < size, np.maximum(weight, 0), 0)
    weight[:, 0] = np.where(weight.sum(1) > 0, weight[:, 0], 1)  # beyond the last voxel: that one
    last = first + np.maximum((weight > 0).sum(1, keepdims=True), 1) - 1
    width = int((last - first).max()) + 1
    return _Axis(np.minimum(index, last)[:, :width], weight[:, :width])


def _gather(found: np.ndarray, axes: list[_Axis], how: str) -> np.ndarray:
    """(…, z, y, x) of the source -> the target voxels, of the same dtype."""
    if how == "mean":
        return _mean(found, axes)
    low = found
    for at, axis in zip((-3, -2, -1), axes, strict=True):
        low = _over(low, axis, at, np.minimum)
    if how == "nearest" or all(axis.index.shape[1] == 1 for axis in axes):
        return low
    high = found
    for at, axis in zip((-3, -2, -1), axes, strict=True):
        high = _over(high, axis, at, np.maximum)
    return high if how == "largest" else _mode(found, axes, low, high)


def _mean(found, axes):
    # The sum starts at 0.0, so that no -0.0 tells where a box ended; shares are whole numbers, divided by once.
    total, shares = found.astype(np.float64) + 0.0, np.ones((1, 1, 1))
    for at, axis in zip((-3, -2, -1), axes, strict=True):
        along = (-1,) + (1,) * (-1 - at)
        parts = axis.weight.shape[1]
        if parts > 1 or (axis.weight != 1).any():
            total = sum(
                total.take(axis.index[:, part], at) * axis.weight[:, part].reshape(along) for part in range(parts)
            )
        elif not _is_all(axis.index, total.shape[at]):
            total = total.take(axis.index[:, 0], at)
        shares = shares * axis.weight.sum(1).reshape(along)
    total /= shares
    return (total if found.dtype.kind == "f" else np.rint(total, out=total)).astype(found.dtype)


def _is_all(index, size):
    return np.array_equal(index[:, 0], np.arange(size))


def _over(found, axis, at, smaller_or_larger):
    first, *others = axis.index.T
    result = found if not others and _is_all(axis.index, found.shape[at]) else found.take(first, at)
    for index in others:
        result = smaller_or_larger(result, found.take(index, at))
    return result


def _mode(found, axes, low, high):
    """The most frequent value, the smallest of several; `low` and `high` are one wherever there is one only."""
    if found.ndim == 4:
        return np.stack([_mode(*each) for each in zip(found, [axes] * len(found), low, high, strict=True)])
    result, mixed = low.copy(), np.argwhere(low != high)
    members = math.prod(axis.index.shape[1] for axis in axes)
    for start in range(0, len(mixed), max(1, _AT_ONCE // members)):
        at = mixed[start : start + max(1, _AT_ONCE // members)]
        (z, y, x), (wz, wy, wx) = (
            [getattr(axis, what)[places] for axis, places in zip(axes, at.T, strict=True)] for what in axes[0]._fields
        )
        values = found[z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]].reshape(len(at), members)
        weights = (wz[:, :, None, None] * wy[:, None, :, None] * wx[:, None, None, :]).reshape(len(at), members)
        result[tuple(at.T)] = _most_frequent(values, weights)
    return result


def _most_frequent(values, weights):
    """Of every row, the value with most weight, the smallest of several."""
    order = np.argsort(values, axis=1, kind="stable")
    values, weights = np.take_along_axis(values, order, 1), np.take_along_axis(weights, order, 1)
    ends = np.hstack([values[:, 1:] != values[:, :-1], np.ones((len(values), 1), bool)])
    until = np.where(ends, weights.cumsum(1), 0)
    votes = np.where(ends, until - np.maximum.accumulate(np.hstack([until[:, :1] * 0, until[:, :-1]]), axis=1), -1)
    return np.take_along_axis(values, votes.argmax(1)[:, None], 1)[:, 0]
