"""Kills training, refining or evaluating at random moments, again and again, and compares what they end in.

    python benchmarks/kills.py [--kills 5] [--jobs train_mae train_ensemble refine parts workers evaluate]

Each job is run once in one go. Then it is started, killed after a random time, and started again by the same command,
until it was killed so many times; whenever it comes to its end, the hash of all that it made is compared, what it made
is removed, and the next kill begins anew. Two of three kills are SIGKILL, the others SIGTERM, to which a run must
answer within 10 s with exit code 143.

    train_mae, train_ensemble  the configs of mode `smoke`, 300 steps, a save every five
    refine     8 x 256 x 256 voxels, blocks of 64 x 64: objects, ratings with the test of foreignness, TIFF export
    parts      the same as three processes, --num_parts 3; a kill hits one of them, or all three
    workers    the same with --workers 2 (needs daisy); a kill hits the command, or one of its workers
    evaluate   the config of mode `smoke` on the models of the first two

Prints a line per kill; exit code 1 if any hash differs, or SIGTERM was not answered. About 10 s a kill on 2 CPU cores.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from scipy import ndimage

from maeref_jax.results import verifying
from maeref_jax.results.place import Output
from maeref_jax.training.checkpoint import load_items, saved_steps
from maeref_jax.volumes.formats.store import open_store
from maeref_jax.volumes.volume import write_tiff

ROOT = Path(__file__).parent.parent
SHAPE = (8, 256, 256)
SIZE_NM = (20.0, 10.0, 10.0)
PARTS = 3
ANSWER_S = 10.0  # SIGTERM is answered within


class Job(NamedTuple):
    """commands(target): what makes it, to be run beside each other; hash_of(target): of all that was made."""

    commands: Callable[[Path], list[list]]
    hash_of: Callable[[Path], str]


def training(method, folder):
    def commands(target):
        settings = {"steps": 300, "evaluate_every": 5}
        settings |= {"data.ensemble": folder / "ensemble"} if method == "mae" else {}
        overrides = [f"--config.{key}={value}" for key, value in settings.items()]
        return [["train.py", "--config", f"configs/{method}.py:smoke", "--workdir", target, *overrides]]

    return Job(commands, last_checkpoint)


def refining(folder, flags, count=1):
    def commands(target):
        given = ["refine.py", "--labels", folder / "labels.tif", "--entropy", folder / "entropy.tif"]
        given += ["--refiner", folder / "mae", "--threshold", "0.4", "--output", target]
        given += ["--config.block=1,64,64", "--config.batch=4", "--config.foreignness=true", "--config.leave=red"]
        return [[*given, *(flag.format(part) for flag in flags)] for part in range(count)]

    return Job(commands, refined)


def evaluating(folder):
    def commands(target):
        models = [f"--config.ensemble={folder / 'ensemble'}", f"--config.refiner={folder / 'mae'}"]
        return [["evaluate.py", "--config", "configs/evaluate.py:smoke", "--workdir", target, *models]]

    return Job(commands, evaluated)


def jobs(folder):
    return {
        "train_mae": training("mae", folder),
        "train_ensemble": training("ensemble", folder),
        "refine": refining(folder, ()),
        "parts": refining(folder, (f"--num_parts={PARTS}", "--part_id={}", "--config.wait_minutes=2"), PARTS),
        "workers": refining(folder, ("--workers=2",)),
        "evaluate": evaluating(folder),
    }


def last_checkpoint(workdir):
    """Of parameters, of an ensemble also the best of every member, optimiser, step, progress."""
    items = load_items(workdir, saved_steps(workdir)[-1], ("model", "training"))
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(items))).hexdigest()[:16]


def refined(folder):
    """Of all arrays of all levels, the tables and the exports; what `maeref verify` finds where it is not whole."""
    found = verifying.verify(Output(folder, "labels"))
    if found.state != verifying.WHOLE:
        return f"{found.state}: {found}"
    digest = hashlib.sha256()
    for metadata in sorted(folder.rglob("zarr.json")):
        if '"array"' in metadata.read_text():
            digest.update(str(metadata.relative_to(folder)).encode())
            array = open_store(metadata.parent, {"driver": "zarr3", "open": True}, "an array")
            digest.update(np.ascontiguousarray(array.read().result()).tobytes())
    for file in sorted([*folder.glob("*.csv"), *folder.glob("*.tif"), *folder.glob("*_skeletons/*")]):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def evaluated(folder):
    """Of the tables of summary.json, times apart, and the stacks."""
    digest = hashlib.sha256(json.dumps(timeless(json.loads((folder / "summary.json").read_text()))).encode())
    for file in sorted(folder.glob("held_out/**/*.tif")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def timeless(found):
    if isinstance(found, dict):
        return {key: timeless(value) for key, value in sorted(found.items()) if "seconds" not in key}
    return found


def write_inputs(folder):
    rng = np.random.default_rng(0)

    def smooth(sigma):
        noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), (1, sigma, sigma))
        return noise / noise.std()

    write_tiff(folder / "labels.tif", np.digitize(smooth(8), [0.0, 0.5, 1.2]).astype(np.uint8), SIZE_NM)
    write_tiff(folder / "entropy.tif", np.where(smooth(6) > 1.2, 0.9, 0.1).astype(np.float32), SIZE_NM)
    for method in ("ensemble", "mae"):
        settings = [f"--config.data.ensemble={folder / 'ensemble'}"] if method == "mae" else []
        command = ["train.py", "--config", f"configs/{method}.py:smoke", "--workdir", folder / method, *settings]
        subprocess.run([sys.executable, *command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def start(command):
    quiet = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *map(str, command)], **quiet)


def children(process):
    listing = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return list(map(int, listing.read_text().split())) if listing.exists() else []


def hit(running, number, rng):
    """Sends the signal to one of several processes, or all; of a single one, to it or to one of its children."""
    if len(running) == 1 and (workers := children(running[0])) and rng.random() < 0.5:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(workers), number)
        return []
    chosen = running if rng.random() < 0.5 else [rng.choice(running)]
    for process in chosen:
        process.send_signal(number)
    return chosen


def wrong_end(process, number):
    """What is wrong with how a process that was hit ended; "" for nothing."""
    try:
        process.wait(ANSWER_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"it did not end within {ANSWER_S:.0f} s"
    right = (143, -signal.SIGTERM, 0) if number == signal.SIGTERM else (-signal.SIGKILL, 0)
    return "" if process.returncode in right else f"it ended with exit code {process.returncode}"


def try_out(name, job, folder, kills, rng):
    """Kills a job so many times. Returns the lines of what went wrong."""
    whole, target = folder / f"{name}_whole", folder / f"{name}_killed"
    for path in (whole, target):
        shutil.rmtree(path, ignore_errors=True)
    began = time.monotonic()
    for process in [start(command) for command in job.commands(whole)]:
        if process.wait():
            sys.exit(f"{name}: it cannot be run at all:\n{process.stderr.read().decode()}")
    length, expected = time.monotonic() - began, job.hash_of(whole)
    print(f"{name}: {length:.1f} s in one go, {expected}", flush=True)
    wrong, done, ends = [], 0, 0
    while done < kills or not ends:
        commands = job.commands(target)
        processes = [start(command) for command in commands]
        while any(process.poll() is None for process in processes):
            wait = rng.uniform(0.05, 0.95) * length if done < kills else float("inf")
            began = time.monotonic()
            while time.monotonic() - began < wait and any(process.poll() is None for process in processes):
                time.sleep(0.01)
            running = [process for process in processes if process.poll() is None]
            if not running:
                length = min(length, time.monotonic() - began)  # the first run compiled
                break
            done += 1
            number = signal.SIGTERM if done % 3 == 0 else signal.SIGKILL
            chosen = hit(running, number, rng)
            found = [text for text in (wrong_end(process, number) for process in chosen) if text]
            wrong += [f"{name}, kill {done}, {number.name}: {text}" for text in found]
            victims = f"{len(chosen)} of {len(processes)}" if chosen else "a worker"
            print(f"{done:4} {number.name} after {time.monotonic() - began:4.1f} s, {victims}", *found, flush=True)
            processes = [
                start(command) if process in chosen else process
                for command, process in zip(commands, processes, strict=True)
            ]
        failed = [process for process in processes if process.returncode]
        if failed:
            found = f"exit code {failed[0].returncode}: {failed[0].stderr.read().decode()[-500:]}"
        else:
            found = job.hash_of(target)
        ends += 1
        print(f"     came to its end, {'the same' if found == expected else 'DIFFERENT: ' + found}", flush=True)
        wrong += [f"{name}: {found} instead of {expected}"] if found != expected else []
        shutil.rmtree(target)
    print(f"{name}: {done} kills, {ends} ends, {len(wrong)} wrong", flush=True)
    return wrong


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kills", type=int, default=5, help="of each job")
    flags.add_argument("--jobs", nargs="+", help="which; all unless given")
    flags.add_argument("--folder", type=Path, default=Path("runs/kills"))
    flags.add_argument("--seed", type=int, default=0)
    given = flags.parse_args()
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    write_inputs(folder)
    known, wrong = jobs(folder), []
    for name in given.jobs or known:
        wrong += try_out(name, known[name], folder, given.kills, random.Random(f"{name} {given.seed}"))
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}", *wrong, sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
