"""A volume through the pipeline, and what feeds training: Mvoxel/s by stage, phantoms, the loader alone.

    python benchmarks/volume_speed.py [--config configs/mae.py:demo] [--shape 16 512 512] [--hidden 0.02 0.05 0.2]

Labels and entropy from Zarr are refined with a freshly initialised masked autoencoder (its answers mean nothing, its
time does), at several hidden shares, then twice and four times as large. "segment" reads, decides what is hidden and
writes; "refine" fills in; "export" is what comes last.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parent.parent))

import measuring

from maeref_jax.commands import command_line
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import jobs, refining
from maeref_jax.refiners import mae
from maeref_jax.samples import sampling
from maeref_jax.samples.training_volumes import TrainingVolume
from maeref_jax.volumes.volume import array_volume, create_volume
from maeref_jax.volumes.windows import whole


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", default="configs/mae.py:demo")
    flags.add_argument("--shape", type=int, nargs=3, default=(16, 512, 512))
    flags.add_argument("--hidden", type=float, nargs="+", default=(0.02, 0.05, 0.2))
    given = flags.parse_args()
    settings = command_line.load_config(given.config).to_dict()
    model = untrained(settings)
    feeding(settings)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for share in given.hidden:
            rows.append(refined(model, Path(folder), stack(given.shape, share), f"{share:.0%} hidden"))
        share = given.hidden[len(given.hidden) // 2]
        for times in (2, 4):
            shape = (times * given.shape[0], *given.shape[1:])
            name = f"{share:.0%} hidden, {times} times the size"
            rows.append(refined(model, Path(folder), stack(shape, share), name))
    header = ("labels + entropy", "Mvoxel/s", "segment s", "refine s", "export s", "windows", "computed")
    measuring.report("volume", header, rows)


def untrained(settings):
    """A jobs.Model of a masked autoencoder's config, as it is initialised."""
    window, token = tuple(settings["window"]), settings["token"]
    volume = TrainingVolume("noise", None, np.random.default_rng(0).integers(0, 4, (1, *window)).astype(np.int16))
    crops = (window, token, 0.0, (0.5, 0.5))
    params, state = jax.jit(mae.method(settings).init)(
        jax.random.key(0), sampling.label_batch([volume], 0, 0, range(2), *crops)
    )
    return jobs.Model("untrained", "mae", settings, jax.device_get(params), state, mae.refiner(settings), {})


def refined(model, folder, stacks, name):
    """One row: seconds of the stages of a volume; stacks: (labels, entropy). Stages of blocks that are at work beside
    each other count for each.
    """
    (labels, entropy), stored = stacks, {}
    shape = labels.shape
    for role, array in (("labels", labels), ("entropy", entropy)):
        stored[role] = create_volume(folder / f"{name}_{role}.zarr", shape, "uint8", chunk=(4, 512, 512))
        stored[role].write(whole(shape), array)
    settings = jobs.Settings(threshold=0.4, ambiguous_threshold=1.0)
    small = {role: array_volume(array[:1], role) for role, array in (("labels", labels), ("entropy", entropy))}
    refining.refine_volume(jobs.Job("warm", folder / name, **small), None, model, settings, lambda text: None)
    began = time.perf_counter()
    summary = refining.refine_volume(jobs.Job("it", folder / name, **stored), None, model, settings, lambda text: None)
    seconds = time.perf_counter() - began
    stages = [float(summary["seconds"][stage]) for stage in ("segment", "refine", "export")]
    rate = float(np.prod(shape)) / seconds / 1e6
    return (name, rate, *stages, summary["windows"]["refine"], summary["windows"]["computed"])


def stack(shape, share):
    """(labels, entropy) uint8 (z, y, x): smooth random classes, and blobs of full entropy on about `share` of it."""
    rng, plane = np.random.default_rng(0), shape[1:]
    noise = np.stack([ndimage.gaussian_filter(rng.normal(size=plane), 12) for _ in range(4)])
    labels = noise.argmax(0).astype(np.uint8)
    doubt = np.stack([ndimage.gaussian_filter(rng.normal(size=plane), 6) for _ in range(shape[0])])
    return np.broadcast_to(labels, shape), np.where(doubt > np.quantile(doubt, 1 - share), 255, 0).astype(np.uint8)


def feeding(settings):
    """Prints what makes training data: a phantom, and the loader alone."""
    made = phantom(0, (24, 192, 192), (20.0, 10.0, 10.0))
    volume = TrainingVolume("phantom", made.image, made.labels.astype(np.int16), np.zeros(made.image.shape, np.float32))
    window, batch = tuple(settings["window"]), settings["batch"]
    crops = (window, settings["token"], settings["min_foreground"], settings["masking_ratio"])
    intensities, steps = sampling.intensity_range([volume]), iter(range(10**6))
    calls = {
        "phantom, 24 x 192 x 192": lambda: phantom(0, (24, 192, 192), (20.0, 10.0, 10.0)),
        f"label crops, {batch} of {window}": lambda: sampling.label_batch(
            [volume], 0, next(steps), range(batch), *crops
        ),
        f"image crops, 6 x {batch} of {window}": lambda: sampling.image_batch(
            [[volume]] * 6, 0, next(steps), range(batch), window, 0.05, intensities
        ),
    }
    seconds = measuring.alternating(calls, 5)
    each = (made.image.size / 1e6, batch, 6 * batch)
    units = ("Mvoxel/s", "crops/s", "crops/s")
    rows = [
        (name, found, count / found, unit)
        for (name, found), count, unit in zip(seconds.items(), each, units, strict=True)
    ]
    measuring.report("feeding", ("what", "seconds", "rate", "unit"), rows)


if __name__ == "__main__":
    main()
