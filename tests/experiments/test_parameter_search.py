"""What candidates are judged on: windows with hidden tokens, composited there, against the truth."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import parameter_search
from maeref_jax.metrics import overlap
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import jobs, methods
from maeref_jax.records import Segmenter

DARK = 110.0


def by_brightness(params, state, image):
    """One member: undecided where it is dark, with a weak opinion; certain of matrix elsewhere."""
    dark = jnp.array([0.3, 0.1, 0.25, 0.2, 0.15])
    return jnp.where(image[None, ..., None] < DARK, dark, jnp.array([0.0, 0.0, 0.01, 0.99, 0.0]))


@pytest.fixture
def settings(root, monkeypatch):
    """Those of the smoke mode, with a segmenter that was seen to train on another phantom."""
    found = load_config(f"{root / 'configs' / 'crf.py'}:smoke").to_dict()
    apply = Segmenter(by_brightness, (32, 32), (16, 16), 2)
    facts = {"member_volumes": [["phantom_1"]], "intensity_range": [0.0, 255.0]}
    learned = json.loads(json.dumps(found))
    learned["data"]["train"] = {"images": [], "labels": []}
    model = jobs.Model("E", "ensemble", learned, {}, {}, apply, facts)
    monkeypatch.setattr(methods, "load_model", lambda workdir, kind: model)
    return {**found, "trials": 2, "validation_batches": 99}


def prepared(settings, tmp_path, **changes):
    return parameter_search.prepare({**settings, **changes}, tmp_path)


def stacked(found, name):
    return np.concatenate([batch[name] for batch in found.batches])


def test_doing_nothing_scores_what_the_segmentation_scores(settings, tmp_path):
    """Counted on the whole phantom without windows: they cover every hidden token once."""
    found = prepared(settings, tmp_path)
    made = phantom(4, (4, 64, 64), tuple(settings["voxel_size_nm"]))
    dark = (made.image < DARK).reshape(4, 16, 4, 16, 4)
    entropy = (np.array([0.3, 0.1, 0.25, 0.2, 0.15]), np.array([0.01, 0.99]))
    undecided, decided = (-(p * np.log(p)).sum() / np.log(5) for p in entropy)
    share = dark.mean((2, 4))
    hidden = (undecided * share + decided * (1 - share) > settings["threshold"]).repeat(4, 1).repeat(4, 2)
    assert 0.02 < hidden.mean() < 0.98
    initial = np.where(made.image < DARK, 0, 3)
    counts = overlap.confusion(made.labels, initial, 4, hidden)
    scores = found.evaluate(found.candidates[0], found.state, found.batches)
    assert scores["score"] == pytest.approx(overlap.macro_dice(counts, (1, 2, 3)), abs=1e-6)
    expected = dict(zip(settings["classes"]["names"], overlap.dice(counts), strict=False))
    for name, value in expected.items():
        assert scores.get(f"dice_{name}", np.nan) == pytest.approx(value, abs=1e-6, nan_ok=True)
    assert stacked(found, "hidden").sum() == hidden.sum()
    only = prepared(settings, tmp_path, score_classes=(3,))
    scores = only.evaluate(only.candidates[0], only.state, only.batches)
    assert scores["score"] == pytest.approx(expected["matrix"], abs=1e-6)


def test_windows_are_what_a_refiner_is_given(settings, tmp_path):
    found = prepared(settings, tmp_path)
    first = found.batches[0]
    assert {name: values.shape for name, values in first.items()} == {
        "labels": (8, 32, 32), "entropy": (8, 32, 32), "hidden": (8, 32, 32), "image": (8, 32, 32),
        "probabilities": (8, 32, 32, 4), "truth": (8, 32, 32),
    }  # fmt: skip
    np.testing.assert_allclose(first["probabilities"].sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(first["probabilities"].argmax(-1), first["labels"])
    np.testing.assert_array_equal(found.state["intensity_range"], [0, 255])
    assert found.facts["validation_volumes"] == ["phantom_4"]


def test_a_volume_smaller_than_a_window_is_padded_with_nothing(settings, tmp_path):
    settings["data"]["phantom"]["shape"] = (4, 64, 52)
    found = prepared(settings, tmp_path, window=(64, 64), stride=(64, 64))
    assert (stacked(found, "probabilities")[:, :, 52:] == 0).all() and not stacked(found, "hidden")[:, :, 52:].any()
    assert (stacked(found, "truth")[:, :, 52:] == -1).all() and (stacked(found, "labels")[:, :, 52:] == -1).all()


def test_few_windows_are_drawn_from_the_seed_and_the_last_batch_is_filled_up(settings, tmp_path):
    some = prepared(settings, tmp_path, batch=3, validation_batches=2)
    assert some.facts["windows"] == 6 and [len(b["truth"]) for b in some.batches] == [3, 3]
    other = prepared(settings, tmp_path, batch=3, validation_batches=2, seed=5)
    assert (stacked(some, "image") != stacked(other, "image")).any()
    every, odd = prepared(settings, tmp_path), prepared(settings, tmp_path, batch=5)
    assert len(stacked(odd, "truth")) % 5 == 0 and len(stacked(odd, "truth")) > odd.facts["windows"]
    scores = [one.evaluate(one.candidates[1], one.state, one.batches) for one in (every, odd)]
    assert scores[0] == scores[1]


def test_volumes_of_a_user(settings, tmp_path):
    made = phantom(4, (4, 64, 64), tuple(settings["voxel_size_nm"]))
    labels = made.labels.copy()
    labels[0] = 4  # what an annotator called ambiguous is no truth
    for name, array in (("image", made.image), ("labels", labels.astype(np.uint8))):
        np.save(tmp_path / f"{name}.npy", array)
    settings["data"] |= {"ensemble": "E", "axes": "ZYX", "phantom": {"validation": (), "shape": ()}}
    settings["data"]["validation"] = {
        "images": (str(tmp_path / "image.npy"),), "labels": (str(tmp_path / "labels.npy"),), "entropy": (),
        "labelled_slices": (),
    }  # fmt: skip
    parameter_search.check(settings)
    found = prepared(settings, tmp_path)
    truth = stacked(found, "truth")
    assert 0 < truth.max() < 4 and found.facts["validation_volumes"] == [str(tmp_path / "labels.npy")]


def test_what_no_search_can_work_with(settings, tmp_path):
    with pytest.raises(BadInput, match="nothing is hidden"):
        prepared(settings, tmp_path, threshold=1.0, ambiguous_threshold=1.0)
    for changes, message in (
        ({"score_classes": (4,)}, "ids 0 … 3"),
        ({"trials": 0}, "trials"),
        ({"window": (30, 30)}, "multiples of token"),
        ({"threshold": 2.0}, "between 0 and 1"),
    ):
        with pytest.raises(BadInput, match=message):
            parameter_search.check({**settings, **changes})
    settings["data"]["validation"]["labels"] = ("a.tif",)
    with pytest.raises(BadInput, match="both phantoms and files"):
        parameter_search.check(settings)
    settings["data"]["phantom"]["validation"] = ()
    with pytest.raises(BadInput, match=r"data\.ensemble is missing"):
        parameter_search.check(settings)


def test_a_validation_volume_that_every_member_was_trained_on_is_refused(settings, tmp_path):
    settings["data"]["phantom"]["validation"] = (1,)
    with pytest.raises(BadInput, match="nobody can predict it out of fold"):
        prepared(settings, tmp_path)
