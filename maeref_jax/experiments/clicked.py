"""What a training on single labelled voxels needs, in either of its phases."""

import numpy as np
from etils import epath

from maeref_jax.errors import MARK, BadInput, tell
from maeref_jax.experiments import experiment
from maeref_jax.pipeline import methods
from maeref_jax.samples import click_crops, sampling, training_volumes
from maeref_jax.segmenters.sparse_labels import crop_shape
from maeref_jax.training.checkpoint import load_best

FIRST = "clicks"  # the folder of the first phase, in the workdir of the second


def prepare(settings, workdir, indices):
    """The Experiment of networks that learn from single labelled voxels, each from a share of them. indices: the
    samples of every batch that are made here.
    """
    method, notes = methods.SEGMENTERS[settings["method"]].method(settings), experiment.Notes()
    names = settings["classes"]["names"]
    volumes = {split: _clicked(settings, split, notes) for split in ("train", "validation")}
    window = crop_shape(settings)
    for own in volumes.values():
        click_crops.check_fit(own, window)
    learned = found = click_crops.clicks_of(volumes["train"], len(names))
    if (side := settings["hidden"]["side"]) > 1:
        learned = click_crops.of_one_class(found, volumes["train"], side, len(window))
        if left := len(found.classes) - len(learned.classes):
            notes(f"{left:,} labelled voxels are not learned from: their hidden middle, {side} wide, has other classes")
    click_crops.check_classes(learned, names, "training")
    judged_clicks, judged_on = click_crops.judged_clicks(
        volumes["validation"], settings["seed"] + experiment.VALIDATION_SEED
    )
    if not len(judged_clicks.classes):
        raise BadInput("no voxel of the validation volumes is labelled; label some, for networks to be chosen by")
    sharing = settings["members"], settings["member_share"], settings["seed"]
    members = click_crops.members_clicks(learned, *sharing)
    images, pseudo = [volume.image for volume in volumes["train"]], settings["pseudo_labels"]
    count = sum(image.size for image in images)
    mean = sum(image.sum(dtype=np.float64) for image in images) / count
    deviation = np.sqrt(sum(((image - mean) ** 2).sum(dtype=np.float64) for image in images) / count)
    shared = {"grey": np.array([mean, max(deviation, 1e-6)], np.float32)}
    drawn = (window, settings["symmetries"])

    def batches(step):
        given = (volumes["train"], members, settings["seed"], step, indices, *drawn)
        if settings["phases"][0] == "clicks":
            return click_crops.click_batch(*given, shared)
        growth = pseudo["threshold_growth"] * (step // pseudo["threshold_every"])
        threshold = np.float32(min(pseudo["threshold"] + growth, pseudo["highest_threshold"]))
        around = pseudo["neighbours"], pseudo["radius_vx"]
        return click_crops.group_batch(*given, *around, {**shared, "threshold": threshold})

    judged = click_crops.JudgedBatches(volumes["validation"], judged_clicks, settings["judged_at_once"], window, shared)
    labelled = {split: training_volumes.labelled(own, settings["classes"]) for split, own in volumes.items()}
    intensities, everything = sampling.intensity_range(volumes["train"]), [volumes["train"]] * settings["members"]
    facts = experiment.segmenter_facts(settings, *volumes.values(), everything, intensities, notes)
    facts |= {"labelled": labelled["train"], "validation_labelled": labelled["validation"]}
    first = epath.Path(workdir) / FIRST
    if settings["phases"][0] != "clicks" and (first / "checkpoints").exists():
        best = load_best(first)  # with its statistics: those of a fresh network fit none of its layers
        for doubt in best.doubts:
            tell(f"{MARK}{doubt}")
        method = method._replace(init=lambda key, batch: (best.params, best.state))
    description = f"{len(images)} volumes, {settings['members']} members of {len(members[0].classes):,} clicks each; "
    description += training_volumes.labelled_text(labelled["train"])
    return experiment.Experiment(method, batches, judged, facts, description, judged_on)


def _clicked(settings, split, say):
    """The TrainingVolumes of a split as they are labelled; of phantoms, so many voxels of every class and slice."""
    found, phantoms = experiment.shown_annotated(settings, split, say), settings["data"]["phantom"]
    if not phantoms["train"]:
        return found
    rng, count = np.random.default_rng((settings["seed"], *phantoms[split])), phantoms["clicks"]
    return [volume._replace(labels=click_crops.clicked_labels(volume.labels, count, rng)) for volume in found]
