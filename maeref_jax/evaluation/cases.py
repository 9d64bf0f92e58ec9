"""The volumes to judge on: phantoms by seed, or files, with their truth; and whether any model has seen them."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput, tell
from maeref_jax.evaluation import independence
from maeref_jax.phantoms.artefacts import ARTEFACTS
from maeref_jax.phantoms.low_signal import LowSignalSettings, lower_signal
from maeref_jax.phantoms.phantom import PhantomSettings, phantom
from maeref_jax.samples.training_volumes import stems
from maeref_jax.training.workdir import make_workdir
from maeref_jax.volumes import within
from maeref_jax.volumes.class_scheme import is_mitochondria, listed
from maeref_jax.volumes.dataset import given_of, mapped_labels, met
from maeref_jax.volumes.inputs import check_values
from maeref_jax.volumes.label_ids import as_classes
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import Volume, array_volume, open_volume, share_slices, write_tiff
from maeref_jax.volumes.windows import whole

ROLES = ("images", "labels", "entropy", "hidden", "low_signal")  # files of a config beside its truths
# Shapes that no training phantom has: cristae closer together, and thicker ones farther apart.
SHAPES = {
    "dense cristae": {"spacing_nm": 60.0, "thickness_nm": (26.0, 36.0)},
    "thick cristae": {"spacing_nm": 130.0, "thickness_nm": (62.0, 82.0)},
}


class Case(NamedTuple):
    """A held-out volume.

    truth: int16 (z, y, x), -1 unknown. low_signal: bool of that shape, or None where nobody knows it.
    inputs: {"image" | "labels" | "entropy" | "hidden": Volume}, what the pipeline gets.
    shift: what no training volume had, "" where there is no such thing; shifted cases take no part in the main tables.
    condition: of the biology, "" for none. notes: what was taken how, of the ids in its files, and what is doubted.
    """

    stem: str
    truth: np.ndarray
    low_signal: np.ndarray | None
    inputs: dict[str, Volume]
    voxel_size_nm: tuple[float, float, float] | None
    shift: str = ""
    condition: str = ""
    notes: tuple[str, ...] = ()


def check(settings):
    """Raises BadInput for settings that exclude each other, what they name being left out without a word, and for
    numbers out of range.
    """
    files, seeds, crops = settings["files"], settings["phantom"]["seeds"], settings["validity"]
    given = [f"files.{role}" for role in ("truths", *ROLES, "within", "damage", "shifts", "conditions") if files[role]]
    if seeds and given:
        raise BadInput(
            f"both phantoms (phantom.seeds {seeds}) and {', '.join(given)} are given; for files only, add "
            "--config.phantom.seeds="
        )
    check_phantoms(settings["phantom"])
    independence.check(settings)
    conditions = sorted({*files["conditions"]} - {""})
    if len(conditions) not in (0, 2):
        raise BadInput(f"files.conditions: expected two to compare, or none, found {', '.join(conditions)}")
    beside = [f"files.{role}" for role in ROLES if files[role]]
    if not 0 <= files["damage"] < math.inf or (files["damage"] and beside):
        raise BadInput(
            f"files.damage is {files['damage']:g} beside {', '.join(beside) or 'nothing'}; expected 0 for none, or a "
            "number of regions per million voxels and only files.truths: labels and what is hidden are made of these"
        )
    if min(crops["size"], crops["slice_step"]) < 1 or settings["reconstruction"]["crops"] < 0:
        raise BadInput(
            f"expected validity.size ({crops['size']}) and validity.slice_step ({crops['slice_step']}) of 1 or more, "
            f"reconstruction.crops ({settings['reconstruction']['crops']}) of 0 or more"
        )
    unknown = [shift for shift in settings["phantom"]["shifts"] if shift not in (*ARTEFACTS, *SHAPES)]
    if unknown:
        raise BadInput(f"phantom.shifts: no '{unknown[0]}'; expected some of {', '.join((*ARTEFACTS, *SHAPES))}")


def check_phantoms(phantom):
    """Raises BadInput for phantoms that cannot be made. phantom: a group of settings, seeds, shape, voxel_size_nm."""
    seeds = phantom["seeds"]
    if any(not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise BadInput(f"phantom.seeds is {seeds}, expected whole numbers of 0 or more")
    shape, size = phantom["shape"], phantom["voxel_size_nm"]
    if len(shape) != 3 or min(shape) < 1:
        raise BadInput(f"phantom.shape is {tuple(shape)}, expected three numbers of voxels (z, y, x), 1 or more")
    if len(size) != 3 or not all(0 < side < math.inf for side in size):
        raise BadInput(f"phantom.voxel_size_nm is {tuple(size)}, expected three lengths (z, y, x) above 0")


def with_classes(settings, names):
    """The settings with the ids of classes that were left open: what is compared, and what the validity metrics ask of.
    names: of the models' classes, background first, without "ambiguous". Raises BadInput unless ids are those of
    classes.
    """
    known, mitochondria = listed({"names": names}), is_mitochondria(names)
    endpoint = settings["endpoint_classes"] or ((2, 3) if mitochondria else tuple(range(1, len(names))))
    ids = settings["validity"]["classes"]
    if ids is None:
        ids = (0, 1, 2, 3) if mitochondria else ()
    settings = {**settings, "endpoint_classes": endpoint, "validity": {**settings["validity"], "classes": ids}}
    check_classes(settings, names, known)
    return settings


def check_classes(settings, names, known):
    """Raises BadInput unless the ids in the settings are those of classes, which `known` lists."""
    endpoint, ids = settings["endpoint_classes"], settings["validity"]["classes"]
    if any(c not in range(1, len(names)) for c in endpoint):
        raise BadInput(f"endpoint_classes {endpoint}: expected some foreground classes of {known}")
    if ids and (len(ids) != 4 or len({*ids}) != 4 or any(c not in range(len(names)) for c in ids)):
        raise BadInput(
            f"validity.classes {ids}: expected the ids of background, intermembrane space, cristae and matrix, four of "
            f"{known}; where these are not the classes, --config.validity.classes="
        )


def check_held_out(settings, models):
    """Raises BadInput if a volume to judge on shares slices with one that a model was trained on or, unless this is to
    choose and not to report (settings["on_validation"]), validated on.
    """
    files = [path for role in ("truths", "images", "labels", "entropy") for path in settings["files"][role]]
    volumes = [f"phantom_{seed}" for seed in settings["phantom"]["seeds"]] or files
    for model in models:
        facts = ("volumes", "images") + (
            () if settings["on_validation"] else ("validation_volumes", "validation_images")
        )
        known = [path for fact in facts for path in model.facts.get(fact, ())]
        seen = {volume for volume in volumes if any(share_slices(volume, other) for other in known)}
        if seen:
            raise BadInput(
                f"expected volumes that no model has seen, but {', '.join(sorted(seen))} belonged to the training or "
                f"validation data of {model.workdir}; choose others"
            )


def cases(settings, classes, output):
    """The held-out volumes of a config: phantoms by seed (written to `output`) or, without seeds, files. Phantoms come
    once as they are and once with each of phantom.shifts.
    """
    made, real = settings["phantom"], real_classes(classes)
    if made["seeds"] and real < 4:
        raise BadInput(
            f"phantoms have the classes 0 … 3, but the models have {', '.join(classes['names'])}; give "
            "--config.phantom.seeds= and volumes of yours (files.truths)"
        )
    if made["seeds"]:
        shifts = ("", *made["shifts"])
        return [_phantom_case(seed, shift, made, classes, output) for shift in shifts for seed in made["seeds"]]
    files = settings["files"]
    if not files["truths"]:
        raise BadInput("nothing to evaluate: set phantom.seeds, or files.truths and files.images, in the config")
    for role in (*ROLES, "within", "shifts", "conditions"):
        if files[role] and len(files[role]) != len(files["truths"]):
            raise BadInput(
                f"expected as many files.{role} as files.truths ({len(files['truths'])}), found {len(files[role])}"
            )
    found = [_file_case(index, files, classes) for index in range(len(files["truths"]))]
    if all(case.shift for case in found):
        raise BadInput("every volume of files.truths has a shift; the tables need some without")
    if files["conditions"] and any(case.voxel_size_nm is None for case in found):
        raise BadInput("conditions are compared in nm, but not every file tells its voxels' size: files.voxel_size_nm")
    return found


def _phantom_case(seed, shift, settings, classes, output):
    made = phantom(seed, tuple(settings["shape"]), tuple(settings["voxel_size_nm"]), _shifted(shift))
    stem, output = f"phantom_{seed}" + (f"_{shift.replace(' ', '_')}" if shift else ""), Path(output)
    make_workdir(output)
    arrays = {"image": made.image, "truth": made.labels, "low_signal": made.low_signal}
    for role, array in arrays.items():
        colours = classes["colours"] if role == "truth" else None
        write_tiff(output / f"{stem}_{role}.tif", array, made.voxel_size_nm, colours)
    inputs = {"image": open_volume(output / f"{stem}_image.tif")}
    return Case(stem, made.labels, made.low_signal, inputs, made.voxel_size_nm, shift)


def _shifted(shift):
    """PhantomSettings of what no training phantom had."""
    usual = PhantomSettings()
    if shift in SHAPES:
        return usual._replace(cristae=usual.cristae._replace(**SHAPES[shift]))
    return usual._replace(imaging=usual.imaging._replace(artefact=shift))


def _file_case(index, files, classes):
    def opened(role):
        return given_of(files).open(files[role][index], role)

    names = ("image", *ROLES[1:])
    inputs = {
        name: opened(role) for name, role in zip(("truth", *names), ("truths", *ROLES), strict=True) if files[role]
    }
    inputs = met(inputs) if given_of(files).at_voxel_size_nm else inputs
    source, notes = inputs.pop("truth"), []
    truth = mapped_labels(source, files, classes, notes.append)
    if files["within"] and files["within"][index]:  # outside nothing is judged
        mask = given_of(files).open_mask(files["within"][index], source)
        truth = within.only_inside(truth, mask, source, notes.append)
    if classes["ambiguous"] >= 0:
        truth[truth == classes["ambiguous"]] = -1
    if (truth < 0).all():
        raise BadInput(
            f"{source.path} holds no known label: all voxels are unknown or ambiguous, nothing can be judged"
        )
    for name, volume in inputs.items():
        if volume.shape != truth.shape:
            raise BadInput(f"{source.path} has shape {truth.shape}, but its {name} {volume.path} has {volume.shape}")
    low_signal = inputs.pop("low_signal", None)
    if low_signal is not None:
        low_signal = low_signal.read(whole(truth.shape)) > 0
    readings = check_values(inputs, classes, files["labels_label_map"], "--config.files.labels_label_map")
    inputs |= {role: as_classes(inputs[role], reading) for role, reading in readings.items()}
    # What is doubted of the inputs the pipeline tells, when it reads them.
    for line in (*notes, *(note for reading in readings.values() for note in reading.notes)):
        tell(line)
    notes += [line for reading in readings.values() for line in reading.lines]
    if "labels" in inputs:
        _check_decided(inputs["labels"], truth, classes["ambiguous"])
    stem = stems(files["truths"])[index]
    about = (
        files["shifts"][index] if files["shifts"] else "",
        files["conditions"][index] if files["conditions"] else "",
    )
    if files["damage"] > 0:
        low_signal = damaged_regions(truth, index, files["damage"])
        damaged = np.where(low_signal, np.int16(0), truth)
        inputs = {
            "labels": array_volume(damaged, f"{stem}_damaged", source.voxel_size_nm),
            "hidden": array_volume(low_signal.astype(np.uint8), f"{stem}_damage", source.voxel_size_nm),
        }
    return Case(stem, truth, low_signal, inputs, source.voxel_size_nm, *about, tuple(notes))


def _check_decided(labels, truth, ambiguous):
    """Raises BadInput where labels to judge say nothing and the truth is known: no count has a place for that."""
    found = labels.read(whole(labels.shape))
    undecided = np.count_nonzero(((found == -1) | ((found == ambiguous) & (ambiguous >= 0))) & (truth != -1))
    if undecided:
        raise BadInput(
            f"{labels.path} says unknown (-1, 255) or ambiguous in {undecided:,} voxels whose truth is known; labels "
            "to judge need a class there (and may be hidden), or a truth that is unknown there too"
        )


def damaged_regions(truth, seed, per_million):
    """Where the labels of a real volume are taken away: ellipsoids on its foreground, bool (z, y, x)."""
    blank = np.zeros(truth.shape, np.float32)
    settings = LowSignalSettings(on_mitochondria=per_million, in_cytoplasm=0.0)
    return lower_signal(blank, truth, np.random.default_rng(seed), settings)[1]
