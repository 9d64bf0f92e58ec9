"""evaluation/page.py: the paragraph and the captions say how these volumes were refined, and nothing else."""

import json

import closed_form
import numpy as np
import pytest
import tifffile
from closed_form import evaluate

from maeref_jax.evaluation import cases, runs
from maeref_jax.pipeline import methods

FAST = tuple(
    f"--config.{setting}"
    for setting in ("controls=false", "reconstruction.crops=0", "figures=false", "validity.classes=")
)


@pytest.fixture
def model(monkeypatch):
    """{workdir or kind: Model} in the place of trained ones; what is put there is loaded."""
    found = closed_form.models()
    monkeypatch.setattr(methods, "load_model", lambda workdir, kind: found.get(str(workdir), found[kind]))
    return found


def written(folder, **arrays):
    """The settings that name files of these arrays, of voxels of 5 nm, as the models' are not."""
    for name, array in arrays.items():
        tifffile.imwrite(folder / f"{name}.tif", array, photometric="minisblack")
    files = (f"--config.files.{name}={folder / name}.tif" for name in arrays)
    return (*files, "--config.phantom.seeds=", "--axes=ZYX", "--voxel_size_nm=5,5,5")


def paragraph(workdir):
    page = (workdir / "report.html").read_text(encoding="utf-8")
    start = page.index("1 volume was segmented")
    return page[start : page.index("Software:", start)], page


def labels():
    truth = np.zeros((4, 64, 64), np.uint8)
    truth[:, 8:56, 8:56] = 3
    truth[:, 20:30, 20:30] = 2
    return truth


def test_damaged_labels_have_no_entropy_and_the_voxels_of_their_file(root, tmp_path, model):
    given = written(tmp_path, truths=labels())
    evaluate(root, tmp_path, *given, "--config.files.damage=100", "--label_map=identity", *FAST)
    said, page = paragraph(tmp_path)
    sidecar = json.loads((tmp_path / "held_out" / "truths.json").read_text())
    assert "(voxels of 5 × 5 × 5 nm, z y x) by the true labels, of which regions were taken away." in said
    assert "tokens of 4 × 4 voxels that the mask of these regions touches were hidden" in said
    assert "entropy" not in said and "by hand" not in said and "τ" not in said
    assert f"{sidecar['hidden_share']:.2%} of the voxels were hidden" in said
    assert f"{sidecar['changed_voxels'] / sidecar['voxels']:.2%} got another label" in said
    assert "all else is untouched" in page


def test_caution_and_a_painted_mask_beside_entropy_are_told(root, tmp_path, model):
    model["refiner"] = model["refiner"]._replace(apply=model["refiner"].apply._replace(caution=2.0))
    entropy = np.zeros((4, 64, 64), np.float32)
    entropy[:, :30] = 0.9
    hidden = np.uint8(entropy > 0.5)[:, ::-1]
    given = written(tmp_path, truths=labels(), labels=labels(), entropy=entropy, hidden=hidden)
    evaluate(root, tmp_path, *given, *FAST)
    said, _ = paragraph(tmp_path)
    assert "by a segmentation given beforehand" in said and "at least 2 times as likely" in said
    assert "the entropy that came with the segmentation" in said and "a mask painted by hand touched them" in said


def test_a_refiner_that_works_everywhere_is_judged_and_nothing_false_is_said_of_it(root, tmp_path, model, capsys):
    works = model["refiner"].apply._replace(everywhere=True)
    model["refiner"] = model["refiner"]._replace(apply=works)
    evaluate(root, tmp_path, "--config.controls=true", *FAST[1:])
    printed, (said, page) = " ".join(capsys.readouterr().out.split()), paragraph(tmp_path)
    held = {role: tifffile.imread(tmp_path / "held_out" / f"phantom_100_{role}.tif") for role in ("initial", "hidden")}
    outside = np.count_nonzero((held["initial"] > 0) & (held["hidden"] == 0))
    assert f"Outside the hidden tokens {outside:,} voxels changed; everywhere, the mean Dice" in printed
    assert "Do the colours tell" not in printed and "Are the right places hidden?" not in printed
    assert "All voxels were replaced, from the visible labels" in said and "left as they were" not in said
    assert "untouched" not in page and "the refiner works everywhere, there and elsewhere" in page
    log = (tmp_path / "openings.log").read_text()
    assert log.count("\n") == 1


def test_a_competitor_that_works_everywhere_stands_in_the_same_tokens_and_whole_as_published(
    root, tmp_path, model, capsys
):
    apply = model["refiner"].apply
    model["runs/all"] = model["refiner"]._replace(name="continuity", apply=apply._replace(everywhere=True))
    given = ("--config.competitors=('runs/all',)", "--config.as_published=true", "--config.refine.agree_within_nm=0")
    evaluate(root, tmp_path, *given, *FAST)
    dice = json.loads((tmp_path / "summary.json").read_text())["dice_all"]
    assert dice["all"] == dice["refined"] != dice["initial"], "both say background in hidden tokens, and only there"
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("all, as published"))
    assert row.split()[-2:] == ["0.000", "0.000"], "of the whole volume nothing is left"
    assert "not hidden; its slices do not agree with each other, those" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("asked", "chosen", "said"),
    [
        (None, 20.0, "its slices agree within 40 nm, those of the refined map agree within 20 nm"),
        (None, 0.0, "its slices agree within 40 nm, those of the refined map do not agree with each other"),
        (30.0, 20.0, "its slices agree within 30 nm, those of the refined map agree within 30 nm"),
    ],
)
def test_both_lengths_of_agreement_are_told(model, asked, chosen, said):
    refiner = model["refiner"]._replace(verdict={"agree_within_nm": chosen})
    settings = {"refine": {"agree_within_nm": asked}}
    case = cases.Case("one", labels(), None, {}, (10.0, 5.0, 5.0))
    assert runs.slices_in_words([case], refiner, settings) == said
    unknown = "do not agree with each other, those of the refined map do not agree with each other"
    assert runs.slices_in_words([case._replace(voxel_size_nm=None)], refiner, settings) == f"its slices {unknown}"
