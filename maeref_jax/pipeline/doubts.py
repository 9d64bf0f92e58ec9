"""What a user is warned of, the one place: before a volume is refined, and after.

A warning is one sentence about one volume. It is printed as "warning: …" on stderr, kept in the sidecar's `warnings`
and shown at the top of the report; with --strict it stops. What a user should know and is no reason to stop is a note:
printed, and kept in the sidecar's `notes`. To add one, add it to `before`, `after` or `notes`.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.pipeline import asking, file_grid, inside, methods
from maeref_jax.pipeline.blockwise import in_3d
from maeref_jax.pipeline.jobs import uses_symmetries
from maeref_jax.pipeline.passes import UNDECIDED, Run, Said
from maeref_jax.pipeline.shown import doubts_about_image
from maeref_jax.uncertainty.foreground import EVEN
from maeref_jax.volumes import progress
from maeref_jax.volumes.inputs import doubt_about_scale, doubts_about_place
from maeref_jax.volumes.label_ids import Reading
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.windows import blocks

HARM = "this refiner does harm on your validation data"
UNPROVEN = "nobody knows yet whether its repairs help on this data"
FEWEST_VX = 500  # a class of fewer voxels may come and go
SLAB = (8, 1024, 1024)
MOST_HIDDEN = 0.25  # of the voxels


def before(run: Run, readings: dict[str, Reading], forgotten: float | None = None, mask: Volume | None = None) -> Said:
    """What is to be said before a volume is refined. The refiner is asked what it makes of this volume. readings: how
    the ids of label files were read, by role; forgotten: a chosen threshold that does not belong to these inputs, None
    for none; mask: of what is worked on, as it is on disk.

    Raises:
        BadInput: nothing is left by the mask.
    """
    left, statistics = inside.measure(run, mask), _statistics(run)
    run = run._replace(said=Said(within=left, statistics=statistics))
    asked = asking.ask(run)
    # That everything is inside is said once.
    read = [reading for role, reading in readings.items() if role != "within"]
    found = [*run.job.doubts, *(text for reading in read for text in reading.doubts)]
    found += inside.doubts(run.job.stem, run.shape, left)
    found += doubts_about_place(_given(run.job))
    if run.job.entropy:
        found += filter(None, [doubt_about_entropy(run.job.entropy, real_classes(run.scheme))])
    found += doubts_about_image(run.job.stem, run.job.image, run.segmenter, run.refiner)
    found += [*_of_models(run), *_of_slices(run), *_of_asking(asked, run)]
    said = [text for reading in readings.values() for text in reading.notes] + inside.notes(run.job.stem, left)
    said += notes(run, asked)
    if statistics:
        found, said = found + statistics.pop("doubts"), said + statistics.pop("notes")
    if forgotten is not None:
        said.append(
            f"the threshold {forgotten:g} stored in {run.refiner.workdir} was chosen for the entropy of an ensemble; "
            f"for labels of your own {run.settings.threshold:g} is used, as trained; --threshold sets another one"
        )
    return Said(tuple(found), tuple(said), asked, left, statistics)


def _given(job) -> list[Volume]:
    volumes = (job.image, job.labels, job.entropy, job.hidden, job.within, *job.probabilities)
    return [volume for volume in volumes if volume is not None]


def _statistics(run) -> dict | None:
    """What a segmenter that learned nothing has to know of the whole image."""
    if run.segmenter is None or run.segmenter.apply.statistics is None:
        return None
    with progress.showing(f"looking at {run.job.stem}"):
        return run.segmenter.apply.statistics(run.job.image)


def notes(run: Run, asked: dict | None) -> list[str]:
    """What a user should know of the inputs, and of what was not asked."""
    job, refiner, found = run.job, run.refiner, []
    learned = refiner.facts.get("foreground_threshold", EVEN) if refiner else EVEN
    if learned != EVEN and job.labels is not None:
        found.append(
            f"{refiner.workdir} was trained on masks whose foreground begins at a probability of {learned:g}; where "
            f"that of {job.labels.path} begins is not known"
        )
    found += [f"{volume.path}: {volume.note}" for volume in _given(job) if volume.note]
    if text := file_grid.note(job):
        found.append(text)
    if job.entropy is not None and job.entropy.dtype == np.uint8:
        found.append(f"{job.entropy.path}: uint8 entropy is read as value / 255")
    if refiner is None or not run.settings.ask:
        return found
    if asked:
        return [*found, told(asked)]
    why = asking.cannot_be_asked(refiner) or f"{job.stem}: no place was found where hidden and visible tokens meet"
    return [*found, f"{why}; the refiner was not tried on this volume"]


def told(asked: dict) -> str:
    """What came of asking, as a sentence."""
    right, alone = asked["right"], len(asked["classes"]) == 1
    return (
        f"asked for {asked['voxels']:,} visible voxels near hidden ones, in {asked['places']} places, the refiner gets "
        f"{right['refiner']:.1%} right, copying the nearest visible label {right['nearest']:.1%}, the commonest class "
        f"alone {right['commonest class']:.1%}" + "; no other class is visible there, so this says little" * alone
    )


def after(summary: dict, scheme: dict, left: Sequence[str] = (), refined: bool = True) -> list[str]:
    """What the sidecar's numbers of a finished volume give reason to warn of. left: what was left as it was; refined:
    whether there was a refiner.
    """
    found, stem, hidden = [], summary["stem"], summary["hidden_share"]
    if hidden > MOST_HIDDEN:
        opinion = "the refiner's opinion, not the image's" if refined else "hardly the image's word"
        found.append(
            f"{stem}: {hidden:.1%} of the voxels are hidden, more than a quarter: what is measured there is {opinion}; "
            "hide less, or segment better, before you measure anything"
        )
    if summary["undecided_share"] > 0.5:
        found.append(
            f"{stem}: entropy is high nearly everywhere, above {UNDECIDED:g} of the threshold in "
            f"{summary['undecided_share']:.0%} of the voxels: it does not tell unreliable places from others here; "
            "does the image look like those that the segmentation was trained on?"
        )
    real = [name for i, name in enumerate(scheme["names"]) if i != scheme["ambiguous"]]
    for name, counts in summary["classes_changed"].items():
        one, other = counts["voxels_initial"], counts["voxels_refined"]
        if (real and name not in real) or name == "unknown" or max(one, other) < FEWEST_VX:
            continue
        if other < one / 2 or other > 1.5 * one:
            moved = (
                f"{'lost' if other < one else 'gained'} {abs(other / one - 1):.0%} of its voxels" if one else "is new"
            )
            found.append(
                f"{stem}: the class {name} {moved} ({one:,} before, {other:,} after); look at them before you use this "
                "result"
            )
    blobs = {} if "red" in left else summary.get("repairs", {})
    voxels = sum(one["voxels"] for one in blobs.values())
    if voxels and blobs["red"]["voxels"] > voxels / 2:
        found.append(
            f"{stem}: {blobs['red']['voxels'] / voxels:.0%} of the hidden voxels lie in repairs rated red; "
            "--config.leave=red leaves these as they were"
        )
    return found


def stop(stem: str, warnings: Iterable[str], done: str = "nothing was written") -> None:
    """BadInput if there are any warnings: for --strict. done: what became of the result."""
    if warnings := list(warnings):
        raise BadInput(f"{stem}: stopped by --strict, {done}: {'; '.join(warnings)}. To go on, leave out --strict")


def _of_models(run) -> list[str]:
    segmenter, refiner = run.segmenter, run.refiner
    judge = refiner and refiner.judge
    models = {model.workdir: model for model in (segmenter, refiner, judge) if model}
    found = [text for model in models.values() for text in model.doubts]
    model = segmenter or refiner
    if model and model.name not in methods.UNLEARNED | methods.RULES:  # these have learned from no size
        sizes = run.voxel_size_nm, model.workdir, model.settings["voxel_size_nm"]
        found.append(doubt_about_scale(run.job.stem, *sizes))
    alone = segmenter and segmenter.settings.get("members") == 1 and not uses_symmetries(segmenter)
    if alone and not segmenter.apply.statistics:
        found.append(
            f"{segmenter.workdir} has one member: its entropy knows nothing that another one would have seen "
            "otherwise; try --config.ensemble_symmetries=true"
        )
    if refiner and run.shape[0] < (seen := in_3d(refiner.apply)[0][0] + 2 * refiner.apply.context):
        found.append(
            f"{run.job.stem} has {run.shape[0]} slices, fewer than the {seen} that {refiner.workdir} sees at a time: "
            "what it sees beyond them is made up"
        )
    if refiner and refiner.apply.everywhere and run.job.hidden is not None:
        found.append(
            f"{run.job.hidden.path} is no border for {refiner.workdir}, which may change any voxel; "
            "--config.use.everywhere=false keeps to what is hidden"
        )
    found.append(_of_foreground(run))
    if judge and run.settings.gain >= 1:
        chosen = judge.settings["use"]["gain"] >= 1
        why = ", as its training found none on its validation volumes that was good enough" if chosen else ""
        found.append(f"{judge.workdir} hides nothing at a gain of 1{why}: see its gain.json for what others did there")
    if refiner and refiner.verdict:
        harm = refiner.verdict["sentence"] if refiner.verdict.get("harm") else ""
        if text := harm or unproven(refiner.verdict, refiner.settings):
            found.append(f"{refiner.workdir}: {text}")
    return [text for text in found if text]


def doubt_about_entropy(entropy: Volume, classes: int) -> str:
    """What to tell of entropy that was probably meant on another scale, of so many classes, or 0 for nobody knows; ""
    for nothing.
    """
    highest = max(float(entropy.read(box).max()) for box in blocks(entropy.shape, SLAB))
    if highest == 0:
        return f"{entropy.path} is 0 everywhere: it hides nothing"
    if entropy.dtype == np.uint8 and highest == 1:
        return f"{entropy.path} holds 0 and 1 of 255, hardly any entropy; is it a mask? give it as --hidden"
    if entropy.dtype == np.uint8 and highest == 100:
        return f"{entropy.path} ends at 100 of 255; if these are per cent, divide them by 100"
    if entropy.dtype != np.uint8 and classes == 2 and np.isclose(highest, np.log(2), rtol=2e-3):
        return f"{entropy.path} ends at {highest:.4f}, the logarithm of 2; if it is in nats, divide it by that"
    return ""


def unproven(verdict: dict, settings: dict) -> str:
    """That nobody knows whether a refiner helps, and how to find out; "" where a truth has judged it.

    verdict: of experiments/verdict.py, kept since workdirs have one; settings: of the refiner's config.
    """
    if verdict.get("on", "truth") == "truth":
        return ""
    more = ""
    if "ensemble" in settings.get("data", {}):
        more = "give maeref train what is missing of --ensemble, --validation_images and --validation_labels, or "
    return (
        f"{UNPROVEN}: when it was trained, no truth judged what it makes of a segmentation; to find out, {more}compare "
        "it with maeref evaluate on a volume whose truth you know"
    )


def _of_foreground(run) -> str:
    """The doubt where a refiner learned from masks whose foreground begins at another threshold than it does here."""
    learned = run.refiner and run.refiner.facts.get("foreground_threshold")
    if learned is None or run.job.labels is not None:  # where that of a user's own labels begins nobody knows
        return ""
    use = run.segmenter.settings.get("use", {}) if run.segmenter else {}
    found = use.get("foreground_threshold", EVEN)
    if abs(found - learned) < 1e-6:
        return ""
    return (
        f"{run.refiner.workdir} was trained on masks whose foreground begins at a probability of {learned:g}, and here "
        f"it begins at {found:g}: train it on masks made so, or use the segmenter that made those"
    )


def _of_slices(run) -> list[str]:
    wanted, refiner = run.settings.agree_within_nm, run.refiner
    if run.voxel_size_nm or refiner is None or refiner.apply.dims == 3 or run.shape[0] == 1:
        return []
    if refiner.apply.slices:
        return [
            f"{run.job.stem}: no file says how large a voxel is, so the lengths of {refiner.workdir} are those of "
            "voxels of 5 nm; give --voxel_size_nm Z,Y,X"
        ]
    if not wanted or (refiner.apply.context and refiner.apply.sees_hidden):
        return []
    return [
        f"{run.job.stem}: no file says how large a voxel is, so every slice is filled in by itself and nobody knows "
        f"whether the refiner's scale fits; with --voxel_size_nm Z,Y,X slices within {wanted:g} nm agree"
    ]


def _of_asking(asked, run) -> list[str]:
    if not asked or not asked["worse"]:
        return []
    return [
        f"{run.job.stem}: {told(asked)}: the refiner is worse here than copying what lies nearest; do not use it on "
        "this volume, or use a refiner that was trained on such data"
    ]
