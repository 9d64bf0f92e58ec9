"""Does a refiner help? Asked when its training ends, on whole slices of its validation volumes.

Where their truth is known (phantoms, or images with labels beside the ensemble that segments them) the slices are
segmented, hidden and filled in as they will be in use: initial against refined, against the nearest visible label,
which learns nothing, and against the segmentation's own probabilities, unrefined. Where only label maps are known, a
user's own or predicted, visible tokens are hidden and asked back as pipeline/asking.py does, and the nearest visible
label is what to beat. That can show harm, but no use: a refiner may know what is visible, and not what the ensemble
gets wrong. So doubts.unproven goes with it.

By the truth it is also chosen how far along z slices agree (AGREE_WITHIN_NM), on the very slices that are judged, for
all maps alike; use keeps it.

Bounded: runs of RUN slices from random places (a seed says which), until there are SLICES, or VOXELS.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np
from etils import epath
from scipy import ndimage

from maeref_jax.audit.trust import squares_near, tested_volume
from maeref_jax.experiments import corrections
from maeref_jax.experiments.experiment import load_ensemble, needs_ensemble, told_before, unseen_by, validation_maps
from maeref_jax.experiments.parameter_search import volumes_with_truth
from maeref_jax.masking.exact import any_in_tokens, spread
from maeref_jax.masking.slices import agreed, opinions
from maeref_jax.metrics import comparison, scores
from maeref_jax.metrics.baselines import nearest_visible_label
from maeref_jax.pipeline import jobs, methods
from maeref_jax.pipeline.asked_back import asked_back
from maeref_jax.pipeline.asking import REACH, cannot_be_asked
from maeref_jax.pipeline.blockwise import decide, halo, hide, likelihoods, real_probabilities, segment_block
from maeref_jax.pipeline.doubts import HARM
from maeref_jax.pipeline.shown import seen_by
from maeref_jax.report.dice_tables import dice_table, repair_table
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import Box, whole

RUN, SLICES, VOXELS = 6, 24, 4_000_000
AGREE_WITHIN_NM = (0.0, 20.0, 40.0, 80.0)  # what is tried: how far along z slices agree
BATCH = 8
NOTHING = {
    "on": "nothing",
    "harm": False,
    "sentence": "no verdict: it is of hidden tokens in validation volumes, and none are known; see the metrics above",
}
NOTHING_ASKED = (
    "no verdict: in the validation slices there is no visible label that can be asked back, as where classes meet; do "
    "these volumes hold any foreground?"
)


class Judged(NamedTuple):
    """On what; the counts of every slice; the share of the voxels that was hidden, and those that were asked for; of
    those of AGREE_WITHIN_NM that differ in slices, the Dice inside hidden tokens, None where slices stand alone.
    """

    on: str  # "truth", or "visible labels"
    scores: list[scores.Scores]
    hidden: float
    voxels: int
    agreements: dict[float, float] | None = None


def judge(settings, workdir):
    """(the verdict for summary.json, report.Tables) of the refiner in `workdir`.

    Returns:
        {"on", "slices", "threshold", "hidden_share", "dice_hidden", "dice_all": {map: {class: Dice, "mean"}},
        "repairs": {map: counts}, "worse_than": names of maps, "harm": bool, "sentence"}. Dice None where undefined.
        NOTHING and [] where the settings name no volumes for validation, or the refiner sees what is asked for; of the
        same form, with another sentence, where there is nothing that can be asked back.
    """
    if "data" not in settings:
        return NOTHING, []
    refiner, plain = methods.load_model(workdir, "refiner"), jobs.Settings()
    if refiner.chosen and refiner.chosen["entropy_kind"] != plain.entropy_kind:  # its threshold means nothing here
        refiner = refiner._replace(chosen=None)
    asked = jobs.settled(plain, refiner)
    found = _judged(settings, workdir, refiner, asked)
    if found is None:
        return NOTHING, []
    if not found.scores:
        return NOTHING | {"sentence": NOTHING_ASKED}, []
    names = settings["classes"]["names"][: real_classes(settings["classes"])]
    total = functools.reduce(scores.add, found.scores)
    dice = {region: {n: scores.dice_with_mean(c) for n, c in maps.items()} for region, maps in total.confusions.items()}
    worse = _worse_than(found)
    verdict = {
        "on": found.on,
        "slices": len(found.scores),
        "threshold": asked.threshold,
        "ambiguous_threshold": asked.ambiguous_threshold,
        "hidden_share": found.hidden,
        **{f"dice_{region}": {n: _named(v, names) for n, v in maps.items()} for region, maps in dice.items()},
        "repairs": total.repairs if found.on == "truth" else {},
        "worse_than": worse,
        "harm": bool(worse),
    }
    if found.agreements:
        verdict["agree_within_nm"] = _best(found.agreements)
        verdict["agreements"] = {f"{nm:g}": round(value, 5) for nm, value in found.agreements.items()}
    verdict["sentence"] = _sentence(verdict, found, total)
    tables = [dice_table(dice, names, _note(found), f"Verdict on {len(found.scores)} validation slices")]
    return verdict, [*tables, repair_table(total.repairs)] if found.on == "truth" else tables


def check(settings):
    """BadInput for an ensemble that could not segment what the refiner is judged on: asked before training."""
    if (ensemble := _ensemble(settings, "")) and settings["data"]["ensemble"]:
        load_ensemble(settings, ensemble)


def may_change(settings):
    """Settings that a run may change when it is continued, as only its verdict looks at them: the truth of validation
    images, where it learns what an ensemble says of images.
    """
    files = needs_ensemble(settings) and not settings["data"]["phantom"]["train"]
    return ("data.validation.labels",) if files and settings["method"] != corrections.METHOD else ()


def _ensemble(settings, workdir):
    """The workdir of the ensemble that segments the volumes to judge on, "" where there is none, or no truth."""
    data = settings["data"]
    if data["phantom"]["validation"]:
        return data["ensemble"] or epath.Path(workdir) / "ensemble"
    return data.get("ensemble") if data["validation"]["labels"] and data["validation"]["images"] else ""


def _judged(settings, workdir, refiner, asked):
    if ensemble := _ensemble(settings, workdir):
        return _by_truth(settings, load_ensemble(settings, ensemble), refiner, asked)
    return (
        None if cannot_be_asked(refiner) else _by_asking(settings, validation_maps(settings, workdir), refiner, asked)
    )


def _by_truth(settings, ensemble, refiner, asked):
    """Judged by the truth of what the ensemble says, with slices that agree as far along z as is best there."""
    volumes, known = volumes_with_truth(settings, told_before)
    classes, ambiguous = real_classes(settings["classes"]), settings["classes"]["ambiguous"]
    names = {id(v): n for v, n in zip(volumes, known, strict=True)}
    lengths = _lengths(refiner, tuple(settings["voxel_size_nm"]), max(v.labels.shape[0] for v in volumes))
    variables = jax.device_put((ensemble.params, ensemble.state))
    counted, hidden, voxels = {nm: [] for nm in lengths}, 0, 0
    for volume, box in _runs(volumes, settings["seed"]):
        outer = box.grow((max(lengths.values()) + halo(refiner.apply)[0], 0, 0)).intersect(whole(volume.labels.shape))
        members = unseen_by(ensemble, names[id(volume)])
        raw = array_volume(volume.image, volume.name)
        image = seen_by(ensemble, raw)
        batch = 1 if ensemble.apply.dims == 3 else BATCH
        means, _ = segment_block(ensemble.apply, variables, members, image, outer, batch)
        labels, entropy, doubt = decide(means, ambiguous)
        given = {
            "labels": labels,
            "entropy": entropy,
            "hidden": hide(entropy, doubt, refiner.apply.token, asked.threshold, asked.ambiguous_threshold),
        }
        likely = real_probabilities(means, ambiguous)
        extra = {"image": seen_by(refiner, raw).read(outer), "probabilities": np.moveaxis(likely, -1, 0)}
        stored = (np.rint(255 * means) / 255).astype(np.float32)
        extra["stored_probabilities"] = np.moveaxis(stored, -1, 0)
        # Of a refiner that works on them they are kept, so its slices agree by them.
        kept = "stored_probabilities" in refiner.apply.needs
        said = real_probabilities(stored, ambiguous) if kept else opinions(labels, entropy, classes)
        given |= {name: extra[name].astype(np.float32) for name in refiner.apply.needs}
        inside = box.within(outer).slices
        filled = _filled(refiner, given)
        here = given["hidden"][inside]
        initial, truth = labels[inside], volume.labels[box.slices]
        hidden, voxels = hidden + int(here.sum()), voxels + here.size
        for nm, rounds in lengths.items():
            maps = {
                "nearest": nearest_visible_label(labels, given["hidden"], rounds, entropy, classes),
                "unrefined": agreed(likely, labels, given["hidden"], rounds, said).argmax(-1),
                "refined": agreed(filled, labels, given["hidden"], rounds, said).argmax(-1),
            }
            maps = {name: np.where(here, found[inside], initial) for name, found in maps.items()}
            for z in range(len(truth)):
                of_slice = {name: found[z] for name, found in maps.items()}
                counted[nm].append(_count(truth[z], initial[z], of_slice, here[z], classes))
    dice = {nm: _dice_refined(found) for nm, found in counted.items()}
    agreements = dice if len(lengths) > 1 and not np.isnan([*dice.values()]).any() else None  # nothing is hidden
    return Judged("truth", counted[_best(dice)], hidden / max(voxels, 1), hidden, agreements)


def _lengths(refiner, voxel_size_nm, slices):
    """{length of AGREE_WITHIN_NM: slices}, the shortest of those that are as many slices; {0: 0} where none agree."""
    found = {}
    for nm in AGREE_WITHIN_NM:
        rounds = jobs.agreeing_slices(jobs.Settings(agree_within_nm=nm), refiner, voxel_size_nm, slices)
        if rounds not in found.values():
            found[nm] = rounds
    return found


def _dice_refined(counted):
    total = functools.reduce(scores.add, counted)
    return scores.dice_with_mean(total.confusions["hidden"]["refined"])["mean"]


def _best(dice):
    """The length of the highest Dice; of equal ones the shortest, and so where nothing was hidden."""
    return max(dice, key=lambda nm: (np.nan_to_num(dice[nm]), -nm))


def _by_asking(settings, volumes, refiner, asked):
    """Judged by visible tokens that are asked back: near those that their entropy hides, where there is none, where
    classes meet.
    """
    if not volumes:
        return None
    token, classes = refiner.apply.token, real_classes(settings["classes"])
    variables, key = jax.device_put((refiner.params, refiner.state)), jax.random.key(settings["seed"])
    counted, hidden, voxels, asked_for = [], 0, 0, 0
    for volume, box in _runs(volumes, settings["seed"]):
        labels = volume.labels[box.slices]
        labels = np.where(labels < classes, labels, np.int16(-1))
        entropy = np.zeros(labels.shape, np.float32) if volume.entropy is None else volume.entropy[box.slices]
        given = {
            "labels": labels,
            "entropy": entropy,
            "hidden": hide(entropy, entropy * 0, token, asked.threshold, 1.0),
        }
        given |= {"image": volume.image[box.slices]} if "image" in refiner.apply.needs else {}
        given = {name: array_volume(array, name) for name, array in given.items()}
        everything = whole(labels.shape)
        covered = given["hidden"].read(everything)
        if covered.any():
            tested = tested_volume(given["hidden"], given["labels"], token, REACH)
        else:
            tested = array_volume(_where_classes_meet(labels, token), "tested")
        where, _, filled, _ = asked_back(refiner.apply, variables, key, given, tested, everything, BATCH)
        copied = nearest_visible_label(labels, covered | tested.read(everything))
        maps = {"nearest": np.maximum(copied, 0), "refined": filled}
        hidden, voxels, asked_for = hidden + int(covered.sum()), voxels + covered.size, asked_for + int(where.sum())
        for z in range(len(labels)):
            if where[z].any():
                truth = np.where(where[z], labels[z], -1)
                counted.append(_count(truth, truth, {n: found[z] for n, found in maps.items()}, where[z], classes))
    # What is asked for is the initial label itself, and all that is judged.
    for one in counted:
        one.confusions["hidden"].pop("initial")
        one.confusions.pop("all")
    return Judged("visible labels", counted, hidden / max(voxels, 1), asked_for)


def _runs(volumes, seed):
    """(volume, Box of RUN whole slices) from random places of all volumes, as many as are wanted."""
    places = [(v, start) for v in volumes for start in range(0, v.labels.shape[0], RUN)]
    slices = voxels = 0
    for i in np.random.default_rng(seed).permutation(len(places)):
        volume, start = places[i]
        if slices and (slices >= SLICES or voxels >= VOXELS):
            return
        box = Box((start, 0, 0), (min(start + RUN, volume.labels.shape[0]), *volume.labels.shape[1:]))
        slices, voxels = slices + box.shape[0], voxels + int(np.prod(box.shape))
        yield volume, box


def _filled(refiner, given):
    """The refiner's class probabilities; given: arrays by the names of `refine_block`."""
    volumes = {name: array_volume(array, name) for name, array in given.items()}
    variables, box = jax.device_put((refiner.params, refiner.state)), whole(given["labels"].shape)
    wanted = np.ones(box.shape, bool) if refiner.apply.everywhere else given["hidden"]
    found, _, _ = likelihoods(refiner.apply, variables, jax.random.key(0), volumes, box, wanted, BATCH)
    return np.zeros((*box.shape, 1), np.float32) if found is None else found  # nothing is hidden


def _count(truth, initial, maps, hidden, classes):
    return scores.count(
        truth=truth[None],
        initial=initial[None],
        repaired={name: found[None] for name, found in maps.items()},
        hidden=hidden[None],
        low_signal=None,
        classes=classes,
        crops=[],
        meaning=None,
    )


def _where_classes_meet(labels, token):
    """Bool (z, y, x): tokens near pixels where classes meet, as many as `tokens_to_test` takes near hidden ones."""
    low, high = (function(labels, size=(1, 2, 2)) for function in (ndimage.minimum_filter, ndimage.maximum_filter))
    known = labels >= 0
    chosen = squares_near(any_in_tokens((low != high) & known, token), (0, 0), REACH) & any_in_tokens(known, token)
    return spread(chosen, token, labels.shape)


def _worse_than(found):
    """Names of the maps that the refined one is worse than: than the initial one, or clearly than the others."""
    others = [name for name in ("initial", "nearest", "unrefined") if name in found.scores[0].confusions["hidden"]]
    worse = []
    for name in others:
        for region in found.scores[0].confusions:
            pairs = [(one.confusions[region]["refined"], one.confusions[region][name]) for one in found.scores]
            refined, other = (np.stack(counts) for counts in zip(*pairs, strict=True))
            if comparison.is_worse(comparison.compare(refined, other), sure=name != "initial") and name not in worse:
                worse.append(name)
    return worse


def _sentence(verdict, found, total):
    inside, lead = verdict["dice_hidden"], f"{HARM}: " if verdict["harm"] else ""
    numbers = {name: inside[name]["mean"] for name in inside}
    said = {name: "-" if value is None else f"{value:.3f}" for name, value in numbers.items()}
    if found.on == "truth":
        if not found.voxels:
            return (
                f"nothing is hidden in {len(found.scores)} validation slices at the threshold {verdict['threshold']:g}"
            )
        counts = total.repairs["refined"]
        return (
            f"{lead}in the hidden tokens of {len(found.scores)} whole validation slices (threshold "
            f"{verdict['threshold']:g}, {found.hidden:.1%} of the voxels) the mean Dice is {said['initial']} before "
            f"and {said['refined']} after ({said['nearest']} by the nearest visible label, {said['unrefined']} "
            f"unrefined); {counts['wrong_to_right']:,} voxels became right, {counts['right_to_wrong']:,} wrong"
        )
    right = {name: comparison.right_share(counts) for name, counts in total.confusions["hidden"].items()}
    return (
        f"{lead}no segmentation with a truth is known, so {found.voxels:,} voxels of visible labels were asked back in "
        f"{len(found.scores)} whole validation slices: right are {right['refined']:.1%}, by the nearest visible label "
        f"{right['nearest']:.1%} (mean Dice {said['refined']} and {said['nearest']})"
    )


def _note(found):
    if found.on == "truth":
        return (
            "Initial: the segmentation. Nearest visible label: learns nothing. Unrefined: the segmentation's own "
            "probabilities. In all of them slices agree as in use. Slices of one volume are alike: a hint, no proof."
        )
    return "Labels that are visible in use were hidden and asked back; both see the same labels around them."


def _named(dice, names):
    """Dice by class name, None where undefined."""
    known = dict(zip(("mean", *map(str, range(1, len(names)))), ("mean", *names[1:]), strict=True))
    return {known[key]: None if np.isnan(value) else round(value, 6) for key, value in dice.items()}
