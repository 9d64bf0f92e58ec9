"""Kills a training at random moments, again and again, and compares where it ends with a run in one go.

    python benchmarks/kills.py [--kills 30] [--folder runs/kills] [--method mae|ensemble]

The masked autoencoder of configs/mae.py:smoke, or the ensemble of configs/ensemble.py:smoke, with a save every five
steps, so that many kills hit one. SIGKILL, twice of three times, or SIGTERM; every fifth while the program starts or
restores, the others at random after its first evaluation. Prints a line per kill and the hash of the last checkpoint of
both runs; exit code 1 if they differ. About 10 s a kill on 2 CPU cores.
"""

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax

from maeref_jax.training.checkpoint import load_items, saved_steps

ROOT = Path(__file__).parent.parent
STEPS = 1000


def command(method, folder, name):
    settings = {"steps": STEPS, "evaluate_every": 5}
    settings |= {"data.ensemble": folder / "predicts"} if method == "mae" else {}
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    config = f"configs/{method}.py:smoke"
    return [sys.executable, "train.py", "--config", config, "--workdir", folder / name, *overrides]


def final_hash(workdir):
    """SHA-256 of the last checkpoint: parameters, of an ensemble also the best of every member, optimiser, step, …"""
    items = load_items(workdir, saved_steps(workdir)[-1], ("model", "training"))
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(items))).hexdigest()[:16]


def last_step(workdir):
    return max(saved_steps(workdir), default=0) if (workdir / "checkpoints").is_dir() else 0


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def wait_until(process, happened):
    while process.poll() is None and not happened():
        time.sleep(0.01)


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kills", type=int, default=30)
    flags.add_argument("--folder", type=Path, default=Path("runs/kills"))
    flags.add_argument("--method", choices=("mae", "ensemble"), default="mae")
    flags.add_argument("--seed", type=int, default=0)
    given = flags.parse_args()
    rng, quiet = random.Random(given.seed), {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    folder = given.folder.absolute()
    if given.method == "mae":
        ensemble = [sys.executable, "train.py", "--config", "configs/ensemble.py:smoke", "--workdir"]
        subprocess.run([*ensemble, folder / "predicts"], check=True, **quiet)
    subprocess.run(command(given.method, folder, "whole"), check=True, **quiet)
    log = folder / "killed" / "metrics.jsonl"
    for kill in range(given.kills):
        number = signal.SIGTERM if kill % 3 == 2 else signal.SIGKILL
        process = subprocess.Popen(command(given.method, folder, "killed"), **quiet)
        starting = kill % 5 == 4
        if not starting:
            wait_until(process, lambda size=size_of(log): size_of(log) > size)
        wait = rng.uniform(0, 8 if starting else 1.5)
        began = time.monotonic()
        wait_until(process, lambda began=began, wait=wait: time.monotonic() - began > wait)
        ended = process.poll() is not None
        process.send_signal(number)
        error = process.communicate()[1].decode()
        if ended and process.returncode:
            sys.exit(f"it ended by itself with exit code {process.returncode}:\n{error}")
        state = "had ended" if ended else f"exit code {process.returncode}"
        since = "the start" if starting else "an evaluation"
        saved = last_step(folder / "killed")
        print(f"{kill + 1:3} {number.name:8} {wait:4.2f} s after {since}: {state}, saved at step {saved}", flush=True)
    subprocess.run(command(given.method, folder, "killed"), check=True, **quiet)
    whole, killed = final_hash(folder / "whole"), final_hash(folder / "killed")
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}: in one go {whole}, killed {killed}")
    return int(whole != killed)


if __name__ == "__main__":
    sys.exit(main())
