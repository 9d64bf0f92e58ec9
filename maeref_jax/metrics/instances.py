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
