"""Every way to fill in the hidden tokens of a held-out volume, run through the pipeline, and what came of them."""

from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.evaluation.cases import Case
from maeref_jax.masking.slices import slices_within
from maeref_jax.metrics import control_masks
from maeref_jax.metrics.baselines import nearest_visible_label
from maeref_jax.pipeline import checks, jobs, methods, refining
from maeref_jax.volumes.label_ids import IDENTITY
from maeref_jax.volumes.labels import real_classes, rederive_shell
from maeref_jax.volumes.volume import array_volume, labels_from_disk
from maeref_jax.volumes.windows import whole

PUBLISHED = ", as published"  # behind the name of a competitor that redoes the whole volume
CONTROLS = {"random": "random tokens of the same shapes", "oracle": "tokens that hold true errors"}


class Found(NamedTuple):
    """Everything known of one Case after refinement, in memory; all arrays (z, y, x).

    maps: {name: int16}; "initial" first, then, with a refiner, "nearest", "refined" and the competitors.
    hidden: bool; entropy: uint8, 255 is 1; confidence: uint8, 255 is 1, and rating, uint8 of trust.RATINGS from 1: both
        None without a refiner; one that works everywhere is not rated.
    published: {name: int16} of competitors that redo the whole volume, as their authors did.
    controls: {name of CONTROLS: (hidden, refined)}: the same refiner let loose on other tokens.
    reshelled: int16, "refined" with its shell derived again, as that of the truth was; None where it was not.
    """

    case: Case
    maps: dict[str, np.ndarray]
    hidden: np.ndarray
    entropy: np.ndarray
    confidence: np.ndarray | None
    rating: np.ndarray | None
    published: dict[str, np.ndarray]
    controls: dict[str, tuple[np.ndarray, np.ndarray]]
    reshelled: np.ndarray | None = None


def check(given, ensemble, refiner, competitors, others, settings, output):
    """Raises BadInput where a Case of `given` lacks what a model needs, or fits no model: before anything is refined.

    competitors, others, settings, output: as for `gather`.
    """
    asked = jobs.settled(jobs.Settings(**settings["refine"]), refiner)
    for case in given:
        job = jobs.Job(stem=case.stem, output=output, **case.inputs)
        for model in (refiner, *competitors.values()):
            checks.check_job(job, ensemble, model, asked)
        for model in others.values():
            checks.check_job(jobs.Job(case.stem, output, case.inputs["image"]), model, None, asked)


def check_tokens(refiner, competitors):
    """Raises BadInput for a competitor whose tokens are not the refiner's: it would fill in other voxels. Models."""
    for model in competitors:
        token, wanted = model.apply.token, refiner.apply.token
        # Given what is hidden, smaller tokens may tile it; from probabilities each decides by its own means.
        if token != wanted and (model.apply.sees_probabilities or wanted % token):
            raise BadInput(
                f"{model.workdir} hides tokens of {token} voxels a side, {refiner.workdir} of {wanted}: not "
                "comparable; train them with the same token"
            )


def refine(case, ensemble, refiner, settings, output):
    """Runs the pipeline on a Case, only segments it where `refiner` is None. Returns {role: Volume} of the results."""
    job = jobs.Job(stem=case.stem, output=output, **case.inputs)
    rated = refiner is not None and not refiner.apply.everywhere
    refining.refine_volume(job, ensemble, refiner, _asked(settings, trust=rated))
    roles = ("initial", "entropy", "hidden", *(("refined", "confidence") if refiner else ()), *(("trust",) * rated))
    return {role: refining.open_result(output, case.stem, role) for role in roles}


def gather(case, results, ensemble, refiner, competitors, others, settings, output):
    """The Found of a refined Case.

    results: of `refine`. competitors: {name: Model} of refiners, which fill in the very same tokens; one that needs the
    ensemble's probabilities segments again, at the same thresholds. others: {name: Model} of ensembles, whose own
    labels are put into the same tokens. settings: `as_published` and `controls` say whether those are made; of a shift,
    of which no table would show them, they never are.
    """
    everything = whole(case.truth.shape)
    stored = {role: volume.read(everything) for role, volume in results.items()}
    initial, hidden, entropy = labels_from_disk(stored["initial"]), stored["hidden"] > 0, stored["entropy"]
    maps, published, controls = {"initial": initial}, {}, {}
    if refiner:
        rounds, classes = _usual_rounds(case, settings), real_classes(refiner.settings["classes"])
        maps |= {
            "nearest": nearest_visible_label(initial, hidden, rounds, entropy / 255, classes),
            "refined": labels_from_disk(stored["refined"]),
        }
    for name, model in competitors.items():
        if model.apply.sees_probabilities:
            asked = _asked(settings, tiff_export=False)
            same = methods.judged_by(model, refiner.judge) if refiner.judge else model
            maps[name] = _run(jobs.Job(case.stem, output / name, **case.inputs), ensemble, same, asked)
        else:
            maps[name] = _filled(case, initial, entropy, hidden, model, settings, output / name)
        # One that works everywhere is compared in the very same tokens; whole it stands among those as published.
        maps[name] = np.where(hidden, maps[name], initial)
        if settings["as_published"] and redoes_everything(model) and not case.shift:
            folder = output / f"{name}_as_published"
            published[name + PUBLISHED] = _redone(case, initial, entropy, ensemble, model, settings, folder)
    for name, model in others.items():
        own = _run(jobs.Job(case.stem, output / name, case.inputs["image"]), model, None, _as_given(settings))
        maps[name] = np.where(hidden, own, initial)
    can_be_let_loose = refiner and not refiner.apply.sees_probabilities and not refiner.apply.everywhere
    if settings["controls"] and can_be_let_loose and not case.shift:
        token, foreground = refiner.apply.token, initial > 0
        wanted = {
            "random": control_masks.random_tokens(hidden, token, settings["seed"], foreground),
            "oracle": control_masks.wrong_tokens(case.truth, initial, token),
        }
        controls = {
            name: (tokens, _filled(case, initial, entropy, tokens, refiner, settings, output / f"{name}_tokens"))
            for name, tokens in wanted.items()
        }
    shell, derived = (settings["files"]["shell_class"], settings["files"]["shell_vx"]), None
    if refiner and shell[0] >= 0:
        derived = rederive_shell(maps["refined"], *shell)
    rated = stored.get("confidence"), stored.get("trust")
    return Found(case, maps, hidden, entropy, *rated, published, controls, derived)


def _usual_rounds(case, settings):
    """How many slices the labels agree with of a refiner for which nobody has found out what is best."""
    size = case.voxel_size_nm
    return slices_within(_usual_length(settings), size[0]) if size and len(case.truth) > 1 else 0


def _usual_length(settings):
    length = settings["refine"]["agree_within_nm"]
    return jobs.AGREE_WITHIN_NM if length is None else length


def slices_in_words(given, refiner, settings):
    """How far the slices of the nearest visible label and of the refined map agree, for the note of a table."""

    def words(length):
        return f"agree within {length:g} nm" if length else "do not agree with each other"

    asked = jobs.settled(jobs.Settings(**settings["refine"]), refiner)
    own = any(jobs.agreeing_slices(asked, refiner, case.voxel_size_nm, len(case.truth)) for case in given)
    usual = any(_usual_rounds(case, settings) for case in given)
    return (
        f"its slices {words(usual and _usual_length(settings))}, those of the refined map "
        f"{words(own and asked.agree_within_nm)}"
    )


def redoes_everything(model):
    """Whether a refiner is meant for whole crops: it works everywhere; or it sees hidden labels, or the probabilities
    under them, and learns. Of those that learn nothing and work at hidden tokens, nobody has published any.
    """
    whole_crops = model.apply.sees_hidden or "probabilities" in model.apply.needs
    return model.apply.everywhere or (whole_crops and model.name not in methods.UNLEARNED)


def _as_given(settings):
    """Nothing is hidden but what is given: no mean is above 1. The rest is as for the refiner."""
    none = {"threshold": 1.0, "ambiguous_threshold": 1.0, "gain": None}
    return _asked(settings, **none, overwrite=True, tiff_export=False)


def _asked(settings, **changes):
    """jobs.Settings of a config. What the labels of a Case mean is decided: they are classes."""
    return jobs.Settings(**{**settings["refine"], "label_map": IDENTITY, **changes})


def _run(job, segmenter, refiner, settings):
    """Labels of one more pass of the pipeline."""
    refining.refine_volume(job, segmenter, refiner, settings, lambda text: None)
    volume = refining.open_result(job.output, job.stem, "refined" if refiner else "initial")
    return labels_from_disk(volume.read(whole(volume.shape)))


def _filled(case, labels, entropy, hidden, model, settings, folder):
    """Labels with the hidden tokens filled in by a refiner that needs no probabilities. entropy: of 255."""
    entropy = entropy.astype(np.float32) / 255
    given = _in_memory(case, labels=labels.astype(np.int16), entropy=entropy, hidden=hidden.astype(np.uint8))
    job = jobs.Job(case.stem, folder, case.inputs.get("image"), **given)
    return _run(job, None, model._replace(judge=None), _as_given(settings))  # what is hidden is given


def _redone(case, labels, entropy, ensemble, model, settings, folder):
    """The whole volume redone by a competitor."""
    if model.apply.sees_probabilities:
        asked = _asked(settings, threshold=0.0, gain=None, tiff_export=False)
        return _run(jobs.Job(case.stem, folder, **case.inputs), ensemble, model, asked)
    return _filled(case, labels, entropy, np.ones(labels.shape, bool), model, settings, folder)


def _in_memory(case, **arrays):
    return {name: array_volume(array, f"{case.stem}_{name}", case.voxel_size_nm) for name, array in arrays.items()}
