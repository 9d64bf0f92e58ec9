"""What the search for a refiner's parameters needs: candidates, and windows of volumes with known truth to judge on.

A refiner in methods.SEARCHED has, beside `refiner(settings)`, `check(settings)` and `candidates(settings)`. A
candidate is judged as it will be used: windows of the volume's lattice that show hidden tokens, composited there and
counted there. Truth is used to choose six numbers, and of validation volumes only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from maeref_jax.errors import BadInput
from maeref_jax.experiments.experiment import Notes, known_as, load_ensemble, unseen_by
from maeref_jax.experiments.train_settings import check_common
from maeref_jax.metrics import overlap
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import methods
from maeref_jax.pipeline.blockwise import decide, hide, real_probabilities, segment_block
from maeref_jax.pipeline.shown import seen_by
from maeref_jax.samples import training_volumes
from maeref_jax.samples.sampling import OUTSIDE, padded
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import Box, whole, windows_touching

SLAB = 4  # slices segmented at a time
SEEN = ("intensity_range", "normalisation", "grey_values")  # facts of how a model is shown images


class Search(NamedTuple):
    """candidates: list of params; state: what every one of them goes with; evaluate(params, state, batches) ->
    {name: value}; batches: list of dicts of windows; facts: what the workdir remembers of the data; description: one
    line for people.
    """

    candidates: list[dict]
    state: Any
    evaluate: Callable[..., dict]
    batches: list[dict]
    facts: dict
    description: str


def check(settings):
    """Raises BadInput for settings that no search can work with."""
    check_common(settings)
    data, classes = settings["data"], real_classes(settings["classes"])
    if not data["phantom"]["validation"] and not data["ensemble"]:
        raise BadInput("data.ensemble is missing: its workdir gives the class probabilities of your images")
    if data["phantom"]["validation"] and data["validation"]["labels"]:
        raise BadInput("both phantoms and files are given; for files only, add --config.data.phantom.validation=")
    if any(not 0 <= i < classes for i in settings["score_classes"]):
        raise BadInput(f"score_classes must be ids 0 … {classes - 1}, found {settings['score_classes']}")
    methods.REFINERS[settings["method"]].check(settings)


def prepare(settings, workdir):
    """The Search of a config's settings. Without data.ensemble, the ensemble is in workdir/ensemble."""
    module = methods.REFINERS[settings["method"]]
    model = load_ensemble(settings, settings["data"]["ensemble"] or epath.Path(workdir) / "ensemble")
    methods.tell_doubts(model)
    notes = Notes()
    volumes, names = volumes_with_truth(settings, notes)
    windows = [w for one in zip(volumes, names, strict=True) for w in _windows(settings, *one, model)]
    if not windows:
        raise BadInput(
            f"nothing is hidden in the validation volumes at threshold {settings['threshold']}; the parameters are "
            "judged inside hidden tokens: set it lower"
        )
    size, most = settings["batch"], settings["batch"] * settings["validation_batches"]
    order = np.random.default_rng(settings["seed"]).permutation(len(windows))[:most]
    # The last batch is filled up with windows that do not count: one shape for the compiler.
    chosen = [windows[i] for i in order]
    chosen += [{**chosen[0], "truth": np.full_like(chosen[0]["truth"], -1)}] * (-len(chosen) % size)
    batches = [
        {name: np.stack([window[name] for window in chosen[start : start + size]]) for name in chosen[0]}
        for start in range(0, len(chosen), size)
    ]
    facts = {
        "validation_volumes": [volume.name for volume in volumes],
        "labels": f"probabilities of the ensemble {model.workdir}, judged by the truth",
        "windows": len(order),
        "entropy": "mean",
        "notes": notes.texts,
        **{name: model.facts[name] for name in SEEN if name in model.facts},  # it sees the image as the ensemble does
    }
    return Search(
        module.candidates(settings),
        {"intensity_range": np.asarray(model.facts["intensity_range"], np.float32)},
        evaluation(settings),
        batches,
        facts,
        f"{len(module.candidates(settings))} trials on {len(order)} of {len(windows)} windows with hidden tokens, "
        f"{len(volumes)} validation volumes",
    )


def evaluation(settings):
    """evaluate(params, state, batches) -> Dice inside hidden tokens over all windows together, of every class that is
    there, and "score": the mean over settings["score_classes"], or all classes but 0 where that is empty.
    """
    apply, classes = methods.REFINERS[settings["method"]].refiner(settings), real_classes(settings["classes"])
    judged = settings["score_classes"] or range(1, classes)
    fill = jax.jit(lambda *given: apply.refine(*given, jax.random.key(0)).argmax(-1))

    def evaluate(params, state, batches):
        counts = np.zeros((classes, classes), np.int64)
        for batch in batches:
            inputs = {name: values for name, values in batch.items() if name != "truth"}
            counts += overlap.confusion(
                batch["truth"], np.asarray(fill(params, state, inputs)), classes, batch["hidden"]
            )
        dice = zip(settings["classes"]["names"], overlap.dice(counts), strict=False)
        metrics = {f"dice_{name}": round(float(value), 6) for name, value in dice if not np.isnan(value)}
        return {"score": round(overlap.macro_dice(counts, judged), 6), **metrics}

    return evaluate


def volumes_with_truth(settings, say):
    """The validation volumes with image and true labels, and for each what an ensemble may know it by, a tuple of
    names; "ambiguous" is no truth.
    """
    data, classes = settings["data"], settings["classes"]
    if data["phantom"]["validation"]:
        shape, size = tuple(data["phantom"]["shape"]), tuple(settings["voxel_size_nm"])
        made = {seed: phantom(seed, shape, size) for seed in data["phantom"]["validation"]}
        found = [training_volumes.TrainingVolume(f"phantom_{s}", one.image, one.labels) for s, one in made.items()]
        return found, [(volume.name,) for volume in found]
    if not data["validation"]["labels"]:
        raise BadInput(
            "no volumes to judge on: give --validation_images and --validation_labels, or set data.phantom.validation"
        )
    found = training_volumes.volumes_from_files(data["validation"], data, classes, True, say)
    ambiguous = classes["ambiguous"] if classes["ambiguous"] >= 0 else -1
    known = [v._replace(labels=np.where(v.labels == ambiguous, np.int16(-1), v.labels)) for v in found]
    return known, known_as(known, data["validation"]["images"])


def _windows(settings, volume, names, model):
    """The windows of the lattice of one volume that show a hidden token with known truth, as what a refiner is given
    and the truth: no two share a voxel but at the far borders.
    """
    size, ambiguous = tuple(settings["window"]), settings["classes"]["ambiguous"]
    image = seen_by(model, array_volume(volume.image, volume.name, tuple(settings["voxel_size_nm"])))
    members = unseen_by(model, names)
    variables, found = jax.device_put((model.params, model.state)), []
    for start in range(0, image.shape[0], SLAB):
        slab = Box((start, 0, 0), (min(start + SLAB, image.shape[0]), *image.shape[1:]))
        means, _ = segment_block(model.apply, variables, members, image, slab, settings["batch"])
        labels, entropy, doubt = decide(means, ambiguous)
        truth = volume.labels[slab.slices]
        arrays = {
            "labels": labels,
            "entropy": entropy,
            "hidden": hide(entropy, doubt, settings["token"], settings["threshold"], settings["ambiguous_threshold"]),
            "image": image.read(slab).astype(np.float32),
            "probabilities": real_probabilities(means, ambiguous),
            "truth": truth,
        }
        outside = {**OUTSIDE, "hidden": False, "probabilities": 0.0, "truth": -1}
        for window in windows_touching(slab.shape, (1, *size), (1, *size), whole(slab.shape)):
            place = window.intersect(whole(slab.shape)).slices
            if (arrays["hidden"][place] & (truth[place] >= 0)).any():
                cut = {name: array[place][0] for name, array in arrays.items()}
                found.append({n: padded(a, (*size, *a.shape[2:]), outside.get(n)) for n, a in cut.items()})
    return found
