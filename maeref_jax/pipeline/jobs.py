"""What one volume is refined from, by which models and how; whether these fit together: checks.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from maeref_jax.audit import objects
from maeref_jax.audit.trust import Limits
from maeref_jax.errors import BadInput
from maeref_jax.masking.slices import slices_within
from maeref_jax.records import Refiner, Segmenter
from maeref_jax.training.workdir import lasting
from maeref_jax.uncertainty.confidence import Calibration
from maeref_jax.uncertainty.entropy import KINDS
from maeref_jax.volumes import inputs, within
from maeref_jax.volumes.class_scheme import check_same_names, scheme_of_names
from maeref_jax.volumes.formats.stored import Placement
from maeref_jax.volumes.label_ids import Reading, as_classes, label_map_of
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.windows import round_up

AGREE_WITHIN_NM = 40.0  # of slices, where nobody says; chosen on volumes for validation (docs/evaluation.md)
TOKEN = 4  # side of a token in voxels, where no refiner has one
THRESHOLDS = ("threshold", "ambiguous_threshold")


class Model(NamedTuple):
    """A trained workdir, ready to be applied.

    name: the method; settings: the workdir's config; facts: what it remembers of its training data
    calibration: of a refiner's confidence as it is used, None where there is none
    chosen: the threshold that refine.py --suggest_threshold chose, and what it belongs to; None for none
    verdict: of a refiner, what its training found on validation volumes (experiments/verdict.py); None for none
    damaged: steps of better checkpoints that are damaged; doubts: what to warn of because of that
    judge: of a refiner, the Model that says which tokens are hidden, by the error that it expects; None: entropy does
    """

    workdir: str
    name: str
    settings: dict
    params: Any
    state: Any
    apply: Segmenter | Refiner
    facts: dict
    calibration: Calibration | None = None
    chosen: dict | None = None
    verdict: dict | None = None
    damaged: tuple[int, ...] = ()
    doubts: tuple[str, ...] = ()
    judge: "Model | None" = None


def hides_for_itself(refiner: Model) -> bool:
    """Whether a refiner's judge is the refiner, wherever either was read from: then it is used as it was chosen to be
    in tokens that it hides: with its caution, and slice by slice.
    """
    if refiner.judge is None:
        return False
    both = refiner, refiner.judge
    learned = [(model.params, model.state) for model in both]
    one, other = (
        (model.name, lasting(model.settings), jax.tree.structure(found))
        for model, found in zip(both, learned, strict=True)
    )
    pairs = zip(*map(jax.tree.leaves, learned), strict=True)
    return one == other and all(a is b or np.array_equal(a, b) for a, b in pairs)


def chosen_agreement(refiner: Model | None) -> float | None:
    """How far slices agree, in nm, as training chose for what entropy hides; 0 where a corrector hides for itself, as
    its gain was chosen; None where nobody chose.
    """
    if refiner is None:
        return None
    return 0.0 if hides_for_itself(refiner) else (refiner.verdict or {}).get("agree_within_nm")


def parameters(model: Model) -> int:
    """How many numbers were learned, or searched for."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(model.params))


class Job(NamedTuple):
    """One volume to refine, results under `output`/`stem`...

    Either `image` and a segmenter; or `labels` with `entropy`, with `hidden` (a painted mask, nonzero is hidden) or
    with both (what either hides is hidden); or `probabilities`, one volume or one per member. `image` may accompany the
    last two for a refiner that needs it.
    within: a mask of what is worked on, on any grid of the same extent; what lies outside becomes background.
    members: which members of the ensemble to average, None for all (out-of-fold predictions use some).
    doubts: what to warn of, known from where the files were found.
    typed: the command, word by word, for whoever is told to type it again; () where it was another one.
    """

    stem: str
    output: Path
    image: Volume | None = None
    labels: Volume | None = None
    entropy: Volume | None = None
    hidden: Volume | None = None
    within: Volume | None = None
    probabilities: tuple[Volume, ...] = ()
    members: tuple[int, ...] | None = None
    doubts: tuple[str, ...] = ()
    typed: tuple[str, ...] = ()


class Settings(NamedTuple):
    """How a volume is refined. The defaults are the paper's method and nothing more; what refine.py and evaluate.py do
    beyond it unless told otherwise (slices that agree, objects, ratings) is ours, and is said in their configs alone.

    threshold: tokens whose mean entropy is above it are hidden, in [0, 1]; None: the refiner's, see `thresholds_of`
    ambiguous_threshold: so are tokens whose mean probability of "ambiguous" is above it; None likewise
    token: side of a token in voxels; None: the refiner's, and TOKEN without one
    block: (z, y, x) voxels worked on at a time; y and x are rounded up to tokens
    batch: windows per call of a network; seed: of a refiner that draws
    overwrite: remove an earlier output first; tiff_export: write TIFF stacks beside the arrays
    export: other formats to write them in, such as "nii.gz"; may be asked for when all else is done
    entropy_kind: one of entropy.KINDS; the threshold belongs to it, and a refiner's own is one of "mean"
    agree_within_nm: labels filled in slice by slice agree with those above and below within this length (slices.py),
        at most 8 of them; 0, as in the paper: every slice by itself; None: see chosen_agreement, else AGREE_WITHIN_NM
    copy_image: put the image into the OME-Zarr too, not only its path; ome_zarr: version, "0.5" or "0.4"
    objects: write the table of objects and their skeletons; object_classes, cristae_class, smallest_object_vx,
        flag_hidden_share: see `objects.rules`
    trust: rate the repairs, see trust.py, by trust_limits; foreignness: test the refiner around them too
    disagreement: write what the members disagree about (mutual information), too: the networks work twice
    keep_probabilities: write the mean class probabilities in steps of 1/255, too; always where a refiner or its judge
        needs them
    gain: where the refiner has a judge, tokens are hidden that promise a higher one, and not by the two thresholds: the
        probability of being right afterwards minus that before, on the mean; None: the judge's own
    leave: what stays as it was: "red" blobs, "flagged" objects of the initial map
    classes: names of the classes, background first, where no model says them; of a model they are a check
    labelled_slices: slices whose given labels are the truth, numbers and ranges like "0:160:5": no refiner changes them
    label_map: what the ids of `labels` mean, where that is not plain, see label_ids.understand
    ask: how many places of the volume the refiner is tried at, before it is let loose (asking.py), at most; 0 for none
    strict: a warning stops, before anything is written where that can be known
    num_parts, part_id: of so many processes on this output, which one this is, from 0
    wait_minutes: how long a part waits for blocks of the others that it needs
    """

    threshold: float | None = None
    ambiguous_threshold: float | None = None
    token: int | None = None
    block: tuple[int, int, int] = (8, 512, 512)
    batch: int = 16
    seed: int = 0
    overwrite: bool = False
    tiff_export: bool = True
    export: tuple[str, ...] = ()
    entropy_kind: str = "mean"
    agree_within_nm: float | None = 0.0
    copy_image: bool = False
    ome_zarr: str = "0.5"
    objects: bool = False
    object_classes: tuple[int, ...] = ()
    cristae_class: int | None = None
    smallest_object_vx: int = 64
    flag_hidden_share: float = 0.5
    trust: bool = False
    trust_limits: Limits = Limits()
    foreignness: bool = False
    disagreement: bool = False
    keep_probabilities: bool = False
    gain: float | None = None
    leave: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    labelled_slices: tuple = ()
    label_map: tuple = ()
    ask: int = 0
    strict: bool = False
    num_parts: int = 1
    part_id: int = 0
    wait_minutes: float = 60.0


def thresholds_of(given: dict[str, Any], refiner: Model | None) -> tuple[dict[str, float], str]:
    """The two thresholds, and a line that says where they, and what else was chosen in training, come from: as `given`,
    or as the refiner was trained with.
    """
    source = refiner.settings if refiner else {"threshold": 0.4, "ambiguous_threshold": 0.5}
    origin = f"of {refiner.workdir}" if refiner else "default without a refiner"
    if refiner and refiner.chosen:
        source = {**source, "threshold": refiner.chosen["threshold"]}
    found = {name: source[name] if given[name] is None else given[name] for name in THRESHOLDS}
    said = [f"{name} {found[name]:g}, {origin if given[name] is None else 'as given'}" for name in THRESHOLDS]
    if refiner and refiner.judge:
        gain, judge = given["gain"], refiner.judge
        origin = f"of {judge.workdir}, which says what is wrong" if gain is None else "as given"
        said = [f"gain {judge.settings['use']['gain'] if gain is None else gain:g}, {origin}"]
    chosen = chosen_agreement(refiner)
    if chosen is not None and given.get("agree_within_nm", 0) is None:
        said.append(f"slices agree within {chosen:g} nm, as its training chose")
    if refiner and refiner.apply.caution > 1:
        times = f"{refiner.apply.caution:g} times as likely"
        said.append(f"a label is replaced where another one is {times}, as its training chose")
    return found, "; ".join(said)


def keeps_probabilities(refiner: Model | None) -> bool:
    """Whether the refiner, or who says what it hides, needs the class probabilities on disk."""
    models = [model for model in (refiner, refiner and refiner.judge) if model]
    return any("stored_probabilities" in model.apply.needs for model in models)


def meant_for(refiner: Model | None, own_labels: bool) -> Model | None:
    """The refiner without a chosen threshold where it belongs elsewhere: one is chosen for the entropy of an ensemble
    or of class probabilities, and of the entropy beside a user's own labels nobody knows whose it is.
    """
    return refiner._replace(chosen=None) if refiner and refiner.chosen and own_labels else refiner


def settled(settings: Settings, refiner: Model | None) -> Settings:
    """The settings with everything decided that depends on the refiner. Raises BadInput for numbers out of range."""
    usual = refiner.apply.token if refiner else TOKEN
    token = usual if settings.token is None else settings.token
    if refiner and token != usual:
        raise BadInput(
            f"token is {token}, but {refiner.workdir} fills in tokens of {usual} voxels a side; leave it out"
        )
    if settings.batch < 1 or token < 1:
        raise BadInput(f"batch ({settings.batch}) and token ({token}) must be at least 1")
    chosen_kind = refiner.chosen["entropy_kind"] if refiner and refiner.chosen else "mean"
    known = settings.entropy_kind == chosen_kind or settings.threshold is not None
    if settings.entropy_kind not in KINDS or not known:
        raise BadInput(f"entropy_kind is {settings.entropy_kind}, expected {' or '.join(KINDS)}; set its --threshold")
    if settings.agree_within_nm is None:
        chosen = chosen_agreement(refiner)
        settings = settings._replace(agree_within_nm=AGREE_WITHIN_NM if chosen is None else chosen)
    if not 0 <= settings.agree_within_nm < float("inf"):
        raise BadInput(f"agree_within_nm is a length, 0 for none, found {settings.agree_within_nm}")
    if not 0 <= settings.seed < 2**32:
        raise BadInput(f"seed is {settings.seed}, expected a whole number from 0 to {2**32 - 1}")
    thresholds, _ = thresholds_of(settings._asdict(), refiner)
    kept, judge = settings.keep_probabilities or keeps_probabilities(refiner), refiner and refiner.judge
    if settings.gain is not None and not judge:
        raise BadInput(f"gain is {settings.gain:g}, but tokens are hidden by entropy; add --hide_by, or leave it out")
    gain = judge.settings["use"]["gain"] if judge and settings.gain is None else settings.gain
    if gain is not None and not 0 <= gain <= 1:
        raise BadInput(f"gain is {gain:g}, expected 0 to 1: a difference of probabilities")
    same = {"token": token, "block": round_block(settings.block, token), "label_map": label_map_of(settings.label_map)}
    same |= {"keep_probabilities": kept, "gain": gain}
    return settings._replace(**thresholds, **same)


def agreeing_slices(settings: Settings, refiner: Model | None, voxel_size_nm: tuple | None, slices: int) -> int:
    """How many slices above and below a voxel its refined label agrees with; none of a volume of one slice.

    voxel_size_nm: of the volume, None where it does not say: then how far apart its slices are is not guessed, and none
    agree (doubts.before says so).
    """
    if refiner is None or refiner.apply.dims == 3 or not settings.agree_within_nm or slices == 1 or not voxel_size_nm:
        return 0
    if refiner.apply.slices or (refiner.apply.context and refiner.apply.sees_hidden):  # it has heard of them
        return 0
    return slices_within(settings.agree_within_nm, voxel_size_nm[0])


def is_chosen(found: Any) -> bool:
    """Whether what was read from a threshold.json is a threshold with what it belongs to."""
    if not isinstance(found, dict) or {"threshold", "entropy_kind", "classes", "members"} - found.keys():
        return False
    value, kind = found["threshold"], found["entropy_kind"]
    return isinstance(value, int | float) and 0 <= value <= 1 and kind in KINDS


def uses_symmetries(segmenter: Model | None) -> bool:
    """Whether a segmenter averages over the orientations of the plane; of None, probabilities made elsewhere, not."""
    return bool(segmenter and segmenter.settings.get("use", {}).get("symmetries", False))


def members_of(job: Job, segmenter: Model | None) -> int | None:
    """How many members the entropy of a job is of; None where it was made elsewhere."""
    if segmenter is not None:
        return len(job.members) if job.members is not None else segmenter.settings.get("members")
    return len(job.probabilities) or None


def scheme_of(segmenter: Model | None, refiner: Model | None, names: Sequence[str] = ()) -> dict:
    """The class scheme of the models: names, colours, ambiguous (an id or -1); without any model that of `names`, empty
    without these too. Raises BadInput where a model has other names.
    """
    model = refiner or segmenter
    if model is None:
        return scheme_of_names(names) if names else {"names": [], "colours": None, "ambiguous": -1}
    if names:
        check_same_names(names, model.settings["classes"], model.workdir)
    return model.settings["classes"]


def object_rules(scheme: dict, settings: Settings) -> objects.Rules:
    given = (settings.object_classes, settings.cristae_class, settings.smallest_object_vx, settings.flag_hidden_share)
    return objects.rules(scheme, *given)


def round_block(block, token: int) -> tuple[int, int, int]:
    if len(block) != 3 or min(block) < 1:
        raise BadInput(f"block is {tuple(block)}, expected three positive numbers of voxels (z, y, x)")
    return (block[0], round_up(block[1], token), round_up(block[2], token))


def voxel_size_of(volumes: dict[str, Volume]) -> tuple[float, float, float] | None:
    """That of the volumes of a job, by role: a mask of what is worked on may have its own."""
    return inputs.known_voxel_size(volume for role, volume in volumes.items() if role != "within")


def as_read(job: Job, volumes: dict[str, Volume], readings: dict[str, Reading]) -> Job:
    """The job with label files and masks that hold classes, all on its own grid. volumes, readings: by role."""
    found = {role: as_classes(volumes[role], reading) for role, reading in readings.items()}
    if "within" in found:
        shape = next(iter(volumes.values())).shape
        found["within"] = within.on_grid(found["within"], shape, voxel_size_of(volumes), job.stem)
    return job._replace(**found)


def formats_of(settings) -> tuple[str, ...]:
    """The suffixes of what is exported beside the arrays. settings: has tiff_export and export."""
    asked = [f".{name.strip().lstrip('.').lower()}" for name in settings.export]
    return tuple(dict.fromkeys([".tif"] * settings.tiff_export + asked))


def placement_of(job: Job) -> Placement | None:
    """Where the exported voxels of a job lie in the world, as the first of its files that says so does."""
    given = [volume for volume in (job.image, job.labels, job.entropy, job.hidden, *job.probabilities) if volume]
    volumes, shape = [volume.file or volume for volume in given], (file_of(job) or given[0]).shape
    return next((volume.placement for volume in volumes if volume.placement and volume.shape == shape), None)


def file_of(job: Job) -> Volume | None:
    """The first volume of a job on the grid of its file, where it is read at another voxel size; None where it is not.
    Results are brought back to that.
    """
    return (job.image or job.labels or job.probabilities[0]).file
