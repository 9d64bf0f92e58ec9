"""All that is to be known of a GPU, in one command that may be cut short:  make gpu

    python benchmarks/gpu.py [--minutes 9] [--only PART …] [--again PART …] [--gigabytes 2] [--folder runs/gpu]

PARTS below, in order, with the models of configs/mae.py and configs/ensemble.py at full size: do they compute what they
compute on the CPU, how fast are they in three precisions, which form of attention, which mapping of members and which
batch are best, how long does a volume of so many 10^9 voxels take, and what does the masked autoencoder learn in the
minutes that are left.

A part that has ended is kept as FOLDER/PART.json and not done again, unless --again names it. No part is begun in the
last of the --minutes: the same command goes on, and begins with what it was at. Volumes and training go on where they
were. A part that fails (no memory, a library that is not there) says why in its table, and the next one begins. At the
end all tables are printed and written to FOLDER/tables.md; exit code 3 where parts are left to do. --tiny: all of it in
seconds on any device, with networks that are too small to mean anything.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

# Most of the device's memory from the start, so that the largest batch is the device's and not a default's.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
sys.path.insert(0, str(Path(__file__).parent.parent))

import gpu_attention
import gpu_networks
import gpu_training
import gpu_volumes
import measuring
from gpu_setup import CONFIGS, OutOfTime, Part, Setup, explained

from maeref_jax.report.table import Table, text_table
from maeref_jax.training.workdir import keep_compiled, write_text

# With the seconds that each takes at least: with less left it is not begun.
PARTS = {
    "parity": Part(gpu_networks.parity, 60),
    "speed": Part(gpu_networks.speed, 90),
    "attention": Part(gpu_attention.attention_forms, 90),
    "mapping": Part(gpu_networks.mapping, 90),
    "batches": Part(gpu_networks.batches, 120),
    "segment": Part(gpu_volumes.segment, 30),
    "refine": Part(gpu_volumes.refine, 30),
    "train": Part(gpu_training.train, 60),
}


def main(arguments=None):
    given = flags().parse_args(arguments)
    own = "gpu" + "_tiny" * given.tiny  # what is tiny is never taken for the real thing
    given.folder = given.folder or Path("runs", own)
    given.scratch = given.scratch or Path(tempfile.gettempdir(), f"maeref_{own}")
    names, again = (given.only or list(PARTS)), given.again or []
    setup = setup_of(given)
    if given.reference:
        return gpu_networks.write_reference(setup, given.reference)
    given.folder.mkdir(parents=True, exist_ok=True)
    keep_compiled(given.folder)  # a part that is begun again does not compile again
    for name in again:
        place_of(setup, name).unlink(missing_ok=True)
        forget = {"train": gpu_training.forget, "parity": gpu_networks.forget}.get(name, gpu_volumes.forget)
        forget(setup, name)
    left = perform(setup, [name for name in PARTS if name in names])
    found = {name: json.loads(place_of(setup, name).read_text()) for name in PARTS if place_of(setup, name).exists()}
    print("\n" + "\n\n".join(text_table(table) for one in found.values() for table in tables_of(one)))
    write_text(given.folder / "tables.md", "\n".join(map(markdown, found.values())))
    if left:
        print(f"\nnot done yet: {', '.join(left)}; the same command goes on")
    return 3 if left else 0


def flags():
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--minutes", type=float, default=9.0)
    found.add_argument("--only", nargs="+", choices=PARTS, help="these parts alone")
    found.add_argument("--again", nargs="+", choices=PARTS, help="forget what these parts found, and do them again")
    found.add_argument("--gigabytes", type=float, default=2.0, help="of the volumes, labels and entropy counted apart")
    found.add_argument("--folder", type=Path, help="of what is found; runs/gpu, or runs/gpu_tiny")
    found.add_argument("--scratch", type=Path, help="for volumes; a temporary folder, that of --tiny another one")
    found.add_argument("--tiny", action="store_true")
    found.add_argument("--reference", type=Path, help=argparse.SUPPRESS)  # for its own use, on the CPU
    return found


def setup_of(given):
    mode = "smoke" if given.tiny else ""
    configs = {name: f"{config}:{mode}" for name, config in CONFIGS.items()}
    ends = time.monotonic() + 60 * given.minutes
    return Setup(given.tiny, configs, given.folder, given.scratch, ends, given.gigabytes * 1e9)


def place_of(setup, name):
    return setup.folder / f"{name}.json"


def perform(setup, names):
    """Does the parts that are not done; the names of those that are left to do."""
    done_here, left = 0, []
    for name in names:
        part, began = PARTS[name], time.monotonic()
        if place_of(setup, name).exists():
            print(f"{name}: done already", flush=True)
            continue
        if setup.left() < part.seconds * (not setup.tiny) and done_here:
            left.append(name)
            continue
        print(f"{name}: {setup.left():.0f} s are left", flush=True)
        try:
            found = part.does(setup)._asdict()
        except OutOfTime as error:
            print(f"{name}: {error}", flush=True)
            left.append(name)
            continue
        except Exception as error:  # the other parts may still be worth having
            traceback.print_exc()
            found = {"tables": [Table(name, ("", ""), (("failed", explained(error)),))], "facts": None}
        kept = {"part": name, "machine": measuring.machine(), "seconds": round(time.monotonic() - began, 1), **found}
        kept["tables"] = [table._asdict() for table in found["tables"]]
        write_text(place_of(setup, name), json.dumps(kept, indent=1))
        done_here += 1
    return left


def tables_of(found):
    return [Table(**table) for table in found["tables"]]


def markdown(found):
    """The tables of a part for a Markdown page."""
    machine, text = found["machine"], []
    for table in tables_of(found):
        told = f"{machine['device']}, jax {machine['jax']}, {machine['date']}"
        text += [f"## {table.title}\n", f"`make gpu`, {told}, {found['seconds']:g} s. {table.note}\n"]
        rows = [table.header, ["---"] * len(table.header), *table.rows]
        text += ["".join(f"| {cell} " for cell in row) + "|" for row in rows]
        text.append("")
    return "\n".join(text)


if __name__ == "__main__":
    sys.exit(main())
