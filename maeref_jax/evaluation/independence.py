"""Whether the volumes to judge on are as many as they seem: one that counts twice makes every interval too narrow; and
what the notes of tables say of it.
"""

import itertools
import re

from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import overlapping, resolved, split_range

# A slab of a volume that is a file of its own, "3-2-1_0_64_truth.tif": what it is cut from, its slices, the rest.
SLAB = re.compile(r"(.+)_(\d+)_(\d+)((?:\D.*)?)")


def check(settings):
    """Raises BadInput for a seed that is given twice, and for truths or images of one shift that share slices: every
    volume counts as an independent one. Slabs of one file that have no slice in common are allowed, see `in_words`.
    """
    for group in ("phantom", "fading"):
        seeds = settings[group]["seeds"]
        if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
            raise BadInput(
                f"{group}.seeds has {twice[0]} several times, which is the same phantom, but every volume counts as an "
                "independent one; give each seed once"
            )
    files = settings["files"]
    shifts = dict(enumerate(files["shifts"]))  # the same volume may stand once as it is, and once with each shift
    for role in ("truths", "images"):
        pairs = sorted(overlapping(files[role]))
        if shared := [(i, j) for i, j in pairs if shifts.get(i, "") == shifts.get(j, "")]:
            one, other = (files[role][i] for i in shared[0])
            raise BadInput(
                f"files.{role}: {one} and {other} share slices, but every volume counts as an independent one; name "
                "each file once, or ranges of its slices that have none in common, like [0:40] and [40:80]"
            )


def without_shifts(given):
    """(the Cases that have no shift, a sentence about the others, "" without any): for tables that take them together,
    where one phantom would count once for each of its shifts.
    """
    shifts = dict.fromkeys(case.shift for case in given if case.shift)
    said = f"Volumes with a shift ({', '.join(shifts)}) are left out." if shifts else ""
    return [case for case in given if not case.shift], said


def noted(table, *sentences):
    """A report.Table with these sentences behind its note; "" says nothing."""
    return table._replace(note=" ".join(filter(None, (table.note, *sentences))))


def in_words(settings):
    """What intervals over the volumes are about where several are slabs of one, as a sentence; else ""."""
    files = settings["files"]
    shifts = dict(enumerate(files["shifts"]))
    paths = [path for i, path in enumerate(files["truths"]) if not shifts.get(i, "")]
    volumes = _volumes(paths)
    if volumes == len(paths):
        return ""
    where, there = ("one volume", "it") if volumes == 1 else (f"{volumes} volumes", "them")
    return (
        f"The {len(paths)} are slabs of {where}: intervals and p are about places in {there}, and say little of other "
        "volumes."
    )


def _volumes(paths):
    """Of how many volumes these are files, or slabs, by their names."""
    spans = {}
    for path in paths:
        base = resolved(split_range(path)[0])
        found = SLAB.fullmatch(base)
        key, span = ((found[1], found[4]), (int(found[2]), int(found[3]))) if found else (base, (0, 1))
        spans.setdefault(key, set()).add(span)
    number = 0
    for found in map(sorted, spans.values()):
        # Numbers that say no ranges, or ranges with slices in common, mean something else.
        apart = all(a < b for a, b in found) and all(one[1] <= b[0] for one, b in itertools.pairwise(found))
        number += 1 if apart else len(found)
    return number
