"""The models that refine.py works with, used as its config says, and the pipeline's settings."""

from maeref_jax.audit import trust
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import methods
from maeref_jax.pipeline.jobs import Model, Settings
from maeref_jax.training.workdir import keep_compiled
from maeref_jax.volumes import progress


def load_models(config) -> tuple[Model | None, Model | None, Settings]:
    """The segmenter and the refiner, None where there is none, and how the pipeline is to use them."""
    if config.ensemble or config.refiner != "none":
        keep_compiled(config.ensemble if config.refiner == "none" else config.refiner)
    segmenter = _load(config.ensemble, "segmenter") if config.ensemble else None
    if segmenter and config.ensemble_symmetries is not None:
        use = {**segmenter.settings["use"], "symmetries": config.ensemble_symmetries}
        known = {**segmenter.settings, "use": use}
        segmenter = segmenter._replace(settings=known, apply=methods.SEGMENTERS[segmenter.name].segmenter(known))
    refiner = None if config.refiner == "none" else _load(config.refiner, "refiner")
    use = {name: value for name, value in config.use.items() if value is not None}
    refiner = used_as(refiner, use) if refiner and use else refiner
    return segmenter, refiner, pipeline_settings(config)


def pipeline_settings(config) -> Settings:
    """Those fields of configs/refine.py that the pipeline works by: every setting of it is one."""
    given = {name: config[name] for name in Settings._fields}
    return Settings(**given | {"trust_limits": trust.Limits(**config.trust_limits)})


def _load(workdir: str, kind: str) -> Model:
    with progress.showing(f"loading {workdir}"):
        return methods.load_model(workdir, kind)


def used_as(refiner: Model, use: dict) -> Model:
    """The refiner with settings of its group `use` replaced: how it fills, not what it has learned."""
    if "use" not in refiner.settings:
        raise BadInput(
            f"{refiner.workdir}: a refiner of method '{refiner.name}' fills in one way; leave out "
            f"{', '.join(f'--config.use.{name}' for name in use)}"
        )
    settings = {**refiner.settings, "use": {**refiner.settings["use"], **use}}
    # Confidence was calibrated for one way to fill.
    calibration = refiner.calibration if settings["use"] == refiner.settings["use"] else None
    apply = methods.REFINERS[refiner.name].refiner(settings)
    return refiner._replace(settings=settings, apply=apply, calibration=calibration)
