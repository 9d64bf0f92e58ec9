"""The door for Python: numpy in, numpy out, through the same passes as `maeref refine`, with the same bits.

    import maeref_jax

    ensemble, refiner = maeref_jax.load_model("runs/ensemble"), maeref_jax.load_model("runs/mae")
    found = maeref_jax.segment(ensemble, image, voxel_size_nm=(12, 6, 6))
    repaired = maeref_jax.refine(refiner, found.labels, entropy=found.entropy, voxel_size_nm=(12, 6, 6))

Arrays are (z, y, x), or a plane (y, x), and come back as they were given. The passes work on disk, block by block: in a
temporary folder that is gone afterwards (TMPDIR says where), or in `output`, where everything stays that the command
would have written. Settings are those of configs/refine.py, with their defaults, as keyword arguments.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maeref_jax.commands.command_line import did_you_mean, is_packaged, load_config, set_value
from maeref_jax.commands.judging import array_of, names_of
from maeref_jax.commands.load_models import by_name, pipeline_settings
from maeref_jax.errors import BadInput, tell
from maeref_jax.pipeline import file_grid, methods, refining
from maeref_jax.pipeline.jobs import Job, Model, Settings
from maeref_jax.records import Refiner, Segmenter
from maeref_jax.results.output import check_stem
from maeref_jax.training.workdir import read_config
from maeref_jax.volumes.class_scheme import check_same_names, listed, scheme_of_names
from maeref_jax.volumes.dataset import Given
from maeref_jax.volumes.label_ids import IDENTITY
from maeref_jax.volumes.volume import UNKNOWN_ON_DISK, Volume, array_volume, labels_from_disk
from maeref_jax.volumes.voxel_size import checked_size
from maeref_jax.volumes.windows import whole

# What is of use to people who look at the folder, and changes no label: made where a folder is asked for.
_FOR_PEOPLE = ("tiff_export", "objects", "trust")


class Segmentation(NamedTuple):
    """What an ensemble says of an image. All arrays have its shape.

    labels: int16, the likeliest class; entropy: float32 in [0, 1], how undecided the members' mean is, in steps of
    1/255 as on disk; disagreement: the same of what the members disagree about (mutual information), None unless it was
    asked for; summary: what stands in STEM.json
    """

    labels: np.ndarray
    entropy: np.ndarray
    disagreement: np.ndarray | None
    summary: dict[str, Any]


class Refinement(NamedTuple):
    """What a refiner made of labels. All arrays have their shape.

    labels: int16, refined, -1 unknown; initial: int16, as they came in; hidden: bool, where they were filled in;
    entropy: float32 in [0, 1]; confidence: float32 in [0, 1], the refiner's probability of the class that it chose, 0
    where it replaced nothing; changed: {class before: {class after: voxels}}; summary: what stands in STEM.json
    """

    labels: np.ndarray
    initial: np.ndarray
    hidden: np.ndarray
    entropy: np.ndarray
    confidence: np.ndarray
    changed: dict[str, dict[str, int]]
    summary: dict[str, Any]


def load_model(workdir: str | Path, classes: Sequence[str] = ()) -> Model:
    """The segmenter or refiner that `maeref train` made in `workdir`; or, by its name in place of one, a refiner that
    learns nothing, such as "continuity", for classes of these names, background first.

    Raises:
        BadInput: no such workdir, nothing saved in it yet, damaged files, or a model of other classes.
    """
    if not isinstance(workdir, str | os.PathLike):
        raise BadInput(f"expected the path of a workdir, found {workdir!r}")
    classes = names_of(classes)
    if is_packaged(str(workdir)):
        kind = "segmenter" if str(workdir).partition(":")[0] in methods.RULES else "refiner"
        model = by_name(str(workdir), scheme_of_names(classes) if classes else None, kind=kind)
        if not classes and kind == "refiner":
            tell(f"{workdir}: without classes those are {listed(model.settings['classes'])}; name yours: classes=(…)")
        return model
    unknown = not Path(workdir).exists() and "://" not in str(workdir)
    if unknown and (hint := did_you_mean(str(workdir), sorted(methods.UNLEARNED | methods.RULES))):
        raise BadInput(f"there is no workdir {workdir}, and no refiner of that name{hint}")
    config = read_config(workdir)
    if classes:
        check_same_names(classes, config["config"]["classes"], str(workdir))
    return methods.load_model(workdir, "segmenter" if config["method"] in methods.SEGMENTERS else "refiner")


def segment(
    segmenter: Model,
    image: np.ndarray,
    *,
    within: np.ndarray | None = None,
    voxel_size_nm: Sequence[float] | None = None,
    at_voxel_size_nm: Sequence[float] | None = None,
    disagreement: bool = False,
    output: str | Path | None = None,
    stem: str = "volume",
    **settings: Any,
) -> Segmentation:
    """What the ensemble says of an image: `maeref refine --input … --ensemble … --refiner none`.

    Args:
        segmenter: as `load_model` gives it.
        image: ([z,] y, x), any integer or floating type, in the units of the files that it was trained on.
        within: of that shape, what to work on: where it is 0 is background, which is not computed. None for all.
        voxel_size_nm: (z, y, x), or (y, x) of a plane.
        at_voxel_size_nm: likewise, to work at; what comes back has the shape that was given all the same.
        disagreement: of the members, as well: the network works twice.
        output: a folder in which the results are to stay, as `stem`.*; None for none.
        settings: of configs/refine.py, like block=(8, 512, 512).

    Raises:
        BadInput: an image that cannot be used, a setting that there is not, an output that is there already.
    """
    given, sizes = _Given(image=image, within=within), (voxel_size_nm, at_voxel_size_nm)
    how = _settings({"disagreement": disagreement} | settings, output is not None)
    job = {role: given.volume(role, sizes, segmenter) for role in given.roles}
    with _folder(output) as folder:
        summary, read = _run(job, segmenter, None, (folder, stem), how)
        found = {role: given.back(read(role)) for role in ("initial", "entropy", *["disagreement"] * disagreement)}
    unsure = {role: array.astype(np.float32) / 255 for role, array in found.items() if role != "initial"}
    return Segmentation(labels_from_disk(found["initial"]), unsure["entropy"], unsure.get("disagreement"), summary)


def refine(
    refiner: Model,
    labels: np.ndarray | None = None,
    *,
    entropy: np.ndarray | None = None,
    hidden: np.ndarray | None = None,
    probabilities: np.ndarray | Sequence[np.ndarray] | None = None,
    image: np.ndarray | None = None,
    segmenter: Model | None = None,
    hide_by: Model | None = None,
    within: np.ndarray | None = None,
    voxel_size_nm: Sequence[float] | None = None,
    at_voxel_size_nm: Sequence[float] | None = None,
    output: str | Path | None = None,
    stem: str = "volume",
    **settings: Any,
) -> Refinement:
    """Labels with their unreliable places filled in: `maeref refine`.

    Give one of: `labels` with their `entropy`, with what is `hidden`, or both; `probabilities`; or an `image` with a
    `segmenter`. Warnings are printed, and stand in the summary.

    Args:
        refiner: as `load_model` gives it.
        labels: ([z,] y, x) of any integer type, the classes of the refiner; -1 or 255 unknown. Where they are other
            ids: label_map=((255, 1),), or ("instances",). A mask of 0 and 255 alone, or of 0 and -1, is
            read as in a file.
        entropy: ([z,] y, x) of the labels, float in [0, 1], or uint8 that stands for 0 to 1.
        hidden: ([z,] y, x), a painted mask: everything but 0 is filled in.
        probabilities: (c, [z,] y, x) float in [0, 1], or a list of such, one per member of an ensemble.
        image: ([z,] y, x); beside labels or probabilities only where the refiner needs it.
        segmenter: as `load_model` gives it.
        hide_by: a corrector, as `load_model` gives it (the refiner, too): what is filled in is what it thinks is wrong;
            None: entropy says. With `output` the error that it expects stays there, as an array.
        within: ([z,] y, x), what to work on, such as tissue: where it is 0 becomes background. None for all.
        voxel_size_nm: (z, y, x), or (y, x) of a plane.
        at_voxel_size_nm: likewise, to work at; what comes back has the shape that was given all the same.
        output: a folder in which the results are to stay, as `stem`.*; None for none.
        settings: of configs/refine.py, like threshold=0.4 or agree_within_nm=0.

    Raises:
        BadInput: arrays that cannot be used or do not fit together or the models, a setting that there is not, an
            output that is there already.
    """
    several = probabilities if isinstance(probabilities, list | tuple) else [probabilities]
    several = [one for one in several if one is not None]
    given = _Given(image=image, labels=labels, entropy=entropy, hidden=hidden, within=within)
    sizes = voxel_size_nm, at_voxel_size_nm
    job = {role: given.volume(role, sizes, refiner) for role in given.roles}
    members = _Given(**{f"probabilities_{i}": one for i, one in enumerate(several)}, classes=True)
    job["probabilities"] = tuple(members.volume(role, sizes, refiner) for role in members.arrays)
    if labels is not None and not _is_mask(given.arrays["labels"]):
        settings = {"label_map": IDENTITY} | settings
    how = _settings(settings, output is not None)
    if hide_by is not None:
        _check_models((refiner, Refiner), (hide_by, Refiner))
        refiner = methods.judged_by(refiner, hide_by)
    with _folder(output) as folder:
        summary, read = _run(job, segmenter, refiner, (folder, stem), how)
        shown = given if given.roles else members
        found = {role: shown.back(read(role)) for role in ("refined", "initial", "hidden", "entropy", "confidence")}
    return Refinement(
        labels=labels_from_disk(found["refined"]),
        initial=labels_from_disk(found["initial"]),
        hidden=found["hidden"] != 0,
        entropy=found["entropy"].astype(np.float32) / 255,
        confidence=found["confidence"].astype(np.float32) / 255,
        changed=summary["changed"],
        summary=summary,
    )


class _Given:
    """Arrays of a caller, all planes or all stacks, as stacks, and the way back."""

    def __init__(self, classes: bool = False, **arrays: np.ndarray | None) -> None:
        self.arrays = {role: None if array is None else array_of(role, array) for role, array in arrays.items()}
        self.lead = int(classes)
        dims = {array.ndim - self.lead for array in self.arrays.values() if array is not None}
        if len(dims) > 1 or dims - {2, 3}:
            found = ", ".join(f"{role} {a.shape}" for role, a in self.arrays.items() if a is not None)
            wanted = "(c, z, y, x)" if classes else "(z, y, x)"
            raise BadInput(f"expected arrays {wanted}, or all of planes, without z; found {found}")
        self.plane = dims == {2}
        self.roles = [role for role, array in self.arrays.items() if array is not None]

    def volume(self, role: str, sizes: tuple, model: Model) -> Volume:
        """One of the arrays as the pipeline reads it. sizes: its own, and that to work at, None for no size."""
        array = self.arrays[role]
        if array.dtype.kind not in "buif":
            raise BadInput(f"{role} holds {array.dtype}, expected whole or real numbers")
        array = np.expand_dims(array, self.lead) if self.plane else array
        if self.lead:
            array = array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
        named = ("voxel_size_nm", "at_voxel_size_nm")
        size, wanted = (self._size(size, name, model) for size, name in zip(sizes, named, strict=True))
        return Given(at_voxel_size_nm=wanted).brought(array_volume(array, role, size), role)

    def _size(self, voxel_size_nm, named, model) -> tuple[float, float, float] | None:
        if voxel_size_nm is None:
            return None
        size = voxel_size_nm
        if self.plane and np.shape(size) == (2,):  # how thick a single slice is matters to nobody
            size = (*(model.settings["voxel_size_nm"] or size)[:1], *size)
        return checked_size(size, named)

    def back(self, array: np.ndarray) -> np.ndarray:
        """A result (z, y, x) in the shape that was given."""
        return array[0] if self.plane else array


def _folder(output: str | Path | None) -> AbstractContextManager:
    """The folder to work in: the caller's, or one that is gone afterwards."""
    if output is not None and not isinstance(output, str | os.PathLike):
        raise BadInput(f"output is {output!r}, expected the path of a folder")
    return nullcontext(output) if output is not None else tempfile.TemporaryDirectory(prefix="maeref_jax_")


def _run(
    job: dict[str, Any], segmenter: Model | None, refiner: Model | None, place: tuple, settings: Settings
) -> tuple[dict[str, Any], Callable[[str], np.ndarray]]:
    """The summary of a refined job, and what reads its results by role. place: folder and stem."""
    folder, stem = place
    if not isinstance(stem, str):
        raise BadInput(f"stem is {stem!r}, expected a text: the results are called after it")
    _check_models((segmenter, Segmenter), (refiner, Refiner))
    check_stem(stem)
    summary = refining.refine_volume(Job(stem, Path(folder), **job), segmenter, refiner, settings)

    def read(role: str) -> np.ndarray:
        result = file_grid.open_result(folder, stem, role)
        return result.read(whole(result.shape))

    return summary, read


def _check_models(*pairs) -> None:
    """Raises BadInput for what is no Model of its kind. pairs: (a model or None, Segmenter or Refiner)."""
    for model, kind in pairs:
        if model is not None and not isinstance(getattr(model, "apply", None), kind):
            found = f"the {model.name} of {model.workdir}" if isinstance(model, Model) else repr(model)
            raise BadInput(f"expected a {kind.__name__.lower()}, as load_model gives it, found {found}")


def _settings(given: dict[str, Any], for_people: bool) -> Settings:
    """The pipeline's settings as the command has them, with those that were given."""
    config = load_config("refine")
    if not for_people:
        config.update(dict.fromkeys(_FOR_PEOPLE, False))
    for name, value in given.items():
        if name not in Settings._fields:
            hint = did_you_mean(name, Settings._fields)
            raise BadInput(f"there is no setting {name}, expected one of {', '.join(Settings._fields)}{hint}")
        set_value(config, name, value)
    return pipeline_settings(config)


def _is_mask(labels: np.ndarray) -> bool:
    """Whether 255, or -1 (255 in signed bytes), may mean foreground: there is nothing else but background."""
    return bool((labels != 0).any() and np.isin(labels, (-1, 0, UNKNOWN_ON_DISK)).all())
