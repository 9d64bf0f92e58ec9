"""evaluation/continuity.py: every stage against the truth, what is not there left out, nothing divided by nothing."""

import json

import fakes
import numpy as np
import pytest

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import continuity
from maeref_jax.training.workdir import write_config

MORPHOLOGY = {
    "smallest_nm2": 0.0,
    "carried_nm2": 0.0,
    "shrink": 1.0,
    "reach_nm": 50.0,
    "distances": (1,),
    "order": "free",
}


def test_counts_are_pooled_over_the_stack_and_an_empty_slice_has_no_dice():
    truth, labels = np.zeros((4, 8, 8), np.int16), np.zeros((4, 8, 8), np.int16)
    truth[1, :4], labels[1, :2] = 2, 1  # half of it found, of another class: foreground is all that counts
    labels[2, 0, :4] = 3  # invented
    truth[3] = -1
    labels[3] = 1
    found = continuity.count(truth, labels, (5.0, 10.0, 10.0), 1)
    assert found.confusion.tolist() == [[32 + 64 + 64 - 4, 4], [16, 16]]
    assert found.slices == pytest.approx((2 * 16 / 48, 0.0)), "slice 0 has nothing to find, slice 3 nothing known"
    assert found.objects["true"] == 1 and found.objects["found"] == 1
    nothing = continuity.count(np.zeros((2, 4, 4), int), np.zeros((2, 4, 4), int), None, 1)
    assert nothing.slices == () and nothing.objects["found"] == 0


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Settings with two stacks, and a folder with models of 8 labelled slices, of which two stages are trained."""
    folder = tmp_path / "scm"
    write_config(folder / "8", {"method": "m", "morphology": MORPHOLOGY, "classes": fakes.SCHEME}, {})
    for place in (folder / "8" / "segmenter", folder / "8_plain" / "segmenter"):
        place.mkdir(parents=True)
        (place / "summary.json").write_text(json.dumps({"seconds": 60.0, "device": "a fake", "steps": 1}))

    def load(place, kind):
        made = fakes.segmenter(8.0 if "plain" in str(place) else 2.0)
        use = {"symmetries": False, "foreground_threshold": 0.4}
        return made._replace(workdir=str(place), name="ensemble", settings={**made.settings, "use": use, "seed": 7})

    monkeypatch.setattr(continuity.methods, "load_model", load)
    monkeypatch.setenv("MAEREF_DATA", str(tmp_path))
    for seed, stem in enumerate(("one", "two")):
        np.save(tmp_path / f"{stem}.npy", fakes.image(seed))
        np.save(tmp_path / f"{stem}_truth.npy", fakes.labels(seed))
    settings = load_config("evaluate:epfl_hippocampus").to_dict()
    settings["continuity"] |= {"folder": str(folder), "smallest_vx": 1}
    settings["files"] |= {
        "images": tuple(str(tmp_path / f"{stem}.npy") for stem in ("one", "two")),
        "truths": tuple(str(tmp_path / f"{stem}_truth.npy") for stem in ("one", "two")),
    }
    return settings


def test_the_table_has_a_cell_for_what_is_there_and_says_how_it_came_about(judged, tmp_path, capsys):
    continuity.judge(judged, tmp_path / "table")
    text = (tmp_path / "table" / "tables.txt").read_text()
    assert text.strip() in capsys.readouterr().out
    lines = {line.split("  ")[0].strip(): line.split() for line in text.splitlines()}
    for row in (continuity.PLAIN, continuity.AFFINE, continuity.MORPHOLOGY):
        assert row in lines
    first = text[: text.index("Seed 7")].splitlines()
    assert next(line for line in first if line.startswith("+ network")).split()[2:7] == ["-"] * 5
    assert "90.5 / 82.6" in text and "a fake" in text and "8 U-Net 0.4" in text
    summary = json.loads((tmp_path / "table" / "summary.json").read_text())
    rows = [f"{stem}_truth, 8, {row}" for stem in ("one", "two") for row in continuity.ROWS[:3]]
    assert set(summary) == {*rows, "seconds"}
    counted = np.array(summary[rows[0]]["confusion"])
    iou = counted[1, 1] / (counted.sum() - counted[0, 0])
    assert summary[rows[0]]["iou"] == pytest.approx(100 * iou, abs=1e-2) and counted.sum() == np.prod(fakes.SHAPE)
    assert (tmp_path / "table" / "one_truth.png").read_bytes()[:4] == b"\x89PNG"
    assert len((tmp_path / "table" / "openings.log").read_text().splitlines()) == 1
    assert (tmp_path / "table" / "claims" / "evaluating_1").exists(), "one evaluation at a time"


def test_a_dice_that_is_undefined_is_null(judged, tmp_path, monkeypatch):
    made = continuity.cases.cases

    def unknown(settings, scheme, output):
        return [case._replace(truth=np.full_like(case.truth, -1)) for case in made(settings, scheme, output)]

    monkeypatch.setattr(continuity.cases, "cases", unknown)
    continuity.judge(judged, tmp_path / "table")
    text = (tmp_path / "table" / "summary.json").read_text()
    assert "NaN" not in text and json.loads(text)["one_truth, 8, U-Net"]["dice"] is None


def test_a_folder_without_any_model_is_refused(judged, tmp_path):
    judged["continuity"]["folder"] = str(tmp_path / "nothing")
    with pytest.raises(BadInput, match="no workdir of any of 8, 16, 32, 64, 128 labelled slices in"):
        continuity.judge(judged, tmp_path / "table")


def test_without_a_voxel_size_twenty_nanometres_are_no_twenty_voxels(judged, tmp_path):
    judged["files"]["voxel_size_nm"] = ()
    with pytest.raises(BadInput, match=r"one_truth: boundaries are compared within 20 nm, .* --voxel_size_nm Z,Y,X"):
        continuity.judge(judged, tmp_path / "table")
    assert not (tmp_path / "table").exists()


def test_the_test_stack_is_judged_too_once_it_lies_beside_the_training_stack(tmp_path, monkeypatch):
    monkeypatch.setenv("MAEREF_DATA", str(tmp_path))
    files = load_config("evaluate:epfl_hippocampus").files
    assert [path.rpartition("/")[2] for path in files.images] == ["training_half.tif[150:165]"]
    (tmp_path / "epfl_hippocampus").mkdir()
    (tmp_path / "epfl_hippocampus" / "testing_half.tif").touch()
    files = load_config("evaluate:epfl_hippocampus").files
    assert [path.rpartition("/")[2] for path in files.truths] == [
        "training_half_groundtruth.tif[150:165]", "testing_half_groundtruth.tif",
    ]  # fmt: skip
