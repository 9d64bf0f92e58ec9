"""What digests of all that is written cost: their share of a run, and the rate of maeref verify.

    python benchmarks/digests.py [--config configs/mae.py:demo] [--shape 16 512 512] [--hidden 0.02 0.2]

Labels and entropy are refined with a freshly initialised masked autoencoder, with objects, ratings and TIFF export, as
maeref refine does. "noted" are the seconds of all digests of blocks that are taken when they are written, "compared"
those of reading blocks again and comparing them, "files" those of the fingerprints of what lies beside; pieces of work
beside each other count for each. "share" is all of them by the seconds of the run.
"""

import argparse
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import measuring
from volume_speed import stack, untrained

from maeref_jax.commands import command_line
from maeref_jax.pipeline import jobs, passes, refining
from maeref_jax.results import digests, files, marks, verifying
from maeref_jax.results.place import Output
from maeref_jax.volumes.volume import array_volume, create_volume
from maeref_jax.volumes.windows import whole

SIZE_NM = (30.0, 5.0, 5.0)
_inside = threading.local()


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", default="configs/mae.py:demo")
    flags.add_argument("--shape", type=int, nargs=3, default=(16, 512, 512))
    flags.add_argument("--hidden", type=float, nargs="+", default=(0.02, 0.2))
    given = flags.parse_args()
    model = untrained(command_line.load_config(given.config).to_dict())
    with tempfile.TemporaryDirectory() as folder:
        rows = [refined(model, Path(folder) / f"{share:.0%}", stack(given.shape, share)) for share in given.hidden]
    header = ("hidden", "seconds", "noted s", "compared s", "files s", "share", "verified Mvox/s")
    measuring.report("digests", header, rows)


def refined(model, folder, stacks):
    folder.mkdir()
    stored = {}
    for role, array in zip(("labels", "entropy"), stacks, strict=True):
        stored[role] = create_volume(folder / f"{role}.zarr", array.shape, "uint8", chunk=(4, 512, 512))
        stored[role].write(whole(array.shape), array)
    asked = jobs.Settings(threshold=0.4, ambiguous_threshold=1.0, objects=True, trust=True)
    small = {role: array_volume(array[:1], role, SIZE_NM) for role, array in zip(stored, stacks, strict=True)}
    refining.refine_volume(jobs.Job("warm", folder, **small), None, model, asked, lambda text: None)
    with (
        timed(passes, "digest_of", digests) as noted,
        timed(marks.Checked, "compare") as compared,
        timed(files, "fingerprint") as beside,
    ):
        began = time.perf_counter()
        refining.refine_volume(jobs.Job("it", folder, **stored), None, model, asked, lambda text: None)
        seconds = time.perf_counter() - began
    parts = [sum(noted), sum(compared), sum(beside)]
    began = time.perf_counter()
    verdict = verifying.verify(Output(folder, "it"))
    rate = np.prod(stacks[0].shape) / (time.perf_counter() - began) / 1e6
    if verdict.state != verifying.WHOLE:
        raise RuntimeError(f"maeref verify says {verdict.state} of a result that nobody touched")
    return (folder.name, seconds, *parts, f"{sum(parts) / seconds:.1%}", float(rate))


@contextmanager
def timed(where, name, *others):
    """The seconds of every call of a function, which `others` call by that name, too; a call inside another timed one
    counts for that one.
    """
    found, real = [], getattr(where, name)

    def wrapped(*arguments):
        if getattr(_inside, "timed", False):
            return real(*arguments)
        began, _inside.timed = time.perf_counter(), True
        try:
            return real(*arguments)
        finally:
            _inside.timed = False
            found.append(time.perf_counter() - began)

    for place in (where, *others):
        setattr(place, name, wrapped)
    try:
        yield found
    finally:
        for place in (where, *others):
            setattr(place, name, real)


if __name__ == "__main__":
    main()
