"""pipeline/shown.py: with its own normalisation per volume a model sees the same image in training and in use."""

import fakes
import numpy as np
import tifffile
from fakes import image_job, settings

from maeref_jax.pipeline import refining
from maeref_jax.pipeline.shown import doubts_about_image, seen_by
from maeref_jax.samples import training_volumes
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole


def model(normalisation):
    """The closed-form segmenter for images from 0 to 1, or from 0 to 255."""
    found = fakes.segmenter()
    if normalisation == "training":
        return found

    def predict(params, state, image):
        return fakes.predict(params, state, 255 * image)

    return found._replace(facts={"normalisation": normalisation}, apply=found.apply._replace(predict=predict))


def segmented(folder, image, **changes):
    job = image_job(folder, image=array_volume(image, "image", (30.0, 5.0, 4.0)))
    refining.refine_volume(job, model("volume"), None, settings(**changes))
    return [tifffile.imread(folder / f"a_{name}.tif") for name in ("initial", "entropy")]


def test_a_stack_in_another_unit_is_segmented_alike_whatever_the_blocks(tmp_path):
    plain = segmented(tmp_path / "plain", fakes.image())
    other = segmented(tmp_path / "other", fakes.image() / 255, block=(1, 32, 16))
    np.testing.assert_array_equal(plain[0], other[0])
    assert np.abs(plain[1].astype(int) - other[1]).max() <= 1
    assert len(np.unique(plain[0])) > 2


def test_training_shows_a_volume_as_use_does():
    image = fakes.image()
    volume = training_volumes.as_seen(training_volumes.TrainingVolume("image", image, image.astype(np.int16)), "volume")
    seen = seen_by(model("volume"), array_volume(image, "image"))
    np.testing.assert_array_equal(volume.image, seen.read(whole(seen.shape)))
    assert training_volumes.grey_facts([volume], "volume")["normalisation"] == "volume"


def test_doubt_is_about_the_image_as_the_model_sees_it():
    image = fakes.image()
    seen = training_volumes.as_seen(training_volumes.TrainingVolume("image", image, None), "volume")
    own = {**training_volumes.grey_facts([seen], "volume"), "intensity_range": [0.0, 1.0]}
    found = model("volume")._replace(facts=own)
    assert doubts_about_image("a", array_volume(image * 100 + 7, "a"), found, None) == []
    (constant,) = doubts_about_image("a", array_volume(image * 0 + 7, "a"), found, None)
    assert "nearly everywhere" in constant
    raw = model("training")._replace(facts={"intensity_range": [0.0, 255.0]})
    (said,) = doubts_about_image("a", array_volume(image * 100 + 7, "a"), raw, None)
    assert "a has grey values" in said and raw.workdir in said
    assert doubts_about_image("a", None, raw, None) == []
    # A refiner that does not look at the image has no doubt about it.
    assert doubts_about_image("a", array_volume(image * 100 + 7, "a"), None, fakes.refiner()) == []
