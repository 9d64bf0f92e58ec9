"""The one door for all labels: what the ids of a file mean in a class scheme; where that is not plain, it is asked."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import MARK, BadInput
from maeref_jax.volumes.class_scheme import listed
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.volume import UNKNOWN_ON_DISK
from maeref_jax.volumes.windows import blocks

IDENTITY, INSTANCES = ("identity",), ("instances",)
_SLAB = (8, 1024, 1024)
_ALMOST = 1e-4  # what is nearer to a whole number was meant as one
_MOST_PAINTED = 100  # ids of a mask that somebody painted
_MUCH = 100  # times as many voxels of 255 as of all foreground: they are the foreground, and few voxels are odd
_MOST_IDS = 2**16  # that are listed; of more it is known only that they are many


class Reading(NamedTuple):
    """How the ids of a label file become classes; made of lists, as JSON gives them, it means the same.

    label_map: pairs (id, class) of every id that the file holds, class -1 unknown; or INSTANCES: ids > 0 are class 1
    notes: what was taken how, where a user may expect otherwise; doubts: what looks wrong. Whole sentences.
    """

    label_map: tuple
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it, to be told where nobody collects warnings."""
        return (*self.notes, *(f"{MARK}{text}" for text in self.doubts))


def label_map_of(given: Sequence, flag: str = "--label_map") -> tuple:
    """A label_map as it is kept: (), IDENTITY, INSTANCES, or pairs of ints (id in the file, class).

    given: pairs, or what is typed behind `flag`, split at commas: ("0:0", "255:1"). Raises BadInput for anything else.
    """
    found = tuple(given)
    if found in ((), IDENTITY, INSTANCES):
        return found
    try:
        halves = [one.split(":") if isinstance(one, str) else one for one in found]
        pairs = tuple((int(label), int(wanted)) for label, wanted in halves)
    except (TypeError, ValueError):
        pairs = ()
    if len(dict(pairs)) < len(found) or min(wanted for _, wanted in pairs) < -1:
        raise BadInput(
            f"label_map is {given}, expected pairs of an id in the file and a class (-1: unknown), each id once, like "
            f"{flag}=0:0,255:1; or {flag}=instances, or {flag}=identity"
        )
    return pairs


def understand(volume: Volume, scheme: dict, label_map: Sequence = (), flag: str = "--label_map") -> Reading:
    """What the ids of a label file mean in a class scheme {"names", "ambiguous"}: read once, slab by slab.

    label_map: of `label_map_of`. Pairs: 0 is class 0 and -1 unknown unless they say otherwise, every other id must be
    named. IDENTITY: ids are the classes. INSTANCES: every id above 0 is class 1. (): what has one reading is taken so.
    flag: what sets it, for messages.

    Raises:
        BadInput: ids that could mean several things or nothing (the flag that settles it is named), fractions, negative
            numbers but -1, colours, or no known label at all; 0 and -1 alone, which may be 0 and 255 in signed bytes.
    """
    label_map, found = label_map_of(label_map, flag), _Ids(volume, scheme, flag)
    if label_map == INSTANCES:
        reading = found.as_instances()
    elif label_map == IDENTITY:
        reading = found.as_they_are()
    else:
        reading = found.as_mapped(label_map) if label_map else found.as_only_possible()
    if volume.dtype.kind == "f":
        whole = f"{volume.path} is {volume.dtype} and holds whole numbers alone: they are taken as labels"
        reading = reading._replace(notes=(whole, *reading.notes))
    if reading.label_map == INSTANCES:
        return reading
    classes = {wanted for _, wanted in reading.label_map}
    if max(classes) < 0:
        signed = found.ids == {-1} and label_map in ((), IDENTITY)
        way = f"; where -1 is foreground, 255 stored as signed bytes: {found.typed(['-1:1'])}" if signed else ""
        raise BadInput(
            f"{volume.path} holds no known label: all voxels are unknown; expected some of {listed(scheme)}{way}"
        )
    if 0 not in classes:
        lacks = (
            f"no voxel is {found.named(0)}, the class of what is nothing else; models have met some of it everywhere"
        )
        plain = found.ids - {-1, UNKNOWN_ON_DISK}
        other = "" if label_map or not plain else f"; {found.without_zero(plain)}"
        reading = reading._replace(doubts=(f"{volume.path} holds {found.said()}: {lacks}{other}",))
    return reading


def understand_mask(volume: Volume, names: tuple[str, str] = ("visible", "hidden")) -> Reading:
    """What a painted mask means: class 1, the second of `names`, is what is not 0, which is noted of a 255 beside other
    such numbers; ids 1 and 2 alone, of programs that count from 1, are 0 and 1. Raises BadInput as `understand`, and
    for several ids without any 0, of which all would be class 1.
    """
    found = _Ids(volume, {"names": names, "ambiguous": -1}, "")
    if found.ids == {1, 2}:
        return found.counted_from_one()
    if -1 not in found.ids and (0 in found.ids or len(found.ids) == 1):
        told, notes, doubts = f"{volume.path} holds {found.said()}", (), ()
        if len(found.ids) == 1:
            doubts = (f"{told} alone: {'nothing' if 0 in found.ids else 'everything'} is {names[1]}",)
        elif len(found.ids) > _MOST_PAINTED:
            doubts = (f"{told}: is it an image? All but 0 is {names[1]}, as in a mask",)
        # Labels that people save have 255 for what nobody said.
        if UNKNOWN_ON_DISK in found.ids and len(found.ids) > 2:
            notes = (f"{told}: 255 is taken as {names[1]}, as all but 0 is, and not as unknown",)
        return Reading(INSTANCES, notes, doubts)
    if found.ids == {-1, 0}:
        raise BadInput(
            f"{volume.path} ({volume.dtype}) holds {found.said()}, 255 stored as signed bytes, it seems; save the mask "
            f"as unsigned bytes, or with 0 for what is {names[0]} and 1 for what is {names[1]}"
        )
    raise BadInput(
        f"{volume.path} holds {found.said()}, expected 0 for what is {names[0]} and another number for what is "
        f"{names[1]}; everything would be {names[1]}. Save the mask with 0 for what is {names[0]}"
    )


def as_classes(volume: Volume, reading: Reading) -> Volume:
    """The volume, whose `read` gives int16 classes, -1 unknown; of one that is read on another grid than its file's,
    classes vote and not ids.
    """
    if tuple(reading.label_map) == INSTANCES:
        return _converted(volume, lambda labels: np.sign(labels.astype(np.int64)).astype(np.int16), "instances")
    pairs = sorted(map(tuple, reading.label_map))
    ids = np.array([label for label, _ in pairs]).astype(_countable(volume.dtype))
    classes = np.array([wanted for _, wanted in pairs], np.int16)

    def convert(labels):
        labels = labels.astype(ids.dtype, copy=False)
        at = np.minimum(np.searchsorted(ids, labels), len(ids) - 1)
        if (ids[at] != labels).any():
            raise BadInput(f"{volume.path} holds other ids than when it was first read; was it written to since?")
        return classes[at]

    changed = [f"{label}:{wanted}" for label, wanted in pairs if label != wanted and (label, wanted) != (255, -1)]
    return _converted(volume, convert, ",".join(changed))


class _Ids:
    """The ids of a label file, and what they can mean in a scheme. ids: a set, of which -1 is unknown; many: there are
    more than could be listed; of_255, between: how many voxels are 255, and from 1 to 254.
    """

    def __init__(self, volume, scheme, flag):
        volume = volume.file or volume  # on another grid rare ids are lost
        self.path, self.dtype, self.flag = volume.path, volume.dtype, flag
        self.scheme, self.classes, self.real = scheme, len(scheme["names"]), real_classes(scheme)
        self.ids, self.many, self.of_255, self.between = set(), False, 0, 0
        self.voxels = int(np.prod(volume.shape))
        for box in blocks(volume.shape, _SLAB):
            labels = volume.read(box)
            if any((sample(box) != labels).any() for sample in volume.colours):
                raise BadInput(
                    f"{volume.path} holds colours, expected a number for every class: {listed(scheme)}; in the program "
                    "that made it, save class ids as one grey channel (not an RGB picture of them)"
                )
            found = np.unique(labels)
            self._check_whole(found)
            self.many |= len(self.ids) + len(found) > _MOST_IDS
            self.ids.update(int(value) for value in found[:_MOST_IDS])
            self.of_255 += np.count_nonzero(labels == UNKNOWN_ON_DISK) if UNKNOWN_ON_DISK in found else 0
            self.between += np.count_nonzero((labels > 0) & (labels < UNKNOWN_ON_DISK))

    def as_instances(self):
        if self.real != 2:
            raise BadInput(
                f"{self.flag}=instances takes every id above 0 as class 1, but there are {self.classes} classes: "
                f"{listed(self.scheme)}; ids of single objects do not say which. Save {self.path} with class ids"
            )
        if self.signed_mask():
            raise self.two_readings(())
        return Reading(INSTANCES, self.unknown((-1,)))

    def as_they_are(self):
        if beyond := sorted(self.ids - {-1, UNKNOWN_ON_DISK, *range(self.classes)}):
            way = self.every_id(beyond, self.plain_classes())
            raise self.refused(f"expected 0 to {self.classes - 1}, and -1 or 255 for unknown", way)
        return self.plainly()

    def as_mapped(self, label_map):
        beyond = sorted({wanted for _, wanted in label_map if wanted >= self.classes})
        if beyond:
            raise BadInput(f"label_map names class {beyond[0]}, expected one of {listed(self.scheme)}, or -1, unknown")
        given = dict(label_map)
        if self.signed_mask() and -1 not in given:
            raise self.two_readings(label_map)
        wanted = {0: 0, -1: -1} | given
        left = self.ids - wanted.keys()
        if left == {UNKNOWN_ON_DISK} and self.ids - {-1, 0, UNKNOWN_ON_DISK}:
            wanted, left = wanted | {UNKNOWN_ON_DISK: -1}, set()
        if left or self.many:
            way = f"add it: {self.every_id(left, label_map)}"
            raise self.refused(f"but label_map has no entry for {_some(left)}", way)
        notes = self.unknown({-1, UNKNOWN_ON_DISK} - given.keys())
        return Reading(tuple((label, wanted[label]) for label in sorted(self.ids)), notes)

    def as_only_possible(self):
        ids = self.ids - {-1}
        only = ids - {0}
        if self.many:
            raise self.objects()
        if self.ids == {-1, 0}:
            raise self.two_readings(())
        if self.real == 2 and len(only) == 1 and (0 in ids or ids == {UNKNOWN_ON_DISK}):
            (label,) = only
            if label == 1 or label >= self.classes:
                told = f"{self.path} holds {self.said()}: {label} is taken as class {self.named(1)}"
                notes = () if label == 1 else (told,)
                return Reading(self.pairs(lambda i: min(i, 1)), notes + self.unknown((-1,)))
        if ids and ids <= {0, UNKNOWN_ON_DISK} and only:
            raise self.refused("a mask, it seems", self.settled_by("255:1", "unknown", "255:-1"))
        plain = ids - {UNKNOWN_ON_DISK}
        # Ids from 2 on that are all classes: a piece without background, or counted from 1? They are taken as they are,
        # and doubted; with a 1 among them they are asked about.
        if plain and 0 not in plain and (1 in plain or max(plain) >= self.classes):
            if plain == {*range(1, self.classes + 1)}:
                return self.counted_from_one()
            raise self.refused("and no voxel is 0", self.without_zero(plain))
        if plain == {0, 1} and self.real > 2:
            raise self.refused("a mask, it seems", self.settled_by(f"1:{self.real - 1}", self.named(1), "identity"))
        if any(label >= self.classes for label in plain):
            raise self.objects()
        return self.plainly()

    def plainly(self):
        """Every id is a class, 255 unknown."""
        doubts, most = (), self.voxels - self.of_255 - self.between
        if self.of_255 > _MUCH * self.between > 0 and most > self.of_255:
            doubts = (
                f"{self.path}: 255 is taken as unknown, {self.of_255:,} voxels, and {self.between:,} are other "
                f"foreground; where 255 is foreground: {self.every_id({UNKNOWN_ON_DISK}, self.plain_classes())}",
            )
        return Reading(self.pairs(lambda label: -1 if label == UNKNOWN_ON_DISK else label), self.unknown(), doubts)

    def counted_from_one(self):
        told = f"{self.path} holds {self.said()} and no 0: ids count from 1, so 1 is taken as class {self.named(0)}, "
        last = max(self.ids - {UNKNOWN_ON_DISK})
        notes = (f"{told}{last} as class {self.named(last - 1)}", *self.unknown())
        return Reading(self.pairs(lambda label: -1 if label == UNKNOWN_ON_DISK else label - 1), notes)

    def pairs(self, class_of):
        return tuple((label, class_of(label) if label >= 0 else -1) for label in sorted(self.ids))

    def objects(self):
        """BadInput for ids beyond the classes, which may be those of single objects."""
        beyond = {label for label in self.ids if label >= self.classes}
        way = f"where they are classes: {self.every_id(beyond, self.plain_classes())}"
        if self.real == 2:
            way = f"where every id above 0 is {self.named(1)}, as of single objects: {self.flag}=instances; {way}"
        return self.refused(f"beyond the classes {listed(self.scheme)}", way)

    def without_zero(self, plain):
        """Which flags settle ids of which none is 0."""
        if max(plain) > self.classes:
            return self.every_id(plain)
        less = self.typed(f"{label}:{label - 1}" for label in sorted(plain))
        same = f"; where they are the classes: {self.flag}=identity" if max(plain) < self.classes else ""
        return f"where ids count from 1 (as ilastik's do): {less}{same}"

    def settled_by(self, example, otherwise, other):
        """Which flags settle what the only foreground id of a file means."""
        which = f"say which class it is, e.g. {self.flag}={example}; where it is {otherwise}: {self.flag}={other}"
        return f"there are {self.classes} classes: {listed(self.scheme)}; {which}"

    def signed_mask(self):
        """Whether -1 is all there is but background."""
        return -1 in self.ids and self.ids <= {-1, 0}

    def two_readings(self, known):
        """BadInput for a mask of 0 and -1; known: pairs of the label_map that is given."""
        here = [f"{label}:{wanted}" for label, wanted in known]
        way = self.settled_by(",".join([*here, "-1:1"]), "unknown", ",".join([*here, "-1:-1"]))
        return self.refused("a mask of 0 and 255 stored as signed bytes, or background and unknown", way)

    def plain_classes(self):
        """(id, class) of the ids but 0 that are classes as they are."""
        return [(label, label) for label in sorted(self.ids) if 0 < label < self.classes]

    def every_id(self, missing, known=()):
        """The whole flag that names the ids that are missing; known: pairs that it has beside them."""
        pairs = [f"{label}:{wanted}" for label, wanted in known] + [f"{label}:CLASS" for label in sorted(missing)[:3]]
        more = ["…"] * (len(missing) > 3)
        return f"{self.typed(pairs + more)}, every CLASS one of {listed(self.scheme)}, or -1, unknown"

    def typed(self, pairs):
        """The flag with pairs, as it is typed: of "--label_map -1:1" the second word would be taken for a flag."""
        return f"{self.flag}={','.join(pairs)}"

    def refused(self, why, way):
        return BadInput(f"{self.path} ({self.dtype}) holds the labels {self.said()}, {why}; {way}")

    def unknown(self, labels=(-1, UNKNOWN_ON_DISK)):
        """Notes of those ids that are there and are taken as unknown."""
        return tuple(f"{self.path}: {label} is taken as unknown" for label in sorted(labels) if label in self.ids)

    def said(self):
        """The ids as a sentence names them: "0 and 255"."""
        found = [str(label) for label in sorted(self.ids)]
        if self.many or len(found) > 8:
            return f"{', '.join(found[:6])}, … ({'more than ' * self.many}{len(found):,} ids)"
        return " and ".join(filter(None, [", ".join(found[:-1]), found[-1]]))

    def named(self, label):
        name = self.scheme["names"][label]
        return f"{label}, {name}" if name else f"{label}"

    def _check_whole(self, found):
        if found.dtype.kind == "f" and (fractions := found[found != np.floor(found)]).size:
            way = " (a mask with soft edges? threshold it first)" if found.min() >= 0 and found.max() <= 1 else ""
            if (np.abs(fractions - np.round(fractions)) < _ALMOST).all():
                way = "; they almost are: is there a scaling in its header? round them, and save them without one"
            # As text it has all its digits: 0.99999994 is not 1.
            raise BadInput(f"{self.path} ({self.dtype}) holds {fractions[0]!s}; labels are whole numbers{way}")
        if found.min() < 0 and (negative := found[(found < 0) & (found != -1)]).size:
            raise BadInput(
                f"{self.path} ({self.dtype}) holds the labels {_some(negative)}, expected 0 or more, and -1 for unknown"
            )


def _some(labels):
    found = [int(label) for label in sorted(labels)]
    return f"[{', '.join(map(str, found[:5]))}{', …' * (len(found) > 5)}]"


def _countable(dtype):
    """The type in which the labels of a file are compared."""
    return np.uint8 if dtype == np.bool_ else dtype


def _converted(volume, convert, what):
    """The volume with its labels converted; what was done to them is part of its identity."""
    if volume.file is not None:
        return volume.bring(_converted(volume.file, convert, what))

    def read(box):
        return convert(volume.read(box))

    view = f"{volume.view}, labels {what}" if what else volume.view
    return replace(volume, dtype=np.dtype(np.int16), _read=read, view=view, colours=(), levels=tuple, _write=None)
