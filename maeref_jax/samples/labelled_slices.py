"""Which slices of a training volume count as labelled; those of the others are unknown. No jax here."""

import re

import numpy as np

from maeref_jax.errors import BadInput

SETTING = "labelled_slices"  # of data.train and data.validation
RANGE = re.compile(r"(\d*):(\d*)(?::(\d+))?")


def only_labelled(volumes, chosen):
    """The TrainingVolumes with the labels of all other slices unknown, -1.

    chosen: numbers of slices and ranges "first:stop:step" for every volume, ("0:160:5",) or (0, 7, "20:30"); or such a
    tuple for each of them; () for all slices.
    Raises BadInput for slices that are not there, none at all, none with a known label, and another number of tuples.
    """
    if not chosen:
        return volumes
    found = []
    for volume, slices in zip(volumes, for_each(chosen, len(volumes)), strict=True):
        numbers = numbers_of(slices, len(volume.labels), volume.name)
        labels = np.full_like(volume.labels, -1)
        labels[numbers] = volume.labels[numbers]
        if (labels < 0).all():
            raise BadInput(f"{SETTING}: no voxel of the slices {tuple(slices)} of {volume.name} has a known label")
        found.append(volume._replace(labels=labels))
    return found


def for_each(chosen, volumes):
    """The slices of each of so many volumes, as `only_labelled` is given them. Raises BadInput for another number."""
    each = [isinstance(one, tuple | list) for one in chosen]
    if any(each) and (not all(each) or len(chosen) != volumes):
        raise BadInput(
            f"{SETTING} is {tuple(chosen)}, expected slices for every volume, like (0, 7, '20:30'), or such a tuple "
            f"for each of the {volumes} volumes"
        )
    return list(chosen) if any(each) else [chosen] * volumes


def numbers_of(slices, count, name, setting=SETTING):
    """The numbers of the slices, ascending, each once: of a volume `name` of so many slices. Raises BadInput for what
    is no slice of it, and for none; setting: what says them, for messages.
    """
    numbers = set()
    for one in slices:
        match = RANGE.fullmatch(str(one).strip())
        if match:
            ends = zip(match.groups(), (0, count, 1), strict=True)
            first, stop, step = (int(text) if text else default for text, default in ends)
        elif str(one).strip().isdecimal():
            first, stop, step = int(one), int(one) + 1, 1
        else:
            raise BadInput(f"{setting} holds {one!r}, expected a slice from 0 on, or a range like '0:160:5'")
        if step < 1 or first >= stop:
            raise BadInput(f"{setting} holds {one!r}, a range without any slice of {name}, which has {count}")
        if stop > count:
            raise BadInput(
                f"{setting} holds {one!r}, but {name} has {count} slices, 0 to {count - 1}; a range may end at {count}"
            )
        numbers.update(range(first, stop, step))
    if not numbers:
        raise BadInput(f"{setting} names no slice of {name}; leave it empty for all {count}")
    return sorted(numbers)


def check_same_slices(volume, setting=SETTING):
    """Raises BadInput for a Volume that is read with other slices than its file has: numbers are those of the file."""
    file = volume.file
    if file is not None and file.shape[0] != volume.shape[0]:
        raise BadInput(
            f"{setting} names slices of {volume.path}, which has {file.shape[0]}, but it is read at another size, "
            f"with {volume.shape[0]}; let --at_voxel_size_nm leave z as it is: {file.voxel_size_nm[0]:g}"
        )


def labelled_in(labels):
    """The numbers of the slices of labels (z, y, x) that have a known label, ascending."""
    return np.flatnonzero((np.asarray(labels) >= 0).any((1, 2))).tolist()
