"""How the time of refining grows with the hidden tokens, and with the volume: it should be in proportion.

    python benchmarks/scaling.py [--config configs/mae.py:demo] [--shape 4 512 512] [--hidden 0.05] [--rounds 3]

An untrained masked autoencoder, as in volume_speed.py. Hidden tokens come in blobs: in one of four slices, in two, in
all of them, so that there are 1, 2, 4 times as many in as many windows; then 1, 2, 4 times the slices, all of them with
hidden tokens. "growth" is time by the time of the first row, as a share of what it would be in proportion.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import measuring
import volume_speed

from maeref_jax.commands import command_line

TIMES = (1, 2, 4)


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", default="configs/mae.py:demo")
    flags.add_argument("--shape", type=int, nargs=3, default=(4, 512, 512))
    flags.add_argument("--hidden", type=float, default=0.05)
    flags.add_argument("--rounds", type=int, default=3)
    given = flags.parse_args()
    model = volume_speed.untrained(command_line.load_config(given.config).to_dict())
    stacks = {f"hidden x {times}": in_some_slices(given, times) for times in TIMES}
    for times in TIMES:
        shape = (times * given.shape[0], *given.shape[1:])
        stacks[f"voxels x {times}"] = volume_speed.stack(shape, given.hidden)
    found = {name: [] for name in stacks}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds + 1):  # the first one compiles
            for name, arrays in list(stacks.items())[:: -1 if number % 2 else 1]:
                row = volume_speed.refined(model, Path(folder) / str(number), arrays, name)
                found[name].append((arrays[0].size / 1e6 / row[1], row[-1]))
    rows = []
    for name, timed in found.items():
        seconds, windows = statistics.median(seconds for seconds, _ in timed[1:]), timed[0][1]
        what, times = name.split(" x ")
        first = statistics.median(seconds for seconds, _ in found[f"{what} x 1"][1:])
        hidden = int((stacks[name][1] > 0).sum())
        rows.append((name, stacks[name][0].size, hidden, windows, seconds, seconds / first / int(times)))
    measuring.report("scaling", ("refine", "voxels", "hidden voxels", "windows", "seconds", "growth"), rows)


def in_some_slices(given, times):
    """Labels and entropy of a volume in which `times` of every four slices have hidden tokens."""
    labels, entropy = volume_speed.stack(given.shape, given.hidden)
    entropy[np.arange(len(entropy)) % 4 >= times] = 0
    return labels, entropy


if __name__ == "__main__":
    main()
