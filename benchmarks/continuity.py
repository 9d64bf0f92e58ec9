"""Morphology along z alone, on a stack whose slices were damaged: what does it repair, with how many labelled slices?

    MAEREF_DATA=data python benchmarks/continuity.py [--output damaged.png] [--seed 0]

The truth is the benchmark's training stack at half resolution (epfl_hippocampus/training_half_groundtruth.tif). Of its
slices some are emptied, some get discs of a class that is not there, and some holes (SHARES); every slice that is
labelled is the truth. Judged are the slices that are labelled in no row. Rows: nothing repaired; no labelled slice, so
votes alone; every 16th, 8th and 4th one; in both orders, and for each reach (--reach 25 50 100, in nm). Columns: Dice
and IoU of the foreground pooled over these slices, of the emptied ones alone, and of those with nothing wrong. About
two minutes on one CPU core; no network takes part.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from maeref_jax.masking import continuity
from maeref_jax.metrics import overlap
from maeref_jax.report.canvas import Key, Panel, compose, enlarged
from maeref_jax.report.table import Table, text_table
from maeref_jax.volumes.volume import open_volume
from maeref_jax.volumes.windows import whole

FILE = "epfl_hippocampus/training_half_groundtruth.tif"
VOXEL_SIZE_NM = (5.0, 10.0, 10.0)
SHARES = {"empty": 0.05, "speckled": 0.2, "holed": 0.2}  # of the slices
DISCS = {"speckled": (20, 4, 12), "holed": (15, 6, 14)}  # how many a slice, and their radii in pixels, lowest first
STRIDES = (0, 16, 8, 4)  # of labelled slices; 0: none
COLOURS = {"true": (60, 180, 75), "missed": (60, 100, 230), "false": (220, 60, 50)}


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--reach", type=float, nargs="+", default=[50.0])
    flags.add_argument("--output", type=Path, help="a picture of three slices and a cut along z")
    given = flags.parse_args()
    volume = open_volume(Path(os.environ.get("MAEREF_DATA", "data")) / FILE, axes="ZYX")
    truth = (volume.read(whole(volume.shape)) > 0).astype(np.int16)
    damaged, kinds = damage(truth, given.seed)
    judged = np.arange(len(truth)) % min(filter(None, STRIDES)) > 0
    rows, shown = [row("damaged", "", truth, damaged, judged, kinds)], None
    for reach in given.reach:
        for stride in STRIDES:
            labelled = range(0, len(truth), stride) if stride else ()
            masks = damaged.copy()
            masks[list(labelled)] = truth[list(labelled)]
            for order in continuity.ORDERS:
                rules = continuity.rules_of(VOXEL_SIZE_NM, reach_nm=reach, order=order)
                began = time.monotonic()
                found = continuity.continued(masks, labelled, 2, rules)
                seconds = f"{time.monotonic() - began:.1f}"
                name = f"{f'every {stride}th slice labelled' if stride else 'votes alone'}, {order}, {reach:g} nm"
                rows.append(row(name, seconds, truth, found, judged, kinds))
                shown = found if (stride, order) == (4, "free") else shown
    columns = ("", "Dice", "IoU", "Dice, empty", "IoU, empty", "Dice, intact", "IoU, intact", "seconds")
    print(text_table(Table(f"{FILE}, seed {given.seed}", columns, rows, "")))
    if given.output:
        given.output.write_bytes(picture(truth, damaged, shown, kinds))
        print(given.output)


def damage(truth, seed):
    """The stack with damaged slices, and what was done to which: {kind: bool (z,)}."""
    rng, damaged = np.random.default_rng(seed), truth.copy()
    kinds = {name: rng.random(len(truth)) < share for name, share in SHARES.items()}
    for name, (count, low, high) in DISCS.items():
        for z in np.flatnonzero(kinds[name]):
            inside = np.argwhere(truth[z] == (name == "holed"))
            for y, x in inside[rng.integers(len(inside), size=count)] if len(inside) else ():
                disc = np.hypot(*(np.indices(truth.shape[1:]) - np.array([y, x])[:, None, None]))
                damaged[z][disc <= rng.uniform(low, high)] = name == "speckled"
    damaged[kinds["empty"]] = 0
    return damaged, kinds


def row(name, seconds, truth, found, judged, kinds):
    cells = [name]
    for where in (judged, judged & kinds["empty"], judged & ~np.any(list(kinds.values()), axis=0)):
        counts = overlap.confusion(truth[where], found[where], 2)
        cells += [f"{100 * overlap.dice(counts)[1]:.2f}", f"{100 * overlap.iou(counts)[1]:.2f}"]
    return [*cells, seconds]


def picture(truth, damaged, repaired, kinds):
    """PNG: a slice of each kind, and the middle row of the stack along z; before above, after below."""
    at = [
        int(np.flatnonzero(kinds[name] & ~kinds["empty"] | (kinds["empty"] & (name == "empty")))[3]) for name in kinds
    ]
    middle = truth.shape[1] // 2
    rows = []
    for title, found in (("before", damaged), ("after", repaired)):
        panels = [(f"{title}: slice {z}, {name}", truth[z], found[z]) for z, name in zip(at, kinds, strict=True)]
        panels.append((f"{title}: along z, row {middle}", truth[:, middle], found[:, middle]))
        rows.append([Panel(name, enlarged(compared(*pair), 1), 1) for name, *pair in panels])
    return compose(rows, [Key(name, colour) for name, colour in COLOURS.items()])


def compared(truth, found):
    shown = np.zeros((*truth.shape, 3), np.uint8)
    for name, where in (("true", truth & found), ("missed", truth & ~found), ("false", ~truth & found)):
        shown[where == 1] = COLOURS[name]
    return shown


if __name__ == "__main__":
    main()
