"""The parts of gpu.py that work on a volume: segmenting an image, refining labels. Both go on where they were."""

import dataclasses
import json
import shutil
import time

import numpy as np
import refine_memory
from gpu_setup import Found, number, untrained
from measuring import peak_memory_mib
from scipy import ndimage

from maeref_jax.pipeline import jobs, refining
from maeref_jax.report.table import Table
from maeref_jax.volumes.volume import create_volume
from maeref_jax.volumes.windows import blocks, whole

HEADER = ("", "voxels", "seconds", "Mvoxel/s", "hidden %", "in blocks, s", "at the end, s", "peak host MiB")
NOTE = (
    "OME-Zarr in, OME-Zarr out, without TIFF export, objects and ratings; networks with random weights in bfloat16. "
    "Seconds of blocks that are at work beside each other count for each."
)


def segment(setup):
    """An image through the six U-Nets: labels, entropy, hidden tokens."""
    job = {"image": stored(setup, "image", image_tile)}
    return finished(setup, "segment", "image to labels and entropy", job, untrained(setup.settings("ensemble", HOW)))


def refine(setup):
    """Labels and entropy, 8 % of them hidden, through the masked autoencoder."""
    labels, entropy = refine_memory.tiles(0.08)
    job = {"labels": stored(setup, "labels", lambda: labels), "entropy": stored(setup, "entropy", lambda: entropy)}
    model = untrained(setup.settings("mae", HOW))
    return finished(setup, "refine", "labels and entropy to refined labels", job, None, model)


HOW = "bfloat16"
INPUTS = {"segment": ("image",), "refine": ("labels", "entropy")}


def forget(setup, part):
    """Removes what a part has written."""
    for name in (part, *INPUTS.get(part, ())):
        shutil.rmtree(setup.scratch / name, ignore_errors=True)


def finished(setup, part, what, inputs, segmenter, refiner=None):
    """The Found of a volume that is completed, in this call or in several."""
    folder, settings = setup.scratch / part, jobs.Settings(tiff_export=False, threshold=0.4, ambiguous_threshold=1.0)
    guarded = {role: until(setup, volume) for role, volume in inputs.items()}
    job, before = jobs.Job("it", folder, **guarded), folder / "seconds.json"
    spent, began = json.loads(before.read_text()) if before.exists() else 0.0, time.monotonic()
    try:
        summary = refining.refine_volume(job, segmenter, refiner, settings, lambda text: None)
    finally:
        spent += time.monotonic() - began
        folder.mkdir(parents=True, exist_ok=True)
        before.write_text(json.dumps(spent))
    inside = sum(float(summary["seconds"][step]) for step in ("segment", "refine") if step in summary["seconds"])
    voxels, end = summary["voxels"], float(summary["seconds"]["export"])
    cells = (voxels, spent, voxels / spent / 1e6, 100 * summary["hidden_share"], inside, end, peak_memory_mib()["host"])
    shape = next(iter(inputs.values())).shape
    forget(setup, part)
    row = (f"{what}, {' x '.join(map(str, shape))}", *map(number, cells))
    return Found([Table(f"A volume: {what}", HEADER, [row], (), NOTE)])


def until(setup, volume):
    """The volume, of which nothing is read any more when the time is over."""

    def read(box):
        setup.check_time()
        return volume.read(box)

    return dataclasses.replace(volume, _read=read)


def stored(setup, role, tile):
    """A volume of the wanted size, made of copies of a tile, uint8 (z, y, x); written once."""
    plane, box = ((64, 64), (4, 64, 64)) if setup.tiny else (refine_memory.PLANE, refine_memory.TILE)
    voxels = setup.voxels / len(next(roles for roles in INPUTS.values() if role in roles))
    depth = 4 if setup.tiny else max(1, round(voxels / np.prod(plane)))
    path, done = setup.scratch / role / "it.zarr", setup.scratch / role / "done"
    given = ((depth, *plane), "uint8")
    if not done.exists():
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir(parents=True)
        made, values = create_volume(path, *given, voxel_size_nm=refine_memory.SIZE_NM, chunk=box), tile()
        for one in blocks(made.shape, box):
            made.write(one, values[whole(one.shape).slices])
        done.touch()
    return create_volume(path, *given, voxel_size_nm=refine_memory.SIZE_NM, chunk=box)


def image_tile():
    """Smooth grey values with noise, uint8."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=refine_memory.TILE), (1, 4, 4), mode="wrap")
    grey = 128 + 40 * smooth / smooth.std() + 8 * rng.normal(size=smooth.shape)
    return grey.clip(0, 255).astype(np.uint8)
