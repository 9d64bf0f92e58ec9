"""Peak memory of refining volumes of several sizes: it should not grow with the volume.

    python benchmarks/refine_memory.py [--gigabytes 1 4 16] [--refiner runs/mae] [--folder runs/refine_memory]

Labels and entropy (uint8, OME-Zarr, 2048 x 2048 voxels a slice) of so many 10^9 bytes together; blobs of the entropy
hide the given share of the voxels, 8 % if nothing is said. Each size is refined by refine.py in a process of its own,
with objects, ratings and pyramids, without TIFF export (ImageJ's format ends at 4 GB). Without --refiner the masked
autoencoder of configs/mae.py:smoke is trained first. Prints a table; exit code 1 if peaks differ by more than 10 %.
Disk: the size and what `refine.py --dry_run` says, less what compression saves; all but the model is removed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from maeref_jax.volumes.volume import create_volume
from maeref_jax.volumes.windows import blocks, whole

ROOT = Path(__file__).parent.parent
PLANE = (2048, 2048)
TILE = (16, 512, 512)
SIZE_NM = (45.0, 4.6, 4.6)


def tiles(share, seed=0):
    """Labels and entropy uint8 of shape TILE: smooth blobs that wrap around in the plane, `share` of the entropy high.
    They end at the first slice and are too rare to grow together, so that objects do not grow with the volume:
    skeletons need memory for their objects, up to 0.8 GB.
    """
    rng = np.random.default_rng(seed)

    def smooth(sigma):
        noise = ndimage.gaussian_filter(rng.normal(size=TILE), sigma, mode="wrap")
        return noise / noise.std()

    shape = smooth((1.0, 24.0, 24.0))
    labels = np.digitize(shape, [1.6, 1.8, 2.1]).astype(np.uint8)
    undecided = smooth((1.0, 12.0, 12.0))
    labels[0], undecided[0] = 0, undecided.min()
    limit = np.quantile(undecided, 1 - share)
    return labels, np.where(undecided > limit, 230, 10).astype(np.uint8)


def write_inputs(folder, gigabytes, share):
    depth = max(1, round(gigabytes * 1e9 / 2 / np.prod(PLANE)))
    for name, tile in zip(("labels", "entropy"), tiles(share), strict=True):
        made = create_volume(folder / f"{name}.ome.zarr", (depth, *PLANE), "uint8", voxel_size_nm=SIZE_NM, chunk=TILE)
        for box in blocks(made.shape, TILE):
            made.write(box, tile[whole(box.shape).slices])
    return depth


def refine(folder, refiner, options):
    """Runs refine.py; seconds, and peak resident bytes of its process."""
    command = [sys.executable, "refine.py", "--labels", folder / "labels.ome.zarr", "--output", folder / "refined"]
    command += ["--entropy", folder / "entropy.ome.zarr", "--refiner", refiner, "--threshold", "0.4"]
    command += ["--config.tiff_export=false", *options]
    began = time.monotonic()
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"refine.py ended with {process.returncode}")
    return time.monotonic() - began, used.ru_maxrss * 1024


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--gigabytes", type=float, nargs="+", default=[1, 4, 16])
    flags.add_argument("--hidden_share", type=float, default=0.08)
    flags.add_argument("--refiner", type=Path)
    flags.add_argument("--folder", type=Path, default=Path("runs/refine_memory"))
    flags.add_argument("options", nargs="*", help="for refine.py, after --: -- --config.block=8,512,512")
    given = flags.parse_args()
    folder = given.folder.absolute()
    refiner = given.refiner.absolute() if given.refiner else folder / "mae"
    if not given.refiner:
        command = [sys.executable, "train.py", "--config", "configs/mae.py:smoke", "--workdir", refiner]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    print(
        "| labels + entropy | slices of 2048 x 2048 | peak resident memory | minutes |\n|---|---|---|---|", flush=True
    )
    peaks = []
    for gigabytes in given.gigabytes:
        place = folder / f"{gigabytes:g}"
        shutil.rmtree(place, ignore_errors=True)
        depth = write_inputs(place, gigabytes, given.hidden_share)
        seconds, peak = refine(place, refiner, given.options)
        peaks.append(peak)
        print(f"| {gigabytes:g} GB | {depth} | {peak / 1e9:.3f} GB | {seconds / 60:.1f} |", flush=True)
        shutil.rmtree(place)
    spread = max(peaks) / min(peaks) - 1
    print(f"largest over smallest peak: +{spread:.1%}")
    return int(spread > 0.1)


if __name__ == "__main__":
    sys.exit(main())
