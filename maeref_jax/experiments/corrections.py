"""What a corrector learns from, and what it is used with: what an ensemble says of annotated volumes, and the truth.

Every volume is predicted by the members that never saw it, as it is and in copies whose signal is taken away in places
(samples/predicted.py), into WORKDIR/predictions, where an interrupted run goes on. The truth is what was annotated,
"ambiguous" and unknown left out. Of images without annotations it is what the ensemble says of the image as it is,
where it is sure, and only the copies are learned from.

When it has learned, two numbers are chosen on validation volumes and kept in gain.json: the temperature of its
probabilities, and the gain that a token must promise to be hidden by it.
"""

import json

import jax
import numpy as np
from etils import epath

from maeref_jax.errors import BadInput
from maeref_jax.experiments import experiment
from maeref_jax.masking.exact import above, sum_in_tokens
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.pipeline.blockwise import likelihoods
from maeref_jax.results.maps import probabilities as roles_of_classes
from maeref_jax.samples import predicted, sampling, training_volumes
from maeref_jax.segmenters.ensemble import out_of_fold
from maeref_jax.training.workdir import write_text
from maeref_jax.uncertainty.confidence import temperature_of
from maeref_jax.uncertainty.gain import doubted
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import Volume, array_volume
from maeref_jax.volumes.windows import blocks, whole

METHOD = "corrector"
GAINS = tuple(round(0.02 * i, 2) for i in range(26))
SLAB, MOST_VX = 8, 8_000_000  # slices at a time; voxels of validation volumes that numbers are chosen on, about


def prepare(settings, workdir, indices):
    """The Experiment of a config of configs/corrector.py. indices: the samples of every batch that are made here."""
    workdir, notes = epath.Path(workdir), experiment.Notes()
    if "://" in str(workdir):
        raise BadInput(f"{workdir}: the ensemble's predictions are written beside the model, on a local disk only")
    predicted.check_degraded(settings["degraded"])
    train, validation = (
        [one for part in volumes(settings, workdir, split, notes) for one in part] for split in ("train", "validation")
    )
    targets = [volume.target for volume in train]
    notes.of_classes(targets, settings["classes"])
    intensities = sampling.intensity_range(targets) if settings["with_image"] else None
    crops = (tuple(settings["window"]), settings["context"], settings["min_foreground"])

    def batches(step):
        drawn = (train, settings["seed"], step, indices, *crops, settings["anywhere_share"], intensities)
        return predicted.batch(*drawn)

    seed, everything = settings["seed"] + experiment.VALIDATION_SEED, range(settings["batch"])
    judged = [
        predicted.batch(validation, seed, step, everything, *crops, settings["anywhere_share"], intensities)
        for step in range(settings["validation_batches"])
    ]
    facts = {
        **({"intensity_range": intensities.tolist()} if settings["with_image"] else {}),
        **(training_volumes.grey_facts(targets, settings["normalisation"]) if settings["with_image"] else {}),
        "volumes": sorted({volume.name for volume in targets}),
        "validation_volumes": sorted({volume.target.name for volume in validation}),
        "images": experiment.image_names(settings, "train"),
        "validation_images": experiment.image_names(settings, "validation"),
        "labels": f"predicted by the ensemble {ensemble_of(settings, workdir)}",
        "notes": notes.texts,
    }
    number = len(facts["volumes"])
    description = f"{number} volumes and {len(train) - number} copies with less signal, {facts['labels']}"
    return experiment.Experiment(methods.REFINERS[METHOD].method(settings), batches, judged, facts, description)


def ensemble_of(settings, workdir):
    """The workdir of the ensemble whose mistakes are learned."""
    return settings["data"]["ensemble"] or epath.Path(workdir) / "ensemble"


def volumes(settings, workdir, split, say):
    """The Predicted of a split: as they are, but for those that nobody annotated, and with less signal."""
    model = experiment.load_ensemble(settings, ensemble_of(settings, workdir))
    output, size = epath.Path(workdir) / "predictions" / split, tuple(settings["voxel_size_nm"])
    plain, copies = [], []
    for number, (stem, volume) in enumerate(given(settings, split, say)):
        names = {volume.name, *training_volumes.labels_of(volume.name, model.settings["data"]["train"])}
        members = out_of_fold(names, model.facts["member_volumes"])

        def predict(image, name, members=members):
            job = jobs.Job(name, output, array_volume(image, name, size), members=members)
            return predictions(job, model, say)

        shown, entropy = predict(volume.image, stem)
        known = volume.labels
        if known is None:
            sure = entropy < settings["train_threshold"]
            known = np.where(sure, shown[: real_classes(settings["classes"])].argmax(0), -1).astype(np.int16)
        target = volume._replace(labels=known)
        if volume.labels is not None:
            plain.append(predicted.Predicted(shown, _as_seen(target, settings)))
        for copy in range(settings["degraded"]["copies"]):
            seed = (settings["seed"], split == "validation", number)
            image = predicted.degraded(volume.image, known, copy, seed, settings["degraded"], size)
            found, _ = predict(image, f"{stem}_degraded_{copy}")
            copies.append(predicted.Predicted(found, _as_seen(target._replace(image=image), settings)))
    if not plain + copies:
        raise BadInput(
            f"nothing to learn from in {split}: without labels degraded.copies must be at least 1, found "
            f"{settings['degraded']['copies']}"
        )
    return plain, copies


def _as_seen(volume, settings):
    return training_volumes.as_seen(volume, settings["normalisation"]) if settings["with_image"] else volume


def given(settings, split, say):
    """(stem, TrainingVolume) of every volume of a split, as in its file; labels None where nobody annotated it."""
    data = settings["data"]
    if data["phantom"]["train"] or data[split]["labels"]:
        found = experiment.annotated(settings, split, say)
        paths = data[split]["images"] if not data["phantom"]["train"] else [volume.name for volume in found]
        return list(zip(training_volumes.stems(paths), found, strict=True))
    opened = experiment.image_files(settings, split)
    everything = ((stem, name, image.read(whole(image.shape))) for name, stem, image, _ in opened)
    return [
        (stem, training_volumes.TrainingVolume(name, image.astype(np.float32), None))
        for stem, name, image in everything
    ]


def predictions(job, model, say):
    """(uint8 (c, z, y, x) of 255, entropy float32 (z, y, x)): what a segmenter's Model says of a Job's image."""
    # Nothing is hidden: no mean is above 1.
    asked = jobs.Settings(threshold=1.0, ambiguous_threshold=1.0, tiff_export=False, keep_probabilities=True)
    if model.apply.dims == 3:
        asked = asked._replace(block=(model.apply.window[0], *asked.block[1:]), batch=1)
    refining.refine_volume(job, model, None, asked, say)
    everything, classes = whole(job.image.shape), len(model.settings["classes"]["names"])
    found = (refining.open_result(job.output, job.stem, role).read(everything) for role in roles_of_classes(classes))
    entropy = refining.open_result(job.output, job.stem, "entropy").read(everything)
    return np.stack(list(found)), entropy.astype(np.float32) / 255


def choose(settings, workdir):
    """Writes gain.json into a corrector's workdir, from where methods.load_model takes it. Returns what was written:
    "temperature", "threshold", "hidden_share", "repaired", "broken" and, by threshold, "tried": the last three.

    The threshold is that of GAINS which wins most voxels among those that hide no more than `most_hidden` of all and
    repair at least `repaired_per_broken` voxels for each that they break; where there is none, the highest.
    """
    even = {"temperature": 1.0, "gain": 0.0}
    model = methods.load_model(workdir, "refiner")
    settings = {**model.settings, "use": {**model.settings["use"], **even}}
    apply = methods.REFINERS[METHOD].refiner(settings)
    plain, copies = volumes(settings, workdir, "validation", experiment.told_before)
    parts = list(_said(model, apply, plain or copies))
    flat, truth = (np.concatenate([part[i].reshape(-1, *part[i].shape[3:]) for part in parts]) for i in (0, 2))
    temperature = float(temperature_of(flat[truth >= 0], truth[truth >= 0]))
    tried = np.zeros((len(GAINS), 3), np.int64)
    for likely, initial, truth in parts:
        tried += _counted(_tempered(likely, temperature), initial, truth, settings["token"])
    voxels = sum(initial.size for _, initial, _ in parts)
    rows = {gain: (round(h / voxels, 5), r, b) for gain, (h, r, b) in zip(GAINS, tried.tolist(), strict=True)}
    best = chosen_gain(rows, settings["most_hidden"], settings["repaired_per_broken"])
    found = {"temperature": round(temperature, 4), "threshold": best}
    found |= dict(zip(("hidden_share", "repaired", "broken"), rows[best], strict=True))
    found["tried"] = {f"{gain:g}": row for gain, row in rows.items()}
    write_text(epath.Path(workdir) / methods.GAIN, json.dumps(found, indent=1))
    return found


def chosen_gain(rows, most_hidden, repaired_per_broken):
    """See `choose`. rows: {gain: (hidden share, repaired, broken)}."""
    good = [gain for gain, (hidden, r, b) in rows.items() if hidden <= most_hidden and r >= repaired_per_broken * b]
    return max(good, key=lambda gain: (rows[gain][1] - rows[gain][2], gain), default=max(rows))


def _said(model, apply, found):
    """(class probabilities, initial labels, truth) of slabs of the Predicted, as many as are wanted."""
    variables, key = jax.device_put((model.params, model.state)), jax.random.key(0)
    classes, left = real_classes(model.settings["classes"]), MOST_VX
    for one in found:
        truth = np.where(one.target.labels < classes, one.target.labels, np.int16(-1))
        shape = truth.shape
        shown = one.probabilities

        def read(box, shown=shown):
            return shown[:, *box.slices].astype(np.float32) / 255

        given = {
            "labels": array_volume(shown[:classes].argmax(0).astype(np.int16), "labels"),
            "entropy": array_volume(np.zeros(shape, np.float32), "entropy"),
            "hidden": array_volume(np.zeros(shape, bool), "hidden"),
            "stored_probabilities": Volume("likely", shape, np.dtype(np.float32), None, None, len(shown), read),
        }
        if "image" in apply.needs:
            given["image"] = array_volume(one.target.image, "image")  # as it is shown already
        for box in blocks(shape, (SLAB, *shape[1:])):
            if left <= 0:
                return
            left -= int(np.prod(box.shape))
            likely, _, _ = likelihoods(apply, variables, key, given, box, np.ones(box.shape, bool), SLAB)
            yield likely, given["labels"].read(box), truth[box.slices]


def _tempered(likely, temperature):
    logits = np.log(np.maximum(likely, 1e-7)) / temperature
    found = np.exp(logits - logits.max(-1, keepdims=True))
    return found / found.sum(-1, keepdims=True)


def _counted(likely, initial, truth, token):
    """int64 (gains, 3): voxels that are hidden at each of GAINS, of these repaired, and broken."""
    _, gain = doubted(likely, initial)
    filled, known = likely.argmax(-1), truth >= 0
    repaired = sum_in_tokens(known & (initial != truth) & (filled == truth), token)
    broken = sum_in_tokens(known & (initial == truth) & (filled != truth), token)
    voxels, rows = sum_in_tokens(np.ones(initial.shape, bool), token), []
    for threshold in GAINS:
        hidden = above(gain.astype(np.float32) / 255, token, threshold)
        rows.append([one[hidden].sum() for one in (voxels, repaired, broken)])
    return np.array(rows, np.int64)
