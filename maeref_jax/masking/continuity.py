"""Objects go on along z: the masks of a stack repaired by labelled slices, and by the slices above and below each.

Four steps, each slice by slice and class by class, in the plane's own column of voxels. Facts of the published method
(arXiv 2206.02392, ISBI 2022), in whose words P is a predicted mask, A and B the labelled slices below and above:

    carried     a labelled slice is carried down and up, smaller with every slice; P or what is carried
    bracketed   P and (A or B); then P or (A and B)
    votes at 1  P and (the slice below or the one above); then P or (both)
    votes at 2  the same with the slices two below and above

Objects of few pixels are removed before, and after each of them. Labelled slices vote and are never changed. What is
carried comes from labelled slices alone, so carrying twice, as published, is carrying once. Slices come one after the
other and few are held at a time, whatever the number of slices.

Of the order `original` a slice's neighbour below has been voted on already, as published: what comes out depends on the
direction, and on all slices before. In `free` order all slices are voted on at once: turning the stack over turns the
result over, and it depends on as many slices as `halo` says, and on labelled slices within reach.

Voxels of no known label (-1) are in no mask; where a neighbour is unknown, nothing is removed for want of it; and what
is unknown and stays in no mask is unknown. At the first and last slices, where one of the two neighbours is missing,
nobody votes.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from maeref_jax.errors import BadInput

ORDERS = ("original", "free")
PUBLISHED_NM = (5.0, 5.0, 5.0)  # voxels (z, y, x) in which the published lengths are given
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)[None]  # of the plane: classes are apart
_TOUCHING = np.pad(_CROSS, ((1, 1), (0, 0), (0, 0)))


class Rules(NamedTuple):
    """The lengths of the method in pixels and slices of one stack; those of `rules_of` are the published ones.

    smallest_px, carried_px: objects of fewer pixels in a slice are removed, from masks and from what is carried
    shrink_px: pixels by which what is carried shrinks with every slice, on the mean
    reach: slices as far as which a labelled slice is carried, and two of them bracket what lies between
    distances: slices to the neighbours that vote, one round after the other
    order: one of ORDERS
    """

    smallest_px: float
    carried_px: float
    shrink_px: float
    reach: int
    distances: tuple[int, ...] = (1, 2)
    order: str = "free"


class _Slice(NamedTuple):
    """masks: bool (c, y, x) of the classes above 0; labels: int16 (y, x) as they were, -1 unknown; labelled: whether
    they are the truth.
    """

    masks: np.ndarray
    labels: np.ndarray
    labelled: bool


def rules_of(
    voxel_size_nm: Sequence[float] | None = None,
    *,
    smallest_nm2: float = 7500.0,
    carried_nm2: float = 11250.0,
    shrink: float = 3.0,
    reach_nm: float = 50.0,
    distances: Sequence[int] = (1, 2),
    order: str = "free",
) -> Rules:
    """The Rules for voxels of (z, y, x) nm; None: lengths in pixels as published, of 5 nm.

    smallest_nm2, carried_nm2: areas, 300 and 450 pixels as published; shrink: nm in the plane for every nm along z,
    three pixels a slice as published; reach_nm: ours, at least one slice: published labels lie 25 nm apart.

    Raises:
        BadInput: lengths, distances or an order that mean nothing.
    """
    given = {"smallest_nm2": smallest_nm2, "carried_nm2": carried_nm2, "shrink": shrink, "reach_nm": reach_nm}
    for name, value in given.items():
        if not 0 <= value < float("inf"):
            raise BadInput(f"{name} must be a number from 0 on, found {value}")
    if any(distance < 1 or distance != int(distance) for distance in distances):
        raise BadInput(f"distances are numbers of slices, 1 or more, found {tuple(distances)}")
    if order not in ORDERS:
        raise BadInput(f"order is {order!r}, expected {' or '.join(ORDERS)}")
    z, y, x = voxel_size_nm or PUBLISHED_NM
    area, side = y * x, (y * x) ** 0.5
    reach = max(1, int(reach_nm / z + 1e-6))
    return Rules(smallest_nm2 / area, carried_nm2 / area, shrink * z / side, reach, tuple(map(int, distances)), order)


def halo(rules: Rules) -> int:
    """How many slices before and behind one its result depends on in free order, labelled slices aside."""
    return 2 * sum(rules.distances)


def continued(
    labels: np.ndarray,
    labelled: Sequence[int],
    classes: int,
    rules: Rules,
    probabilities: np.ndarray | None = None,
) -> np.ndarray:
    """A stack in memory repaired, int16 (z, y, x). labels: int (z, y, x), the truth in the slices `labelled`, -1
    unknown. probabilities: float (z, y, x, c) of all classes, None for none. The rest as of `continued_slices`.
    """
    probable = None if probabilities is None else probabilities.__getitem__
    found = continued_slices(labels.__getitem__, len(labels), labelled, classes, rules, 0, probable)
    return np.stack(list(found))


def continued_slices(
    read: Callable[[int], np.ndarray],
    depth: int,
    labelled: Sequence[int],
    classes: int,
    rules: Rules,
    start: int = 0,
    probable: Callable[[int], np.ndarray] | None = None,
) -> Iterator[np.ndarray]:
    """The slices of a repaired stack, int16 (y, x), one after the other from slice `start` on.

    read: number of a slice -> its labels int (y, x), -1 or any id that is no class unknown. depth: how many slices
        there are. labelled: numbers of those whose labels are the truth, in any order, or none. classes: how many, 0
        being the background.
    probable: number of a slice -> probabilities float (y, x, c); where several classes are found in a voxel the most
        probable of them wins; without it the one that was there before, else the one of the lowest number.

    Raises:
        BadInput: labelled slices that are not there.
    """
    labelled = sorted({int(z) for z in labelled})
    if wrong := [z for z in labelled if not 0 <= z < depth]:
        raise BadInput(f"slice {wrong[0]} is said to be labelled, but there are the slices 0 to {depth - 1}")
    first = 0 if rules.order == "original" else max(start - halo(rules), 0)
    stream = _with_labelled(read, depth, labelled, classes, rules, first)
    for distance in rules.distances:
        for vote in (_removed, _added):
            stream = _voted(stream, distance, vote, rules)
    for z, found in zip(range(first, depth), stream, strict=True):
        if z >= start:
            yield found.labels if found.labelled else _decided(found, probable and probable(z))


def _with_labelled(read, depth, labelled, classes, rules, first) -> Iterator[_Slice]:
    """Every slice from `first` on with what labelled slices say of it."""

    def known(z, is_labelled):
        labels = read(z).astype(np.int16)
        labels[(labels < 0) | (labels >= classes)] = -1
        masks = labels == np.arange(1, classes, dtype=np.int16)[:, None, None]
        return _Slice(masks if is_labelled else _without_small(masks, rules.smallest_px), labels, is_labelled)

    for low, high in itertools.pairwise((None, *labelled, None)):
        begin, end = (0 if low is None else low + 1), (depth if high is None else high)
        if end < first or first >= depth:
            continue
        begin, below, above, down, up = max(begin, first), None, None, iter(()), {}
        if low is not None and begin - low <= rules.reach:
            below = known(low, True)
            down = itertools.islice(_carried(below.masks, rules), begin - low - 1, None)
        for z in range(begin, end):
            if above is None and high is not None and high - z <= rules.reach:
                # Carried up it is met in the other order: kept, a bit a voxel. Nothing beyond reach is read.
                above = known(high, True)
                distances = range(1, high - z + 1)
                up = {
                    high - k: _packed(found) for k, found in zip(distances, _carried(above.masks, rules), strict=False)
                }
            here = known(z, False)
            masks = here.masks
            for found in (next(down, None), _unpacked(up.pop(z, None), masks.shape)):
                masks = masks if found is None else masks | found
            if below is not None and high is not None and high - low <= rules.reach:
                for vote in (_removed, _added):
                    masks = _without_small(vote(here._replace(masks=masks), below, above), rules.smallest_px)
            yield here._replace(masks=masks)
        if high is not None:
            yield above or known(high, True)


def _carried(masks: np.ndarray, rules: Rules) -> Iterator[np.ndarray]:
    """What is left of a labelled slice one slice away, two slices away, …, until nothing is left or at `reach`."""
    done = 0
    for away in range(1, rules.reach + 1):
        wanted = int(away * rules.shrink_px + 0.5)
        if wanted > done:
            # Beyond the border of the volume it is as at the border.
            masks = scipy.ndimage.binary_erosion(masks, _TOUCHING, wanted - done, border_value=1)
        done, masks = wanted, _without_small(masks, rules.carried_px)
        if not masks.any():
            return
        yield masks


def _voted(stream: Iterator[_Slice], distance: int, vote: Callable, rules: Rules) -> Iterator[_Slice]:
    """The slices after a vote of those `distance` below and above each."""
    ahead: deque[_Slice] = deque()
    behind: deque[_Slice] = deque(maxlen=distance)
    # At the end nothing is ahead any more.
    for coming in itertools.chain(stream, itertools.repeat(None, distance)):
        ahead.append(coming)
        if len(ahead) <= distance:
            continue
        here = found = ahead.popleft()
        if here is None:  # a stack of fewer slices than `distance`
            continue
        if len(behind) == distance and coming is not None and not here.labelled:
            masks = _without_small(vote(here, behind[0], coming), rules.smallest_px)
            found = here._replace(masks=masks)
        behind.append(found if rules.order == "original" else here)
        yield found


def _removed(here: _Slice, below: _Slice, above: _Slice) -> np.ndarray:
    """The masks without what neither neighbour has; an unknown one may have it."""
    unknown = (below.labels < 0) | (above.labels < 0)
    return here.masks & (below.masks | above.masks | unknown)


def _added(here: _Slice, below: _Slice, above: _Slice) -> np.ndarray:
    """The masks with what both neighbours have."""
    return here.masks | (below.masks & above.masks)


def _without_small(masks: np.ndarray, smallest_px: float) -> np.ndarray:
    """Masks bool (c, y, x) without pieces, by sides, of fewer pixels."""
    if smallest_px <= 1 or not masks.any():
        return masks
    pieces, _ = scipy.ndimage.label(masks, _TOUCHING)
    large = np.bincount(pieces.ravel()) >= smallest_px
    large[0] = False
    return large[pieces]


def _decided(found: _Slice, probabilities: np.ndarray | None) -> np.ndarray:
    """Labels int16 (y, x) of masks, in which several classes may have a voxel."""
    masks, labels = found.masks, found.labels
    if probabilities is not None:
        likely = np.where(np.moveaxis(masks, 0, -1), probabilities[..., 1:], -np.inf).argmax(-1)
    else:
        likely = masks.argmax(0)
        before = np.take_along_axis(masks, np.maximum(labels - 1, 0)[None], 0)[0] & (labels > 0)
        likely = np.where(before, labels - 1, likely)
    nothing = np.where(labels < 0, -1, 0)
    return np.where(masks.any(0), likely + 1, nothing).astype(np.int16)


def _packed(masks: np.ndarray) -> np.ndarray:
    return np.packbits(masks)


def _unpacked(bits: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if bits is None:
        return None
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
