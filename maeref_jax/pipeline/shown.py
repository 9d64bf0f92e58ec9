"""How a model is shown an image: as it was shown those that it learned from; and doubt whether it knows such images."""

from maeref_jax.pipeline.jobs import Model
from maeref_jax.volumes import grey_values
from maeref_jax.volumes.volume import Volume


def seen_by(model: Model, image: Volume) -> Volume:
    """The image as the model is shown it, see grey_values.as_seen."""
    return grey_values.as_seen(image, _normalisation(model))


def shown_range(model: Model, image: Volume) -> tuple:
    """The grey values of an image that are 0 and 1 to the model, see grey_values.shown_range."""
    return grey_values.shown_range(image, _normalisation(model))


def doubts_about_image(name: str, image: Volume | None, segmenter: Model | None, refiner: Model | None) -> list[str]:
    """What to tell a user whose image has other grey values than those that the models which look at it were trained
    on: a line for each doubt.
    """
    looking = [refiner] if refiner and "image" in refiner.apply.needs else []
    looking = [segmenter, *looking] if segmenter else looking
    doubts = []
    for model in looking if image is not None else ():
        planes = grey_values.sample(seen_by(model, image))
        doubts += grey_values.doubts_about_grey_values(name, planes, model.workdir, model.facts)
    return doubts


def _normalisation(model):
    # Older workdirs do not say: they know one way only.
    return model.facts.get("normalisation", "training")
