"""Voxels drawn from a label volume whose truth is known, as if somebody had clicked on them: a pure function of a seed.

Labels are read slice by slice, twice, so a volume need not fit in memory. No jax here.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from maeref_jax.errors import BadInput
from maeref_jax.volumes.windows import Box


class Drawn(NamedTuple):
    """places: int64 (n, 3), z, y, x; classes: int64 (n,), in the order of slices, and in each of classes; counts: int64
    (slices, classes), the voxels that could have been drawn; wanted: the same, those that were asked for.
    """

    places: np.ndarray
    classes: np.ndarray
    counts: np.ndarray
    wanted: np.ndarray

    def few(self, slices, one):
        """Those of the slices with fewer voxels of class `one` than were asked for."""
        return np.asarray(slices)[(self.counts < self.wanted)[:, one]].tolist()


def per_class(labels, classes, slices, seed, number, inside_vx=0):
    """So many voxels of every class in every slice, as far as there are: the same ones, whichever slices are asked for.

    labels: a Volume of classes, -1 unknown, which is never drawn; slices: their numbers; inside_vx: only voxels around
    which, in their plane, that many to all sides are of the same class. Raises BadInput where nothing can be drawn.
    """
    counts = _counts(labels, classes, slices, inside_vx)
    wanted = np.full_like(counts, number)
    return _drawn(labels, slices, seed, counts, wanted, np.minimum(counts, wanted), inside_vx)


def share(labels, classes, slices, seed, part, inside_vx=0):
    """So large a part of all voxels of these slices, of every class as many as of the others, as far as there are; of
    each anywhere in the slices. The rest as of `per_class`.
    """
    counts = _counts(labels, classes, slices, inside_vx)
    total = round(part * len(slices) * labels.shape[1] * labels.shape[2])
    if not total:
        raise BadInput(
            f"a share of {part:g} of {len(slices)} slices of {labels.path} is less than one voxel; ask for more"
        )
    quota = _shared_out(total, counts.sum(0))
    chosen = np.zeros_like(counts)
    for one, number in enumerate(quota):
        picked = _ranks(np.random.default_rng((seed, one)), counts[:, one].sum(), number)
        chosen[:, one] = np.histogram(picked, np.concatenate([[0], np.cumsum(counts[:, one])]))[0]
    return _drawn(labels, slices, seed, counts, chosen, chosen, inside_vx)


def _shared_out(total, there):
    """How many of each class: alike, but where there are fewer all of them, and more of the others instead."""
    quota, left = np.zeros(len(there), np.int64), min(total, int(there.sum()))
    for place, one in enumerate(np.argsort(there, kind="stable")):
        quota[one] = min(there[one], left // (len(there) - place))
        left -= quota[one]
    return quota


def _counts(labels, classes, slices, inside_vx):
    found = [np.bincount(plane[plane >= 0], minlength=classes) for plane in _planes(labels, slices, inside_vx)]
    counts = np.array(found, np.int64).reshape(-1, classes)
    if not counts.any():
        where = f" that have {inside_vx} of their own class to all sides" * bool(inside_vx)
        raise BadInput(f"{labels.path} has no known voxels{where} in the {len(slices)} slices to draw from")
    return counts


def _planes(labels, slices, inside_vx):
    """The slices, int16 (y, x), -1 where nothing may be drawn."""
    for z in slices:
        plane = labels.read(Box((z, 0, 0), (z + 1, *labels.shape[1:])))[0]
        if inside_vx:
            size = 2 * inside_vx + 1
            # Beyond the edges of a slice nobody knows what there is: mirrored, it contradicts nothing.
            ends = (ends(plane, size) for ends in (ndimage.minimum_filter, ndimage.maximum_filter))
            plane = np.where(np.equal(*ends), plane, np.int16(-1))
        yield plane


def _drawn(labels, slices, seed, counts, wanted, chosen, inside_vx):
    places, classes = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    for row, (z, plane) in enumerate(zip(slices, _planes(labels, slices, inside_vx), strict=True)):
        for one in np.flatnonzero(chosen[row]).tolist():
            ranks = _ranks(np.random.default_rng((seed, z, one)), counts[row, one], chosen[row, one])
            flat = np.flatnonzero(plane == one)[ranks]
            places.append(np.stack([np.full_like(flat, z), *np.divmod(flat, plane.shape[1])], 1))
            classes.append(np.full(len(flat), one))
    return Drawn(np.concatenate(places), np.concatenate(classes), counts, wanted)


def _ranks(rng, total, number):
    """So many different numbers below `total`, ascending."""
    return np.sort(rng.choice(total, number, replace=False, shuffle=False))
