"""From the settings of a config to what a training run needs: the method, its batches, its validation batches."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from maeref_jax.errors import MARK, BadInput, tell
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.records import Method
from maeref_jax.results.output import instead
from maeref_jax.samples import adjacent_slices, sampling, tissue_volumes, training_volumes
from maeref_jax.samples.labelled_slices import only_labelled
from maeref_jax.samples.subsets import member_volumes
from maeref_jax.samples.whole_slices import whole_slices
from maeref_jax.volumes import within
from maeref_jax.volumes.dataset import given_of
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import array_volume, overlapping, resolved
from maeref_jax.volumes.windows import whole

ANEW = "choose another --workdir"  # where predictions in a workdir are not those that would be made now
VALIDATION_SEED = 1  # added to the config's seed: validation crops are the same at every evaluation


class Experiment(NamedTuple):
    """method; batches(step) -> this process's share of a batch; validation: sequence of batches; facts: what the
    workdir remembers of the data; description: one line for people; judged_on: what the validation batches are.
    """

    method: Method
    batches: Callable[[int], dict]
    validation: Sequence[dict]
    facts: dict
    description: str
    judged_on: str = "crops"


def prepare(settings, workdir, indices):
    """The Experiment of a config's settings. indices: the samples of every batch that are made here.

    Predictions that a masked autoencoder learns from go to workdir/predictions.
    """
    if settings["method"] in methods.SEGMENTERS:
        return _segmenter_experiment(settings, indices)
    if "targets" in settings["data"]["train"]:
        return _slices_experiment(settings, indices)
    return _refiner_experiment(settings, epath.Path(workdir), indices)


def _segmenter_experiment(settings, indices):
    method = methods.SEGMENTERS[settings["method"]].method(settings)
    notes = Notes()
    train, validation = (shown_annotated(settings, split, notes) for split in ("train", "validation"))
    notes.of_classes(train, settings["classes"])
    notes.of_validation(validation, settings["classes"])
    if settings["members"] > 1:
        notes.of_shared_images(settings["data"]["train"])
    labelled = training_volumes.labelled(train, settings["classes"])
    _check_several_classes(labelled)
    members = member_volumes(train, settings)
    intensities, window = sampling.intensity_range(train), tuple(settings["window"])
    crops = (window, settings["min_foreground"], intensities, settings["anywhere_share"])

    def batches(step):
        return sampling.image_batch(members, settings["seed"], step, indices, *crops)

    judged = whole_slices(
        validation,
        settings["seed"] + VALIDATION_SEED,
        settings["validation_slices"],
        window,
        tuple(settings["stride"]),
        settings["batch"],
        batches(0)["shared"],
    )
    facts = segmenter_facts(settings, train, validation, members, intensities, notes) | {"labelled": labelled}
    counts = sorted({len(volumes) for volumes in members})
    description = f"{len(train)} volumes, {len(members)} members of {' or '.join(map(str, counts))} volumes each; "
    description += training_volumes.labelled_text(labelled)
    return Experiment(method, batches, judged, facts, description, judged.name)


def segmenter_facts(settings, train, validation, members, intensities, notes):
    """What the workdir of a segmenter remembers of its TrainingVolumes; members: those of each."""
    return {
        "volumes": [volume.name for volume in train],
        "images": image_names(settings, "train"),
        "validation_images": image_names(settings, "validation"),
        "member_volumes": [[volume.name for volume in volumes] for volumes in members],
        "validation_volumes": [volume.name for volume in validation],
        "intensity_range": intensities.tolist(),
        **training_volumes.grey_facts(train, settings["normalisation"]),
        "entropy": "mean",
        "notes": notes.texts,
    }


def _check_several_classes(labelled):
    """BadInput where all that a segmenter would learn from is of one class."""
    there = [name for name, count in labelled["classes"].items() if count]
    if len(there) == 1:
        raise BadInput(
            f"all {labelled['voxels']:,} labelled voxels of the training volumes are {there[0]}: a network needs at "
            "least two classes to tell apart; label some voxels of another one, too"
        )


def _refiner_experiment(settings, workdir, indices):
    if "://" in str(workdir) and needs_ensemble(settings):
        raise BadInput(f"{workdir}: the ensemble's predictions are written beside the model, on a local disk only")
    ensemble = settings["data"]["ensemble"] or workdir / "ensemble"
    predict = _predictor(settings, ensemble, workdir / "predictions") if needs_ensemble(settings) else None
    with_image = "image" in methods.REFINERS[settings["method"]].refiner(settings).needs
    notes, given = Notes(), (settings, predict, with_image)
    train, validation = (_label_maps(*given, split, notes) for split in ("train", "validation"))
    notes.of_classes(train, settings["classes"])
    notes.of_validation(validation, settings["classes"])
    intensities = sampling.intensity_range(train) if with_image else None
    crops = (tuple(settings["window"]), settings["token"], settings["min_foreground"])
    # Without a ratio nothing is hidden in training.
    masking, everything = settings.get("masking_ratio"), range(settings["batch"])
    beside = (masking is not None and settings["mask_shapes"][2] > 0, intensities)

    def batches(step):
        progress = step / settings["steps"]
        anywhere = settings["anywhere_share"]
        drawn = (train, settings["seed"], step, indices, *crops, masking, *beside, progress, anywhere)
        return sampling.label_batch(*drawn)

    # Validation covers the range of masking ratios evenly, so that its mean does not depend on few draws.
    number, validation_seed = settings["validation_batches"], settings["seed"] + VALIDATION_SEED
    ratios = [None] * number if masking is None else [(r, r) for r in np.linspace(*masking, 2 * number + 1)[1::2]]
    validation_batches = [
        sampling.label_batch(validation, validation_seed, step, everything, *crops, ratio, *beside)
        for step, ratio in enumerate(ratios)
    ]
    facts = {
        **({"intensity_range": intensities.tolist()} if with_image else {}),
        **(training_volumes.grey_facts(train, settings["normalisation"]) if with_image else {}),
        "volumes": [volume.name for volume in train],
        "validation_volumes": [volume.name for volume in validation],
        "labels": f"predicted by the ensemble {ensemble}" if predict else "from files",
        "notes": notes.texts,
    }
    method = methods.REFINERS[settings["method"]].method(settings)
    return Experiment(method, batches, validation_batches, facts, f"{len(train)} label volumes, {facts['labels']}")


def _slices_experiment(settings, indices):
    """Of a network that sees adjacent slices of masks, and is asked for what they are to become."""
    notes, data = Notes(), settings["data"]
    context = methods.REFINERS[settings["method"]].refiner(settings).context
    stacks = {
        split: adjacent_slices.stacks(data, split, settings["classes"], notes) for split in ("train", "validation")
    }
    for stack in stacks["train"]:
        if len(stack.masks) < 2 * context + 1:
            raise BadInput(
                f"{stack.targets.name} has {len(stack.masks)} slices, fewer than the {2 * context + 1} that the "
                "network sees at a time; give a deeper stack, or set a smaller odd number of slices"
            )
    notes.of_classes([stack.targets for stack in stacks["train"]], settings["classes"])
    notes.of_validation([stack.targets for stack in stacks["validation"]], settings["classes"])
    crops = (tuple(settings["window"]), context, settings["min_foreground"], settings["anywhere_share"])

    def batches(step):
        return adjacent_slices.batch(stacks["train"], settings["seed"], step, indices, *crops)

    seed, everything = settings["seed"] + VALIDATION_SEED, range(settings["batch"])
    judged = [
        adjacent_slices.batch(stacks["validation"], seed, step, everything, *crops)
        for step in range(settings["validation_batches"])
    ]
    facts = {
        "volumes": [stack.targets.name for stack in stacks["train"]],
        "validation_volumes": [stack.targets.name for stack in stacks["validation"]],
        "masks": [resolved(path) for path in data["train"]["labels"]],
        "labelled_slices": [int(stack.labelled.sum()) for stack in stacks["train"]],
        "foreground_threshold": data["foreground_threshold"],
        "notes": notes.texts,
    }
    count, slices = len(stacks["train"]), sum(len(stack.masks) for stack in stacks["train"])
    description = f"{count} stack{'s' * (count > 1)}, {slices} slices, {sum(facts['labelled_slices'])} of them labelled"
    return Experiment(methods.REFINERS[settings["method"]].method(settings), batches, judged, facts, description)


def validation_maps(settings, workdir):
    """The TrainingVolumes that a refiner is validated on: label maps from files, or what the ensemble says of images;
    [] where there are neither.
    """
    files, data = settings["data"]["validation"], settings["data"]
    if not (files["labels"] or files["images"] or data["phantom"]["validation"]):
        return []
    ensemble, workdir = data.get("ensemble") or epath.Path(workdir) / "ensemble", epath.Path(workdir)
    given = settings, ensemble, workdir / "predictions", told_before
    predict = _predictor(*given) if needs_ensemble(settings) else None
    with_image = "image" in methods.REFINERS[settings["method"]].refiner(settings).needs
    return _label_maps(settings, predict, with_image, "validation", told_before)


def told_before(text):
    """Hears what was said when the training began."""


def image_names(settings, split):
    """The image files of a split, as volumes to judge on are compared with them; [] for phantoms."""
    data = settings["data"]
    return [] if data["phantom"]["train"] else [resolved(path) for path in data[split]["images"]]


class Notes:
    """Tells what a user should know of the data, and keeps it for the workdir."""

    def __init__(self):
        self.texts = []

    def __call__(self, text):
        self.texts.append(text)
        tell(text)

    def of_classes(self, volumes, scheme):
        if missing := training_volumes.missing_classes(volumes, scheme):
            self(f"{MARK}no voxel of the training volumes is {', '.join(missing)}, which cannot be learned from them")

    def of_validation(self, volumes, scheme):
        """Warns where volumes to judge by hold nothing but background."""
        foreground = scheme["names"][1 : real_classes(scheme)]
        if volumes and {*foreground} <= {*training_volumes.missing_classes(volumes, scheme)}:
            self(
                f"{MARK}no voxel of the validation volumes is {' or '.join(foreground)}, so they cannot show what is "
                "learned; give some that hold it"
            )

    def of_shared_images(self, files):
        """Warns of images that share slices and have labels of their own each: two annotators, or a mistake."""
        for i, j in sorted(overlapping(files["images"]) - overlapping(files["labels"])):
            self(
                f"{MARK}{files['images'][i]} in data.train shares slices with {files['images'][j]}, with other labels: "
                "members of an ensemble that learn from one of them have seen the other, too"
            )


def shown_annotated(settings, split, say):
    """The TrainingVolumes of a split for a segmenter, as it is shown them."""
    found = annotated(settings, split, say)
    return [training_volumes.as_seen(volume, settings["normalisation"]) for volume in found]


def known_as(volumes, images):
    """What an ensemble may know annotated volumes of files by, a tuple of names for each: that of its labels, and that
    of its image. images: their paths.
    """
    return [(volume.name, resolved(path)) for volume, path in zip(volumes, images, strict=True)]


def unseen_by(model, names):
    """Indices of the members of an ensemble's Model that never saw a slice of the volume of these names; None for all.
    An image may also be known by the labels that the ensemble learned of it. Raises BadInput if every member saw one.
    """
    if "data" not in model.settings:  # a rule, which has learned from nothing
        return None
    learned = model.settings["data"]["train"]
    known = {one for name in names for one in (name, *training_volumes.labels_of(name, learned))}
    return methods.SEGMENTERS["ensemble"].out_of_fold(known, model.facts["member_volumes"])


def annotated(settings, split, say):
    """The annotated TrainingVolumes of a split, phantoms or files, their images as they are."""
    data = settings["data"]
    if data["phantom"]["train"] and "tissue" in data["phantom"]:
        found = tissue_volumes.blocks(data["phantom"], split, tuple(settings["voxel_size_nm"]))
        found = only_labelled(found, data[split]["labelled_slices"])
    elif data["phantom"]["train"]:
        shape, size = tuple(data["phantom"]["shape"]), tuple(settings["voxel_size_nm"])
        known = len(settings["classes"]["names"])
        # Without a class "ambiguous", what an annotator could not decide is unknown.
        found = [
            volume._replace(labels=np.where(volume.labels < known, volume.labels, np.int16(-1)))
            for volume in training_volumes.annotated_phantoms(data["phantom"][split], shape, size)
        ]
        found = only_labelled(found, data[split]["labelled_slices"])
    else:
        found = _from_files(settings, split, True, say)
    return found


def _label_maps(settings, predict, with_image, split, say):
    data = settings["data"]
    if predict is not None:
        images = _phantom_images(settings, split) if data["phantom"]["train"] else image_files(settings, split)
        found = [predict(*one) for one in images]
        found = found if with_image else [volume._replace(image=None) for volume in found]
    else:
        found = _from_files(settings, split, with_image, say)
    return [training_volumes.as_seen(volume, settings["normalisation"]) for volume in found] if with_image else found


def _from_files(settings, split, with_image, say):
    files = settings["data"][split]
    if not files["labels"]:
        raise BadInput(f"no volumes to learn from: give {_flag(split)}labels, or set data.phantom.{split}")
    return training_volumes.volumes_from_files(files, settings["data"], settings["classes"], with_image, say)


def _flag(split):
    """How the flags for the files of a split begin."""
    return "--" if split == "train" else f"--{split}_"


def load_ensemble(settings, workdir):
    """The segmenter in a workdir; BadInput unless it was trained for the classes and voxels of these settings."""
    model = methods.load_model(workdir, "segmenter")
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
    """(name, stem of its results, Volume, no mask) of every phantom of a split."""
    shape, size = tuple(settings["data"]["phantom"]["shape"]), tuple(settings["voxel_size_nm"])
    for seed in settings["data"]["phantom"][split]:
        name = f"phantom_{seed}"
        yield name, name, array_volume(phantom(seed, shape, size).image, name, size), None


def image_files(settings, split):
    """(name, stem of its results, Volume, mask of what is learned from or None) of every image file of a split."""
    paths, given = settings["data"][split]["images"], given_of(settings["data"])
    masks = training_volumes.masks_of(settings["data"][split], len(paths))
    if not paths:
        raise BadInput(f"no volumes to learn from: give {_flag(split)}images, which the ensemble segments")
    for path, stem, mask in zip(paths, training_volumes.stems(paths), masks, strict=True):
        image = given.open(path)
        yield resolved(path), stem, image, given.open_mask(mask, image) if mask else None


def _predictor(settings, ensemble, output, say=tell):
    """(name, stem, image, mask) -> TrainingVolume of what the ensemble says of it, out of fold if it was annotated;
    outside of the mask, where there is one, nothing is known. say: hears what refining.refine_volume says.

    Tokens that the ensemble calls ambiguous are unknown, and undecided (entropy 1): the label it has for them is only
    its second choice, so they are hidden in training as in use, and never a target.
    """
    model = load_ensemble(settings, ensemble)
    # No mean entropy is above 1: "ambiguous" alone hides tokens here.
    only_ambiguous = jobs.Settings(1.0, settings["ambiguous_threshold"], settings["token"], tiff_export=False)

    def predict(name, stem, image, mask):
        job = jobs.Job(stem=stem, output=output, image=image, members=unseen_by(model, (name,)), within=mask)
        with instead(ANEW):
            refining.refine_volume(job, model, None, only_ambiguous, say)
        everything = whole(image.shape)
        labels, entropy, ambiguous = (
            refining.open_result(output, stem, role).read(everything) for role in ("initial", "entropy", "hidden")
        )
        if mask is not None:
            labels = within.only_inside(labels.astype(np.int16), mask, image, say)
        return training_volumes.TrainingVolume(
            name,
            image.read(everything).astype(np.float32),
            np.where(ambiguous, np.int16(-1), labels.astype(np.int16)),
            np.where(ambiguous, np.float32(1), entropy.astype(np.float32) / 255),
        )

    return predict
