"""Segmentation from a few clicks, judged by the truth: ε-Seg (configs/sparse_labels.py), a U-Net (configs/ensemble.py)
and a random forest on filter responses learn from the same clicks; the U-Net with every label is the ceiling.

    MAEREF_DATA=FOLDER python benchmarks/clicks.py --data phantoms --share 0.0005 --draws 0 1 2
    python benchmarks/clicks.py --data phantoms --rows "no inpainting" kmeans longer
    python benchmarks/clicks.py --tables

The data sets are phantoms, vnc_sstem, epfl_hippocampus and mef_cristae (below: which slices train, validate and test; a
gap lies between). Clicks are drawn as `maeref sample-labels --share` draws them, of every class as many, and of the
validation volumes the same share. Every training takes about as long (STEPS, chosen once from steps a second). Each
result is a line of runs/clicks_judged/DATA/SHARE/DRAW/results.jsonl; what is there is not made again. Seconds are those
of the processor, compilation included. Clicks are drawn as if all classes were as common: the column "weighed" has
probabilities multiplied by their means over the test volumes, by how common the method itself takes a class for. The
forest needs scikit-learn (pip install scikit-learn); without it that row is left out. Five minutes a draw on one core.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import forest

from maeref_jax.commands import command_line
from maeref_jax.evaluation import sparse
from maeref_jax.experiments import class_settings, run, sparse_labels
from maeref_jax.metrics import overlap
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import methods
from maeref_jax.report.table import Table, text_table
from maeref_jax.samples import click_crops, drawn_labels
from maeref_jax.segmenters import sparse_labels as segmenter
from maeref_jax.training.workdir import keep_compiled
from maeref_jax.volumes.volume import array_volume, open_volume, write_tiff
from maeref_jax.volumes.windows import whole
from maeref_jax.volumes.writing import UNKNOWN_ON_DISK

FOLDER = Path("runs/clicks_judged")
LEARNED = ("train", "validation")
SPLITS = (*LEARNED, "test")
STEPS = {"unet": 1200, "clicks": 300, "pseudo_labels": 40}
ROWS = {
    "unet_full": "U-Net, every label",
    "unet": "U-Net",
    "forest": "random forest",
    "clicks": "ε-Seg, clicks alone",
    "pseudo_labels": "ε-Seg, with pseudo-labels",
}
# What is changed of the row "clicks", or asked of its network.
VARIANTS = {
    "no contrastive term": {"losses": {"contrastive": 0.0}},
    "no mixture prior": {"losses": {"divergence": 0.0}},
    "no inpainting": {"losses": {"inpainting": 0.0}},
    "margin": {"margin": 8, "steps": 200},
    "longer": {"margin": 8, "steps": 1200},
    "kmeans": {},
}
PHANTOM = ("background", "intermembrane", "cristae", "matrix")
VNC = ("intracellular", "membrane", "mitochondria", "synapse", "extracellular")
COLOURS = ((0, 0, 0), (40, 90, 255), (40, 200, 80), (250, 220, 60), (230, 60, 60))


class Data(NamedTuple):
    """names: of the classes; voxel_size_nm; volumes: {split: [(image, labels)]}, arrays (z, y, x)."""

    names: tuple[str, ...]
    voxel_size_nm: tuple[float, float, float]
    volumes: dict[str, list]


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", choices=DATA)
    flags.add_argument("--share", type=float, default=0.0005)
    flags.add_argument("--draws", type=int, nargs="+", default=[0])
    flags.add_argument("--rows", nargs="+", choices=(*ROWS, *VARIANTS), default=list(ROWS))
    flags.add_argument("--tables", action="store_true")
    given = flags.parse_args()
    if given.data:
        keep_compiled(FOLDER)
        data = DATA[given.data]()
        for draw in given.draws:
            one_draw(given.data, data, given.share, draw, given.rows)
    if given.tables or not given.data:
        if not any(FOLDER.glob("*/*/*/results.jsonl")):
            flags.error(f"nothing was judged yet in {FOLDER}; give --data")
        tables()


# The data sets


def phantoms():
    size, seeds = (12.0, 6.0, 6.0), {"train": (0, 1, 2, 3), "validation": (8,), "test": (100, 101)}
    made = {split: [phantom(seed, (24, 112, 112), size) for seed in own] for split, own in seeds.items()}
    return Data(PHANTOM, size, {split: [(one.image, one.labels) for one in own] for split, own in made.items()})


def vnc_sstem():
    """Slices 0–7, 8–9 and 11–13 at half resolution in the plane: 10 is left out."""
    image, labels = (public("vnc_sstem", f"{name}.tif") for name in ("image", "label"))
    image = image.reshape(14, 512, 2, 512, 2).mean((2, 4)).round().astype(np.uint8)
    return Data(VNC, (45.0, 9.2, 9.2), by_slices(image, labels[:, ::2, ::2], (0, 8), (8, 10), (11, 14)))


def epfl_hippocampus():
    """Slices 0–119, 125–140 and 150–164 of the training stack at half resolution; every fifth of the last two."""
    image, labels = (public("epfl_hippocampus", f"training_half{name}.tif") for name in ("", "_groundtruth"))
    volumes = by_slices(image, labels, (0, 120), (125, 141, 5), (150, 165, 5))
    return Data(("background", "mitochondria"), (5.0, 10.0, 10.0), volumes)


def mef_cristae():
    """Both mitochondria that have images: of x the first 46 % train, 24 % validate, 25 % test, with gaps between."""
    volumes = {split: [] for split in SPLITS}
    for name in ("NI_m1", "8hpi_m1"):
        image, labels = (public("mef_cristae", f"{name}_{role}.tif") for role in ("raw", "label"))
        for split, (first, last) in zip(SPLITS, ((0, 0.46), (0.48, 0.725), (0.75, 1)), strict=True):
            part = np.s_[:, :, round(first * image.shape[2]) : round(last * image.shape[2])]
            volumes[split].append((image[part], labels[part]))
    return Data(("background", "matrix", "cristae", "membrane"), (5.0, 5.0, 5.0), volumes)


def by_slices(image, labels, *ranges):
    return {split: [(image[slice(*r)], labels[slice(*r)])] for split, r in zip(SPLITS, ranges, strict=True)}


def public(folder, name):
    volume = open_volume(Path(os.environ.get("MAEREF_DATA", "data")) / folder / name, axes="ZYX")
    return volume.read(whole(volume.shape))


DATA = {made.__name__: made for made in (phantoms, vnc_sstem, epfl_hippocampus, mef_cristae)}


# One draw of clicks, and what learns from it


def one_draw(name, data, share, draw, rows):
    folder = FOLDER / name / f"{share:g}" / str(draw)
    files = {"images": written(FOLDER / name / "volumes", data, "image", lambda image, labels: image)}
    files["every"] = written(FOLDER / name / "volumes", data, "labels", lambda image, labels: labels)
    drawn = written(folder, data, "clicks", lambda image, labels: only_clicks(labels, data, share, draw))
    clicks = {split: [open_volume(path).read(whole(data.volumes[split][i][1].shape)) for i, path in enumerate(own)]
              for split, own in drawn.items()}  # fmt: skip
    count = sum(int((labels != UNKNOWN_ON_DISK).sum()) for labels in clicks["train"])

    def result(row, place, make):
        """What is known of a row. make() -> (both Counts of `counted`, seconds of the training); place: a folder."""
        path = place / "results.jsonl"
        there = map(json.loads, path.read_text().splitlines() if path.exists() else [])
        if already := next((one for one in there if one["row"] == row), None):
            return already
        print(f"\n{name}, share {share:g}, draw {draw}: {row}", flush=True)
        (counts, weighed), seconds = make()
        found = {"row": row, "seconds": round(seconds, 1), "clicks": count, **sparse.numbers(counts, data.names)}
        found["weighed"] = sparse.numbers(weighed, data.names)
        place.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)
        return found

    full, eps, images = FOLDER / name / "1" / "0", folder / "sparse_labels", files["images"]

    def first_phase():
        return result("clicks", folder, lambda: epsilon(eps, data, images, drawn))

    def pseudo_labels():
        before = first_phase()["seconds"]
        return result("pseudo_labels", folder, lambda: epsilon(eps, data, images, drawn, before=before))

    def variant(row):
        return result(row, folder, lambda: epsilon(folder / row, data, images, drawn, VARIANTS[row]))

    def kmeans():
        first_phase()
        return result("kmeans", folder, lambda: clusters_of(eps / "clicks", data))

    makers = {
        "unet_full": lambda: result("unet_full", full, lambda: unet(full / "unet", data, images, files["every"])),
        "unet": lambda: result("unet", folder, lambda: unet(folder / "unet", data, images, drawn)),
        "forest": lambda: result("forest", folder, lambda: forest_of(data, clicks["train"])),
        "clicks": first_phase,
        "pseudo_labels": pseudo_labels,
        "kmeans": kmeans,
    }
    for row in rows:
        if row == "forest" and not forest.AVAILABLE:
            print("no random forest: pip install scikit-learn")
        else:
            makers.get(row, lambda row=row: variant(row))()


def written(folder, data, role, take):
    """{split: paths} of what `take` makes of (image, labels), written where it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for split in LEARNED:
        volumes = data.volumes[split]
        paths[split] = [folder / f"{split}_{i}_{role}.tif" for i in range(len(volumes))]
        for path, pair in zip(paths[split], volumes, strict=True):
            if not path.exists():
                write_tiff(path, take(*pair), data.voxel_size_nm)
    return {split: tuple(map(str, own)) for split, own in paths.items()}


def only_clicks(labels, data, share, draw):
    volume = array_volume(labels.astype(np.int16), "labels", data.voxel_size_nm)
    found = drawn_labels.share(volume, len(data.names), range(len(labels)), draw, share)
    clicked = np.full(labels.shape, UNKNOWN_ON_DISK, np.uint8)
    clicked[tuple(found.places.T)] = found.classes
    return clicked


def settings_of(config, data, images, labels):
    """Settings of a config for files, of these classes; one network."""
    settings = command_line.load_config(config).to_dict()
    scheme = {"names": data.names, "colours": COLOURS[: len(data.names)], "ambiguous": -1}
    settings = class_settings.with_classes(settings, scheme)
    settings["data"]["phantom"] |= {"train": (), "validation": ()}
    for split in ("train", "validation"):
        settings["data"][split] |= {"images": images[split], "labels": labels[split]}
    settings["data"]["label_map"] = tuple((c, c) for c in range(len(data.names)))
    return {**settings, "voxel_size_nm": data.voxel_size_nm, "members": 1}


def unet(place, data, images, labels):
    settings = settings_of("ensemble:demo", data, images, labels)
    settings |= {"steps": STEPS["unet"], "evaluate_every": STEPS["unet"] // 3, "batch": 4}
    settings |= {"min_foreground": 0.0, "validation_slices": 4, "volumes_per_member": len(images["train"])}
    seconds = timed(lambda: run.train(settings, place))
    return judged(place, data), seconds


def epsilon(place, data, images, labels, changed=(), before=None):
    """The first phase, in a folder of its own; or the second one, which starts from it. before: seconds the first took,
    to train the second; changed: settings.
    """
    settings = settings_of("sparse_labels:demo", data, images, labels)
    settings |= {"steps": STEPS["clicks"]}
    settings["use"] |= {"tile": (160, 160)}
    settings["pseudo_labels"] |= {"steps": STEPS["pseudo_labels"]}
    for name, value in dict(changed).items():
        settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
    settings["evaluate_every"] = settings["steps"] // 3
    if before is not None:
        seconds = timed(lambda: sparse_labels.train(settings, place))
        return judged(place, data), before + seconds
    settings["phases"] = sparse_labels.PHASES[:1]
    seconds = timed(lambda: run.train(settings, place / "clicks"))
    return judged(place / "clicks", data), seconds


def forest_of(data, clicks):
    began = time.process_time()
    grown = forest.grow([image for image, _ in data.volumes["train"]], clicks)
    seconds = time.process_time() - began
    return counted(lambda image: forest.probabilities(grown, image, len(data.names)), data), seconds


def judged(place, data):
    model = methods.load_model(place, "segmenter")

    def said(image):
        volume = array_volume(image, "test", data.voxel_size_nm)
        return np.concatenate([means for _, means in sparse.means_of(model, volume)])

    return counted(said, data)


def counted(said, data):
    """Counts of the test volumes, as `said`, image -> mean probabilities; and of these times their own means."""
    pairs = [(said(image), labels.astype(np.int16)) for image, labels in data.volumes["test"]]
    shares = sum(means.sum((0, 1, 2)) for means, _ in pairs) / sum(labels.size for _, labels in pairs)
    return tuple(
        sparse.sum_of(sparse.count_means(normalised(means * weights), labels, len(shares)) for means, labels in pairs)
        for weights in (np.ones_like(shares), shares)
    )


def normalised(weights):
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def clusters_of(place, data, number=4000):
    """Counts of as many clusters of latents as classes, and no time: of so many voxels of the test volumes, drawn at
    random. Each cluster gets the class that makes the most voxels right; the head would have to find that by clicks.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans

    model, rng = methods.load_model(place, "segmenter"), np.random.default_rng(0)
    net, crop = segmenter.network(model.settings), segmenter.crop_shape(model.settings)
    variables = {"params": model.params, "batch_stats": model.state["batch_stats"]}
    variables = jax.tree.map(lambda leaf: leaf[0], variables)

    @jax.jit
    def latents(windows):
        x = segmenter.normalised(windows, model.state["grey"])[..., None]
        return net.apply(variables, net.apply(variables, x, method="encoded")[-1], method="coarsest")

    found, truth = [], []
    for image, labels in data.volumes["test"]:
        places = np.stack([rng.integers(0, size, number // len(data.volumes["test"])) for size in image.shape], 1)
        windows = np.stack([click_crops.crop_around(image, place, crop) for place in places])
        found += [np.asarray(latents(part)).reshape(len(part), -1) for part in np.array_split(windows, 20)]
        truth.append(labels[tuple(places.T)])
    truth, classes = np.concatenate(truth).astype(np.int16), len(data.names)
    clusters = KMeans(classes, n_init=10, random_state=0).fit_predict(np.concatenate(found))
    _, columns = linear_sum_assignment(-overlap.confusion(clusters.astype(np.int16), truth, classes))
    sure = np.eye(classes, dtype=np.float32)[columns[clusters]]
    return (sparse.count_means(sure, truth, classes),) * 2, 0.0


def timed(call):
    began = time.process_time()
    call()
    return time.process_time() - began


# The tables


def tables():
    """One table a data set and share, of all draws: the mean, and the lowest and highest mean Dice."""
    for share in sorted(FOLDER.glob("*/*/"), key=lambda path: (path.parent.name, float_of(path.name))):
        found = {}
        for path in sorted([*share.glob("*/results.jsonl"), share.parent / "1" / "0" / "results.jsonl"]):
            for line in path.read_text().splitlines() if path.exists() else ():
                one = json.loads(line)
                found.setdefault(one["row"], []).append(one)
        if share.name in ("1", "volumes") or not found:
            continue
        names, rows = list(next(iter(found.values()))[0]["dice"]), []
        for row in (*ROWS, *(other for other in found if other not in ROWS)):
            if own := found.get(row):
                rows.append((ROWS.get(row, row), *cells(own, names)))
        clicks = max(one["clicks"] for own in found.values() for one in own)
        header = ("", "draws", "seconds", "mean Dice", "lowest–highest", *names, "AUROC", "weighed")
        note = f"Dice; {names[0]} is not in the mean. About {clicks:,} clicks in the training volumes."
        print(text_table(Table(f"{share.parent.name}, {100 * float(share.name):g} % of the voxels labelled", header,
                               tuple(rows), (), note)), "\n")  # fmt: skip


def cells(own, names):
    dice = [one["mean_dice"] for one in own]
    means = [f"{statistics.fmean(one['dice'][c] for one in own):.3f}" for c in names]
    seconds = f"{statistics.fmean(one['seconds'] for one in own):.0f}"
    auroc = f"{statistics.fmean(one['auroc'] for one in own):.2f}"
    weighed = f"{statistics.fmean(one['weighed']['mean_dice'] for one in own):.3f}"
    spread = f"{min(dice):.3f}–{max(dice):.3f}"
    return f"{len(own)}", seconds, f"{statistics.fmean(dice):.3f}", spread, *means, auroc, weighed


def float_of(text):
    try:
        return float(text)
    except ValueError:
        return 2.0


if __name__ == "__main__":
    main()
