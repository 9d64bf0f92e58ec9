"""Which threshold of entropy? The refinement tried at several of them on one volume, best with its truth.

A threshold belongs to a kind of entropy, a number of classes and a number of members (entropy.py): what is chosen here
is stored with them in the refiner's workdir, as threshold.json, and another combination is refused. Where no threshold
repairs more than it breaks, by more than chance over the slices, the answer is none, and nothing is stored.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maeref_jax import report
from maeref_jax.commands.load_models import load_models
from maeref_jax.errors import MARK, BadInput, tell
from maeref_jax.metrics import overlap, statistics
from maeref_jax.pipeline import jobs, refining
from maeref_jax.pipeline.blockwise import hide
from maeref_jax.report.canvas import png_of_figure
from maeref_jax.training.workdir import write_text
from maeref_jax.volumes import inputs, label_ids, within
from maeref_jax.volumes.dataset import given_of, met
from maeref_jax.volumes.volume import array_volume, labels_from_disk, share_slices
from maeref_jax.volumes.windows import whole

DRAWS = 2000
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
# Settings that decide what becomes of a voxel, or how the work is done; all others are of what is made of it.
KEPT = ("block", "batch", "seed", "overwrite", "entropy_kind", "agree_within_nm", "label_map")
SHOWN = (0.1, 0.25, 0.4, 0.6, 0.8)  # thresholds of the pictures


class Tried(NamedTuple):
    """One threshold. hidden: share of the voxels; of the truth, or None without: caught, the share of all errors that
    is hidden; repaired, broken: voxels that became right, and wrong; net: repaired minus broken of every slice. Of the
    voxels inside, where there is a mask of what is worked on.
    """

    threshold: float
    hidden: float
    caught: float | None
    repaired: int | None
    broken: int | None
    net: tuple[int, ...] = ()


class Found(NamedTuple):
    """tried: in the order of the thresholds; hidden: bool (z, y, x) at each; image: float (z, y, x) or None; best: the
    recommended threshold, None without truth, and where leaving everything as it is beats them all.
    """

    tried: list[Tried]
    hidden: list[np.ndarray]
    image: np.ndarray | None
    best: float | None


def suggest_threshold(given, config):
    """Tries thresholds on one input, prints the table, draws it, and stores the best one where the truth is known.
    given: a list of jobs.Job; BadInput unless it is of one.
    """
    if len(given) != 1:
        stems = ", ".join(job.stem for job in given)
        raise BadInput(f"--suggest_threshold tries one input, found {stems or 'none that can be opened'}")
    truth, directory = None, Path(config.output)
    if config.suggest_threshold != "none":
        truth = given_of(config).open(config.suggest_threshold, "labels")
        leading = given[0].image or given[0].probabilities[0]
        truth = met({"given": leading, "truth": truth})["truth"] if config.at_voxel_size_nm else truth
    segmenter, refiner, settings = load_models(config)
    for text in learned_from(given[0], (segmenter, refiner)):
        tell(f"{MARK}{text}")
    job = given[0]._replace(output=directory / "suggestion")
    found = suggest(job, segmenter, refiner, settings, truth, THRESHOLDS)
    print("\n" + report.text_table(table(found)))
    for name, png in (("curve", curve(found)), ("pictures", pictures(found))):
        path = directory / f"{job.stem}_threshold_{name}.png"
        path.write_bytes(png)
        print(path)
    if truth is not None and found.best is None:
        print(f"none: leave it. {leave_it(refiner)}")
    if found.best is not None:
        members = jobs.members_of(job, segmenter)
        stored = store(found, refiner, segmenter, settings.entropy_kind, members, config.suggest_threshold)
        print(f"refine.py and evaluate.py use {found.best:g} from now on: {stored}")


def learned_from(job, models):
    """Sentences: which of the models, None for none, has learned from the volume of a jobs.Job."""
    paths = [volume.path for volume in (job.image, job.labels, *(job.probabilities or ())) if volume is not None]
    for model in filter(None, models):
        known = [path for fact in ("volumes", "images") for path in model.facts.get(fact, ())]
        if any(share_slices(path, other) for path in paths for other in known):
            yield (
                f"{job.stem} belongs to the training data of {model.workdir}, which is surer and right more often "
                "there than on other volumes: choose the threshold on one that no model has learned from"
            )


def leave_it(refiner):
    """What to tell a user whose volume is best left as it is."""
    said = (
        "No threshold repairs more than it breaks, by more than chance: do not refine such volumes with this refiner. "
        "Nothing was stored"
    )
    if refiner.chosen:
        path = epath.Path(refiner.workdir) / "threshold.json"
        said += (
            f"; but {path} still holds {refiner.chosen['threshold']:g}, chosen earlier on "
            f"{refiner.chosen.get('chosen_on', 'another volume')}, which this volume does not confirm: remove the file "
            "to forget it"
        )
    return f"{said}."


def suggest(job, segmenter, refiner, settings, truth=None, thresholds=THRESHOLDS, say=tell):
    """Found for one volume, which has to fit in memory. job: a jobs.Job with an image or probabilities, whose output is
    a folder for intermediate results; settings: jobs.Settings; truth: a Volume of labels (z, y, x) or None.

    Raises BadInput for a truth that does not fit, before anything is written, for a refiner that fills in from class
    probabilities, and whatever refining.refine_volume raises.
    """
    known = None if truth is None else _known(truth, job, refiner, settings, say)
    # Nothing has a mean entropy above 1: what is hidden already is so because it is called ambiguous.
    limits, _ = jobs.thresholds_of({"threshold": 1.0, "ambiguous_threshold": settings.ambiguous_threshold}, refiner)
    plain = jobs.Settings(**{name: getattr(settings, name) for name in KEPT}, **limits, tiff_export=False)
    plain = plain._replace(token=refiner.apply.token)
    refining.refine_volume(job, segmenter, None, plain, say)
    read = {
        role: refining.open_result(job.output, job.stem, role).read(whole(_shape(job)))
        for role in ("initial", "entropy", "hidden")
    }
    initial, entropy = labels_from_disk(read["initial"]), read["entropy"].astype(np.float32) / 255
    inside = _inside(job, initial.shape)
    if known is not None:
        known = np.where(inside, known, np.int16(-1))
        if (known < 0).all():
            raise BadInput(
                f"{truth.path} holds no known label inside of {job.within.path}; nothing can be judged there"
            )
    tried, masks = [], []
    for threshold in thresholds:
        hidden = hide(entropy, entropy * 0, refiner.apply.token, threshold, 1.0) | (read["hidden"] > 0)
        masks.append(hidden & inside)
        caught, repaired, broken, net = None, None, None, ()
        if known is not None:
            refined = _refined(job, initial, read["entropy"], masks[-1], refiner, plain, threshold)
            wrong = (initial != known) & (known >= 0)
            caught = float((wrong & masks[-1]).sum() / max(wrong.sum(), 1))
            slices = zip(known, initial, refined, masks[-1], strict=True)
            counts = [overlap.repairs(*one) for one in slices]
            repaired, broken = (sum(one[name] for one in counts) for name in ("wrong_to_right", "right_to_wrong"))
            net = tuple(one["wrong_to_right"] - one["right_to_wrong"] for one in counts)
        share = float(masks[-1].sum() / inside.sum())
        tried.append(Tried(threshold, share, caught, repaired, broken, net))
        say(f"threshold {threshold:g}: {tried[-1].hidden:.2%} hidden")
    image = None if job.image is None else job.image.read(whole(initial.shape))
    return Found(tried, masks, image, best(tried))


def best(tried):
    """The threshold with most repaired minus broken voxels, the highest of those: hide no more than helps. None where
    the truth is not known, and where none of them repairs more than it breaks, in the slices and by more than chance.
    """
    helping = [one for one in tried if helps(one)]
    if not helping:
        return None
    return max(helping, key=lambda one: (sum(one.net), one.threshold)).threshold


def helps(one):
    """Whether a Tried repairs more than it breaks: the 95 % interval of the sum over slices lies above 0. Of one slice
    nobody knows the spread, and the number alone decides.
    """
    if not one.net or sum(one.net) <= 0:
        return False
    found = statistics.interval(np.array(one.net), float, seed=0, draws=DRAWS)
    return found.clusters == 1 or found.low > 0


def store(found, refiner, segmenter, entropy_kind, members, source):
    """Writes the recommended threshold into the refiner's workdir, with what it belongs to. Returns the path."""
    path = epath.Path(refiner.workdir) / "threshold.json"
    classes = len((segmenter or refiner).settings["classes"]["names"])
    known = {"threshold": found.best, "entropy_kind": entropy_kind, "classes": classes, "members": members}
    known["symmetries"] = jobs.uses_symmetries(segmenter)
    text = json.dumps({**known, "chosen_on": source, "tried": [one._asdict() for one in found.tried]}, indent=1)
    write_text(path, text + "\n")
    return path


def table(found):
    """A report.Table of what was tried."""
    header = ("threshold", "hidden", "of all errors", "repaired", "broken", "net right")
    rows = []
    for one in found.tried:
        counts = ("-",) * 4
        if one.repaired is not None:
            counts = (f"{one.caught:.1%}", f"{one.repaired:,}", f"{one.broken:,}", f"{one.repaired - one.broken:+,}")
        mark = " ← recommended" if one.threshold == found.best else ""
        rows.append((f"{one.threshold:g}{mark}", f"{one.hidden:.2%}", *counts))
    known = found.tried[0].repaired is not None
    note = (
        "Hidden: share of the voxels. Of all errors: how many of them are hidden, the most that can be repaired. Net "
        "right: repaired minus broken."
        + " None of them repairs more than it breaks, by more than chance."
        * (found.best is None)
        if known
        else "Without a truth there is no recommendation: choose by the pictures how much should be filled in."
    )
    return report.Table("Hidden area and what it buys, by threshold of entropy", header, tuple(rows), (), note)


def curve(found):
    """The table as PNG bytes: hidden area, errors caught and net right voxels against the threshold."""
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    thresholds = [one.threshold for one in found.tried]
    known = found.tried[0].repaired is not None
    left = figure.add_subplot(1, 2, 1) if known else figure.add_subplot(1, 1, 1)
    left.plot(thresholds, [100 * one.hidden for one in found.tried], color="#aa00aa", label="voxels hidden")
    if known:
        left.plot(thresholds, [100 * one.caught for one in found.tried], color="#1f77b4", label="of all errors hidden")
        right = figure.add_subplot(1, 2, 2)
        right.plot(thresholds, [one.repaired - one.broken for one in found.tried], color="#2a9d2a")
        right.axhline(0, color="0.6", linewidth=0.8)
        right.set(xlabel="threshold of entropy", ylabel="voxels repaired minus broken")
    if found.best is not None:
        right.axvline(found.best, color="0.3", linestyle=":", label=f"recommended: {found.best:g}")
        right.legend(frameon=False)
    # Limits come after all curves: they would be set by those drawn before.
    left.set(xlabel="threshold of entropy", ylabel="per cent", ylim=(0, None))
    left.legend(frameon=False)
    return png_of_figure(figure)


def pictures(found):
    """PNG bytes: the slice with most doubt, what is hidden at the thresholds SHOWN in colour over the image."""
    z = int(found.hidden[0].mean((1, 2)).argmax())
    figure = Figure(figsize=(3 * len(SHOWN), 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    thresholds = [one.threshold for one in found.tried]
    for i, wanted in enumerate(SHOWN):
        at = int(np.argmin(np.abs(np.array(thresholds) - wanted)))
        axes = figure.add_subplot(1, len(SHOWN), i + 1)
        shown = np.zeros(found.hidden[at][z].shape) if found.image is None else found.image[z]
        axes.imshow(shown, cmap="gray", interpolation="nearest")
        over = np.zeros((*shown.shape, 4))
        over[found.hidden[at][z]] = (1.0, 0.0, 0.67, 0.55)
        axes.imshow(over, interpolation="nearest")
        axes.set_title(f"{thresholds[at]:g}: {found.tried[at].hidden:.1%} hidden", fontsize=10)
        axes.set_axis_off()
    return png_of_figure(figure)


def _known(truth, job, refiner, settings, say):
    """The truth as int16, -1 where nobody knows it or it is called ambiguous. Raises BadInput."""
    scheme = refiner.settings["classes"]
    if refiner.apply.sees_probabilities:
        raise BadInput(
            f"{refiner.workdir}: a refiner of method '{refiner.name}' fills in from class probabilities, which cannot "
            "be tried at one threshold after the other; leave out the truth, and choose by the pictures"
        )
    inputs.check_same_grid(job.image or job.probabilities[0], truth)
    reading = label_ids.understand(truth, scheme, settings.label_map)
    for line in reading.lines:
        say(line)
    found = label_ids.as_classes(truth, reading).read(whole(truth.shape))
    found[found == scheme["ambiguous"]] = -1
    if (found < 0).all():
        raise BadInput(f"{truth.path} holds no known label: all voxels are unknown or ambiguous")
    return found


def _refined(job, initial, entropy, hidden, refiner, settings, threshold):
    """Labels int16 after filling in `hidden`. entropy: as stored; it says how sure visible neighbours are, and hides
    nothing.
    """
    stem = f"{job.stem}_at_{threshold:g}"
    given = {
        "labels": array_volume(initial, f"{stem}_labels", _size(job)),
        "entropy": array_volume(entropy, f"{stem}_entropy", _size(job)),
        "hidden": array_volume(hidden.astype(np.uint8), f"{stem}_hidden", _size(job)),
        "image": job.image if "image" in refiner.apply.needs else None,
        "within": job.within,
    }
    painted = jobs.Job(stem, job.output, **given)
    limits = {"threshold": 1.0, "ambiguous_threshold": 1.0, "entropy_kind": "mean", "overwrite": True}
    limits["label_map"] = label_ids.IDENTITY  # these are classes already
    refining.refine_volume(painted, None, refiner, settings._replace(**limits), lambda text: None)
    return labels_from_disk(refining.open_result(job.output, stem, "refined").read(whole(initial.shape)))


def _inside(job, shape):
    """Bool of that shape: what is worked on."""
    if job.within is None:
        return np.ones(shape, bool)
    mask = label_ids.as_classes(job.within, within.understand(job.within))
    return within.on_grid(mask, shape, _size(job), job.stem).read(whole(shape)) > 0


def _shape(job):
    return (job.image or job.probabilities[0]).shape


def _size(job):
    return (job.image or job.probabilities[0]).voxel_size_nm
