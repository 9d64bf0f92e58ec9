"""A whole volume, block by block: image -> member probabilities -> labels, entropy, hidden tokens -> refined labels.

Two passes, "segment" and "refine"; every finished block is recorded after its data is durable and never redone.
Blocks are the unit of memory, writing and resuming, results do not depend on them (blockwise.py). A voxel outside
the hidden tokens keeps its initial label, bit for bit.
"""

import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

import maeref_jax.refiners.autoencoder
import maeref_jax.refiners.crf
import maeref_jax.refiners.inpainter
import maeref_jax.refiners.mae
import maeref_jax.refiners.mae_image
import maeref_jax.refiners.morphology
import maeref_jax.refiners.nearest
import maeref_jax.segmenters.ensemble
from maeref_jax import audit, objects
from maeref_jax.blockwise import decide, hide, real_probabilities, refine_block, segment_block
from maeref_jax.entropy import KINDS, member_means
from maeref_jax.errors import BadInput
from maeref_jax.jobs import (
    Job,
    Model,
    Settings,
    check_job,
    identity,
    object_rules,
    round_block,
    scheme_of,
    thresholds_of,
)
from maeref_jax.training.checkpoint import load_model_variables
from maeref_jax.training.workdir import read_config
from maeref_jax.volumes import inputs, output, results
from maeref_jax.volumes.output import Output
from maeref_jax.volumes.volume import Volume, labels_from_disk, labels_to_disk, open_volume
from maeref_jax.volumes.windows import blocks

SEGMENTERS = {"ensemble": maeref_jax.segmenters.ensemble}
LEARNED = {
    "mae": maeref_jax.refiners.mae,
    "mae_image": maeref_jax.refiners.mae_image,
    "autoencoder": maeref_jax.refiners.autoencoder,
    "inpainter": maeref_jax.refiners.inpainter,
}
# Refiners without gradients: train.py chooses their parameters by trying them on validation data.
SEARCHED = {"crf": maeref_jax.refiners.crf}
# These learn nothing: the workdir is a config.json.
UNLEARNED = {"nearest": maeref_jax.refiners.nearest, "morphology": maeref_jax.refiners.morphology}
REFINERS = LEARNED | SEARCHED | UNLEARNED
METHODS = SEGMENTERS | REFINERS
_KINDS = {"segmenter": SEGMENTERS, "refiner": REFINERS}


def load_model(workdir: str | Path, kind: str) -> Model:
    """The model in `workdir`. kind: "segmenter" or "refiner".

    Raises:
        BadInput: no workdir of train.py, nothing saved in it yet, or a model of the other kind.
    """
    config = read_config(workdir)
    name, methods = config["method"], _KINDS[kind]
    if name not in methods:
        raise BadInput(f"{workdir} holds a model of method '{name}', expected a {kind}: {', '.join(methods)}")
    module, settings = methods[name], config["config"]
    apply = module.segmenter(settings) if kind == "segmenter" else module.refiner(settings)
    params, state = ({}, {}) if name in UNLEARNED else load_model_variables(workdir)
    return Model(str(workdir), name, settings, params, state, apply, config["facts"])


def open_result(directory: str | Path, stem: str, role: str) -> Volume:
    """The result array `role` of a finished volume as stored, its finest level: initial, refined, entropy (0 to 255
    for 0 to 1), hidden (0 or 1), … see volumes/results.py.
    """
    return open_volume(results.path_of(Output(Path(directory), stem), role))


def refine_volume(
    job: Job, segmenter: Model | None, refiner: Model | None, settings: Settings, say: Callable[[str], None] = print
) -> dict:
    """Refines one volume; continues where an interrupted run stopped; does nothing where a run was completed.

    Without a refiner the volume is only segmented: no refined labels. `say` hears what a user should know.

    Returns:
        The summary that is also written as `{stem}.json`.

    Raises:
        BadInput: inputs that cannot be used or do not fit together or the models, or an output that was made by
            something else. Nothing has been written then.
        OSError: the output cannot be written.
    """
    token = refiner.apply.token if refiner else settings.token
    if settings.batch < 1 or token < 1:
        raise BadInput(f"batch ({settings.batch}) and token ({token}) must be at least 1")
    if settings.entropy_kind not in KINDS or (settings.entropy_kind != "mean" and settings.threshold is None):
        raise BadInput(f"entropy_kind is {settings.entropy_kind}, expected {' or '.join(KINDS)}; set its --threshold")
    thresholds, _ = thresholds_of(settings._asdict(), refiner)
    settings = settings._replace(**thresholds, token=token, block=round_block(settings.block, token))
    volumes = check_job(job, segmenter, refiner, settings)
    place = Output(Path(job.output), job.stem)
    output.check_apart(place, volumes.values())
    made_by = identity(job, volumes, segmenter, refiner, settings)
    state = "new" if settings.overwrite else output.state(place, made_by)
    if state == "complete":
        say(f"{place.sidecar} is complete already, nothing to do")
        return output.load_sidecar(place)
    scheme = scheme_of(segmenter, refiner)
    if state == "new":
        inputs.check_values(volumes, len(scheme["names"]) or None)
        output.remove(place)
        image = {"path": job.image.path, "copied": settings.copy_image} if job.image else None
        output.create(place, made_by, settings.ome_zarr, {"maeref_jax": {"image": image}})
    for volume in volumes.values():
        if volume.note:
            say(f"{volume.path}: {volume.note}")
    if job.entropy is not None and job.entropy.dtype == np.uint8:
        say(f"{job.entropy.path}: uint8 entropy is read as value / 255")
    shape = next(iter(volumes.values())).shape
    voxel_size_nm = next((v.voxel_size_nm for v in volumes.values() if v.voxel_size_nm), None)
    roles = ("image",) * settings.copy_image + results.SEGMENTED + (results.REFINED if refiner else ())
    if settings.objects:
        roles += ("objects_initial",) + ("objects_refined",) * (refiner is not None)
    made = (settings.block, voxel_size_nm, scheme, settings.ome_zarr, job.image.dtype if settings.copy_image else None)
    arrays = results.create_arrays(place, roles, shape, *made)
    if settings.copy_image:
        _copy(place, job.image, settings, arrays["image"])
    _segment(place, job, segmenter, scheme, settings, arrays)
    if refiner is not None:
        _refine(place, job, segmenter, refiner, scheme, settings, arrays)
    started, found = time.monotonic(), None
    if settings.objects:
        rules = object_rules(scheme, settings)
        found = objects.measure_objects(place, arrays, settings.block, voxel_size_nm, scheme["names"], rules, say)
    if settings.tiff_export:
        results.export(place, arrays, voxel_size_nm, scheme["colours"])
    results.write_pyramids(place, roles)
    summary = _summary(place, scheme, segmenter, refiner, made_by, time.monotonic() - started)
    summary |= {"objects": found} if settings.objects else {}
    output.finish(place, summary)
    return summary


def _copy(place, image, settings, copied) -> None:
    for box in _unfinished(place, "copy", image.shape, settings):
        copied.write(box, image.read(box).astype(copied.dtype))  # of another byte order at most
        output.mark(place, "copy", box, {})


def _segment(place, job, segmenter, scheme, settings, arrays) -> None:
    variables = segmenter and jax.device_put((segmenter.params, segmenter.state))
    for box in _unfinished(place, "segment", arrays["initial"].shape, settings):
        started, windows, kind = time.monotonic(), 0, settings.entropy_kind
        painted = np.zeros(box.shape, bool)
        if segmenter is not None or job.probabilities:
            means, windows = _means(job, segmenter, variables, box, settings)
            labels, entropy, ambiguous = decide(means, scheme["ambiguous"], kind)
        else:
            labels = labels_from_disk(job.labels.read(box))
            ambiguous = ((labels == scheme["ambiguous"]) & (labels >= 0)).astype(np.float32)
            entropy = np.zeros(box.shape, np.float32)
            if job.entropy is not None:
                entropy = job.entropy.read(box).astype(np.float32) / (255 if job.entropy.dtype == np.uint8 else 1)
            else:
                # One painted voxel hides its token; the refiner hears full entropy there, none elsewhere.
                painted = hide(job.hidden.read(box) != 0, ambiguous * 0, settings.token, 0.0, 1.0)
                entropy = painted.astype(np.float32)
        hidden = hide(entropy, ambiguous, settings.token, settings.threshold, settings.ambiguous_threshold) | painted
        arrays["initial"].write(box, labels_to_disk(labels))
        arrays["entropy"].write(box, np.round(entropy * 255).astype(np.uint8))
        arrays["hidden"].write(box, hidden.astype(np.uint8))
        record = {"voxels": hidden.size, "hidden": int(hidden.sum()), "windows": windows}
        output.mark(place, "segment", box, record | {"seconds": time.monotonic() - started})


def _means(job, segmenter, variables, box, settings) -> tuple[np.ndarray, int]:
    """What the entropy needs of the members, averaged over them, float32 (z, y, x, n); windows that took."""
    if segmenter is not None:
        source = segmenter.apply, variables, job.members, job.image
        return segment_block(*source, box, settings.batch, settings.entropy_kind)
    members = np.stack([np.moveaxis(v.read(box), 0, -1).astype(np.float32) for v in job.probabilities])
    return np.asarray(member_means(members, settings.entropy_kind)), 0


def _probabilities(job, segmenter, scheme, settings, shape) -> Volume:
    """The class probabilities that the segmentation was decided by, computed (or read) again for whatever box is asked.

    The alternative is to store them: as many times the volume as there are classes, rounded to bytes, and one more
    thing to resume. Boxes are asked for only where something is hidden, and the numbers are the same to the bit.
    """
    variables = segmenter and jax.device_put((segmenter.params, segmenter.state))
    classes = len(scheme["names"]) - (scheme["ambiguous"] >= 0)

    def read(box):
        means, _ = _means(job, segmenter, variables, box, settings)
        return np.moveaxis(real_probabilities(means, scheme["ambiguous"], settings.entropy_kind), -1, 0)

    return Volume("probabilities", shape, np.dtype(np.float32), None, None, classes, read)


def _refine(place, job, segmenter, refiner, scheme, settings, arrays) -> None:
    variables = jax.device_put((refiner.params, refiner.state))
    key = jax.random.key(settings.seed)
    shape = arrays["initial"].shape

    def view(name, dtype, convert):
        array = arrays[name]
        return Volume(name, shape, np.dtype(dtype), None, None, None, lambda box: convert(array.read(box)))

    def known_labels(labels):
        labels = labels_from_disk(labels)
        # "Ambiguous" is no class to a refiner: where the user's labels have it, nothing is known.
        return np.where(labels == scheme["ambiguous"], np.int16(-1), labels)

    volumes = {
        "labels": view("initial", np.int16, known_labels),
        "entropy": view("entropy", np.float32, lambda entropy: entropy.astype(np.float32) / 255),
        "hidden": view("hidden", bool, lambda hidden: hidden != 0),
    }
    if "image" in refiner.apply.needs:
        volumes["image"] = job.image
    if "probabilities" in refiner.apply.needs:
        volumes["probabilities"] = _probabilities(job, segmenter, scheme, settings, shape)
    for box in _unfinished(place, "refine", shape, settings):
        started = time.monotonic()
        filled, sure, computed, windows = refine_block(refiner.apply, variables, key, volumes, box, settings.batch)
        initial = arrays["initial"].read(box)
        refined = np.where(arrays["hidden"].read(box) != 0, labels_to_disk(filled), initial)
        arrays["refined"].write(box, refined)
        arrays["confidence"].write(box, sure)
        for name, labels in (("was", initial), ("became", refined)):
            arrays[name].write(box, np.where(initial != refined, labels + np.uint16(1), np.uint16(0)))
        record = {"windows": windows, "computed": computed, "seconds": time.monotonic() - started}
        output.mark(place, "refine", box, audit.changes(initial, refined, sure) | record)


def _unfinished(place, step, shape, settings):
    """The blocks of a pass that have no mark yet, with a progress bar on a terminal."""
    done = output.marks(place, step)
    boxes = blocks(shape, settings.block)
    todo = [box for box in boxes if box.start not in done]
    bar = {"desc": f"{place.stem}: {step}", "unit": "block", "disable": None}
    return tqdm(todo, initial=len(boxes) - len(todo), total=len(boxes), **bar)


def _summary(place, scheme, segmenter, refiner, made_by, export_seconds) -> dict:
    segmented, refined = (list(output.marks(place, step).values()) for step in ("segment", "refine"))
    voxels, hidden = (sum(record[name] for record in segmented) for name in ("voxels", "hidden"))
    seconds = {"segment": sum(r["seconds"] for r in segmented), "refine": sum(r["seconds"] for r in refined)}
    packages = ("jax", "jaxlib", "flax", "numpy", "tensorstore", "tifffile")
    return {
        "stem": place.stem,
        "made_by": json.loads(json.dumps(made_by)),
        "workdirs": {"segmenter": segmenter and segmenter.workdir, "refiner": refiner and refiner.workdir},
        "classes": scheme["names"],
        "voxels": voxels,
        "hidden_share": hidden / voxels,
        **audit.table(refined, scheme["names"]),
        "windows": {"refine": sum(r["windows"] for r in refined), "computed": sum(r["computed"] for r in refined)},
        "seconds": {name: round(value, 3) for name, value in (seconds | {"export": export_seconds}).items()},
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "device": jax.devices()[0].device_kind,
    }
