"""Single mitochondria cut out of a label map, so that whatever is counted per crop can be counted per instance.

{number: validity.counts(one.labels) for number, one in instances.each(labels, instances.of(labels))}
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Instance(NamedTuple):
    """labels: integers of the instance's box, one voxel wider where the map goes on; other instances in it are unknown,
    -1, so that what touches is no interface; place: slices of the box in the map; cut: it touches the border of the
    map, and its counts are those of the visible part.
    """

    labels: np.ndarray
    place: tuple[slice, ...]
    cut: bool


def of(labels, background=0):
    """Connected pieces of foreground, int32 of the shape of `labels`, 0 elsewhere; faces connect, as in the table of
    objects.
    """
    labels = np.asarray(labels)
    return ndimage.label((labels != background) & (labels != -1))[0]


def each(labels, instances):
    """(number, Instance) of every number above 0 in `instances`, ascending; nothing where there is none.

    labels: integers (y, x) or (z, y, x), -1 unknown; instances: integers of that shape, 0 where there is none.
    """
    for number, box in enumerate(ndimage.find_objects(instances), 1):
        if box is None:
            continue
        cut = any(side.start == 0 or side.stop == size for side, size in zip(box, labels.shape, strict=True))
        place = tuple(
            slice(max(side.start - 1, 0), min(side.stop + 1, size))
            for side, size in zip(box, labels.shape, strict=True)
        )
        other = (instances[place] != number) & (instances[place] != 0)
        yield number, Instance(np.where(other, labels.dtype.type(-1), labels[place]), place, cut)


def splits_and_merges(truth, predicted, smallest_vx=1):
    """Objects in pieces and objects that hang together, {"true", "found", "missed", "split", "merged"}: how many.

    truth, predicted: numbers of objects, integers of one shape, 0 for none (of `of`). smallest_vx: objects of fewer
    voxels are no objects, in either. A predicted object is a piece of the true one in which more than half of it lies;
    a true one is missed without a piece, and split with several. Merged are predicted objects that hold more than half
    of several true ones.
    """
    truth, predicted = (_without_small(objects, smallest_vx) for objects in (truth, predicted))
    pairs, shared = np.unique(np.stack([truth.ravel(), predicted.ravel()]), axis=1, return_counts=True)
    both = (pairs > 0).all(0)
    (true, found), shared = pairs[:, both], shared[both]
    sizes = [np.bincount(objects.ravel()) for objects in (truth, predicted)]
    pieces = np.bincount(true[2 * shared > sizes[1][found]], minlength=len(sizes[0]))
    held = np.bincount(found[2 * shared > sizes[0][true]], minlength=len(sizes[1]))
    objects = [np.flatnonzero(size[1:]) + 1 for size in sizes]
    return {
        "true": len(objects[0]),
        "found": len(objects[1]),
        "missed": int((pieces[objects[0]] == 0).sum()),
        "split": int((pieces > 1).sum()),
        "merged": int((held > 1).sum()),
    }


def _without_small(objects, smallest_vx):
    sizes = np.bincount(objects.ravel())
    return np.where(sizes[objects] < smallest_vx, 0, objects)
