"""From held-out volumes with known truth to the numbers and tables that judge a refinement.

A Case is a volume and its truth; `cases` makes them of phantoms or of files. `refine` runs the pipeline on one, `judge`
counts against the truth, slab by slab, and `score_tables` and `score_summary` bring the sums into the form that people
and programs read.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax import jobs, pipeline, report
from maeref_jax.errors import BadInput
from maeref_jax.metrics import overlap, scores, statistics, validity
from maeref_jax.metrics.baselines import nearest_visible_label
from maeref_jax.training.workdir import make_workdir
from maeref_jax.volumes.dataset import mapped_labels
from maeref_jax.volumes.low_signal import LowSignalSettings, lower_signal
from maeref_jax.volumes.phantom import phantom
from maeref_jax.volumes.volume import (
    Volume,
    array_volume,
    labels_from_disk,
    open_volume,
    share_slices,
    write_tiff,
)
from maeref_jax.volumes.windows import Box, whole

ROLES = ("images", "labels", "entropy", "hidden", "low_signal")  # files of a config beside its truths
SLAB = 8  # slices read at a time
MAPS = {"initial": "initial", "nearest": "nearest visible label", "refined": "refined"}
REGIONS = {"hidden": "inside hidden tokens", "low_signal": "inside low-signal regions", "all": "everywhere"}


class Case(NamedTuple):
    """A held-out volume.

    truth: int16 (z, y, x), -1 unknown. low_signal: bool of that shape, or None where nobody knows it.
    inputs: {"image" | "labels" | "entropy" | "hidden": Volume}, what the pipeline gets.
    """

    stem: str
    truth: np.ndarray
    low_signal: np.ndarray | None
    inputs: dict[str, Volume]
    voxel_size_nm: tuple[float, float, float] | None


class Judged(NamedTuple):
    """What `judge` found: the sums; and per slice, int64 (z,), the voxels repaired and the voxels made wrong."""

    scores: scores.Scores
    repaired: np.ndarray
    made_wrong: np.ndarray


def check(settings):
    """Raises BadInput for settings that ask for phantoms and for files: the files would not be judged on."""
    files, seeds = settings["files"], settings["phantom"]["seeds"]
    given = [f"files.{role}" for role in ("truths", *ROLES, "damage") if files[role]]
    if seeds and given:
        raise BadInput(
            f"both phantoms (phantom.seeds {seeds}) and {', '.join(given)} are given; for files only, add "
            "--config.phantom.seeds="
        )


def check_held_out(settings, models):
    """Raises BadInput if a volume to judge on shares slices with one that a model was trained or validated on."""
    files = (*settings["files"]["truths"], *settings["files"]["images"])
    volumes = [f"phantom_{seed}" for seed in settings["phantom"]["seeds"]] or files
    for model in models:
        known = (*model.facts.get("volumes", ()), *model.facts.get("validation_volumes", ()))
        seen = {volume for volume in volumes if any(share_slices(volume, other) for other in known)}
        if seen:
            raise BadInput(
                f"expected volumes that no model has seen, but {', '.join(sorted(seen))} belonged to the training or "
                f"validation data of {model.workdir}; choose others"
            )


def cases(settings, classes, output):
    """The held-out volumes of a config: phantoms by seed (written to `output`) or, without seeds, files."""
    if settings["phantom"]["seeds"]:
        return [_phantom_case(seed, settings["phantom"], classes, output) for seed in settings["phantom"]["seeds"]]
    files = settings["files"]
    if not files["truths"]:
        raise BadInput("nothing to evaluate: set phantom.seeds, or files.truths and files.images, in the config")
    for role in ROLES:
        if files[role] and len(files[role]) != len(files["truths"]):
            raise BadInput(
                f"expected as many files.{role} as files.truths ({len(files['truths'])}), found {len(files[role])}"
            )
    found = [_file_case(index, files, classes) for index in range(len(files["truths"]))]
    stems = [case.stem for case in found]
    if len(set(stems)) < len(stems):
        raise BadInput(f"expected truths with different file names, as the results are named by them, found {stems}")
    return found


def refine(case, ensemble, refiner, settings, output):
    """Runs the pipeline on a Case, only segments it where `refiner` is None. Returns {role: Volume} of the results."""
    job = jobs.Job(stem=case.stem, output=output, **case.inputs)
    pipeline.refine_volume(job, ensemble, refiner, jobs.Settings(**settings["refine"]))
    roles = ("initial", "entropy", "hidden", *(("refined",) if refiner else ()))
    return {role: pipeline.open_result(output, case.stem, role) for role in roles}


def compete(case, ensemble, competitors, results, settings, output):
    """{name: Volume of labels}: the same Case refined by others, {name: Model}, in the tokens that `results` hides.

    A competitor that needs the ensemble's probabilities segments again, at the same thresholds; the others are given
    the labels and the hidden tokens. Raises BadInput where a competitor's tokens are others.
    """
    found = {}
    for name, model in competitors.items():
        folder = Path(output) / name
        if "probabilities" in model.apply.needs:
            job = jobs.Job(case.stem, folder, **case.inputs)
            pipeline.refine_volume(job, ensemble, model, jobs.Settings(**settings["refine"], tiff_export=False))
        else:
            given = {role: view_of(results[role], case.voxel_size_nm) for role in ("initial", "hidden")}
            job = jobs.Job(case.stem, folder, case.inputs.get("image"), given["initial"], hidden=given["hidden"])
            alike = {"threshold": 1.0, "ambiguous_threshold": 1.0, "overwrite": True, "tiff_export": False}
            pipeline.refine_volume(job, None, model, jobs.Settings(**alike), lambda text: None)
        everything = whole(results["hidden"].shape)
        hidden = pipeline.open_result(folder, case.stem, "hidden").read(everything)
        if (hidden != results["hidden"].read(everything)).any():
            raise BadInput(f"{model.workdir} hides other tokens ({model.apply.token} voxels a side): not comparable")
        found[name] = pipeline.open_result(folder, case.stem, "refined")
    return found


def view_of(volume, voxel_size_nm):
    """A stored array as an input of another job: in memory, as held-out volumes are."""
    return array_volume(volume.read(whole(volume.shape)), volume.path, voxel_size_nm)


def judge(case, results, classes, settings, competing=None):
    """Counts of one refined Case. classes: number of classes; settings: the config's `validity` group; competing:
    {name: Volume} of others' labels.
    """
    meaning = validity.Classes(*settings["classes"]) if settings["classes"] else None
    shape = {name: settings[name] for name in ("size", "min_foreground", "slice_step")}
    crops = validity.crops(case.truth, **shape) if meaning else []
    total, repaired, made_wrong = None, [], []
    for start in range(0, case.truth.shape[0], SLAB):
        stop = min(start + SLAB, case.truth.shape[0])
        box = Box((start, 0, 0), (stop, *case.truth.shape[1:]))
        truth = case.truth[box.slices]
        initial, hidden = labels_from_disk(results["initial"].read(box)), results["hidden"].read(box) > 0
        refined = labels_from_disk(results["refined"].read(box)) if "refined" in results else initial
        nearest = nearest_visible_label(initial, hidden)
        others = {name: labels_from_disk(volume.read(box)) for name, volume in (competing or {}).items()}
        found = scores.count(
            truth=truth,
            initial=initial,
            repaired={"nearest": nearest, "refined": refined, **others} if "refined" in results else {},
            hidden=hidden,
            low_signal=None if case.low_signal is None else case.low_signal[box.slices],
            classes=classes,
            crops=[(z - start, y, x) for z, y, x in crops if start <= z < stop],
            meaning=meaning,
        )
        total = found if total is None else scores.add(total, found)
        right_before, right_after, known = initial == truth, refined == truth, truth != -1
        repaired.append((~right_before & right_after & known).sum((1, 2)))
        made_wrong.append((right_before & ~right_after & known).sum((1, 2)))
    return Judged(total, np.concatenate(repaired), np.concatenate(made_wrong))


def score_summary(found):
    """The numbers for programs: dice_hidden, dice_low_signal, dice_all, repairs, validity. Undefined ones are None."""
    summary = {
        f"dice_{region}": {
            name: scores.dice_with_mean(counts) for name, counts in confusions.items() if name != "nearest"
        }
        for region, confusions in found.confusions.items()
    }
    if found.repairs:
        summary["repairs"] = {name: found.repairs["refined"][name] for name in ("wrong_to_right", "right_to_wrong")}
    if found.validity:
        summary["validity"] = {
            name: {
                metric: {"mean": value["mean"], "se": value["se"]} for metric, value in validity.summary(crops).items()
            }
            for name, crops in found.validity.items()
            if name != "nearest"
        }
    return _without_nan(summary)


def score_tables(found, class_names):
    """The same and more for people: a list of report.Table. class_names: all classes, background first."""
    tables = [_dice_table(found, class_names)]
    tables += [_repair_table(found)] if found.repairs else []
    return [*tables, _validity_table(found)] if found.validity else tables


def comparison(judged, classes, seed=0):
    """A report.Table: how far the refined map is ahead of each other one, inside hidden tokens (EVALUATION E1).

    judged: Scores of every volume; classes: ids whose Dice is averaged. Interval: bootstrap over volumes, paired. p:
    sign flips of the volumes' differences, Holm-corrected over the rows. None where there is nothing to compare with.
    """
    names = [name for name in judged[0].confusions["hidden"] if name != "refined"]
    if "refined" not in judged[0].confusions["hidden"]:
        return None

    def statistic(confusion):
        return overlap.macro_dice(confusion, classes)

    counts = {name: np.stack([one.confusions["hidden"][name] for one in judged]) for name in (*names, "refined")}
    refined, rows, chances = counts["refined"], [], []
    for name in names:
        found = statistics.difference_interval(refined, counts[name], statistic, seed)
        each = [statistic(a) - statistic(b) for a, b in zip(refined, counts[name], strict=True)]
        chances.append(statistics.sign_flip_p(np.array(each), seed))
        between = f"[{found.low:+.3f}, {found.high:+.3f}]" if found.clusters > 1 else "-"
        rows.append(
            (MAPS.get(name, name), report.number(statistic(counts[name].sum(0))), f"{found.estimate:+.3f}", between)
        )
    corrected = statistics.holm(np.array(chances))
    rows = tuple((*row, report.number(float(p))) for row, p in zip(rows, corrected, strict=True))
    header = ("inside hidden tokens", "its Dice", "refined minus it", "95 % interval", "p")
    which = ", ".join(map(str, classes))
    note = (
        f"Mean Dice of the classes {which}. Interval: paired bootstrap over {len(judged)} volumes, too narrow for "
        "fewer than ten. p: sign flips of the volumes' differences, Holm-corrected; with n volumes it cannot be below "
        "2 / 2^n."
    )
    return report.Table("The refined map against every other one", header, rows, (), note)


def verdict(found):
    """The result in a few plain sentences, good or bad; a list of str."""
    if not found.repairs:
        mean = scores.dice_with_mean(found.confusions["all"]["initial"])["mean"]
        return [f"The segmentation alone, no refiner: mean Dice of the foreground classes {mean:.3f} (1 is the truth)."]
    dice = {name: scores.dice_with_mean(found.confusions["hidden"][name])["mean"] for name in MAPS}
    if math.isnan(dice["initial"]):
        return ["No voxel with known truth was hidden: there was nothing to repair, and nothing was changed."]
    repairs = found.repairs["refined"]
    direction = "rose" if dice["refined"] > dice["initial"] else "did not rise: it went"
    better, worse = repairs["wrong_to_right"], repairs["right_to_wrong"]
    first = (
        f"Where the segmentation was unreliable, the mean Dice score of the foreground classes {direction} from "
        f"{dice['initial']:.3f} to {dice['refined']:.3f} (1 is the truth). {better:,} wrong voxels became right and "
        f"{worse:,} right ones became wrong."
    )
    compared = "the refiner is better than that" if dice["refined"] > dice["nearest"] else "the refiner is NOT better"
    second = (
        f"Copying the nearest visible label, which learns nothing, reaches {dice['nearest']:.3f}: {compared}. "
        f"{scores.share_hidden(found):.1%} of the voxels were hidden; they hold "
        f"{scores.share_of_errors_hidden(found):.0%} of all errors, the most that any refinement could repair."
    )
    outside = found.changed_outside["refined"]
    return [first, second, f"Outside the hidden tokens {outside or 'no'} voxel{'s' if outside > 1 else ''} changed."]


def _dice_table(found, class_names):
    rows = []
    for region, confusions in found.confusions.items():
        rows.append((REGIONS[region], *[""] * len(class_names)))
        for name, counts in confusions.items():
            dice = scores.dice_with_mean(counts)
            rows.append((f"  {MAPS.get(name, name)}", *(report.number(value) for value in dice.values())))
    note = f"The mean is over the classes listed, not over voxels; {class_names[0]} takes no part in it."
    if found.repairs:
        note += (
            " The nearest visible label learns nothing: each hidden voxel copies the closest voxel of its slice that "
            "is not hidden."
        )
    header = ("Dice, 1 = identical to the truth", "mean", *class_names[1:])
    return report.Table("Agreement with the truth", header, tuple(rows), ("refined",), note)


def _repair_table(found):
    header = (
        "voxels inside hidden tokens",
        *(name.replace("_to_", " → ").replace("_", " ") for name in overlap.REPAIRS),
    )
    rows = tuple(
        (MAPS.get(name, name), *(f"{counts[key]:,}" for key in overlap.REPAIRS))
        for name, counts in found.repairs.items()
    )
    return report.Table("What was repaired, and what was broken", header, rows, ("refined",))


def _validity_table(found):
    number = len(found.validity["truth"])
    rows = [
        (label, *report.validity_cells(validity.summary(found.validity[name])))
        for name, label in {**MAPS, **{name: name for name in found.validity if name not in MAPS}}.items()
        if name in found.validity
    ]
    rows.append(("paper's control group", *report.validity_cells(validity.paper_control())))
    note = (
        f"Mean ± standard error over {number} crops, taken as independent although neighbouring slices are not. "
        "Nearer to the truth's row is better; higher or lower is not. End points and cycles are those of the skeleton "
        "of the inner part (cristae and matrix). The paper's row is other data at another pixel size."
    )
    return report.Table(
        "How plausible the masks look", ("per crop", *report.METRIC_NAMES), tuple(rows), ("refined",), note
    )


def _phantom_case(seed, settings, classes, output):
    made = phantom(seed, tuple(settings["shape"]), tuple(settings["voxel_size_nm"]))
    stem, output = f"phantom_{seed}", Path(output)
    make_workdir(output)
    arrays = {"image": made.image, "truth": made.labels, "low_signal": made.low_signal}
    for role, array in arrays.items():
        colours = classes["colours"] if role == "truth" else None
        write_tiff(output / f"{stem}_{role}.tif", array, made.voxel_size_nm, colours)
    inputs = {"image": open_volume(output / f"{stem}_image.tif")}
    return Case(stem, made.labels, made.low_signal, inputs, made.voxel_size_nm)


def _file_case(index, files, classes):
    def opened(role):
        return open_volume(files[role][index], axes=files["axes"] or None, voxel_size_nm=files["voxel_size_nm"] or None)

    source = opened("truths")
    truth = mapped_labels(source, files, len(classes["names"]))
    if classes["ambiguous"] >= 0:
        truth[truth == classes["ambiguous"]] = -1
    if (truth < 0).all():
        raise BadInput(
            f"{source.path} holds no known label: all voxels are unknown or ambiguous, nothing can be judged"
        )
    inputs = {
        name: opened(role)
        for name, role in {"image": "images", "labels": "labels", "entropy": "entropy", "hidden": "hidden"}.items()
        if files[role]
    }
    for name, volume in inputs.items():
        if volume.shape != truth.shape:
            raise BadInput(f"{source.path} has shape {truth.shape}, but its {name} {volume.path} has {volume.shape}")
    low_signal = None
    if files["low_signal"]:
        volume = opened("low_signal")
        low_signal = volume.read(whole(volume.shape)) > 0
    stem = Path(source.path).name.partition(".")[0]
    if files["damage"] > 0:
        low_signal = damaged_regions(truth, index, files["damage"])
        damaged = np.where(low_signal, np.int16(0), truth)
        inputs = {
            "labels": array_volume(damaged, f"{stem}_damaged", source.voxel_size_nm),
            "hidden": array_volume(low_signal.astype(np.uint8), f"{stem}_damage", source.voxel_size_nm),
        }
    return Case(stem, truth, low_signal, inputs, source.voxel_size_nm)


def damaged_regions(truth, seed, per_million):
    """Where the labels of a real volume are taken away: ellipsoids on its foreground, bool (z, y, x)."""
    blank = np.zeros(truth.shape, np.float32)
    settings = LowSignalSettings(on_mitochondria=per_million, in_cytoplasm=0.0)
    return lower_signal(blank, truth, np.random.default_rng(seed), settings)[1]


def _without_nan(tree):
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    return None if isinstance(tree, float) and math.isnan(tree) else tree
