"""What the tests of refine.py share: small stacks on disk, fake models in the place of trained ones, and commands.

The fixtures `stacks` and `refine` of conftest.py are made of these.
"""

import json
from pathlib import Path

import numpy as np
import tifffile
from fakes import SHAPE, image, labels, refiner, segmenter

from maeref_jax.pipeline import methods, refining
from maeref_jax.volumes.volume import write_tiff
from maeref_jax.volumes.windows import whole

SIZE = (30.0, 5.0, 4.0)
SMALL = ["--config", "refine:smoke"]
IMAGE = ["--input", "stacks/a.tif", "--ensemble", "ensemble", "--refiner", "mae", "--output", "out"]
LABELS = ["--labels", "a_labels.tif", "--refiner", "mae", "--output", "out"]


def make_stacks(folder, monkeypatch):
    """In the folder: images a, b, c, their labels and entropy, and two workdirs, whose models are fakes."""
    for name in ("ensemble", "mae"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("{}")
    use_models(monkeypatch)
    (folder / "stacks").mkdir()
    for seed, stem in enumerate("abc"):
        write_tiff(folder / "stacks" / f"{stem}.tif", image(seed), SIZE)
        write_tiff(folder / f"{stem}_labels.tif", labels(seed), SIZE)
        write_tiff(folder / "stacks" / f"{stem}_entropy.tif", entropy_of(seed), SIZE)


def use_models(monkeypatch, **models):
    """These take the place of the fake segmenter, refiner or both."""
    found = {"segmenter": segmenter(), "refiner": refiner()} | models
    monkeypatch.setattr(methods, "load_model", lambda _, kind: found[kind])


def entropy_of(seed):
    entropy = np.zeros(SHAPE, np.float32)
    entropy[:, 4 * seed : 4 * seed + 8, 8:16] = 0.9
    return entropy


def result(directory, stem, role="refined"):
    return refining.open_result(directory, stem, role).read(whole(SHAPE))


def sidecar(stem="a", directory="out"):
    return json.loads(Path(directory, f"{stem}.json").read_text())


def mistakes(err):
    """What was said on stderr beside warnings, which the small fakes give many reasons for."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith("warning: "))


def damage_last_page(path):
    """A compressed stack of whole numbers whose last page is no compressed data: it opens, and cannot be read."""
    tifffile.imwrite(path, image().astype(np.uint8), compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages[-1].dataoffsets[0], tif.pages[-1].databytecounts[0]
    content = bytearray(Path(path).read_bytes())
    content[start : start + count] = bytes(count)
    Path(path).write_bytes(content)
