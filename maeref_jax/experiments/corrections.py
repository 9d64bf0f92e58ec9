"""What a corrector learns from, and what it is used with: what an ensemble says of annotated volumes, and the truth.

Every volume is predicted by the members that never saw it, as it is and in copies whose signal is taken away in places
(samples/predicted.py), into WORKDIR/predictions, where an interrupted run goes on. The truth is what was annotated,
"ambiguous" and unknown left out. Of images without annotations it is what the ensemble says of the image as it is,
where it is sure, and only the copies are learned from.

When it has learned, three numbers are chosen on validation volumes, as they are and with less signal, and kept in
gain.json: the temperature of its probabilities, the gain that a token must promise to be hidden by it, and the caution,
how many times as likely as a label there another one must be to replace it.
"""

import json
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from maeref_jax.errors import MARK, BadInput, tell
from maeref_jax.experiments import experiment
from maeref_jax.masking.exact import above, sum_in_tokens
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.pipeline.blockwise import halo, likelihoods
from maeref_jax.results.maps import probabilities as roles_of_classes
from maeref_jax.results.output import instead
from maeref_jax.samples import predicted, sampling, training_volumes
from maeref_jax.training.workdir import write_text
from maeref_jax.uncertainty.confidence import Calibration, temperature_of, tempered
from maeref_jax.uncertainty.gain import doubted, replaced
from maeref_jax.volumes import within
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import Volume, array_volume
from maeref_jax.volumes.windows import blocks, whole

METHOD = "corrector"
CAUTIONS = (1.0, 1.5, 2.0, 3.0, 5.0)  # how many times as likely as a label another one must be to replace it
GAINS = (*(round(0.02 * i, 2) for i in range(26)), 1.0)  # 1 hides nothing
SLAB, MOST_VX = 8, 4_000_000  # slices at a time; voxels of validation volumes, and of copies, to choose on, about
LEAST_REPAIRED = 500  # voxels: what repairs fewer proves nothing


def prepare(settings, workdir, indices):
    """The Experiment of a config of configs/corrector.py. indices: the samples of every batch that are made here."""
    workdir, notes = epath.Path(workdir), experiment.Notes()
    if "://" in str(workdir):
        raise BadInput(f"{workdir}: the ensemble's predictions are written beside the model, on a local disk only")
    predicted.check_degraded(settings["degraded"])
    plain, copies = volumes(settings, workdir, "train", notes)
    train, validation = (
        plain + copies,
        [one for part in volumes(settings, workdir, "validation", notes) for one in part],
    )
    targets = [volume.target for volume in train]
    notes.of_classes(targets, settings["classes"])
    notes.of_validation([volume.target for volume in validation], settings["classes"])
    intensities = sampling.intensity_range(targets) if settings["with_image"] else None
    context = methods.REFINERS[METHOD].refiner(settings).context
    crops = (tuple(settings["window"]), context, settings["min_foreground"])

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
    description = f"{len(plain)} volumes as they are and {len(copies)} copies with less signal, {facts['labels']}"
    return experiment.Experiment(methods.REFINERS[METHOD].method(settings), batches, judged, facts, description)


def ensemble_of(settings, workdir):
    """The workdir of the ensemble whose mistakes are learned."""
    return settings["data"]["ensemble"] or epath.Path(workdir) / "ensemble"


class Given(NamedTuple):
    """One volume to predict. volume: as in its file, with labels None where nobody annotated it; names: what an
    ensemble may know it by, see experiment.unseen_by; mask: of what is learned from, a Volume, None for all.
    """

    stem: str
    volume: training_volumes.TrainingVolume
    names: tuple[str, ...]
    mask: Volume | None = None


def volumes(settings, workdir, split, say, progress=tell):
    """The Predicted of a split: as they are, but for those that nobody annotated, and with less signal. say: hears what
    a user should know of the data; progress: what refining.refine_volume says.
    """
    model = experiment.load_ensemble(settings, ensemble_of(settings, workdir))
    output, size = epath.Path(workdir) / "predictions" / split, tuple(settings["voxel_size_nm"])
    plain, copies = [], []
    for number, (stem, volume, names, mask) in enumerate(given(settings, split, say)):
        members = experiment.unseen_by(model, names)

        def predict(image, name, members=members, mask=mask):
            job = jobs.Job(name, output, array_volume(image, name, size), members=members, within=mask)
            return predictions(job, model, progress)

        shown, entropy = predict(volume.image, stem)
        known = volume.labels
        if known is None:
            known = sure_labels(shown, entropy, settings)
            if mask is not None:
                known = within.only_inside(known, mask, array_volume(volume.image, stem, size), say)
        target = volume._replace(labels=known)
        if volume.labels is not None:
            plain.append(predicted.Predicted(shown, _as_seen(target, settings)))
        for copy in range(settings["degraded"]["copies"]):
            seed = (settings["seed"], int(split == "validation"), number)
            # Where nobody annotated, the ensemble knows best where objects are.
            where = np.where(known < 0, shown[: real_classes(settings["classes"])].argmax(0), known).astype(np.int16)
            image = predicted.degraded(volume.image, where, copy, seed, settings["degraded"], size)
            found, _ = predict(image, f"{stem}_degraded_{copy}")
            copies.append(predicted.Predicted(found, _as_seen(target._replace(image=image), settings)))
    if not plain + copies:
        raise BadInput(
            f"nothing to learn from in {split}: without labels degraded.copies must be at least 1, found "
            f"{settings['degraded']['copies']}"
        )
    return plain, copies


def sure_labels(shown, entropy, settings):
    """What an ensemble says where it is sure, int16 (z, y, x), -1 elsewhere, and where it says "ambiguous"; shown:
    uint8 (c, z, y, x) of 255.
    """
    classes, ambiguous = real_classes(settings["classes"]), settings["classes"]["ambiguous"]
    sure = entropy < settings["train_threshold"]
    if ambiguous >= 0:
        sure &= shown[ambiguous] <= 255 * settings["ambiguous_threshold"]
    return np.where(sure, shown[:classes].argmax(0), -1).astype(np.int16)


def _as_seen(volume, settings):
    """A volume as it is learned from; without its image where nobody looks at that."""
    return (
        training_volumes.as_seen(volume, settings["normalisation"])
        if settings["with_image"]
        else volume._replace(image=None)
    )


def given(settings, split, say):
    """The Given of every volume of a split."""
    data = settings["data"]
    if data["phantom"]["train"]:
        return [Given(volume.name, volume, (volume.name,)) for volume in experiment.annotated(settings, split, say)]
    if data[split]["labels"]:
        found = experiment.annotated(settings, split, say)
        known = training_volumes.stems(data[split]["images"]), found, experiment.known_as(found, data[split]["images"])
        return [Given(*one) for one in zip(*known, strict=True)]
    everything = (
        (stem, training_volumes.TrainingVolume(name, image.read(whole(image.shape)).astype(np.float32), None), mask)
        for name, stem, image, mask in experiment.image_files(settings, split)
    )
    return [Given(stem, volume, (volume.name,), mask) for stem, volume, mask in everything]


def predictions(job, model, say):
    """(uint8 (c, z, y, x) of 255, entropy float32 (z, y, x)): what a segmenter's Model says of a Job's image."""
    # Nothing is hidden: no mean is above 1.
    asked = jobs.Settings(threshold=1.0, ambiguous_threshold=1.0, tiff_export=False, keep_probabilities=True)
    if model.apply.dims == 3:
        asked = asked._replace(block=(model.apply.window[0], *asked.block[1:]), batch=1)
    with instead(experiment.ANEW):
        refining.refine_volume(job, model, None, asked, say)
    everything, classes = whole(job.image.shape), len(model.settings["classes"]["names"])
    found = (refining.open_result(job.output, job.stem, role).read(everything) for role in roles_of_classes(classes))
    entropy = refining.open_result(job.output, job.stem, "entropy").read(everything)
    return np.stack(list(found)), entropy.astype(np.float32) / 255


def choose(settings, workdir):
    """Writes gain.json into a corrector's workdir, from where methods.load_model takes it. Returns what was written:
    "temperature", "caution", "threshold", "hidden_share", "repaired", "broken" and, by threshold, "tried": the last
    three of them.

    Caution and threshold are those of CAUTIONS and GAINS that win most voxels among those that hide no more than
    `most_hidden` of all, repair at least `repaired_per_broken` voxels for each that they break, and LEAST_REPAIRED: of
    the volumes as they are, and of these together with their copies. Where there is none, the threshold is 1, which
    hides nothing, and the caution 1.
    """
    even = {"temperature": 1.0, "gain": 0.0, "caution": 1.0}
    model = methods.load_model(workdir, "refiner")
    settings = {**model.settings, "use": {**model.settings["use"], **even}}
    apply = methods.REFINERS[METHOD].refiner(settings)
    plain, copies = volumes(settings, workdir, "validation", *[experiment.told_before] * 2)
    kinds = [list(_said(model, apply, found)) for found in (plain, copies)]
    parts = [part for kind in kinds for part in kind]
    flat, truth = (np.concatenate([part[i].reshape(-1, *part[i].shape[3:]) for part in parts]) for i in (0, 2))
    temperature = float(temperature_of(flat[truth >= 0], truth[truth >= 0]))
    counted = [_counted_all(kind, Calibration((temperature,)), settings["token"]) for kind in kinds if kind]
    limits, tried = (settings["most_hidden"], settings["repaired_per_broken"]), {}
    for caution, *of_both in zip(CAUTIONS, sum(counted), counted[0], strict=True):
        rows, of_plain = map(rows_of, of_both)
        tried[caution] = chosen_gain(rows, good_gains(rows, *limits) & good_gains(of_plain, *limits)), rows
    caution = max(tried, key=lambda one: (won(*tried[one]), -one))
    best, rows = tried[caution]
    found = {"temperature": round(temperature, 4), "caution": caution, "threshold": best}
    found |= dict(zip(("hidden_share", "repaired", "broken"), rows[best], strict=True))
    found["tried"] = {f"{gain:g}": row for gain, row in rows.items()}
    write_text(epath.Path(workdir) / methods.GAIN, json.dumps(found, indent=1))
    return found


def sentence(found, settings):
    """What was found by `choose`, as a sentence."""
    if found["threshold"] >= 1:
        return (
            f"{MARK}--hide_by error will hide nothing by this corrector: no gain was found at which it repairs "
            f"{settings['repaired_per_broken']:g} voxels for each that it breaks, {LEAST_REPAIRED} at least, and hides "
            f"no more than {settings['most_hidden']:.0%} of the validation volumes"
        )
    return (
        f"tokens are hidden that promise a gain above {found['threshold']:g}: {found['hidden_share']:.1%} of the "
        f"voxels of the validation volumes and their copies, of which {found['repaired']:,} become right and "
        f"{found['broken']:,} wrong; a label is replaced where another one is {found['caution']:g} times as likely; "
        f"temperature {found['temperature']:g}. All were chosen on these very volumes: expect less of others"
    )


def rows_of(counted):
    """{gain of GAINS: (hidden share, repaired, broken)} of int64 (gains, 4): hidden voxels, repaired, broken, all."""
    return {g: (round(h / n, 5), r, b) for g, (h, r, b, n) in zip(GAINS, counted.tolist(), strict=True)}


def good_gains(rows, most_hidden, repaired_per_broken):
    """The gains that hide little and repair enough, see `choose`. rows: as of `rows_of`."""
    enough = {g for g, (h, r, b) in rows.items() if r >= max(repaired_per_broken * b, LEAST_REPAIRED)}
    return {g for g in enough if rows[g][0] <= most_hidden}


def chosen_gain(rows, good):
    """The gain of those `good` that wins most; 1, which hides nothing, where there is none."""
    return max(good, key=lambda gain: (won(gain, rows), gain), default=GAINS[-1])


def won(gain, rows):
    """How many voxels more are repaired than broken at a gain. rows: as of `rows_of`."""
    return rows[gain][1] - rows[gain][2]


def _counted_all(parts, calibration, token):
    """The sum of `_counted` of all parts of `_said`, and how many voxels they have: int64 (cautions, gains, 4)."""
    likely = (
        (tempered(found, np.zeros(initial.shape), calibration), initial, truth) for found, initial, truth in parts
    )
    counted = sum(_counted(*part, token) for part in likely)
    voxels = np.full((len(CAUTIONS), len(GAINS), 1), sum(initial.size for _, initial, _ in parts))
    return np.concatenate([counted, voxels], -1)


def _said(model, apply, found):
    """(class probabilities, initial labels, truth) of slabs from random places of all the Predicted, as many as are
    wanted.
    """
    variables, key = jax.device_put((model.params, model.state)), jax.random.key(0)
    classes, left = real_classes(model.settings["classes"]), MOST_VX
    slabs = [
        (one, box) for one in found for box in blocks(one.target.labels.shape, (SLAB, *one.target.labels.shape[1:]))
    ]
    for i in np.random.default_rng(model.settings["seed"]).permutation(len(slabs)):
        one, box = slabs[i]
        if left <= 0:
            return
        left -= int(np.prod(box.shape))
        around = box.grow((halo(apply)[0], 0, 0)).intersect(whole(one.target.labels.shape))
        shown = one.probabilities[:, *around.slices]
        given = {
            "labels": shown[:classes].argmax(0).astype(np.int16),
            "entropy": np.zeros(around.shape, np.float32),
            "hidden": np.zeros(around.shape, bool),
            "stored_probabilities": shown.astype(np.float32) / 255,
        }
        if "image" in apply.needs:
            given["image"] = one.target.image[around.slices]  # as it is shown already
        inside, truth = box.within(around), one.target.labels[box.slices]
        seen = {name: array_volume(array, name) for name, array in given.items()}
        likely, _, _ = likelihoods(apply, variables, key, seen, inside, np.ones(box.shape, bool), SLAB)
        yield likely, given["labels"][inside.slices], np.where(truth < classes, truth, np.int16(-1))


def _counted(likely, initial, truth, token):
    """int64 (cautions, gains, 3): voxels that are hidden at each of GAINS, of these repaired, and broken."""
    _, gain = doubted(likely, initial)
    known, voxels = truth >= 0, sum_in_tokens(np.ones(initial.shape, bool), token)
    hidden = [above(gain.astype(np.float32) / 255, token, threshold) for threshold in GAINS]

    def rows(caution):
        filled = replaced(likely, initial, caution)
        repaired = sum_in_tokens(known & (initial != truth) & (filled == truth), token)
        broken = sum_in_tokens(known & (initial == truth) & (filled != truth), token)
        return [[one[where].sum() for one in (voxels, repaired, broken)] for where in hidden]

    return np.array([rows(caution) for caution in CAUTIONS], np.int64)
