"""A whole volume, block by block: image -> member probabilities -> labels, entropy, hidden tokens -> refined labels.

Two passes, "segment" and "refine"; every finished block is recorded after its data is durable and never redone.
Blocks are the unit of memory, writing and resuming, results do not depend on them (blockwise.py). A voxel outside
the hidden tokens keeps its initial label, bit for bit.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import maeref_jax.refiners.mae
import maeref_jax.segmenters.ensemble
from maeref_jax import audit, objects
from maeref_jax.blockwise import decide, hide, refine_block, segment_block
from maeref_jax.entropy import KINDS, member_means
from maeref_jax.errors import BadInput
from maeref_jax.records import Refiner, Segmenter
from maeref_jax.training.checkpoint import load_model_variables
from maeref_jax.training.workdir import lasting, read_config
from maeref_jax.volumes import inputs, output, results
from maeref_jax.volumes.formats.ome_metadata import VERSIONS
from maeref_jax.volumes.formats.tiff import LARGEST_BYTES
from maeref_jax.volumes.output import Output
from maeref_jax.volumes.volume import Volume, labels_from_disk, labels_to_disk, open_volume
from maeref_jax.volumes.windows import blocks, round_up

SEGMENTERS = {"ensemble": maeref_jax.segmenters.ensemble}
REFINERS = {"mae": maeref_jax.refiners.mae}
METHODS = SEGMENTERS | REFINERS
_KINDS = {"segmenter": SEGMENTERS, "refiner": REFINERS}

THRESHOLDS = ("threshold", "ambiguous_threshold")


class Model(NamedTuple):
    """A trained workdir, ready to be applied.

    name: the method; settings: the workdir's config; facts: what it remembers of its training data
    """

    workdir: str
    name: str
    settings: dict
    params: Any
    state: Any
    apply: Segmenter | Refiner
    facts: dict


class Job(NamedTuple):
    """One volume to refine, results under `output`/`stem`...

    Either `image` and a segmenter; or `labels` with `entropy` or with `hidden` (a painted mask, nonzero is hidden); or
    `probabilities`, one volume or one per member. `image` may accompany the last two for a refiner that needs it.
    members: which members of the ensemble to average, None for all (out-of-fold predictions use some).
    """

    stem: str
    output: Path
    image: Volume | None = None
    labels: Volume | None = None
    entropy: Volume | None = None
    hidden: Volume | None = None
    probabilities: tuple[Volume, ...] = ()
    members: tuple[int, ...] | None = None


class Settings(NamedTuple):
    """threshold: tokens whose mean entropy is above it are hidden, in [0, 1]; None: the refiner's, see `thresholds_of`
    ambiguous_threshold: so are tokens whose mean probability of "ambiguous" is above it; None likewise
    token: side of a token in voxels, used only without a refiner, which has its own
    block: (z, y, x) voxels worked on at a time; y and x are rounded up to tokens
    batch: windows per call of a network; seed: of a refiner that draws
    overwrite: remove an earlier output first; tiff_export: write TIFF stacks beside the arrays
    entropy_kind: one of entropy.KINDS; the threshold belongs to it, and a refiner's own is one of "mean"
    copy_image: put the image into the OME-Zarr too, not only its path; ome_zarr: version, "0.5" or "0.4"
    objects: write the table of objects and their skeletons; object_classes, cristae_class, smallest_object_vx,
        flag_hidden_share: see `objects.rules`
    """

    threshold: float | None = None
    ambiguous_threshold: float | None = None
    token: int = 4
    block: tuple[int, int, int] = (4, 512, 512)
    batch: int = 16
    seed: int = 0
    overwrite: bool = False
    tiff_export: bool = True
    entropy_kind: str = "mean"
    copy_image: bool = False
    ome_zarr: str = "0.5"
    objects: bool = False
    object_classes: tuple[int, ...] = ()
    cristae_class: int | None = None
    smallest_object_vx: int = 64
    flag_hidden_share: float = 0.5


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
    params, state = load_model_variables(workdir)
    return Model(str(workdir), name, settings, params, state, apply, config["facts"])


def thresholds_of(given: dict[str, Any], refiner: Model | None) -> tuple[dict[str, float], str]:
    """The two thresholds, and a line that says where they come from: as `given`, or as the refiner was trained with."""
    source = refiner.settings if refiner else {"threshold": 0.4, "ambiguous_threshold": 0.5}
    origin = f"of {refiner.workdir}" if refiner else "default without a refiner"
    found = {name: source[name] if given[name] is None else given[name] for name in THRESHOLDS}
    said = (f"{name} {found[name]:g}, {origin if given[name] is None else 'as given'}" for name in THRESHOLDS)
    return found, "; ".join(said)


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
    settings = settings._replace(**thresholds, token=token, block=_round_block(settings.block, token))
    volumes = _check_job(job, segmenter, refiner, settings)
    place = Output(Path(job.output), job.stem)
    output.check_apart(place, volumes.values())
    made_by = _made_by(job, volumes, segmenter, refiner, settings)
    state = "new" if settings.overwrite else output.state(place, made_by)
    if state == "complete":
        say(f"{place.sidecar} is complete already, nothing to do")
        return output.load_sidecar(place)
    scheme = _scheme(segmenter, refiner)
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
        _refine(place, job, refiner, scheme, settings, arrays)
    started, found = time.monotonic(), None
    if settings.objects:
        rules = _object_rules(scheme, settings)
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
        if segmenter is not None:
            source = segmenter.apply, variables, job.members, job.image
            means, windows = segment_block(*source, box, settings.batch, kind)
            labels, entropy, ambiguous = decide(means, scheme["ambiguous"], kind)
        elif job.probabilities:
            members = np.stack([np.moveaxis(v.read(box), 0, -1).astype(np.float32) for v in job.probabilities])
            labels, entropy, ambiguous = decide(np.asarray(member_means(members, kind)), scheme["ambiguous"], kind)
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


def _refine(place, job, refiner, scheme, settings, arrays) -> None:
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


def _scheme(segmenter: Model | None, refiner: Model | None) -> dict:
    """The class scheme of the models: names, colours, ambiguous (an id or -1); empty without any model."""
    model = refiner or segmenter
    return model.settings["classes"] if model else {"names": [], "colours": None, "ambiguous": -1}


def _object_rules(scheme: dict, settings: Settings) -> objects.Rules:
    given = (settings.object_classes, settings.cristae_class, settings.smallest_object_vx, settings.flag_hidden_share)
    return objects.rules(scheme, *given)


def _round_block(block, token: int) -> tuple[int, int, int]:
    if len(block) != 3 or min(block) < 1:
        raise BadInput(f"block is {tuple(block)}, expected three positive numbers of voxels (z, y, x)")
    return (block[0], round_up(block[1], token), round_up(block[2], token))


def _check_job(job, segmenter, refiner, settings) -> dict[str, Volume]:
    """The volumes of the job by role. Raises BadInput where they, the models and the settings do not fit together."""
    own = sum(source is not None for source in (job.labels, job.probabilities or None))
    if (segmenter is not None) + own != 1 or (segmenter is not None and job.image is None):
        raise BadInput(f"{job.stem}: expected one of: an image and an ensemble, labels, or probabilities")
    if (job.labels is not None) != ((job.entropy is not None) + (job.hidden is not None) == 1):
        raise BadInput(
            f"{job.stem}: labels need entropy or a hidden mask beside them, one of the two; nothing else does"
        )
    for name in THRESHOLDS:
        if not 0 <= getattr(settings, name) <= 1:
            raise BadInput(f"{name} is {getattr(settings, name)}, expected 0 to 1 (entropy is normalised)")
    if settings.ome_zarr not in VERSIONS:
        raise BadInput(f"ome_zarr is {settings.ome_zarr}, expected one of {', '.join(VERSIONS)}")
    _object_rules(_scheme(segmenter, refiner), settings)
    if settings.copy_image and job.image is None:
        raise BadInput(f"{job.stem}: copy_image is set, but there is no image; give --input, or set it to false")
    if segmenter and refiner:
        _check_same_scheme(segmenter, refiner)
    volumes = {name: getattr(job, name) for name in ("image", "labels", "entropy", "hidden")}
    volumes |= {f"probabilities_{i}": volume for i, volume in enumerate(job.probabilities)}
    volumes = {name: volume for name, volume in volumes.items() if volume is not None}
    inputs.check_same_grid(*volumes.values())
    scheme = _scheme(segmenter, refiner)
    for volume in job.probabilities:
        allowed = {len(scheme["names"]), len(scheme["names"]) - (scheme["ambiguous"] >= 0)}
        if scheme["names"] and volume.classes not in allowed:
            names = ", ".join(scheme["names"])
            raise BadInput(
                f"{volume.path} has {volume.classes} classes, but the refiner {refiner.workdir} has: {names}"
            )
        if volume.classes != job.probabilities[0].classes:
            raise BadInput(f"{volume.path} has {volume.classes} classes, {job.probabilities[0].path} another number")
    if refiner:
        missing = [need for need in refiner.apply.needs if need != "image" or job.image is None]
        if missing:
            raise BadInput(f"{job.stem}: the refiner {refiner.workdir} needs {', '.join(missing)} as well")
    shape = next(iter(volumes.values())).shape
    if settings.tiff_export and np.prod(shape, dtype=float) > LARGEST_BYTES:
        raise BadInput(f"{job.stem} of shape {shape} is too large for TIFF export; set tiff_export to false")
    return volumes


def _check_same_scheme(segmenter: Model, refiner: Model) -> None:
    both = f"{segmenter.workdir} and {refiner.workdir}"
    for key in ("names", "ambiguous"):
        a, b = (model.settings["classes"][key] for model in (segmenter, refiner))
        if a != b:
            raise BadInput(f"{both} were trained for different classes ({key}): {a} and {b}; train them with the same")
    sizes = [model.settings["voxel_size_nm"] for model in (segmenter, refiner)]  # an imported one may know none
    if all(sizes) and not np.allclose(*sizes, rtol=1e-3):
        raise BadInput(
            f"{segmenter.workdir} was trained with voxels of {sizes[0]} nm (z, y, x), {refiner.workdir} of {sizes[1]}; "
            "train them with the same voxel_size_nm"
        )


def _made_by(job, volumes, segmenter, refiner, settings) -> dict:
    """What decides about the result, as JSON: another one of these means another output."""
    return {
        "format": 2,
        "inputs": {name: volume.identity() for name, volume in volumes.items()},
        "segmenter": segmenter and _model_identity(segmenter),
        "refiner": refiner and _model_identity(refiner),
        "members": job.members,
        "settings": {name: value for name, value in settings._asdict().items() if name != "overwrite"},
    }


def _model_identity(model: Model) -> dict:
    """Method and digests, not the path: a workdir may be moved, and may be trained further under the same path."""
    leaves, structure = jax.tree.flatten((model.params, model.state))
    digest = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        digest.update(np.ascontiguousarray(leaf).tobytes())
    config = hashlib.sha256(json.dumps(lasting(model.settings), sort_keys=True).encode()).hexdigest()
    return {"method": model.name, "config_sha256": config[:16], "parameters_sha256": digest.hexdigest()[:16]}
