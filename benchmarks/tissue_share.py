"""Refining within a mask: does the time fall with the share of tissue?

    python benchmarks/tissue_share.py [--shape 8 512 512] [--shares 0.1 0.3 1] [--rounds 3] [--mode demo]

One image, refined within masks of so many shares (a disk in every slice, eight times as coarse as the image) and
without a mask, in turns. Networks are those of `configs/ensemble.py:demo` and `configs/mae.py:demo`, freshly
initialised: their answers mean nothing, their time does. The threshold hides a tenth of all tokens. Seconds are of the
whole run, output and checks included; "refine" falls with what is hidden inside. The fixed part is what a run takes
that has nothing to do with tissue: reading, marks, digests, pyramids.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import ensemble_speed
import measuring
import volume_speed
from scipy import ndimage

from maeref_jax.commands import command_line
from maeref_jax.pipeline import jobs, refining
from maeref_jax.segmenters import ensemble
from maeref_jax.volumes.volume import create_volume
from maeref_jax.volumes.windows import whole

SIZE_NM = (40.0, 8.0, 8.0)
COARSER = 8  # how many voxels of the image are one of the mask along y and x
HIDDEN = 0.1


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--shape", type=int, nargs=3, default=(8, 512, 512))
    flags.add_argument("--shares", type=float, nargs="+", default=(0.1, 0.3, 1.0))
    flags.add_argument("--block", type=int, nargs=3, default=(8, 128, 128))
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--mode", default="demo", help="of both configs")
    given = flags.parse_args()
    segmenter, refiner = models(given.mode)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder), segmenter, refiner, given)
    header = ("tissue", "seconds", "of no mask", "segment s", "refine s", "windows", "refined", "blocks skipped")
    measuring.report("tissue_share", header, rows)


def models(mode):
    """(segmenter, refiner), untrained jobs.Models of the configs `ensemble` and `mae`."""
    settings = command_line.load_config(f"ensemble:{mode}").to_dict()
    params, state = jax.jit(ensemble.method(settings).init)(jax.random.key(0), ensemble_speed.random_batch(settings, 1))
    apply = ensemble.segmenter(settings)
    segmenter = jobs.Model("untrained ensemble", "ensemble", settings, jax.device_get(params), state, apply, {})
    return segmenter, volume_speed.untrained(command_line.load_config(f"mae:{mode}").to_dict())


def measured(folder, segmenter, refiner, given):
    """The rows of the table."""
    shape = tuple(given.shape)
    rng = np.random.default_rng(0)
    grey = np.stack([ndimage.gaussian_filter(rng.normal(size=shape[1:]), 3) for _ in range(shape[0])])
    image = stored(folder / "image.zarr", np.clip(128 + 40 * grey / grey.std(), 0, 255).astype(np.uint8), SIZE_NM)
    settings = jobs.Settings(block=tuple(given.block), ambiguous_threshold=1.0, tiff_export=False, overwrite=True)
    settings = settings._replace(threshold=threshold_of(folder, image, segmenter, refiner, settings))
    found, calls = {}, {}
    for share in (None, *given.shares):
        name = "no mask" if share is None else f"{share:.0%}"
        job = jobs.Job("it", folder / name.replace(" ", "_"), image=image)
        if share is not None:
            coarse = (SIZE_NM[0], *(COARSER * size for size in SIZE_NM[1:]))
            job = job._replace(within=stored(folder / f"mask_{share:g}.zarr", disk(shape, share), coarse))

        def call(name=name, job=job):
            found[name] = refining.refine_volume(job, segmenter, refiner, settings, lambda text: None)

        calls[name] = call
    seconds = measuring.alternating(calls, given.rounds)
    return [row(name, found[name], seconds) for name in calls]


def threshold_of(folder, image, segmenter, refiner, settings):
    """The threshold that about HIDDEN of the tokens are above."""
    job = jobs.Job("first", folder / "first", image=image)
    refining.refine_volume(job, segmenter, None, settings._replace(threshold=1.0), lambda text: None)
    entropy = refining.open_result(job.output, "first", "entropy").read(whole(image.shape)) / 255
    shutil.rmtree(job.output)
    token = refiner.settings["token"]
    depth, height, width = entropy.shape
    means = entropy.reshape(depth, height // token, token, width // token, token).mean((2, 4))
    return round(float(np.quantile(means, 1 - HIDDEN)), 3)


def disk(shape, share):
    """uint8 mask, COARSER along y and x: 1 inside of a disk that is such a share of every slice."""
    rows, columns = (-(-size // COARSER) for size in shape[1:])
    y, x = np.ogrid[:rows, :columns]
    distance = np.hypot(y - rows / 2, x - columns / 2) + np.zeros((rows, columns))
    inside = distance <= np.quantile(distance, share)
    return np.broadcast_to(inside, (shape[0], rows, columns)).astype(np.uint8)


def stored(path, array, voxel_size_nm):
    made = create_volume(path, array.shape, "uint8", voxel_size_nm=voxel_size_nm, chunk=(4, 256, 256))
    made.write(whole(array.shape), array)
    return made


def row(name, summary, seconds):
    mask = summary.get("within")
    windows, skipped = "all", "-"
    if mask:
        windows = f"{mask['segment_windows']['computed']:,}/{mask['segment_windows']['all']:,}"
        skipped = f"{mask['blocks']['skipped']}/{mask['blocks']['all']}"
    refined = f"{summary['windows']['computed']:,}/{summary['windows']['refine']:,}"
    stages = (float(summary["seconds"][stage]) for stage in ("segment", "refine"))
    return (name, seconds[name], seconds[name] / seconds["no mask"], *stages, windows, refined, skipped)


if __name__ == "__main__":
    main()
