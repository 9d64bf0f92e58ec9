"""What a network learns from where single voxels are labelled: crops around them, of every class equally often. A batch
is a pure function of (seed, step); a sample also of its global index. No jax here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.samples.training_volumes import places

MOST_JUDGED = 4096  # voxels of volumes that are labelled as a whole that are judged at an evaluation


class Clicks(NamedTuple):
    """Labelled voxels of several volumes. places: int32 (n, 4), number of the volume, z, y, x; classes: int16 (n,)."""

    places: np.ndarray
    classes: np.ndarray


def clicked_labels(labels, per_class_and_slice, rng):
    """Labels int16 (z, y, x), -1 but for so many voxels of every class in every slice, drawn at random; all of a class
    where a slice has fewer.
    """
    found = np.full_like(labels, -1)
    for plane, kept in zip(labels, found, strict=True):
        for c in np.unique(plane[plane >= 0]):
            there = np.flatnonzero(plane == c)
            kept.flat[rng.choice(there, min(per_class_and_slice, len(there)), replace=False)] = c
    return found


def clicks_of(volumes, classes):
    """All Clicks of TrainingVolumes; of a class that more voxels have than a volume remembers, those it remembers."""
    found, kinds = [np.zeros((0, 4), np.int32)], [np.zeros(0, np.int16)]
    for number, volume in enumerate(volumes):
        for c in range(classes):
            where = places(volume.labels, lambda plane, c=c: plane == c)
            found.append(np.concatenate([np.full((len(where), 1), number, np.int32), where], 1))
            kinds.append(np.full(len(where), c, np.int16))
    return Clicks(np.concatenate(found), np.concatenate(kinds))


def of_one_class(clicks, volumes, side, axes):
    """The Clicks around which no other class is known to lie within the box of `side` voxels that is hidden: its middle
    would be asked for a class of which it is only a part. axes: 2, the box lies in the slice, or 3.
    """
    before = side // 2
    reach = np.array([before] * 3) if axes == 3 else np.array([0, before, before])
    kept = np.ones(len(clicks.classes), bool)
    for i, ((number, *place), label) in enumerate(zip(clicks.places.tolist(), clicks.classes, strict=True)):
        start = np.array(place) - reach
        stop = start + np.where(reach, side, 1) if side > 1 else start + 1
        box = tuple(slice(max(a, 0), b) for a, b in zip(start, stop, strict=True))
        around = volumes[number].labels[box]
        kept[i] = ((around == label) | (around < 0)).all()
    return Clicks(clicks.places[kept], clicks.classes[kept])


def members_clicks(clicks, members, share, seed):
    """The Clicks of every member of an ensemble: a share of those of every class, at least one, drawn for each member;
    a single member has all.
    """
    if members == 1:
        return [clicks]
    found = []
    for member in range(members):
        rng, kept = np.random.default_rng((seed, member)), []
        for c in np.unique(clicks.classes):
            own = np.flatnonzero(clicks.classes == c)
            kept.append(rng.choice(own, max(round(share * len(own)), 1), replace=False))
        kept = np.sort(np.concatenate(kept))
        found.append(Clicks(clicks.places[kept], clicks.classes[kept]))
    return found


def check_fit(volumes, window):
    """Raises BadInput for a volume that is smaller than a window of two or three numbers."""
    for volume in volumes:
        shape = volume.labels.shape[-len(window) :]
        if any(size < side for size, side in zip(shape, window, strict=True)):
            raise BadInput(
                f"{volume.name} has the shape {volume.labels.shape}, smaller than the window {tuple(window)} that the "
                "network sees around a voxel, its margin included; set a smaller --config.window, or --config.margin"
            )


def check_classes(clicks, names, what):
    """Raises BadInput where a class has no click: nothing could be learned of it. what: whose clicks, for people."""
    missing = [name for c, name in enumerate(names) if not (clicks.classes == c).any()]
    if missing:
        raise BadInput(
            f"no voxel of the {what} volumes is labelled {', '.join(missing)}, and every class needs one; label one, "
            "or leave the class out of --classes"
        )


def crop_around(image, place, window, orientation=0):
    """float32 of shape `window` of an image (z, y, x) around the voxel `place` (z, y, x), which comes to lie at
    window // 2; mirrored beyond the border. A window of two numbers is of the slice.

    orientation: one of the eight symmetries of the plane, about that voxel, as in sampling.oriented; odd ones, which
    transpose, want a window as high as wide.
    """
    offsets = [np.arange(side) - side // 2 for side in window]
    rows, columns = (-offset if orientation & bit else offset for offset, bit in zip(offsets[-2:], (2, 4), strict=True))
    if orientation & 1:
        rows, columns = columns, rows
    plane = (rows + place[1], columns + place[2])
    slices = [place[0]] if len(window) == 2 else offsets[0] + place[0]
    indices = (_mirrored(np.asarray(at), size) for at, size in zip((slices, *plane), image.shape, strict=True))
    found = image[np.ix_(*indices)].astype(np.float32)
    return (found.swapaxes(1, 2) if orientation & 1 else found).reshape(window)


def _mirrored(indices, size):
    period = max(2 * (size - 1), 1)
    indices = np.abs(indices) % period
    return np.where(indices < size, indices, period - indices)


def click_batch(volumes, members, seed, step, indices, window, symmetries, shared):
    """Crops around clicks: image float32 (b, k, [z,] y, x), labels int16 (b, k) of their middles, index int32 (b,) as
    given in `indices`, the samples of the whole batch that are wanted here. Classes take turns from sample to sample.

    members: the Clicks of every member; symmetries: whether crops are turned and mirrored at random; shared: a dict
    that the batch hands on, with the members' numbers added.
    """
    found = [_clicks(one, seed, step, indices, member) for member, one in enumerate(members)]
    images = np.empty((len(indices), len(members), *window), np.float32)
    labels = np.empty(images.shape[:2], np.int16)
    for member, drawn in enumerate(found):
        for place, (at, label, rng) in enumerate(drawn):
            number, *where = at
            images[place, member] = _varied(volumes[number].image, where, window, symmetries, rng)
            labels[place, member] = label
    return _batch(images, labels, indices, members, shared)


def group_batch(volumes, members, seed, step, indices, window, symmetries, neighbours, radius, shared):
    """The same as `click_batch`, and around every click as many neighbours: image (b, k, 1 + neighbours, [z,] y, x),
    the click first; labels int16 (b, k) are the clicks'.

    Neighbours are drawn from voxels without a label that are no more than `radius` voxels away: in the slice, and in
    three dimensions for a window of three numbers; of any, where there are too few. They lie inside of the volume's
    mask, if it has one; where nothing else near does, the click is its own neighbour.
    """
    offsets = _ball(radius, len(window))
    images = np.empty((len(indices), len(members), 1 + neighbours, *window), np.float32)
    labels = np.empty(images.shape[:2], np.int16)
    for member, one in enumerate(members):
        for place, (at, label, rng) in enumerate(_clicks(one, seed, step, indices, member)):
            volume, where = volumes[at[0]], at[1:]
            near = _unlabelled(volume, where, offsets, neighbours, rng)
            for i, voxel in enumerate([where, *near]):
                images[place, member, i] = _varied(volume.image, voxel, window, symmetries, rng)
            labels[place, member] = label
    return _batch(images, labels, indices, members, shared)


def judged_clicks(volumes, seed, most=MOST_JUDGED):
    """The Clicks that TrainingVolumes are judged by, and what they are, for people: every known voxel, where clicks or
    thin scribbles are all that is known; of all other volumes together `most`, drawn at random of more.

    Every known voxel of these is as likely, whatever its class: precision and Dice are then about those of all of them,
    which they would not be of classes drawn alike. None is drawn twice.
    """
    counts = [np.count_nonzero(volume.labels >= 0) for volume in volumes]
    ends = np.cumsum([0 if volume.scattered else count for volume, count in zip(volumes, counts, strict=True)])
    drawn = np.sort(np.random.default_rng(seed).choice(ends[-1], min(most, ends[-1]), replace=False))
    found, kinds = [np.zeros((0, 4), np.int32)], [np.zeros(0, np.int16)]
    for number, volume in enumerate(volumes):

        def chosen(count, volume=volume, end=ends[number]):
            own = drawn[(drawn >= end - count) & (drawn < end)] - (end - count)
            return np.arange(count) if volume.scattered else own

        where = places(volume.labels, lambda plane: plane >= 0, chosen)
        found.append(np.concatenate([np.full((len(where), 1), number, np.int32), where], 1))
        kinds.append(volume.labels[tuple(where.T)])
    name = f"{sum(counts):,} labelled voxels"
    if len(drawn) < ends[-1]:
        name = f"{len(drawn):,} of {ends[-1]:,} labelled voxels, drawn at random"
        scattered = sum(counts) - ends[-1]
        name += f", and all {scattered:,} of volumes with clicks alone" if scattered else ""
    return Clicks(np.concatenate(found), np.concatenate(kinds)), name


@dataclass(frozen=True)
class JudgedBatches(Sequence):
    """Batches of so many Clicks of TrainingVolumes, as they lie, cut when they are asked for: image float32
    (b, [z,] y, x), labels int16 (b,), index int32 (b,); shared, as given. The last one is filled up with crops whose
    label is unknown.
    """

    volumes: list
    clicks: Clicks
    batch: int
    window: tuple[int, ...]
    shared: dict

    def __len__(self):
        return -(-len(self.clicks.classes) // self.batch)

    def __getitem__(self, number):
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = number * self.batch
        # Spread over volumes and classes: a person is shown the first ones.
        chosen = np.random.default_rng(0).permutation(len(self.clicks.classes))[start : start + self.batch]
        places, missing = self.clicks.places[chosen].tolist(), self.batch - len(chosen)
        images = [crop_around(self.volumes[at].image, where, self.window) for at, *where in places]
        return {
            "image": np.stack([*images, *images[:1] * missing]),
            "labels": np.pad(self.clicks.classes[chosen], (0, missing), constant_values=-1),
            "index": np.arange(start, start + self.batch, dtype=np.int32),
            "shared": self.shared,
        }


def _batch(images, labels, indices, members, shared):
    shared = {**shared, "members": np.arange(len(members), dtype=np.int32)}
    return {"image": images, "labels": labels, "index": np.asarray(indices, np.int32), "shared": shared}


def _clicks(clicks, seed, step, indices, member):
    """[(number of the volume, z, y, x), class, the sample's own random numbers] of one member's samples."""
    kinds = np.unique(clicks.classes)
    own = [np.flatnonzero(clicks.classes == c) for c in kinds]
    # Where a batch does not hold every class equally often, the next one begins with another class.
    first = int(np.random.default_rng((seed, step)).integers(len(kinds)))
    for index in indices:
        rng = np.random.default_rng((seed, step, index, member + 1))
        kind = (first + int(index)) % len(kinds)
        chosen = own[kind][rng.integers(len(own[kind]))]
        yield tuple(clicks.places[chosen].tolist()), kinds[kind], rng


def _varied(image, place, window, symmetries, rng):
    square = window[-1] == window[-2]
    return crop_around(image, place, window, int(rng.integers(8)) & (7 if square else 6) if symmetries else 0)


def _ball(radius, axes):
    """int (n, 3): offsets (z, y, x) of no more than `radius`, but none."""
    reach = np.arange(-int(radius), int(radius) + 1)
    grid = np.stack(np.meshgrid(reach if axes == 3 else [0], reach, reach, indexing="ij"), -1).reshape(-1, 3)
    squares = (grid**2).sum(1)
    return grid[(squares > 0) & (squares <= radius**2)]


def _unlabelled(volume, place, offsets, count, rng):
    """[(z, y, x)] of so many voxels around a place."""
    near = np.asarray(place) + offsets
    near = near[((near >= 0) & (near < volume.labels.shape)).all(1)]
    if volume.inside is not None:
        # Outside nothing has a label, too, but that is left out: none of the classes need be right there.
        near = near[volume.inside[tuple(near.T)]]
        near = near if len(near) else np.array([place])
    free = near[volume.labels[tuple(near.T)] < 0]
    near = free if len(free) >= count else near
    return near[rng.choice(len(near), count, replace=len(near) < count)].tolist()
