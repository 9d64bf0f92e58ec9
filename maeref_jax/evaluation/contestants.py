"""The models that a config of evaluate.py names, and whether they can be compared."""

from pathlib import Path

from maeref_jax.errors import BadInput
from maeref_jax.evaluation import runs
from maeref_jax.pipeline import checks, jobs, methods
from maeref_jax.report.dice_tables import NAMES
from maeref_jax.volumes.labels import real_classes


def load_models(settings, workdir):
    """(ensemble or None, refiner or None, {name: other refiner}, {name: other ensemble}) of a config; its thresholds
    are set to those that are used, and said. Raises BadInput for models that do not go together.
    """
    has_labels = settings["files"]["labels"] or settings["files"]["damage"]
    refiner = settings["refiner"] or workdir / "mae"
    ensemble = None if has_labels else methods.load_model(settings["ensemble"] or workdir / "ensemble", "segmenter")
    refiner = None if settings["refiner"] == "none" else methods.load_model(refiner, "refiner")
    if ensemble is None and refiner is None:
        raise BadInput("refiner is 'none' and labels are given: there is nothing to run; give --config.refiner=DIR")
    refiner = jobs.meant_for(refiner, bool(has_labels))
    if settings["hide_by"] != "entropy":
        refiner = methods.hidden_by(refiner, settings["hide_by"])
    # Before the threshold counts as given: what is chosen is refused with another ensemble here too.
    checks.check_chosen(jobs.Job("", workdir), ensemble, refiner, jobs.Settings(**settings["refine"]))
    thresholds, said = jobs.thresholds_of(settings["refine"], refiner)
    settings["refine"].update(thresholds)
    print(said, flush=True)
    competitors = load_others(settings["competitors"], refiner, "refiner")
    runs.check_tokens(refiner, competitors.values())
    if settings["other_ensembles"] and ensemble is None:
        raise BadInput("other_ensembles segment the image, but labels are given in its place")
    others = load_others(settings["other_ensembles"], refiner, "segmenter")
    if both := sorted({*competitors} & {*others}):
        raise BadInput(f"a competitor and another ensemble are both called '{both[0]}'; rename a folder")
    return ensemble, refiner, competitors, others


def load_others(workdirs, refiner, kind):
    """{name of the workdir: Model}. BadInput where two share a name, or one takes that of another row; for one of other
    classes than the refiner's Model, or where that is None.
    """
    if workdirs and refiner is None:
        raise BadInput(f"competitors {', '.join(workdirs)} are compared with a refiner, but refiner is 'none'")
    names = [Path(workdir).resolve().name for workdir in workdirs]
    taken = [name for name in names if names.count(name) > 1 or name in (*NAMES, "truth", "erased", "majority")]
    if taken:
        raise BadInput(f"competitors are named by their workdirs, and '{taken[0]}' is taken; rename the folder")
    found = {name: methods.load_model(workdir, kind) for name, workdir in zip(names, workdirs, strict=True)}
    for model in found.values():
        checks.check_same_scheme(refiner, model)
    return found


def without_ambiguous(scheme):
    """{"names", "colours"} of a scheme's real classes."""
    return {name: tuple(scheme[name][: real_classes(scheme)]) for name in ("names", "colours")}
