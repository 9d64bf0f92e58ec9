"""Few labelled slices of a stack, one stage after the other, each in a folder of the workdir:

segmenter    an ensemble learns from the labelled slices; foreground.json: the threshold chosen on validation slices
predictions  what it says of all slices
targets      STEM.tif, these masks made continuous along z; the truth where it is known
refiner      a network learns from masks to targets

The same command again goes on with the stage at which it was stopped. After (Sauer et al.; arXiv 2206.02392).
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import MARK, BadInput, tell
from maeref_jax.experiments import class_settings, experiment, foreground_threshold, run, train_settings
from maeref_jax.masking import continuity
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.refiners.continuity_network import seen_slices
from maeref_jax.results.output import instead
from maeref_jax.samples import training_volumes
from maeref_jax.samples.labelled_slices import labelled_in, only_labelled
from maeref_jax.training import workdir as folder
from maeref_jax.uncertainty.foreground import EVEN
from maeref_jax.volumes import within
from maeref_jax.volumes.dataset import given_of
from maeref_jax.volumes.label_ids import IDENTITY
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import Volume, array_volume, labels_from_disk, labels_to_disk, resolved, write_tiff
from maeref_jax.volumes.windows import whole

METHOD = "spatial_continuity"
STAGES = ("segmenter", "targets", "refiner")
OWN = ("until", "morphology", "network")  # settings that the segmenter's config has not got
SPLITS = ("train", "validation")


class Stack(NamedTuple):
    """image: as stored, in memory; truth: int16 (z, y, x), -1 where it is not known, of labelled slices alone; mask: of
    what is learned from, None for all; inside: bool (z, y, x), what that says.
    """

    stem: str
    image: Volume
    truth: np.ndarray
    mask: Volume | None
    inside: np.ndarray


class Made(NamedTuple):
    """The files of a Stack that the network learns from: masks and targets; and the numbers of its labelled slices."""

    masks: Path
    targets: Path
    labelled: tuple[int, ...]


def train(settings, workdir):
    """All stages of a config of configs/spatial_continuity.py into `workdir`, or what is missing of them."""
    if "://" in str(workdir):
        raise BadInput(f"{workdir}: what is predicted and made is written beside the models, on a local disk only")
    workdir = Path(workdir)
    lasting = {name: value for name, value in settings.items() if name != "until"}  # one may go further later
    folder.check_same_run(workdir, lasting)
    first = of_segmenter(settings)
    check(settings, first)
    folder.check_starting_point(first, workdir / "segmenter")
    stacks = {split: stacks_of(settings, split) for split in SPLITS}
    for split in SPLITS:
        for stack in stacks[split]:
            check_stack(stack, split, settings)
    truth = {split: {stack.stem: digest(stack) for stack in stacks[split]} for split in SPLITS}
    check_going_on(workdir, settings, truth)
    folder.write_config(workdir, lasting, {"truth": truth})
    segment(first, workdir / "segmenter")
    if settings["until"] != "segmenter":
        made = {split: targets(settings, workdir, split, stacks[split]) for split in SPLITS}
        print(f"{workdir / 'targets'} is ready", flush=True)
    if settings["until"] == "refiner" and not (workdir / "refiner" / "summary.json").exists():
        run.train(of_network(settings, workdir, made), workdir / "refiner")


def check(settings, first):
    """Raises BadInput for settings that no stage can work with. first: of `of_segmenter`."""
    if settings["until"] not in STAGES:
        raise BadInput(f"until is {settings['until']!r}, expected one of {', '.join(STAGES)}")
    train_settings.check(first)
    methods.SEGMENTERS["ensemble"].method(first)
    train_settings.check(of_network(settings))
    rules_of(settings)


def check_stack(stack, split, settings):
    """Raises BadInput for a stack that has no neighbours along z, or too few of them for the network's windows; says
    where one has them for the threshold and the targets alone.
    """
    depth, seen = len(stack.truth), seen_slices(of_network(settings))
    if depth < 2:
        raise BadInput(
            f"{stack.stem} has one slice, expected a stack: nothing is continuous along z; train the config ensemble "
            "on single slices"
        )
    if depth < seen and settings["until"] == "refiner":
        if split == "train":
            raise BadInput(
                f"{stack.stem} has {depth} slices, but the network sees {seen} at a time; set "
                "--config.network.slices to a smaller odd number"
            )
        tell(f"{MARK}{stack.stem} has {depth} slices, fewer than the {seen} that the network sees: it is judged by few")
    if settings["until"] == "segmenter":
        return
    labelled = labelled_slices(stack)
    if missed := sorted(set(labelled_in(stack.truth)) - set(labelled)):
        numbers = ", ".join(map(str, missed[:10])) + ", …" * (len(missed) > 10)
        tell(
            f"{MARK}{split} stack {stack.stem}: half or more of {len(missed)} of its slices is unknown ({numbers}); "
            "the segmenter learns from what is known of them, but none is carried along z"
        )
    if split == "train" and not labelled:
        tell(f"{MARK}train stack {stack.stem} has no labelled slice: its targets are its own masks made smooth along z")


def check_going_on(workdir, settings, truth):
    """Raises BadInput where a stage was finished with other labels, or is to be trained for longer: those after it are
    made from it. truth: {split: {stem: digest}}.
    """
    if not (workdir / "segmenter" / "summary.json").exists():
        return
    before = folder.read_config(workdir)["facts"].get("truth", truth)  # workdirs from before kept none
    if others := [stem for split in SPLITS for stem in truth[split] if truth[split][stem] != before[split].get(stem)]:
        raise BadInput(
            f"the labels of {', '.join(others)} are others than those that {workdir / 'segmenter'} has learned from; "
            "take a new --workdir"
        )
    for stage, wanted in (("segmenter", settings), ("refiner", settings["network"])):
        if (workdir / stage / "summary.json").exists():
            taken = folder.read_config(workdir / stage)["config"]["steps"]
            if taken != wanted["steps"]:
                raise BadInput(
                    f"{workdir / stage} is finished with {taken:,} steps, and {wanted['steps']:,} are wanted now; what "
                    "comes after it is made from it, so take a new --workdir"
                )


def digest(stack):
    """What tells one truth of a Stack from another."""
    return hashlib.sha256(np.ascontiguousarray(stack.truth)).hexdigest()[:16]


def of_segmenter(settings):
    """The settings of the first stage, those of a config of configs/ensemble.py."""
    return {name: value for name, value in settings.items() if name not in OWN} | {"method": "ensemble"}


def of_network(settings, workdir=None, made=None):
    """The settings of the last stage, those of a config of configs/continuity_network.py. workdir, made: where the
    stages before are, and the Made of their stacks; None where they are not there yet.
    """
    shared = {name: settings[name] for name in ("seed", "voxel_size_nm")}
    network = class_settings.with_classes({**settings["network"], **shared}, settings["classes"])
    data = {**network["data"], "axes": "ZYX", "label_map": IDENTITY}
    for split, stacks in (made or {}).items():
        masks, targets, labelled = zip(*stacks, strict=True)
        given = {"labels": tuple(map(str, masks)), "targets": tuple(map(str, targets)), "labelled_slices": labelled}
        data[split] = {**data[split], **given}
    if made:
        use = methods.load_model(workdir / "segmenter", "segmenter").settings["use"]
        data["foreground_threshold"] = use["foreground_threshold"]
    return {**network, "data": data}


def rules_of(settings):
    """The continuity.Rules for the voxels of these settings."""
    return continuity.rules_of(settings["voxel_size_nm"], **settings["morphology"])


def stacks_of(settings, split):
    """The Stacks of a split: files, or annotated phantoms. A file that is named several times, for members that learn
    from other slices of it, is one Stack.
    """
    data, scheme = settings["data"], settings["classes"]
    if data["phantom"]["train"]:
        shape, size = tuple(data["phantom"]["shape"]), tuple(settings["voxel_size_nm"])
        found = training_volumes.annotated_phantoms(data["phantom"][split], shape, size)
        found = only_labelled(found, data[split]["labelled_slices"])
        stems, masks = [volume.name for volume in found], [None] * len(found)
    else:
        found = training_volumes.volumes_from_files(data[split], data, scheme, True, experiment.told_before)
        masks = training_volumes.masks_of(data[split], len(found))
        paths = [resolved(path) for path in data[split]["images"]]
        once = list(dict.fromkeys(paths))
        named = dict(zip(once, training_volumes.stems(once), strict=True))
        stems = [named[path] for path in paths]
    stacks = {}
    for stem, volume, path in zip(stems, found, masks, strict=True):
        truth = known(volume.labels, scheme)
        if stem in stacks:
            stacks[stem] = stacks[stem]._replace(truth=np.where(truth >= 0, truth, stacks[stem].truth))
            continue
        image = array_volume(volume.image, stem, tuple(settings["voxel_size_nm"]))
        mask = given_of(data).open_mask(path, image) if path else None
        inside = np.ones(truth.shape, bool) if mask is None else within.inside_of(mask, image)
        stacks[stem] = Stack(stem, image, truth, mask, inside)
    return list(stacks.values())


def known(labels, scheme):
    """Labels with what is no class for certain, "ambiguous", unknown."""
    return np.where(labels == scheme["ambiguous"], np.int16(-1), labels) if scheme["ambiguous"] >= 0 else labels


def segment(first, workdir):
    """The segmenter, trained and with its threshold of foreground."""
    if not (workdir / "summary.json").exists():
        run.train(first, workdir)
    typed = first["use"]["foreground_threshold"] != EVEN  # whoever sets it is not asked
    if not typed and not (workdir / methods.FOREGROUND).exists():
        judged = experiment.prepare(first, workdir, range(first["batch"])).validation
        chosen = foreground_threshold.choose(workdir, judged)
        print(f"foreground is called from {chosen['threshold']:g} on, chosen on {chosen['judged_on']}", flush=True)


def targets(settings, workdir, split, stacks):
    """The Made of every Stack of a split: what the segmenter says, and that made continuous."""
    model = methods.load_model(workdir / "segmenter", "segmenter")
    (workdir / "targets").mkdir(exist_ok=True)
    asked, made = jobs.Settings(threshold=1.0, ambiguous_threshold=1.0), []
    for stack in stacks:
        output = workdir / "predictions" / split
        with instead(experiment.ANEW):
            job = jobs.Job(stack.stem, output, image=stack.image, within=stack.mask)
            refining.refine_volume(job, model, None, asked, tell)
        masks = refining.open_result(output, stack.stem, "initial")
        found = target(labels_from_disk(masks.read(whole(masks.shape))), stack, settings)
        path = workdir / "targets" / f"{split}_{stack.stem}.tif"
        write_tiff(path, labels_to_disk(found), stack.image.voxel_size_nm, settings["classes"]["colours"])
        made.append(Made(output / f"{stack.stem}_initial.tif", path, tuple(labelled_slices(stack))))
    return made


def target(masks, stack, settings):
    """What a network is to make of masks int16 (z, y, x): continuous along z, the truth where it is known; -1, unknown,
    outside of the Stack's mask.
    """
    given = np.where(stack.truth >= 0, stack.truth, np.where(stack.inside, masks, -1))
    classes, labelled = real_classes(settings["classes"]), labelled_slices(stack)
    found = continuity.continued(given, labelled, classes, rules_of(settings))
    found = np.where(stack.truth >= 0, stack.truth, found)
    return np.where(stack.inside, found, -1).astype(np.int16)


def labelled_slices(stack):
    """The numbers of the slices of a Stack of which more than half is known, of what lies inside of its mask."""
    known, inside = (one.sum((1, 2)) for one in (stack.truth >= 0, stack.inside))
    return [z for z in labelled_in(stack.truth) if 2 * known[z] > inside[z]]
