"""From the settings of a config to what a training run needs: the method, its batches, its validation batches."""

import functools
import itertools
import json
from collections.abc import Callable
from math import inf
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from etils import epath

from maeref_jax import jobs, pipeline
from maeref_jax.errors import BadInput
from maeref_jax.records import Method
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.volumes import dataset, sampling
from maeref_jax.volumes.phantom import phantom
from maeref_jax.volumes.subsets import member_volumes
from maeref_jax.volumes.volume import array_volume, open_volume, resolved, share_slices
from maeref_jax.volumes.windows import whole

VALIDATION_SEED = 1  # added to the config's seed: validation crops are the same at every evaluation


class Experiment(NamedTuple):
    """method; batches(step) -> this process's share of a batch; validation: list of batches; facts: what the workdir
    remembers of the data; description: one line for people.
    """

    method: Method
    batches: Callable[[int], dict]
    validation: list[dict]
    facts: dict
    description: str


def prepare(settings, workdir, indices):
    """The Experiment of a config's settings. indices: the samples of every batch that are made here.

    Predictions that a masked autoencoder learns from go to workdir/predictions.
    """
    if settings["method"] in pipeline.SEGMENTERS:
        return _segmenter_experiment(settings, indices)
    return _refiner_experiment(settings, epath.Path(workdir), indices)


RANGES = {
    "steps": (1, inf), "batch": (1, inf), "evaluate_every": (1, inf), "validation_batches": (1, inf),
    "stop_after": (0, inf), "members": (1, inf), "token": (1, inf), "min_foreground": (0, 1),
    "threshold": (0, 1), "ambiguous_threshold": (0, 1), "keep_within": (0, inf),
    # The checkpoint before the last is what a damaged one falls back to.
    "checkpoint.keep": (2, inf), "checkpoint.minutes": (0, inf),
    "optimizer.rate": (0, inf), "optimizer.warmup_steps": (0, inf), "optimizer.decay": (0, 1),
    "optimizer.decay_steps": (1, inf), "optimizer.patience": (1, inf), "optimizer.clip": (0, inf),
    "optimizer.b1": (0, 1), "optimizer.b2": (0, 1), "optimizer.weight_decay": (0, inf),
    "optimizer.accumulate": (1, inf), "optimizer.average": (0, 0.999999),
}  # fmt: skip


def _between(least, most):
    return f"at least {least}" if most == inf else f"between {least} and {most}"


def check(settings):
    """Raises BadInput for settings that no run can work with."""
    check_common(settings)
    method = settings["method"]
    if method in pipeline.REFINERS:
        _check_masking_ratio(settings)
    if method in pipeline.UNLEARNED:
        pipeline.UNLEARNED[method].refiner(settings)
        return
    _check_training(settings)
    _check_data(settings["data"])
    if method in pipeline.LEARNED:
        pipeline.LEARNED[method].method(settings)


def _check_training(settings):
    if min(settings["class_weights"]) < 0:
        raise BadInput(f"class_weights must not be negative, found {settings['class_weights']}")
    classes, ambiguous = len(settings["classes"]["names"]), settings["classes"]["ambiguous"]
    if len(settings["class_weights"]) < classes - (ambiguous >= 0):
        raise BadInput(f"class_weights needs one weight per class, found {settings['class_weights']}")
    build_optimizer({**settings["optimizer"], "steps": settings["steps"]})
    try:
        jnp.dtype(settings["model"]["compute_dtype"])
    except TypeError as error:
        raise BadInput(f"model.compute_dtype must be float32 or bfloat16 ({error})") from error


def _check_data(data):
    if data["phantom"]["train"] and (data["train"]["labels"] or data["validation"]["labels"]):
        raise BadInput("both phantoms and files are given; for files only, add --config.data.phantom.train=")
    if data["phantom"]["train"] and not data["phantom"]["validation"]:
        raise BadInput("data.phantom.validation is empty; give a seed that is not in data.phantom.train")
    both = sorted({*data["phantom"]["train"]} & {*data["phantom"]["validation"]})
    if both:
        raise BadInput(f"phantoms {both} are both in data.phantom.train and in validation; keep whole volumes apart")
    for role in ("labels", "images"):
        for ours, theirs in itertools.product(data["train"][role], data["validation"][role]):
            if share_slices(ours, theirs):
                raise BadInput(f"{theirs} in data.validation shares slices with {ours} in data.train; keep them apart")
    if data["train"]["images"] and not data["train"]["labels"] and not data.get("ensemble"):
        raise BadInput(
            "data.train.images are given without data.train.labels: give the labels, or, for a refiner, in "
            "data.ensemble the workdir of the ensemble that segments them"
        )


def check_common(settings):
    """BadInput for what every method has: numbers out of range, classes, voxel size, window and its tokens."""
    classes, ambiguous = len(settings["classes"]["names"]), settings["classes"]["ambiguous"]
    window, stride = settings["window"], settings["stride"]
    for name, (least, most) in RANGES.items():
        *groups, key = name.split(".")
        found = functools.reduce(lambda tree, group: tree.get(group, {}), groups, settings).get(key, least)
        if not least <= found <= most:
            raise BadInput(f"{name} must be {_between(least, most)}, found {found}")
    if not settings["voxel_size_nm"] or min(settings["voxel_size_nm"]) <= 0:
        raise BadInput(f"voxel_size_nm must be positive, found {settings['voxel_size_nm']}")
    dims = (2, 3) if settings["method"] in pipeline.SEGMENTERS else (2,)
    fits = len(window) in dims and len(stride) == len(window)
    if not fits or any(not 1 <= s <= w for s, w in zip(stride, window, strict=True)):
        numbers = " or three" if 3 in dims else ""
        raise BadInput(f"window {window} and stride {stride} must be two{numbers} numbers each, 1 <= stride <= window")
    token = settings.get("token", 1)
    if any(size % token for size in (*window, *stride)):
        raise BadInput(f"window {window} and stride {stride} must be multiples of token, {token}")
    if ambiguous not in (-1, classes - 1):
        raise BadInput(f"classes.ambiguous must be the last class, {classes - 1}, or -1 for none, found {ambiguous}")
    label_map = settings.get("data", {}).get("label_map", ())
    if any(not isinstance(pair, tuple | list) or len(pair) != 2 for pair in label_map):
        raise BadInput(f'label_map is pairs, like "((0,0),(255,1),)", found {label_map}')


def _check_masking_ratio(settings):
    ratio = _masking_ratio(settings)
    low, high = (0, 1) if ratio is None else ratio if len(ratio) == 2 else (1, 0)
    if not 0 <= low <= high <= 1:
        raise BadInput(f"masking_ratio must be two numbers, 0 <= lowest <= highest <= 1, is {ratio}")


def _masking_ratio(settings):
    """(lowest, highest); None for a refiner that is trained without hiding anything."""
    return settings.get("masking_ratio")


def _segmenter_experiment(settings, indices):
    method = pipeline.SEGMENTERS[settings["method"]].method(settings)
    train, validation = (_annotated(settings, split) for split in ("train", "validation"))
    members = member_volumes(train, settings)
    intensities = sampling.intensity_range(train)
    shape = (tuple(settings["window"]), settings["min_foreground"], intensities)
    # In validation every member sees the same crops.
    same = [validation] * settings["members"]

    def batches(step):
        return sampling.image_batch(members, settings["seed"], step, indices, *shape)

    def validation_batch(step):
        everything = range(settings["batch"])
        batch = sampling.image_batch(same, settings["seed"] + VALIDATION_SEED, step, everything, *shape)
        return {
            **batch,
            **{name: np.repeat(batch[name][:, :1], len(same), 1) for name in ("image", "labels")},
        }

    facts = {
        "volumes": [volume.name for volume in train],
        "images": _image_names(settings, "train"),
        "validation_images": _image_names(settings, "validation"),
        "member_volumes": [[volume.name for volume in volumes] for volumes in members],
        "validation_volumes": [volume.name for volume in validation],
        "intensity_range": intensities.tolist(),
        "entropy": "mean",
    }
    counts = sorted({len(volumes) for volumes in members})
    description = f"{len(train)} volumes, {len(members)} members of {' or '.join(map(str, counts))} volumes each"
    return Experiment(
        method,
        batches,
        [validation_batch(i) for i in range(settings["validation_batches"])],
        facts,
        description,
    )


def _refiner_experiment(settings, workdir, indices):
    if "://" in str(workdir) and needs_ensemble(settings):
        raise BadInput(f"{workdir}: the ensemble's predictions are written beside the model, on a local disk only")
    ensemble = settings["data"]["ensemble"] or workdir / "ensemble"
    predict = _predictor(settings, ensemble, workdir / "predictions") if needs_ensemble(settings) else None
    with_image = "image" in pipeline.REFINERS[settings["method"]].refiner(settings).needs
    train, validation = (_label_maps(settings, split, predict, with_image) for split in ("train", "validation"))
    intensities = sampling.intensity_range(train) if with_image else None
    crops = (tuple(settings["window"]), settings["token"], settings["min_foreground"])
    masking, everything = _masking_ratio(settings), range(settings["batch"])
    beside = (masking is not None and settings["mask_shapes"][2] > 0, intensities)

    def batches(step):
        progress = step / settings["steps"]
        return sampling.label_batch(train, settings["seed"], step, indices, *crops, masking, *beside, progress=progress)

    # Validation covers the range of masking ratios evenly, so that its mean does not depend on few draws.
    number, validation_seed = settings["validation_batches"], settings["seed"] + VALIDATION_SEED
    ratios = [None] * number if masking is None else [(r, r) for r in np.linspace(*masking, 2 * number + 1)[1::2]]
    validation_batches = [
        sampling.label_batch(validation, validation_seed, step, everything, *crops, ratio, *beside)
        for step, ratio in enumerate(ratios)
    ]
    facts = {
        **({"intensity_range": intensities.tolist()} if with_image else {}),
        "volumes": [volume.name for volume in train],
        "validation_volumes": [volume.name for volume in validation],
        "labels": f"predicted by the ensemble {ensemble}" if predict else "from files",
    }
    method = pipeline.REFINERS[settings["method"]].method(settings)
    return Experiment(method, batches, validation_batches, facts, f"{len(train)} label volumes, {facts['labels']}")


def _image_names(settings, split):
    """The image files of a split, as volumes to judge on are compared with them; [] for phantoms."""
    data = settings["data"]
    return [] if data["phantom"]["train"] else [resolved(path) for path in data[split]["images"]]


def _annotated(settings, split):
    data = settings["data"]
    if data["phantom"]["train"]:
        return dataset.annotated_phantoms(
            data["phantom"][split], tuple(data["phantom"]["shape"]), tuple(settings["voxel_size_nm"])
        )
    return _from_files(settings, split, with_image=True)


def _label_maps(settings, split, predict, with_image):
    data = settings["data"]
    if predict is not None:
        images = _phantom_images(settings, split) if data["phantom"]["train"] else _image_files(settings, split)
        found = [predict(name, stem, image) for name, stem, image in images]
        return found if with_image else [volume._replace(image=None) for volume in found]
    return _from_files(settings, split, with_image)


def _from_files(settings, split, with_image):
    files = settings["data"][split]
    if not files["labels"]:
        raise BadInput(f"no volumes to learn from: set data.phantom.{split} or data.{split}.labels")
    return dataset.volumes_from_files(files, settings["data"], len(settings["classes"]["names"]), with_image)


def load_ensemble(settings, workdir):
    """The segmenter in a workdir; BadInput unless it was trained for the classes and voxels of these settings."""
    model = pipeline.load_model(workdir, "segmenter")
    for name in ("classes", "voxel_size_nm"):
        wanted = json.loads(json.dumps(settings[name]))
        if model.settings[name] != wanted:
            raise BadInput(f"{model.workdir} was trained with {name} {model.settings[name]}, this config has {wanted}")
    return model


def needs_ensemble(settings):
    """Whether a refiner learns from what an ensemble says of images, phantoms or files, and not from given labels."""
    data = settings["data"]
    return bool(data["phantom"]["train"] or (data["train"]["images"] and not data["train"]["labels"]))


def _phantom_images(settings, split):
    """(name, stem of its results, Volume) of every phantom of a split."""
    shape, size = tuple(settings["data"]["phantom"]["shape"]), tuple(settings["voxel_size_nm"])
    for seed in settings["data"]["phantom"][split]:
        name = f"phantom_{seed}"
        yield name, name, array_volume(phantom(seed, shape, size).image, name, size)


def _image_files(settings, split):
    """The same of every image file of a split."""
    paths, axes = settings["data"][split]["images"], settings["data"]["axes"] or None
    if not paths:
        raise BadInput(f"no volumes to learn from: set data.{split}.images, which the ensemble segments, or .labels")
    for path, stem in zip(paths, dataset.stems(paths), strict=True):
        yield resolved(path), stem, open_volume(path, axes=axes)


def _predictor(settings, ensemble, output):
    """(name, stem, image) -> TrainingVolume of what the ensemble says of it, out of fold if it was annotated.

    Tokens that the ensemble calls ambiguous are unknown, and undecided (entropy 1): the label it has for them is only
    its second choice, so they are hidden in training as in use, and never a target.
    """
    model = load_ensemble(settings, ensemble)
    # No mean entropy is above 1: "ambiguous" alone hides tokens here.
    only_ambiguous = jobs.Settings(1.0, settings["ambiguous_threshold"], settings["token"], tiff_export=False)

    def predict(name, stem, image):
        names = {name, *dataset.labels_of(name, model.settings["data"]["train"])}
        members = pipeline.SEGMENTERS["ensemble"].out_of_fold(names, model.facts["member_volumes"])
        job = jobs.Job(stem=stem, output=output, image=image, members=members)
        pipeline.refine_volume(job, model, None, only_ambiguous)
        everything = whole(image.shape)
        labels, entropy, ambiguous = (
            pipeline.open_result(output, stem, role).read(everything) for role in ("initial", "entropy", "hidden")
        )
        return dataset.TrainingVolume(
            name,
            image.read(everything).astype(np.float32),
            np.where(ambiguous, np.int16(-1), labels.astype(np.int16)),
            np.where(ambiguous, np.float32(1), entropy.astype(np.float32) / 255),
        )

    return predict
