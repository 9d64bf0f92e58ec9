"""The models that refine.py works with, used as its config says, and the pipeline's settings."""

from collections.abc import Sequence

from maeref_jax.audit import trust
from maeref_jax.commands import command_line
from maeref_jax.errors import BadInput
from maeref_jax.experiments import class_settings
from maeref_jax.pipeline import methods
from maeref_jax.pipeline.jobs import Model, Settings
from maeref_jax.training.workdir import keep_compiled
from maeref_jax.volumes import progress
from maeref_jax.volumes.class_scheme import scheme_of_names


def load_models(config) -> tuple[Model | None, Model | None, Settings]:
    """The segmenter and the refiner, None where there is none, and how the pipeline is to use them."""
    if config.ensemble or config.refiner != "none":
        keep_compiled(config.ensemble if config.refiner == "none" else config.refiner)
    segmenter = _segmenter(config.ensemble) if config.ensemble else None
    if segmenter and config.ensemble_symmetries is not None:
        if segmenter.name in methods.RULES:
            raise BadInput(f"--config.ensemble_symmetries: {segmenter.workdir} looks in one way only; leave it out")
        use = {**segmenter.settings["use"], "symmetries": config.ensemble_symmetries}
        known = {**segmenter.settings, "use": use}
        segmenter = segmenter._replace(settings=known, apply=methods.SEGMENTERS[segmenter.name].segmenter(known))
    refiner = None if config.refiner == "none" else _refiner(config, segmenter)
    use = {name: value for name, value in config.use.items() if value is not None}
    refiner = used_as(refiner, use) if refiner and use else refiner
    refiner = methods.hidden_by(refiner, config.hide_by) if config.hide_by != "entropy" else refiner
    return segmenter, refiner, pipeline_settings(config)


def pipeline_settings(config) -> Settings:
    """Those fields of configs/refine.py that the pipeline works by: every setting of it is one."""
    given = {name: config[name] for name in Settings._fields}
    given["part_id"] = given["part_id"] or 0  # the commands ask for it (usage.py)
    return Settings(**given | {"trust_limits": trust.Limits(**config.trust_limits)})


def _segmenter(named: str) -> Model:
    """The segmenter in a workdir, or by its name."""
    return _load(named, "segmenter") if command_line.is_workdir(named) else by_name(named, kind="segmenter")


def _refiner(config, segmenter: Model | None) -> Model:
    """The refiner in a workdir, or by its name for the classes and voxels of the segmenter, or the classes given."""
    if command_line.is_workdir(config.refiner):
        return _load(config.refiner, "refiner")
    if segmenter:
        return by_name(config.refiner, segmenter.settings["classes"], segmenter.settings["voxel_size_nm"])
    return by_name(config.refiner, scheme_of_names(config.classes) if config.classes else None)


def by_name(
    name: str, scheme: dict | None = None, voxel_size_nm: Sequence[float] | None = None, kind: str = "refiner"
) -> Model:
    """What a packaged config that learns nothing makes, for these classes and voxels; None: as the config has them.

    kind: "refiner" or "segmenter".

    Raises:
        BadInput: one that has to be trained, or of the other kind.
    """
    settings = command_line.load_config(name).to_dict()
    known = methods.UNLEARNED if kind == "refiner" else methods.RULES
    if settings.get("method") not in known:
        way = f"has to be trained first: maeref train --config {name}, and give its workdir"
        if settings.get("method") in methods.UNLEARNED | methods.RULES:
            way = f"is no {kind}"
        flag = "--refiner " if kind == "refiner" else ""  # a segmenter is named by several
        raise BadInput(f"{flag}{name} {way}; by name there are those that learn nothing: {', '.join(known)}")
    settings = class_settings.with_classes(settings, scheme) if scheme else settings
    settings = settings | {"voxel_size_nm": tuple(voxel_size_nm)} if voxel_size_nm else settings
    return methods.unlearned(settings["method"], settings)


def _load(workdir: str, kind: str) -> Model:
    with progress.showing(f"loading {workdir}"):
        return methods.load_model(workdir, kind)


def used_as(refiner: Model, use: dict) -> Model:
    """The refiner with settings of its group `use` replaced: how it fills, not what it has learned."""
    known = refiner.settings.get("use", {})
    if wrong := [name for name in use if name not in known]:
        ways = "fills in one way" if not known else f"has no setting of {', '.join(wrong)}"
        raise BadInput(
            f"{refiner.workdir}: a refiner of method '{refiner.name}' {ways}; leave out "
            f"{', '.join(f'--config.use.{name}' for name in wrong)}"
        )
    settings = {**refiner.settings, "use": {**known, **use}}
    # Confidence was calibrated for one way to fill.
    calibration = refiner.calibration if settings["use"] == known else None
    apply = methods.REFINERS[refiner.name].refiner(settings)
    return refiner._replace(settings=settings, apply=apply, calibration=calibration)
