"""commands/suggestion.py: the threshold that repairs most, with what it belongs to; without a truth no advice."""

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import SHAPE, image, image_job, labels, refiner, result, segmenter, settings
from stacks import IMAGE, use_models
from stacks import result as result_of

from maeref_jax import report
from maeref_jax.commands import suggestion
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import refining
from maeref_jax.volumes.volume import array_volume, write_tiff

PNG = b"\x89PNG"


def tried(threshold, repaired, broken, slices=1):
    return suggestion.Tried(threshold, 0.1, 0.2, repaired, broken, ((repaired - broken) // slices,) * slices)


def test_the_best_threshold_repairs_most_net_and_hides_no_more_than_helps():
    assert suggestion.best([tried(0.1, 90, 80), tried(0.3, 60, 20), tried(0.5, 45, 5), tried(0.9, 3, 0)]) == 0.5
    assert suggestion.best([suggestion.Tried(0.1, 0.2, None, None, None)]) is None


def test_where_no_threshold_helps_by_more_than_chance_there_is_none():
    assert suggestion.best([tried(0.1, 5, 9), tried(0.9, 0, 0)]) is None
    unsure = suggestion.Tried(0.5, 0.1, 0.2, 130, 100, (60, -40, -10, 30, -10))
    assert suggestion.best([tried(0.1, 5, 9), unsure]) is None, "its interval over slices holds 0"
    assert suggestion.best([unsure, tried(0.9, 10, 0, slices=5)]) == 0.9


def test_none_is_an_answer_and_nothing_is_stored(refine, monkeypatch):
    """Labels that are the truth: whatever is filled in breaks something, or nothing."""
    code, out, _ = refine(*IMAGE, "--refiner", "none", "--output", "first")
    assert code == 0
    write_tiff("truth.tif", result("first", "initial"), None)
    Path("mae/threshold.json").write_text("kept")
    known = {"threshold": 0.7, "entropy_kind": "mean", "classes": 5, "members": 2, "chosen_on": "b.tif"}
    use_models(monkeypatch, refiner=refiner()._replace(workdir="mae", chosen=known))
    monkeypatch.setattr(suggestion, "THRESHOLDS", (0.3, 0.6))
    code, out, _ = refine(*IMAGE, "--suggest_threshold", "truth.tif")
    assert code == 0 and "none: leave it" in out and "do not refine such volumes with this refiner" in out
    assert "mae/threshold.json still holds 0.7, chosen earlier on b.tif" in out and "recommended" not in out
    assert Path("mae/threshold.json").read_text() == "kept" and Path("out/a_threshold_curve.png").exists()


def test_the_curves_are_drawn_whole(monkeypatch):
    figures, real = [], suggestion.png_of_figure
    monkeypatch.setattr(suggestion, "png_of_figure", lambda figure: (figures.append(figure), real(figure))[1])
    few = [suggestion.Tried(t, 0.05 / t, 0.9, 5, 1, (4,)) for t in (0.2, 0.5)]
    suggestion.curve(suggestion.Found(few, [], None, 0.5))
    assert figures[0].axes[0].get_ylim()[1] > 90, "the second curve is cut off"


def test_thresholds_are_tried_counted_and_stored(tmp_path):
    truth = array_volume(np.random.default_rng(0).integers(-1, 4, SHAPE), "truth")
    model, where = refiner()._replace(workdir=str(tmp_path)), tmp_path / "out"
    given = image_job(where), segmenter(), model, settings()
    found = suggestion.suggest(*given, truth=truth, thresholds=(0.2, 0.5, 0.9), say=lambda text: None)
    shares = [one.hidden for one in found.tried]
    assert shares[0] > shares[1] >= shares[2]
    found = found._replace(best=found.best or 0.5)  # random labels: whether any of them helps is chance
    assert found.tried[0].repaired + found.tried[0].broken > 0 and 0 < found.tried[0].caught <= 1
    path = suggestion.store(found, model, segmenter(), "mean", 6, "a.tif")
    known = json.loads(path.read_text())
    assert (known["threshold"], known["classes"], known["members"]) == (found.best, 5, 6)
    turned = segmenter()._replace(settings=segmenter().settings | {"use": {"symmetries": True}})
    again = suggestion.store(found, model, turned, "mean", 6, "a.tif")
    assert known["symmetries"] is False and json.loads(again.read_text())["symmetries"] is True
    assert "← recommended" in report.text_table(suggestion.table(found))
    assert suggestion.curve(found).startswith(PNG) and suggestion.pictures(found).startswith(PNG)


def test_what_a_threshold_is_said_to_do_is_what_refining_does_with_it(tmp_path):
    """Slices agree here: visible neighbours are as sure as their entropy says, in the trial too."""
    truth = array_volume(labels(4), "truth")
    asked = settings(agree_within_nm=40.0)
    threshold, given = 0.5, (segmenter(), refiner())
    job = image_job(tmp_path / "tried")
    found = suggestion.suggest(job, *given, asked, truth, (threshold,), say=lambda text: None).tried[0]
    run = asked._replace(threshold=threshold, tiff_export=False)
    refining.refine_volume(job._replace(output=tmp_path / "run"), *given, run, lambda text: None)
    initial, refined = (result(tmp_path / "run", role).astype(int) for role in ("initial", "refined"))
    known = labels(4)
    assert found.repaired == ((initial != known) & (refined == known)).sum() > 0
    assert found.broken == ((initial == known) & (refined != known)).sum() > 0


def test_a_volume_that_a_model_has_learned_from_is_said_to_be_no_place_to_choose_on(tmp_path):
    path = str(tmp_path / "image.tif")
    job = image_job(tmp_path, image=array_volume(image(), f"{path}[0:3]"))
    learned = segmenter()._replace(facts={"images": [f"{path}[2:9]"], "volumes": []})
    (said,) = suggestion.learned_from(job, (learned, None))
    assert said.startswith("a belongs to the training data of runs/fake")
    other = learned._replace(facts={"validation_images": [path], "images": [f"{path}[3:9]"]})
    assert list(suggestion.learned_from(job, (other, refiner()))) == []


def test_settings_of_what_else_is_made_are_no_matter(tmp_path):
    """Labels and a painted mask, with which thresholds are tried, have no members, and no image to copy."""
    asked = settings(disagreement=True, copy_image=True, trust=True, leave=("red",), export=("npy",), strict=True)
    given = image_job(tmp_path / "out"), segmenter(), refiner(), asked, array_volume(labels(), "truth")
    found = suggestion.suggest(*given, thresholds=(0.5,), say=lambda text: None)
    assert found.tried[0].repaired + found.tried[0].broken > 0 and not list((tmp_path / "out").glob("*.npy"))


def test_without_truth_there_is_the_area_and_no_advice(tmp_path):
    given = image_job(tmp_path / "out"), segmenter(), refiner(), settings()
    found = suggestion.suggest(*given, thresholds=(0.3, 0.6), say=lambda text: None)
    assert found.best is None and found.tried[0].hidden > found.tried[1].hidden
    assert "no recommendation" in suggestion.table(found).note and suggestion.curve(found).startswith(PNG)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (np.zeros((1, 2, 3), int), "truth has shape"),
        (np.full(SHAPE, 77), "truth .* holds the labels 77, and no voxel is 0; --label_map=77:CLASS"),
        (np.full(SHAPE, 0.5), "holds 0.5; labels are whole numbers"),
        (np.full(SHAPE, 255), "truth .* holds the labels 255, a mask, it seems"),
        (np.full(SHAPE, -1), "truth holds no known label"),
    ],
)
def test_a_truth_that_cannot_judge_is_refused_before_any_work(tmp_path, truth, message):
    given = image_job(tmp_path / "out"), segmenter(), refiner(), settings(), array_volume(truth, "truth")
    with pytest.raises(BadInput, match=message):
        suggestion.suggest(*given, thresholds=(0.3,), say=lambda text: None)
    assert not (tmp_path / "out").exists(), "something was written"


def test_a_refiner_that_fills_in_from_probabilities_is_refused_before_any_work(tmp_path):
    model = refiner()._replace(apply=refiner().apply._replace(needs=("probabilities",)))
    given = image_job(tmp_path / "out"), segmenter(), model, settings(), array_volume(np.zeros(SHAPE, int), "truth")
    with pytest.raises(BadInput, match="fills in from class probabilities"):
        suggestion.suggest(*given, thresholds=(0.3,), say=lambda text: None)
    assert not (tmp_path / "out").exists(), "something was written"


def test_a_threshold_takes_the_place_of_an_earlier_one_in_one_step(tmp_path):
    found, model = suggestion.Found([tried(0.5, 3, 1)], [], None, 0.5), refiner()._replace(workdir=str(tmp_path))
    path = suggestion.store(found, model, None, "mean", 6, "a.tif")
    before = path.read_text()
    with open(path) as reader:  # a file that is written over in place shows it what is half-written
        suggestion.store(found._replace(best=0.9), model, None, "mean", 6, "b.tif")
        assert reader.read() == before and json.loads(path.read_text())["threshold"] == 0.9


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dry_run"], "does not go with --dry_run"),
        (["--num_parts", "2"], "does not go with --num_parts"),
        (["--workers", "2"], "does not go with --workers"),
        (["--refiner", "none"], "does not go with --refiner none"),
        (["--refiner", "nearest"], "--refiner nearest has none; make one: maeref train --config nearest"),
        (["--input", "stacks/a.tif", "stacks/b.tif"], "tries one input, found a, b"),
    ],
)
def test_a_threshold_is_suggested_for_one_input_in_one_process(refine, more, message):
    code, _, err = refine(*IMAGE, "--suggest_threshold", "a_labels.tif", *more)
    assert code == 2 and message in err and err.count("\n") == 1 and not Path("out").exists()


def test_an_ensemble_that_learns_nothing_needs_no_workdir_for_it(refine, monkeypatch):
    monkeypatch.setattr(suggestion, "suggest", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        refine(*IMAGE, "--suggest_threshold", "a_labels.tif", "--ensemble", "texture")


def test_within_a_mask_only_what_is_inside_counts(tmp_path):
    """Outside nothing is hidden and no truth is known, so it is as if the truth ended there."""
    rng, mask = np.random.default_rng(0), np.zeros(SHAPE, np.uint8)
    mask[:, :16, :20] = 1
    truth = rng.integers(0, 4, SHAPE)
    job = image_job(tmp_path, within=array_volume(mask, "mask"))
    given = segmenter(), refiner()._replace(workdir=str(tmp_path)), settings()
    found, cut = (
        suggestion.suggest(
            job._replace(output=tmp_path / name), *given, array_volume(one, name), (0.3, 0.6), lambda text: None
        )
        for name, one in (("truth", truth), ("cut", np.where(mask > 0, truth, -1)))
    )
    assert found.tried == cut.tried and 0 < found.tried[0].caught <= 1
    initial = result_of(tmp_path / "truth", "a", "initial")
    assert not initial[mask == 0].any()
    for one, hidden in zip(found.tried, found.hidden, strict=True):
        assert not hidden[mask == 0].any() and one.hidden == pytest.approx(hidden.sum() / mask.sum())
        assert one.repaired + one.broken <= hidden.sum()
    with pytest.raises(BadInput, match="truth holds no known label inside of mask"):
        outside = array_volume(np.where(mask > 0, -1, truth), "truth")
        suggestion.suggest(job._replace(output=tmp_path / "none"), *given, outside, (0.3,), lambda text: None)
