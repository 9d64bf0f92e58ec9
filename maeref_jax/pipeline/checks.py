"""Whether inputs, models and settings fit together: looked at before any work, and before an earlier result goes."""

import numpy as np

from maeref_jax.audit.trust import check as check_limits
from maeref_jax.errors import BadInput
from maeref_jax.pipeline.jobs import (
    THRESHOLDS,
    Job,
    Model,
    Settings,
    file_of,
    formats_of,
    keeps_probabilities,
    members_of,
    object_rules,
    scheme_of,
    uses_symmetries,
    voxel_size_of,
)
from maeref_jax.volumes import inputs, within
from maeref_jax.volumes.formats.ome_metadata import VERSIONS
from maeref_jax.volumes.formats.tiff import LARGEST_BYTES
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.writing import check_written

LEAVE = ("red", "flagged")


def check_job(job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings) -> dict[str, Volume]:
    """The volumes of the job by role, a mask of what is worked on last, as it is. Raises BadInput where they, the
    models and the settings do not fit together.
    """
    _check_sources(job, segmenter, refiner, settings)
    scheme = scheme_of(segmenter, refiner, settings.classes)
    _check_settings(job, segmenter, refiner, settings, scheme)
    if segmenter and refiner:
        check_same_scheme(segmenter, refiner)
    volumes = {name: getattr(job, name) for name in ("image", "labels", "entropy", "hidden")}
    volumes |= {f"probabilities_{i}": volume for i, volume in enumerate(job.probabilities)}
    volumes = {name: volume for name, volume in volumes.items() if volume is not None}
    inputs.check_same_grid(*volumes.values())
    shape = next(iter(volumes.values())).shape
    _check_classes(job, refiner, scheme)
    for model in (refiner, refiner and refiner.judge):
        if model:
            check_same_scheme(refiner, model)
            _check_seen(job, segmenter, model, shape)
    for suffix in formats_of(settings):
        check_written(suffix)
    exported = (file_of(job) or next(iter(volumes.values()))).shape
    if settings.tiff_export and np.prod(exported, dtype=float) > LARGEST_BYTES:
        raise BadInput(f"{job.stem} of shape {exported} is too large for TIFF export; set tiff_export to false")
    if job.within is not None:
        within.on_grid(job.within, shape, voxel_size_of(volumes), job.stem)
        volumes["within"] = job.within
    return volumes


def _check_sources(job, segmenter, refiner, settings):
    """Whether there is one segmentation, and what belongs beside it."""
    own = sum(source is not None for source in (job.labels, job.probabilities or None))
    if (segmenter is not None) + own != 1 or (segmenter is not None and job.image is None):
        raise BadInput(f"{job.stem}: expected one of: an image and an ensemble, labels, or probabilities")
    beside, everywhere = job.entropy is not None or job.hidden is not None, bool(refiner and refiner.apply.everywhere)
    if (job.labels is None and beside) or (job.labels is not None and not beside and not everywhere):
        raise BadInput(
            f"{job.stem}: labels need entropy, a hidden mask or both beside them, unless the refiner works everywhere "
            "(continuity); nothing else does"
        )
    if settings.labelled_slices and job.labels is None:
        raise BadInput(f"{job.stem}: labelled_slices says which slices of labels are the truth; give --labels")
    if everywhere and (settings.foreignness or "red" in settings.leave):
        raise BadInput(
            f"foreignness and leave=red belong to the rating of repairs, which {refiner.workdir} has none of: it works "
            "everywhere, not at hidden tokens alone"
        )


def _check_settings(job, segmenter, refiner, settings, scheme):
    for name in THRESHOLDS:
        if not 0 <= getattr(settings, name) <= 1:
            raise BadInput(f"{name} is {getattr(settings, name)}, expected 0 to 1 (entropy is normalised)")
    if not 0 <= settings.part_id < settings.num_parts:
        raise BadInput(f"part_id is {settings.part_id} of num_parts {settings.num_parts}, expected 0 to num_parts - 1")
    if settings.num_parts > 1 and settings.overwrite:
        raise BadInput(
            "overwrite with several parts: each would remove what the others have done; choose another --output, or "
            "remove the earlier one before the parts start"
        )
    if settings.ome_zarr not in VERSIONS:
        raise BadInput(f"ome_zarr is {settings.ome_zarr}, expected one of {', '.join(VERSIONS)}")
    object_rules(scheme, settings)
    check_limits(settings.trust_limits)
    if set(settings.leave) - set(LEAVE) or (settings.leave and refiner is None):
        raise BadInput(f"leave is {settings.leave}, expected some of {', '.join(LEAVE)}, and a refiner")
    if settings.foreignness and refiner and (refiner.apply.sees_hidden or refiner.apply.sees_probabilities):
        raise BadInput(
            f"foreignness asks for labels that a refiner does not see, but {refiner.workdir} sees what hidden tokens "
            "hold; leave it out"
        )
    if not settings.trust and (settings.foreignness or "red" in settings.leave):
        raise BadInput("foreignness and leave=red belong to the rating of repairs: set trust to true as well")
    if settings.disagreement and members_of(job, segmenter) in (None, 1):
        raise BadInput(f"{job.stem}: disagreement is that of several members; labels, or one member, have none")
    if keeps_probabilities(refiner) and job.labels is not None:
        who = refiner.workdir if "stored_probabilities" in refiner.apply.needs else refiner.judge.workdir
        raise BadInput(
            f"{job.stem}: {who} works on class probabilities, and labels have none; give --input with --ensemble, or "
            "--probabilities"
        )
    if settings.keep_probabilities and job.labels is not None:
        raise BadInput(f"{job.stem}: keep_probabilities keeps those of an ensemble, or given ones; labels have none")
    if settings.copy_image and job.image is None:
        raise BadInput(f"{job.stem}: copy_image is set, but there is no image; give --input, or set it to false")


def _check_classes(job, refiner, scheme):
    """Whether somebody says what the ids of labels mean, and probabilities are of those classes."""
    if job.labels is not None and not scheme["names"]:
        raise BadInput(
            f"{job.stem}: without a refiner nobody says what the ids of {job.labels.path} mean; give the names of the "
            "classes, background first, e.g. --classes background,mitochondria"
        )
    for volume in job.probabilities:
        allowed = {len(scheme["names"]), real_classes(scheme)}
        if scheme["names"] and volume.classes not in allowed:
            source = f"the refiner {refiner.workdir} has" if refiner else "--classes names"
            raise BadInput(f"{volume.path} has {volume.classes} classes, but {source}: {', '.join(scheme['names'])}")
        if volume.classes != job.probabilities[0].classes:
            raise BadInput(f"{volume.path} has {volume.classes} classes, {job.probabilities[0].path} another number")


def _check_seen(job, segmenter, refiner, shape):
    """Whether the refiner is given what it needs to see."""
    likely = segmenter is not None or bool(job.probabilities)
    given = {"image": job.image is not None, "probabilities": likely, "stored_probabilities": likely}
    missing = [need.removeprefix("stored_") for need in refiner.apply.needs if not given[need]]
    if missing:
        hint = "; an ensemble or your own class probabilities have them, labels do not"
        raise BadInput(
            f"{job.stem}: the refiner {refiner.workdir} needs {', '.join(missing)} as well"
            f"{hint if 'probabilities' in missing else ''}"
        )
    along = refiner.apply.slices or refiner.apply.context
    least = max(refiner.apply.context + 1, 2) if along else 1  # fewer are not even half of what it sees
    if shape[0] < least:
        raise BadInput(
            f"{job.stem} has {shape[0]} slice{'s' * (shape[0] > 1)}, but {refiner.workdir} works along z and needs "
            f"{least} or more"
        )


def check_chosen(job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings) -> None:
    """BadInput where the refiner's chosen threshold would be used for another kind of entropy, number of classes or of
    members than it was chosen with, or for an ensemble that does or does not predict over the orientations of the plane
    as it did then: entropies of these are other numbers (entropy.py).
    """
    if refiner is None or not refiner.chosen or settings.threshold is not None:
        return
    found = {"entropy_kind": settings.entropy_kind, "classes": len(scheme_of(segmenter, refiner)["names"])}
    found |= {"members": members_of(job, segmenter), "symmetries": segmenter and uses_symmetries(segmenter)}
    for name, value in found.items():
        wanted = refiner.chosen.get(name, False)
        if value is not None and value != wanted:
            raise BadInput(
                f"the threshold {refiner.chosen['threshold']:g} stored in {refiner.workdir} belongs to {name} "
                f"{wanted}, found {value}; give --threshold (evaluate.py: --config.refine.threshold), or choose one "
                "with refine.py --suggest_threshold"
            )


def check_same_scheme(one: Model, other: Model) -> None:
    """BadInput for two models of different classes or voxel sizes."""
    both = f"{one.workdir} and {other.workdir}"
    for key in ("names", "ambiguous"):
        a, b = (np.asarray(model.settings["classes"][key]).tolist() for model in (one, other))  # tuples are lists
        if a != b:
            raise BadInput(f"{both} were trained for different classes ({key}): {a} and {b}; train them with the same")
    sizes = [model.settings["voxel_size_nm"] for model in (one, other)]  # an imported one may know none
    if all(sizes) and not np.allclose(*sizes, rtol=1e-3):
        raise BadInput(
            f"{one.workdir} was trained with voxels of {sizes[0]} nm (z, y, x), {other.workdir} of {sizes[1]}; "
            "train them with the same voxel_size_nm"
        )
