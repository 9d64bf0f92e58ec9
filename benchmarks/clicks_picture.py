"""A picture of what benchmarks/clicks.py trained: a training slice with its clicks; and of a test slice the image, what
the U-Net and ε-Seg say of it, how sure they are, and the truth. Pictures of public data are not to be redistributed.

    MAEREF_DATA=FOLDER python benchmarks/clicks_picture.py --data vnc_sstem [--draw 0] --output clicks.png
"""

import argparse
import sys
from pathlib import Path

import clicks
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from maeref_jax.evaluation import sparse
from maeref_jax.pipeline import methods
from maeref_jax.report.canvas import Panel, Points, class_keys, colour_labels, compose, enlarged, grey, grey_image
from maeref_jax.training.workdir import keep_compiled
from maeref_jax.uncertainty.entropy import entropy_of_means
from maeref_jax.volumes.volume import array_volume, open_volume
from maeref_jax.volumes.windows import whole
from maeref_jax.volumes.writing import UNKNOWN_ON_DISK

MODELS = {"U-Net": "unet", "ε-Seg": "sparse_labels/clicks"}
SIDE, BY = 256, 2  # voxels shown, and pixels a voxel


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", choices=clicks.DATA, default="phantoms")
    flags.add_argument("--share", type=float, default=0.0005)
    flags.add_argument("--draw", type=int, default=0)
    flags.add_argument("--output", type=Path, required=True)
    given = flags.parse_args()
    keep_compiled(clicks.FOLDER)
    data, folder = clicks.DATA[given.data](), clicks.FOLDER / given.data / f"{given.share:g}" / str(given.draw)
    first = [clicked(data, folder)]
    image, truth = (volume[len(volume) // 2] for volume in data.volumes["test"][0])
    where = (middle(image.shape[0]), middle(image.shape[1]))
    first.append(panel("a test slice", grey_image(image)[where]))
    first.append(panel("the truth", colour_labels(truth.astype(np.int16), clicks.COLOURS)[where]))
    second = []
    for name, place in MODELS.items():
        means = said(methods.load_model(folder / place, "segmenter"), image, data)
        second.append(panel(name, colour_labels(means.argmax(-1), clicks.COLOURS)[where]))
        second.append(panel(f"its entropy, {name}", grey(np.asarray(entropy_of_means(means, "mean")))[where]))
    colours = clicks.COLOURS[: len(data.names)]
    given.output.write_bytes(compose([first, second], class_keys(data.names, colours)))
    print(given.output)


def clicked(data, folder):
    """The Panel of the training slice with the most clicks in view."""
    image = data.volumes["train"][0][0]
    labels = open_volume(folder / "train_0_clicks.tif").read(whole(image.shape))
    where = (slice(None), middle(image.shape[1]), middle(image.shape[2]))
    labels, shown = labels[where], image[where]
    z = (labels != UNKNOWN_ON_DISK).sum((1, 2)).argmax()
    discs = []
    for one, colour in enumerate(clicks.COLOURS[: len(data.names)]):
        if len(at := np.argwhere(labels[z] == one)):
            discs += [Points(at, (255, 255, 255), 8.0), Points(at, colour, 6.0)]
    return Panel(
        "a training slice, and all that is known of it", enlarged(grey_image(shown[z]), BY), BY, drawn=(*discs,)
    )


def said(model, image, data):
    """Mean probabilities float32 (y, x, classes) of a slice."""
    return next(sparse.means_of(model, array_volume(image[None], "test", data.voxel_size_nm)))[1][0]


def panel(title, picture):
    return Panel(title, enlarged(picture, BY), BY)


def middle(size):
    start = max(size - SIDE, 0) // 2
    return slice(start, start + SIDE)


if __name__ == "__main__":
    main()
