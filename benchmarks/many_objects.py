"""Objects, ratings of repairs and skeletons of a volume with very many small objects, in objects a second.

    python benchmarks/many_objects.py [--objects 20000 90000] [--skeletons 20000]

Each volume is made, and measured by a process of its own: peak memory is what that process came to hold above what it
held before; where the machine does other things too, look at the processor's seconds. "objects": the table and the
numbered objects, initial and refined; "repairs": as many hidden blobs found, rated and written; "skeletons": objects
with their shapes and SWC files as well.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measuring
import numpy as np

from maeref_jax.audit import objects, trust
from maeref_jax.results.maps import create_arrays
from maeref_jax.results.place import Output
from maeref_jax.volumes.windows import Box

CELL = (6, 12, 12)  # one object in each
BLOCK = (8, 512, 512)
SIZE_NM = (30.0, 8.0, 8.0)
PLANE = (80, 80)  # cells
NAMES = ["background", "intermembrane", "cristae", "matrix"]
TOKEN = 4


def cells(count):
    """Initial and refined labels and hidden tokens of so many cells, uint8, layer by layer."""
    rng = np.random.default_rng(0)
    for first in range(0, count, PLANE[0] * PLANE[1]):
        layer = {
            name: np.zeros((CELL[0], *(n * c for n, c in zip(PLANE, CELL[1:], strict=True))), np.uint8)
            for name in ("initial", "refined", "hidden")
        }
        for i in range(min(PLANE[0] * PLANE[1], count - first)):
            y, x = CELL[1] * (i // PLANE[1]), CELL[2] * (i % PLANE[1])
            depth, height, width = rng.integers((3, 5, 5), (6, 11, 11))
            layer["initial"][:depth, y : y + height, x : x + width] = 3
            layer["initial"][1, y + 2 : y + 4, x + 2 : x + 4] = 2
            layer["hidden"][: depth - 1, y : y + TOKEN, x + TOKEN : x + 2 * TOKEN] = 1
        layer["refined"][:] = layer["initial"]
        layer["refined"][(layer["hidden"] > 0) & (layer["initial"] > 0)] = 1
        yield layer


def written(folder, count):
    """The output of a volume with so many objects, as refining leaves it."""
    output = Output(folder, "many")
    output.progress.mkdir(parents=True)
    shape = (CELL[0] * -(-count // (PLANE[0] * PLANE[1])), *(n * c for n, c in zip(PLANE, CELL[1:], strict=True)))
    roles = ("initial", "refined", "hidden", "was", "confidence", "trust", "objects_initial", "objects_refined")
    arrays = create_arrays(output, roles, shape, BLOCK, SIZE_NM, {"names": NAMES, "colours": None}, "0.5")
    for number, layer in enumerate(cells(count)):
        box = Box((CELL[0] * number, 0, 0), (CELL[0] * (number + 1), *shape[1:]))
        layer["was"] = np.where(layer["initial"] != layer["refined"], layer["initial"] + np.uint16(1), np.uint16(0))
        layer["confidence"] = np.where(layer["hidden"], np.uint8(200), np.uint8(0))
        for name, values in layer.items():
            arrays[name].write(box, values)
    return output, arrays


def measured(what, count):
    """(objects, seconds, processor's seconds, MiB) of one kind of work, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        output, arrays = written(Path(folder), count)
        classes = (1, 2, 3) if what == "skeletons" else ()
        names = NAMES if classes else ["outside", "a", "b", "c"]  # without a known shape there are no skeletons
        rules = objects.rules({"names": names}, classes, 2 if classes else None, 1, 0.5)
        before, began, used = measuring.peak_memory_mib()["host"], time.perf_counter(), time.process_time()
        if what == "repairs":
            blobs = trust.rate_blobs(output, arrays, BLOCK, TOKEN, SIZE_NM, trust.Limits())
            found = sum(rated["blobs"] for rated in trust.write_table(output, arrays, blobs, False).values())
        else:
            summary = objects.measure_objects(output, arrays, BLOCK, SIZE_NM, names, rules, print)
            found = sum(of["objects"] for of in summary.values())
        seconds = time.perf_counter() - began, time.process_time() - used
        return found, *seconds, measuring.peak_memory_mib()["host"] - before


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--objects", type=int, nargs="*", default=(20000, 90000))
    flags.add_argument("--skeletons", type=int, nargs="*", default=(20000,))
    flags.add_argument("--one", nargs=2, metavar=("WHAT", "COUNT"), help="measure this in this process")
    given = flags.parse_args()
    if given.one:
        print(*measured(given.one[0], int(given.one[1])))
        return
    rows = []
    work = [(what, count) for what in ("objects", "repairs") for count in given.objects]
    for what, count in [*work, *(("skeletons", count) for count in given.skeletons)]:
        command = [sys.executable, __file__, "--one", what, str(count)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        found, seconds, used, mib = map(float, said)
        rows.append((f"{what}, {count} cells", int(found), seconds, used, found / seconds, mib))
        print(*rows[-1], flush=True)
    measuring.report("many_objects", ("what", "objects", "seconds", "processor s", "a second", "MiB more"), rows)


if __name__ == "__main__":
    main()
