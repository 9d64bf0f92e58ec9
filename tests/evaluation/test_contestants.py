"""evaluation/models.py: models that go together, and what one of them lacks, told before anything is refined."""

import numpy as np
import pytest
import tifffile
from closed_form import SETTINGS, evaluate

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import refinement
from maeref_jax.evaluation.contestants import load_others
from maeref_jax.pipeline import methods


def test_a_threshold_chosen_with_another_ensemble_is_refused(root, tmp_path, models, monkeypatch):
    known = {"threshold": 0.9, "entropy_kind": "mean", "classes": 5, "members": 6}
    three = methods.load_model("", "segmenter")._replace(settings=SETTINGS | {"members": 3})
    found = {"segmenter": three, "refiner": methods.load_model("", "refiner")._replace(chosen=known)}
    monkeypatch.setattr(methods, "load_model", lambda workdir, kind: found[kind])
    settings = load_config(f"{root / 'configs' / 'evaluate.py'}", ["--config.phantom.seeds=100"]).to_dict()
    with pytest.raises(BadInput, match="belongs to members 6, found 3"):
        refinement.judge(settings, tmp_path)
    assert not list(tmp_path.iterdir())


LABELS = np.arange(2 * 32 * 32, dtype=np.uint8).reshape(2, 32, 32) % 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"needs": ("image",)}, r"own: the refiner runs/other needs image as well"),
        ({"needs": ("probabilities",)}, r"needs probabilities as well; an ensemble or your own class probabilities"),
        ({"token": 8}, "runs/other hides tokens of 8 voxels a side, R of 4: not comparable"),
        ({"token": 2, "needs": ("probabilities",)}, "of 2 voxels a side, R of 4"),
    ],
)
def test_what_a_competitor_lacks_is_told_before_anything_is_refined(
    root, tmp_path, models, monkeypatch, changes, message
):
    refiner = methods.load_model("", "refiner")
    other = refiner._replace(workdir="runs/other", apply=refiner.apply._replace(**changes))
    monkeypatch.setattr(methods, "load_model", lambda workdir, _: other if workdir == "runs/other" else refiner)
    tifffile.imwrite(tmp_path / "own.tif", LABELS, photometric="minisblack")
    files = (f"files.truths={tmp_path / 'own.tif'}", "files.damage=100", "files.axes=ZYX", "phantom.seeds=")
    given = (f"--config.{setting}" for setting in (*files, "competitors=('runs/other',)"))
    with pytest.raises(BadInput, match=message):
        evaluate(root, tmp_path / "work", *given)
    assert not (tmp_path / "work").exists()


def test_slices_of_unknown_thickness_do_not_agree_and_it_is_told(root, tmp_path, models, monkeypatch, capsys):
    unknown = methods.load_model("", "refiner")._replace(settings=SETTINGS | {"voxel_size_nm": []})
    monkeypatch.setattr(methods, "load_model", lambda *_: unknown)
    tifffile.imwrite(tmp_path / "own.tif", LABELS, photometric="minisblack")
    files = (f"files.truths={tmp_path / 'own.tif'}", "files.damage=100", "files.axes=ZYX", "phantom.seeds=")
    evaluate(root, tmp_path / "work", *(f"--config.{setting}" for setting in files))
    assert "own: no file says how large a voxel is" in capsys.readouterr().err


def test_competitors_are_of_the_same_classes(models, monkeypatch):
    refiner = methods.load_model("", "refiner")
    other = SETTINGS | {"classes": SETTINGS["classes"] | {"names": ["a", "b", "c", "d", "e"]}}
    monkeypatch.setattr(methods, "load_model", lambda *_: refiner._replace(workdir="C", settings=other))
    with pytest.raises(BadInput, match="R and C were trained for different classes"):
        load_others(("C",), refiner, "refiner")


def test_a_competitor_named_by_a_dot_has_a_name(tmp_path, models, monkeypatch):
    """Without one its results would take the place of the refiner's."""
    (tmp_path / "rival").mkdir()
    monkeypatch.chdir(tmp_path / "rival")
    assert list(load_others((".",), methods.load_model("", "refiner"), "refiner")) == ["rival"]
