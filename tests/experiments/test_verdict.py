"""verdict.py: training ends with the words that a harmful refiner deserves, and a good one does not get."""

import json

import closed_form
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import refine as always_wrong
from fakes import right_in_rows

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import run, verdict
from maeref_jax.pipeline import doubts, jobs, methods
from maeref_jax.pipeline.doubts import HARM
from maeref_jax.records import Refiner, Segmenter
from maeref_jax.samples.training_volumes import TrainingVolume
from maeref_jax.training.workdir import check_same_run, write_config

FILES = {"images": ("image.tif",), "labels": ("labels.tif",), "entropy": (), "labelled_slices": ()}
DATA = {"ensemble": "E", "phantom": {"train": (), "validation": ()}, "validation": FILES}
SETTINGS = {**closed_form.SETTINGS, "threshold": 0.3, "method": "mae", "seed": 0, "data": DATA}
GREY, UNCLEAR = (0.0, 100.0, 200.0, 300.0), 50.0  # of the classes; as near to the first as to the second
LABELS_ONLY = {**SETTINGS, "data": {**DATA, "ensemble": "", "validation": {**FILES, "images": ()}}}


def by_grey(params, state, image):
    """Three members that are sure of what has the grey value of a class."""
    distance = jnp.abs(
        image[None, ..., None] + jnp.array([-5.0, 0.0, 5.0])[:, None, None, None, None] - jnp.array(GREY)
    )
    return jax.nn.softmax(jnp.concatenate([-distance / 5, jnp.full((*distance.shape[:-1], 1), -99.0)], -1))


def volume():
    """Bands of eight rows of a class each; in some columns nobody can see which."""
    bands = np.random.default_rng(0).integers(0, 4, (1, 8)).repeat(8, 1)[..., None]
    truth = np.broadcast_to(bands, (7, 64, 64)).astype(np.int16).copy()
    image = np.array(GREY, np.float32)[truth]
    image[:, :, 20:32] = UNCLEAR
    truth[0] = -1  # nobody drew this slice
    return TrainingVolume("labels.tif", image, truth)


@pytest.fixture
def judged(monkeypatch):
    """judge(fill, settings) -> the verdict on a refiner that fills in so."""
    models = closed_form.models()
    apply = Segmenter(by_grey, (32, 32), (16, 16), 2)
    learned = {**SETTINGS, "data": {**DATA, "train": {"images": (), "labels": ()}}}
    segmenter = models["segmenter"]._replace(apply=apply, settings=learned, facts={"member_volumes": [["other"]] * 3})

    def judge(fill, settings=SETTINGS):
        apply = Refiner(fill, (32, 32), (16, 16), 2, (), 4)
        variables = {"params": {"floor": np.float32(0.1)}}
        known = models["refiner"]._replace(apply=apply, settings=settings, **variables)
        found = {"segmenter": segmenter, "refiner": known}
        monkeypatch.setattr(methods, "load_model", lambda _, kind: found[kind])
        monkeypatch.setattr(verdict, "volumes_with_truth", lambda *_: ([volume()], [("it",)]))

        def maps(settings, _):
            return [volume()._replace(image=None)] if settings["data"]["validation"]["labels"] else []

        monkeypatch.setattr(verdict, "validation_maps", maps)
        return verdict.judge(settings, "W")

    return judge


def test_a_refiner_is_judged_by_the_truth_of_whole_slices(judged):
    found, tables = judged(right_in_rows)
    assert (found["on"], found["slices"], found["harm"], found["worse_than"]) == ("truth", 7, False, [])
    inside, counts = found["dice_hidden"], found["repairs"]["refined"]
    assert list(inside) == ["initial", "nearest", "unrefined", "refined"]
    assert inside["refined"]["mean"] == inside["nearest"]["mean"] == 1 > inside["initial"]["mean"], "along its rows"
    assert counts["wrong_to_right"] > counts["right_to_wrong"] and 0.1 < found["hidden_share"] < 0.3
    known = (volume().labels >= 0).sum()
    assert sum(counts.values()) == pytest.approx(found["hidden_share"] * known), "unknown truth is left out"
    assert HARM not in found["sentence"] and f"{counts['wrong_to_right']:,} voxels became right" in found["sentence"]
    assert {"cristae", "matrix"} < set(found["dice_all"]["refined"]) and len(tables) == 2
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_one_that_does_harm_is_told_so_in_these_words(judged):
    found, _ = judged(always_wrong)
    assert found["harm"] and found["worse_than"] == ["initial", "nearest", "unrefined"]
    assert found["sentence"].startswith("this refiner does harm on your validation data: in the hidden tokens of 7")


def test_without_a_segmentation_visible_labels_are_asked_back(judged):
    good, tables = judged(right_in_rows, LABELS_ONLY)
    assert good["on"] == "visible labels" and not good["harm"] and list(good["dice_hidden"]) == ["nearest", "refined"]
    assert "no segmentation with a truth is known" in good["sentence"] and len(tables) == 1
    bad, _ = judged(closed_form.always_background, LABELS_ONLY)  # which is right where most is background
    assert bad["harm"] and bad["sentence"].startswith(f"{HARM}: ") and bad["worse_than"] == ["nearest"]


def test_validation_volumes_without_foreground_are_said_to_be_why_there_is_no_verdict(judged, monkeypatch):
    empty = volume()._replace(image=None, labels=np.zeros((7, 64, 64), np.int16))
    judged(right_in_rows, LABELS_ONLY)
    monkeypatch.setattr(verdict, "validation_maps", lambda *_: [empty])
    found, tables = verdict.judge(LABELS_ONLY, "W")
    assert found == verdict.NOTHING | {"sentence": verdict.NOTHING_ASKED} and tables == []
    assert "do these volumes hold any foreground?" in found["sentence"]


def test_what_names_no_validation_data_has_no_verdict(judged):
    assert judged(right_in_rows, closed_form.SETTINGS) == (verdict.NOTHING, [])
    nothing = {**DATA, "ensemble": "", "validation": {**FILES, "labels": ()}}
    assert judged(right_in_rows, {**SETTINGS, "data": nothing}) == (verdict.NOTHING, [])


def test_what_no_truth_has_judged_is_said_to_be_unproven_and_how_to_find_out(judged):
    assert doubts.unproven(judged(right_in_rows)[0], SETTINGS) == ""
    text = doubts.unproven(judged(right_in_rows, LABELS_ONLY)[0], LABELS_ONLY)
    assert text.startswith(doubts.UNPROVEN) and "--validation_labels" in text and "maeref evaluate" in text
    assert "maeref train" not in doubts.unproven(verdict.NOTHING, {"data": {"validation": FILES}}), "no such flags"


@pytest.mark.parametrize("mode", ["rendered", "urocell"])
def test_what_learns_from_rendered_shapes_is_judged_by_what_was_annotated_and_never_learns_it(root, mode):
    annotated = load_config(f"{root / 'configs' / 'ensemble.py'}:{mode}").data
    for name in ("mae", "mae_image", "inpainter", "autoencoder", "autoencoder:denoising"):
        path, _, kind = name.partition(":")
        data = load_config(f"{root / 'configs' / path}.py:{kind}{'_' * bool(kind)}{mode}").data
        assert data.validation.labels == annotated.validation.labels and not data.train.labels
        assert data.validation.images == annotated.validation.images and data.train.images == annotated.train.images


def test_a_run_may_be_given_its_truth_afterwards_where_that_only_judges_it(tmp_path):
    def settings(method="mae", **train):
        data = {**DATA, "train": {"images": ("a.tif",), "labels": (), **train}, "validation": {**FILES, "labels": ()}}
        return {"method": method, "seed": 0, "data": data}

    write_config(tmp_path, settings(), {})
    with_truth = settings()
    with_truth["data"]["validation"] = FILES
    check_same_run(tmp_path, with_truth, verdict.may_change(with_truth))
    other = {**with_truth, "data": {**with_truth["data"], "validation": {**FILES, "images": ("other.tif",)}}}
    for changed in (other, {**with_truth, "seed": 1}):
        with pytest.raises(BadInput, match="belongs to a run with other settings"):
            check_same_run(tmp_path, changed, verdict.may_change(changed))
    assert verdict.may_change(settings("corrector")) == (), "it is fitted to its validation volumes"
    assert verdict.may_change(settings(labels=("a_label.tif",))) == (), "its best step is chosen by these"


def test_the_verdict_is_in_the_summary_the_card_and_on_the_screen_and_goes_with_the_model(
    tmp_path, monkeypatch, capsys
):
    found = {"on": "visible labels", "harm": True, "sentence": f"{HARM}: worse"}
    monkeypatch.setattr(verdict, "judge", lambda *_: (found, []))
    settings = {"token": 4, "window": [16, 16], "stride": [8, 8], "seed": 0, "method": "nearest"}
    settings |= {"classes": closed_form.SETTINGS["classes"]}
    (tmp_path / "config.json").write_text(json.dumps({"method": "nearest", "config": settings, "facts": {}}))
    run.judge(settings, tmp_path, {"volumes": ["a"]}, {"steps": 3, "validation": {}})
    assert json.loads((tmp_path / "summary.json").read_text())["verdict"] == found
    assert f"## Verdict\n\n{HARM}: worse\n\n{doubts.UNPROVEN}" in (tmp_path / "model_card.md").read_text()
    said = capsys.readouterr().err
    assert f"warning: {HARM}: worse" in said and f"warning: {doubts.UNPROVEN}" in said
    assert methods.load_model(tmp_path, "refiner").verdict == found


def flickering(params, state, inputs, key):
    """Right in most places of a row, and anything in the others: neighbouring slices would say so."""
    noise = jax.random.uniform(jax.random.fold_in(key, 1), inputs["labels"].shape)
    right = right_in_rows(params, state, inputs, key)
    # Of two windows of the same labels the noise is another one.
    moved = (noise + 0.37 * (inputs["labels"] >= 0).sum((1, 2), keepdims=True)) % 1
    return jnp.where((moved < 0.3)[..., None], jnp.roll(right, 1, -1), right)


def alternating(truth):
    """Every slice another one: agreement with neighbours can only harm."""
    found = truth.copy()
    found[::2] = np.where(truth[::2] >= 0, (truth[::2] + 1) % 4, -1)
    return found


def test_slices_agree_as_far_as_it_helps_and_use_keeps_that(judged, monkeypatch):
    found, _ = judged(flickering)
    lengths = {float(nm): dice for nm, dice in found["agreements"].items()}
    assert set(lengths) == {0.0, 20.0, 40.0, 80.0}  # slices of 20 nm
    assert found["agree_within_nm"] == max(lengths, key=lambda nm: (lengths[nm], -nm))
    plain = volume()
    monkeypatch.setattr("test_verdict.volume", lambda: plain._replace(
        labels=alternating(plain.labels), image=np.where(plain.image == UNCLEAR, UNCLEAR,
        np.array(GREY, np.float32)[np.maximum(alternating(np.maximum(plain.labels, 0)), 0)])))  # fmt: skip
    assert judged(right_in_rows)[0]["agree_within_nm"] == 0
    model = closed_form.models()["refiner"]
    for verdict_of, wanted in (
        (None, 40.0),
        ({"sentence": ""}, 40.0),
        ({"sentence": "", "agree_within_nm": 80.0}, 80.0),
    ):
        known = jobs.settled(jobs.Settings(agree_within_nm=None), model._replace(verdict=verdict_of))
        assert known.agree_within_nm == wanted
    assert jobs.settled(jobs.Settings(agree_within_nm=0.0), model).agree_within_nm == 0


def test_where_nothing_is_hidden_nothing_is_chosen(judged):
    found, _ = judged(right_in_rows, SETTINGS | {"threshold": 1.0, "ambiguous_threshold": 1.0})
    assert found["hidden_share"] == 0 and "agree_within_nm" not in found


def test_the_command_leaves_it_to_the_refiner(root):
    assert load_config(f"{root / 'configs' / 'refine.py'}").agree_within_nm is None
    assert jobs.AGREE_WITHIN_NM == 40
