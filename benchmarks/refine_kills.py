"""Kills refine.py at random moments, again and again, and compares what it makes with that of a run in one go.

    python benchmarks/refine_kills.py [--kills 30] [--refiner runs/mae] [--folder runs/refine_kills]

A small job (labels and entropy, 8 x 256 x 256 voxels, small blocks, objects, ratings with the test of foreignness, TIFF
export). SIGKILL after a random time, and the same command again; whenever a run comes to its end, the hash of all its
arrays and tables is compared, maeref verify must find it whole, and the next kill begins anew. Without --refiner the
masked autoencoder of configs/mae.py:smoke is trained first. Prints a line per kill; exit code 1 if any result differs.
About 10 s a kill on 2 CPU cores.
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from maeref_jax.results import marks, verifying
from maeref_jax.results.place import Output
from maeref_jax.volumes.formats.store import open_store
from maeref_jax.volumes.volume import write_tiff

ROOT = Path(__file__).parent.parent
SHAPE = (8, 256, 256)
SIZE_NM = (20.0, 10.0, 10.0)


def write_inputs(folder):
    rng = np.random.default_rng(0)

    def smooth(sigma):
        noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), (1, sigma, sigma))
        return noise / noise.std()

    write_tiff(folder / "labels.tif", np.digitize(smooth(8), [0.0, 0.5, 1.2]).astype(np.uint8), SIZE_NM)
    write_tiff(folder / "entropy.tif", np.where(smooth(6) > 1.2, 0.9, 0.1).astype(np.float32), SIZE_NM)


def command(folder, refiner, name):
    given = [sys.executable, "refine.py", "--labels", folder / "labels.tif", "--entropy", folder / "entropy.tif"]
    given += ["--refiner", refiner, "--threshold", "0.4", "--output", folder / name]
    given += ["--config.block=1,64,64", "--config.batch=4", "--config.foreignness=true", "--config.leave=red"]
    return list(map(str, given))


def hash_of(folder):
    """SHA-256 of all arrays of all levels, the tables and the exports."""
    digest = hashlib.sha256()
    for metadata in sorted(folder.rglob("zarr.json")):
        if '"array"' in metadata.read_text():
            digest.update(str(metadata.relative_to(folder)).encode())
            array = open_store(metadata.parent, {"driver": "zarr3", "open": True}, "an array")
            digest.update(np.ascontiguousarray(array.read().result()).tobytes())
    for file in sorted([*folder.glob("*.csv"), *folder.glob("*.tif"), *folder.glob("*_skeletons/*")]):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def blocks_done(folder):
    return sum(len(marks.finished(Output(folder, "labels"), step)) for step in ("segment", "refine"))


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kills", type=int, default=30)
    flags.add_argument("--refiner", type=Path)
    flags.add_argument("--folder", type=Path, default=Path("runs/refine_kills"))
    flags.add_argument("--seed", type=int, default=0)
    given = flags.parse_args()
    rng, folder = random.Random(given.seed), given.folder.absolute()
    quiet = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    folder.mkdir(parents=True, exist_ok=True)
    refiner = given.refiner.absolute() if given.refiner else folder / "mae"
    if not given.refiner:
        training = [sys.executable, "train.py", "--config", "configs/mae.py:smoke", "--workdir", str(refiner)]
        subprocess.run(training, check=True, **quiet)
    write_inputs(folder)
    for name in ("whole", "killed"):
        shutil.rmtree(folder / name, ignore_errors=True)
    began = time.monotonic()
    subprocess.run(command(folder, refiner, "whole"), check=True, **quiet)
    length, expected = time.monotonic() - began, hash_of(folder / "whole")
    print(f"in one go: {length:.1f} s, {blocks_done(folder / 'whole')} blocks, {expected}", flush=True)
    different = kills = 0
    while True:
        process = subprocess.Popen(command(folder, refiner, "killed"), **quiet)
        last = kills == given.kills
        wait = float("inf") if last else rng.uniform(0.1, 0.9) * length
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < wait:
            time.sleep(0.005)
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        said = f"{blocks_done(folder / 'killed')} blocks done"
        if ended:
            found = hash_of(folder / "killed") if process.returncode == 0 else errors.decode()[-300:]
            whole = verifying.verify(Output(folder / "killed", "labels")).state == verifying.WHOLE
            found = found if whole else f"{found}, and maeref verify finds it damaged"
            different += found != expected
            length = min(length, time.monotonic() - began)  # the first one also compiled
            said = f"came to its end, {'the same' if found == expected else f'DIFFERENT: {found}'}"
            shutil.rmtree(folder / "killed")
        kills += not ended
        number = "" if ended else kills
        print(f"{number:3} after {time.monotonic() - began:4.1f} s: {said}", flush=True)
        if last:
            break
    print(f"{kills} kills, {different} results that differ")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
