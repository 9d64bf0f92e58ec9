"""evaluation/cases.py: held-out volumes fit together, and no model has seen them; else they are refused."""

import re

import numpy as np
import pytest
import tifffile
from closed_form import NO_FILES, SETTINGS, evaluate

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import cases
from maeref_jax.pipeline import jobs, methods

WRONG = np.zeros((2, 32, 32), np.uint8)
WRONG[1, 3, 4] = 9
UNDECIDED = np.where(WRONG, 255, 0).astype(np.uint8)
UNDECIDED[0, 0, 0] = 2  # 255 beside 0 alone would be a mask


def test_volumes_a_model_has_seen_are_refused(root, tmp_path, models):
    with pytest.raises(BadInput, match="phantom_10 belonged to the training"):
        evaluate(root, tmp_path, "--config.phantom.seeds=(10,)")
    assert not (tmp_path / "held_out").exists()


def test_files_a_model_has_seen_are_refused_by_their_slices_however_the_path_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = jobs.Model("R", "mae", SETTINGS, {}, {}, None, {"volumes": [f"{tmp_path}/a.tif[0:4]"]})
    validated = trained._replace(facts={"validation_volumes": [f"{tmp_path}/b.tif"]})

    def check(*truths):
        settings = {"phantom": {"seeds": ()}, "files": {**NO_FILES, "truths": truths}, "on_validation": False}
        cases.check_held_out(settings, [trained, validated])

    check("a.tif[4:8]", "c.tif")
    for seen in ("a.tif", "a.tif[3:6]", "./a.tif[0:1]", f"{tmp_path}/a.tif", "b.tif[0:1]"):
        with pytest.raises(BadInput, match=re.escape(f"but {seen} belonged to the training")):
            check("c.tif", seen)
    to_choose = {"phantom": {"seeds": ()}, "files": {**NO_FILES, "truths": ("b.tif",)}, "on_validation": True}
    cases.check_held_out(to_choose, [trained, validated])
    # Other annotations of the same image, and labels to refine that were learned from.
    segmenter = trained._replace(facts={"volumes": ["/annotated.tif"], "images": [f"{tmp_path}/image.tif"]})
    for role, path in (("images", "image.tif"), ("labels", "a.tif")):
        files = {**NO_FILES, "truths": ("truth.tif",), role: (path,)}
        with pytest.raises(BadInput, match="belonged to the training"):
            cases.check_held_out({**to_choose, "files": files}, [trained, segmenter])


def test_files_beside_phantoms_are_refused_not_ignored(root, tmp_path, models):
    for given in ("truths=a.tif", "images=a.tif", "damage=20"):
        with pytest.raises(BadInput, match=r"add --config\.phantom\.seeds="):
            evaluate(root, tmp_path / "work", f"--config.files.{given}")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (9, r"truth\.tif .float32. holds the labels 0 and 9, beyond the classes .* --label_map=9:CLASS"),
        (0.5, "holds 0.5; labels are whole numbers"),
    ],
)
def test_a_truth_with_ids_that_are_no_class_is_refused(root, tmp_path, models, value, message):
    truth = np.zeros((3, 32, 32), np.float32)
    truth[1, 5:9, 5:9] = value
    for name in ("truth.tif", "image.tif"):
        tifffile.imwrite(tmp_path / name, truth, metadata={"axes": "ZYX"}, imagej=True)
    given = (f"--config.files.{role}s={tmp_path / role}.tif" for role in ("truth", "image"))
    with pytest.raises(BadInput, match=message):
        evaluate(root, tmp_path / "work", "--config.phantom.seeds=", *given)
    assert not (tmp_path / "work").exists()


def test_files_that_do_not_fit_together_are_refused_before_anything_is_written(root, tmp_path, models):
    for name, depth in (("truth.tif", 3), ("image.tif", 4)):
        tifffile.imwrite(tmp_path / name, np.zeros((depth, 32, 32), np.uint8), metadata={"axes": "ZYX"}, imagej=True)
    given = ["--config.phantom.seeds=", f"--config.files.truths={tmp_path / 'truth.tif'}"]
    with pytest.raises(BadInput, match=r"\(3, 32, 32\).*\(4, 32, 32\)"):
        evaluate(root, tmp_path / "work", *given, f"--config.files.images={tmp_path / 'image.tif'}")
    with pytest.raises(BadInput, match=r"as many files\.images"):
        evaluate(root, tmp_path / "work", *given, "--config.files.images=('a.tif','b.tif')")
    with pytest.raises(BadInput, match="nothing to evaluate"):
        evaluate(root, tmp_path / "work", "--config.phantom.seeds=")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("role", "second", "message"),
    [
        ("labels", WRONG, r"0 and 9, beyond the classes .* --config.files.labels_label_map=9:CLASS"),
        ("labels", UNDECIDED, r"2\.tif says unknown \(-1, 255\) or ambiguous in 1 voxels whose truth is known"),
        ("labels", np.where(WRONG, 4, 0).astype(np.uint8), r"or ambiguous in 1 voxels"),
        ("truths", WRONG, r"2\.tif .uint8. holds the labels 0 and 9, beyond the classes .* --label_map=9:CLASS"),
        ("low_signal", WRONG[:1], r"2\.tif has shape \(2, 32, 32\), but its low_signal .*2\.tif has \(1, 32, 32\)"),
        ("conditions", ("x", "y"), "conditions are compared in nm, but not every file"),
        ("conditions", ("x", "y", "x"), r"as many files\.conditions as files\.truths \(2\), found 3"),
        ("damage", 20.0, r"files\.damage is 20 beside files\.labels, files\.hidden, files\.low_signal"),
    ],
)
def test_what_is_wrong_with_the_second_volume_is_told_before_the_first_is_refined(
    root, tmp_path, models, monkeypatch, role, second, message
):
    monkeypatch.chdir(tmp_path)
    given = {}
    for name in ("truths", "labels", "hidden", "low_signal"):
        (tmp_path / name).mkdir()
        for file, array in (("1.tif", WRONG * 0), ("2.tif", second if name == role else WRONG * 0)):
            tifffile.imwrite(tmp_path / name / file, array, photometric="minisblack")
        given[name] = (f"{name}/1.tif", f"{name}/2.tif")
    if role not in given:
        given[role] = second
    files = [f"--config.files.{name}={value}" for name, value in given.items()]
    with pytest.raises(BadInput, match=message):
        evaluate(root, tmp_path / "work", "--config.phantom.seeds=", "--config.files.axes=ZYX", *files)
    assert not (tmp_path / "work").exists()


def test_phantoms_are_for_models_of_their_classes(root, tmp_path, models, monkeypatch):
    two = {"names": ["background", "mitochondrion"], "colours": [[0, 0, 0], [255, 255, 255]], "ambiguous": -1}
    model = methods.load_model("", "segmenter")._replace(settings=SETTINGS | {"classes": two})
    monkeypatch.setattr(methods, "load_model", lambda *_: model)
    given = [f"--config.{setting}" for setting in ("refiner=none", "validity.classes=", "endpoint_classes=1")]
    with pytest.raises(BadInput, match="0 … 3, but the models have background, mitochondrion"):
        evaluate(root, tmp_path / "work", *given)
    assert not (tmp_path / "work").exists()


def test_outside_of_a_mask_nothing_is_judged(tmp_path):
    truth, mask = np.zeros((2, 32, 32), np.uint8), np.zeros((2, 32, 32), np.uint8)
    truth[:, 4:20, 4:20], mask[:, :16] = 3, 255
    for name, array in (("truth", truth), ("mask", mask), ("empty", mask * 0)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, metadata={"axes": "ZYX"}, imagej=True)
    settings = load_config("evaluate").to_dict()
    settings["phantom"]["seeds"] = ()
    files = {**settings["files"], "truths": (str(tmp_path / "truth.tif"),), "label_map": ((0, 0), (3, 3))}

    def judged(**given):
        return cases.cases({**settings, "files": {**files, **given}}, SETTINGS["classes"], tmp_path)[0]

    case = judged(within=(str(tmp_path / "mask.tif"),))
    np.testing.assert_array_equal(case.truth, np.where(mask > 0, truth.astype(int), -1))
    assert any("50.00% of" in note and "is left out" in note for note in case.notes)
    np.testing.assert_array_equal(judged(within=("",)).truth, truth)
    with pytest.raises(BadInput, match=r"as many files\.within as files\.truths \(1\), found 2"):
        judged(within=("", ""))
    with pytest.raises(BadInput, match=r"empty\.tif excludes every voxel of .*truth\.tif"):
        judged(within=(str(tmp_path / "empty.tif"),))
    with pytest.raises(BadInput, match=r"both phantoms .* and files\.within are given"):
        both = {"phantom": {"seeds": (1,), "shifts": ()}, "files": {**settings["files"], "within": ("mask.tif",)}}
        cases.check(settings | both)
