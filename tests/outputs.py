"""A finished and a half-finished output, made once, to be damaged in copies."""

import shutil
from pathlib import Path

import numpy as np
from fakes import SHAPE, label_job, refiner, settings

from maeref_jax.audit.trust import Limits
from maeref_jax.pipeline import refining
from maeref_jax.volumes.formats.store import open_store
from maeref_jax.volumes.volume import array_volume

TYPED = ("maeref", "refine", "--labels", "my labels.tif", "--output", "out", "--overwrite")
# This refiner is a poor one: some of its repairs are red.
LIMITS = Limits(confidence=(0.5, 0.44), context=(0.4, 0.3), foreignness=(0.8, 1.0))


def run(directory, say=lambda text: None, **changes):
    """The summary of the one volume that these tests are about, "a": labels, blobs of entropy, all that is derived."""
    tokens = np.random.default_rng(5).random((SHAPE[0], 8, 10)) < 0.12
    entropy = tokens.repeat(4, 1).repeat(4, 2)[:, : SHAPE[1], : SHAPE[2]].astype(np.float32)
    job = label_job(Path(directory), entropy=array_volume(entropy, "entropy"), typed=TYPED)
    asked = {"objects": True, "smallest_object_vx": 2, "trust": True, "trust_limits": LIMITS, "leave": ("red",)}
    return refining.refine_volume(job, None, refiner(), settings(**(asked | {"block": (2, 16, 20)} | changes)), say)


def copied(source, place):
    shutil.copytree(source, place, dirs_exist_ok=True)
    return place


def half_finished(directory):
    """Takes away what comes after the blocks, as of a run that was killed there."""
    for path in directory.glob("a[._]*"):
        if path.name != "a.ome.zarr":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (directory / "a.ome.zarr" / "progress").glob("files/*"):
        path.unlink()
    (directory / "a.ome.zarr" / "progress" / "digests.json").unlink()
    return directory


def content(directory):
    """The voxels of all arrays, and the bytes of all that lies beside them but the sidecar, by name."""
    found = {}
    for metadata in sorted((directory / "a.ome.zarr").rglob("zarr.json")):
        if '"array"' in metadata.read_text():
            array = open_store(metadata.parent, {"driver": "zarr3", "open": True}, "an array").read().result()
            found[metadata.parent.relative_to(directory).as_posix()] = np.ascontiguousarray(array).tobytes()
    files = [*directory.glob("a_*.csv"), *directory.glob("a_*.tif"), *directory.glob("a_skeletons/*")]
    return found | {file.relative_to(directory).as_posix(): file.read_bytes() for file in files}
