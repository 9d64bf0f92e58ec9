"""Every segmenter and refiner by its name in a config, and a trained workdir as a Model of one of them.

A new one is a file in segmenters/ or refiners/ and a line in a dict here.
"""

from pathlib import Path

from etils import epath

from maeref_jax.errors import MARK, BadInput, tell
from maeref_jax.pipeline.jobs import Model, hides_for_itself, is_chosen
from maeref_jax.refiners import (
    autoencoder,
    continuity,
    continuity_network,
    corrector,
    crf,
    inpainter,
    mae,
    mae_image,
    morphology,
    nearest,
    unrefined,
)
from maeref_jax.segmenters import ensemble, sparse_labels, texture
from maeref_jax.training.checkpoint import Loaded, load_best
from maeref_jax.training.workdir import check_config, lacking, read_config
from maeref_jax.uncertainty import foreground
from maeref_jax.uncertainty.confidence import Calibration, is_calibration
from maeref_jax.volumes.json_files import parse_object

# Segmenters that learn nothing: the workdir is a config.json, and there need not be one.
RULES = {"texture": texture}
SEGMENTERS = {"ensemble": ensemble, "sparse_labels": sparse_labels, **RULES}
LEARNED = {
    "mae": mae,
    "mae_image": mae_image,
    "autoencoder": autoencoder,
    "inpainter": inpainter,
    "continuity_network": continuity_network,
    "corrector": corrector,
}
# Refiners without gradients: train.py chooses their parameters by trying them on validation data.
SEARCHED = {"crf": crf}
# Refiners that learn nothing, likewise.
UNLEARNED = {
    "nearest": nearest,
    "morphology": morphology,
    "unrefined": unrefined,
    "continuity": continuity,
}
REFINERS = LEARNED | SEARCHED | UNLEARNED
METHODS = SEGMENTERS | REFINERS
BOXES = frozenset({*SEGMENTERS, "corrector"})  # whose windows may be boxes of a volume, of three numbers
FOREGROUND = "foreground.json"  # of a segmenter's workdir: where foreground begins, chosen on validation slices
GAIN = "gain.json"  # of a corrector's workdir: what it is used with, chosen on validation volumes
_KINDS = {"segmenter": SEGMENTERS, "refiner": REFINERS}


def load_model(workdir: str | Path, kind: str) -> Model:
    """The model in `workdir`. kind: "segmenter" or "refiner".

    Raises:
        BadInput: no workdir of train.py, nothing saved in it yet, a model of the other kind, or damaged files.
    """
    config = read_config(workdir)
    name, methods = config["method"], _KINDS[kind]
    if name not in methods:
        raise BadInput(f"{workdir} holds a model of method '{name}', expected a {kind}: {', '.join(methods)}")
    settings = config["config"]
    check_config(workdir, settings)
    by_rule = name in UNLEARNED or name in RULES
    settings = _with_foreground(workdir, settings) if kind == "segmenter" and not by_rule else settings
    settings = _with_gain(workdir, settings) if name == "corrector" else settings
    try:
        apply = _applied(name, settings)
    except KeyError as error:
        older = f"{workdir} was trained by a version that had no setting {error}, expected one in its config.json"
        raise BadInput(f"{older}; train it again, or use that version") from error
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{workdir}/config.json is damaged, no {kind} can be made of it: {error}") from error
    loaded = Loaded({}, {}, 0) if by_rule else load_best(workdir)
    known = _beside(workdir, "calibration.json", is_calibration, "maeref calibrate")
    chosen = _beside(workdir, "threshold.json", is_chosen, "refine.py --suggest_threshold")
    fits = known and known["use"] == settings.get("use")
    calibration = Calibration(tuple(known["temperatures"])) if fits else None
    summary = _beside(workdir, "summary.json", _is_summary, "maeref train")
    verdict = summary.get("verdict") if summary else None
    doubts = (*loaded.doubts, *lacking(workdir, summary or {}))
    found = (str(workdir), name, settings, loaded.params, loaded.state, apply, config["facts"])
    return Model(*found, calibration, chosen, verdict, loaded.damaged, doubts)


def tell_doubts(model: Model) -> None:
    """Tells what to warn of wherever a model is used; `doubts.before` does for all that is refined."""
    for doubt in model.doubts:
        tell(f"{MARK}{doubt}")


def _is_summary(found) -> bool:
    """Whether what was read from a summary.json can be one: a verdict in it has the sentence that is told."""
    verdict = found.get("verdict", {"sentence": ""}) if isinstance(found, dict) else None
    return isinstance(verdict, dict) and isinstance(verdict.get("sentence"), str)


def unlearned(name: str, settings: dict) -> Model:
    """The Model of a method that learns nothing, of the settings of its config; no workdir is needed."""
    return Model(name, name, settings, {}, {}, _applied(name, settings), {})


def _applied(name, settings):
    """The Segmenter or Refiner of a method."""
    return SEGMENTERS[name].segmenter(settings) if name in SEGMENTERS else REFINERS[name].refiner(settings)


def hidden_by(refiner: Model | None, hide_by: str) -> Model:
    """The refiner with a judge, which says what it fills in: "error", itself, or the corrector of that workdir."""
    if refiner is None:
        raise BadInput(f"--hide_by {hide_by} says what a refiner fills in, but --refiner is none; leave it out")
    return judged_by(refiner, refiner if hide_by == "error" else load_model(hide_by, "refiner"))


def judged_by(refiner: Model, judge: Model) -> Model:
    """The refiner with that judge; a corrector that is its own is as cautious as it was chosen to be in such tokens.
    Raises BadInput for a judge that is no corrector, or of other tokens, and for a refiner that fills in everything.
    """
    if judge.name != "corrector":
        raise BadInput(
            f"{judge.workdir} holds a model of method '{judge.name}', which does not say how likely a label is wrong; "
            "maeref refine --hide_by wants the workdir of a corrector, which the config of that name trains"
        )
    if judge.apply.token != refiner.apply.token:
        raise BadInput(
            f"{judge.workdir} hides tokens of {judge.apply.token} voxels a side, {refiner.workdir} fills in those of "
            f"{refiner.apply.token}; train them with the same token"
        )
    if refiner.apply.everywhere:
        raise BadInput(f"{refiner.workdir} fills in everything, whatever is hidden; leave --hide_by out")
    judged = refiner._replace(judge=judge)
    caution = judge.settings["use"]["caution"] if hides_for_itself(judged) else 1.0
    return judged._replace(apply=refiner.apply._replace(caution=caution))


def _with_foreground(workdir, settings) -> dict:
    """A segmenter's settings with the threshold of foreground that was chosen for it, beside it in its workdir."""
    chosen = _beside(workdir, FOREGROUND, foreground.is_chosen, "maeref train --config spatial_continuity")
    # Workdirs from before these settings had neither.
    use = {"symmetries": False, "foreground_threshold": foreground.EVEN, **settings.get("use", {})}
    return {**settings, "use": use | ({"foreground_threshold": chosen["threshold"]} if chosen else {})}


def _with_gain(workdir, settings) -> dict:
    """A corrector's settings with what was chosen for it, beside it in its workdir."""
    chosen = _beside(workdir, GAIN, corrector.is_chosen, "maeref train --config corrector")
    if not chosen:
        return settings
    use = {"temperature": chosen["temperature"], "gain": chosen["threshold"], "caution": chosen.get("caution", 1.0)}
    return {**settings, "use": settings["use"] | use}


def _beside(workdir, name, is_whole, maker) -> dict | None:
    """What `maker` wrote into the workdir, None where it did not. Raises BadInput where it is damaged."""
    path = epath.Path(workdir) / name
    if not path.exists():
        return None
    try:
        found = parse_object(path.read_bytes(), path)
    except (OSError, BadInput):
        found = None
    if not is_whole(found):
        raise BadInput(f"{path} is damaged, expected what {maker} writes; remove it, and make another one with that")
    return found
