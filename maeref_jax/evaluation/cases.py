"""The volumes to judge on: phantoms by seed, or files, with their truth; and whether any model has seen them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.training.workdir import make_workdir
from maeref_jax.volumes.artefacts import ARTEFACTS
from maeref_jax.volumes.dataset import mapped_labels, stems
from maeref_jax.volumes.low_signal import LowSignalSettings, lower_signal
from maeref_jax.volumes.phantom import PhantomSettings, phantom
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
    condition: of the biology, "" for none.
    """

    stem: str
    truth: np.ndarray
    low_signal: np.ndarray | None
    inputs: dict[str, Volume]
    voxel_size_nm: tuple[float, float, float] | None
    shift: str = ""
    condition: str = ""


def check(settings):
    """Raises BadInput for settings that ask for phantoms and for files: the files would not be judged on."""
    files, seeds = settings["files"], settings["phantom"]["seeds"]
    given = [f"files.{role}" for role in ("truths", *ROLES, "damage") if files[role]]
    if seeds and given:
        raise BadInput(
            f"both phantoms (phantom.seeds {seeds}) and {', '.join(given)} are given; for files only, add "
            "--config.phantom.seeds="
        )
    conditions = sorted({*files["conditions"]} - {""})
    if len(conditions) not in (0, 2):
        raise BadInput(f"files.conditions: expected two to compare, or none, found {', '.join(conditions)}")
    unknown = [shift for shift in settings["phantom"]["shifts"] if shift not in (*ARTEFACTS, *SHAPES)]
    if unknown:
        raise BadInput(f"phantom.shifts: no '{unknown[0]}'; expected some of {', '.join((*ARTEFACTS, *SHAPES))}")


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
    made = settings["phantom"]
    if made["seeds"]:
        shifts = ("", *made["shifts"])
        return [_phantom_case(seed, shift, made, classes, output) for shift in shifts for seed in made["seeds"]]
    files = settings["files"]
    if not files["truths"]:
        raise BadInput("nothing to evaluate: set phantom.seeds, or files.truths and files.images, in the config")
    for role in (*ROLES, "shifts", "conditions"):
        if files[role] and len(files[role]) != len(files["truths"]):
            raise BadInput(
                f"expected as many files.{role} as files.truths ({len(files['truths'])}), found {len(files[role])}"
            )
    found = [_file_case(index, files, classes) for index in range(len(files["truths"]))]
    if all(case.shift for case in found):
        raise BadInput("every volume of files.truths has a shift; the tables need some without")
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
    return Case(stem, truth, low_signal, inputs, source.voxel_size_nm, *about)


def damaged_regions(truth, seed, per_million):
    """Where the labels of a real volume are taken away: ellipsoids on its foreground, bool (z, y, x)."""
    blank = np.zeros(truth.shape, np.float32)
    settings = LowSignalSettings(on_mitochondria=per_million, in_cytoplasm=0.0)
    return lower_signal(blank, truth, np.random.default_rng(seed), settings)[1]
