"""Masks made continuous along z by `maeref refine --refiner continuity`, without training; refiners by their names."""

from pathlib import Path

import numpy as np
import pytest
from fakes import SHAPE
from stacks import SMALL, entropy_of, sidecar

import maeref_jax
from maeref_jax.commands import train
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import refining
from maeref_jax.volumes.volume import open_volume, write_tiff
from maeref_jax.volumes.windows import whole

SIZE = (5.0, 50.0, 50.0)
TRUTH = np.zeros((12, 20, 24), np.uint8)
TRUTH[:, 5:15, 6:20] = 255
ALONE = [*SMALL, "--labels", "mask.tif", "--refiner", "continuity", "--output", "out"]


@pytest.fixture
def mask(stacks):
    broken = TRUTH.copy()
    broken[5] = 0
    broken[8, 1, 1] = 255
    write_tiff("mask.tif", broken, SIZE)
    return broken


def refined(stem="mask"):
    volume = refining.open_result("out", stem, "refined")
    return volume.read(whole(volume.shape))


def test_a_dropped_and_a_speckled_slice_of_anybodys_mask_are_repaired_by_one_command(refine, mask):
    code, out, err = refine(*ALONE, "--config.tiff_export=true", "--config.report=true")
    assert code == 0 and not err, err
    assert "mask: every voxel open to the refiner, 2.45% relabelled" in out
    np.testing.assert_array_equal(open_volume("out/mask_refined.tif").read(whole(TRUTH.shape)), TRUTH > 0)
    assert sidecar("mask")["everywhere"] and sidecar("mask")["classes"] == ["background", "foreground"]
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "The refiner worked everywhere, not at hidden places alone." in page
    assert "All voxels were replaced, from the labels of the slices above and below by morphology along z" in page
    assert "Reliability was judged" not in page and "Tell the relabelled share" in page


def test_labelled_slices_stay_and_others_follow_them(refine, mask):
    code, _, _ = refine(*ALONE, "--config.labelled_slices=4:9:4")
    assert code == 0 and sidecar("mask")["labelled_slices"] == [4, 8]
    assert refined()[8, 1, 1] == 1 and (np.delete(refined(), 8, 0) == np.delete(TRUTH, 8, 0) // 255).all()


def test_a_table_of_labels_alone(refine, mask):
    Path("all.csv").write_text("labels\nmask.tif\n")
    code, _, _ = refine(*SMALL, "--batch", "all.csv", "--refiner", "continuity", "--output", "out")
    assert code == 0 and (refined() == TRUTH // 255).all()


def test_at_hidden_tokens_alone(refine, mask):
    hidden = np.zeros(TRUTH.shape, np.uint8)
    hidden[:7] = 1
    write_tiff("hidden.tif", hidden, SIZE)
    code, out, _ = refine(*ALONE, "--hidden", "hidden.tif", "--config.use.everywhere=false")
    assert code == 0 and "58.33% of the voxels hidden" in out
    assert (refined()[:7] == TRUTH[:7] // 255).all() and refined()[8, 1, 1] == 1


def test_others_that_learn_nothing_go_by_their_names_too(refine, stacks):
    labels = np.ones(SHAPE, np.uint8)
    labels[entropy_of(0) > 0] = 0
    write_tiff("own.tif", labels, (30.0, 5.0, 4.0))
    given = ["--labels", "own.tif", "--entropy", "stacks/a_entropy.tif", "--output", "out", "--refiner", "nearest"]
    code, _, err = refine(*SMALL, *given, "--classes", "background,cell")
    assert code == 0, err
    assert (refined("own") == 1).all() and sidecar("own")["made_by"]["refiner"]["method"] == "nearest"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--refiner", "inpainter"], "--labels needs --entropy, --hidden or both beside it, found none of them"),
        (
            ["--refiner", "inpainter", "--hidden", "mask.tif"],
            "--refiner inpainter has to be trained first: maeref train --config inpainter",
        ),
        (["--refiner", "nearest"], "only a refiner that works everywhere can be used, such as continuity"),
        (["--refiner", "nowhere", "--hidden", "mask.tif"], "nowhere is not the workdir of a train.py run"),
        (["--config.labelled_slices=12"], "labelled_slices holds 12, but mask.tif has 12 slices, 0 to 11"),
        (["--config.labelled_slices=first"], "labelled_slices holds 'first', expected a slice from 0 on, or a range"),
        (["--labels", "mask.tif[3:4]"], "has 1 slice, but continuity works along z"),
        (["--config.use.everywhere=false"], "--labels needs --entropy, --hidden or both beside it"),
        (["--config.use.rounds=2"], "a refiner of method 'continuity' has no setting of rounds"),
        (["--classes", "cell"], "at least two beside 'ambiguous'"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(refine, mask, changes, said):
    code, _, err = refine(*ALONE, *changes)
    assert code == 2 and said in err and err.count("\n") == 1, err
    assert not Path("out").exists()


def test_labels_of_another_shape_and_a_threshold_without_a_workdir(refine, mask, stacks):
    write_tiff("other.tif", TRUTH[:, :8], SIZE)
    code, _, err = refine(*ALONE, "--hidden", "other.tif")
    assert code == 2 and "(12, 8, 24)" in err and "(12, 20, 24)" in err
    image = ["--input", "stacks/a.tif", "--ensemble", "ensemble", "--refiner", "nearest", "--output", "out"]
    code, _, err = refine(*image, "--suggest_threshold")
    assert code == 2 and "make one: maeref train --config nearest --workdir DIR" in err
    code, _, err = refine(*SMALL, *image, "--config.labelled_slices=0")
    assert code == 2 and "labelled_slices says which slices of labels are the truth; give --labels" in err


def test_in_python_as_in_the_command(mask):
    model = maeref_jax.load_model("continuity", classes=("background", "cell"))
    found = maeref_jax.refine(model, (mask > 0).astype(np.uint8), voxel_size_nm=SIZE, labelled_slices=(4, 8))
    assert found.labels[8, 1, 1] == 1 and (np.delete(found.labels, 8, 0) == np.delete(TRUTH, 8, 0) // 255).all()
    assert not found.hidden.any() and found.summary["everywhere"]
    with pytest.raises(BadInput, match="inpainter has to be trained first"):
        maeref_jax.load_model("inpainter")


def test_what_it_takes_is_said_without_a_network(refine, mask):
    code, out, err = refine(*ALONE, "--dry_run")
    assert code == 0 and not err and not Path("out").exists()
    assert "mask: 12 x 20 x 24 voxels" in out and "windows to compute" not in out and "memory: about" in out


def test_a_workdir_with_other_settings_is_a_model_as_well(tmp_path):
    mask = TRUTH.copy()
    mask[5] = 0
    command = ["--config", "continuity", "--workdir", str(tmp_path / "rules"), "--classes", "background,cell"]
    train.main([*command, "--config.morphology.distances=()", "--config.morphology.smallest_nm2=0"])
    found = maeref_jax.refine(
        maeref_jax.load_model(tmp_path / "rules"), (mask > 0).astype(np.uint8), voxel_size_nm=SIZE
    )
    np.testing.assert_array_equal(found.labels, mask > 0)  # nobody votes, nothing is small
