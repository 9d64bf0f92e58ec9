"""What refine.py takes from its models, and which do not go together: thresholds, scales, classes, ways to fill."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from fakes import SHAPE, image, labels, refiner, segmenter
from stacks import IMAGE, LABELS, SIZE, SMALL, entropy_of, mistakes, sidecar, use_models

from maeref_jax.volumes.volume import write_tiff


def test_the_threshold_is_the_refiners_unless_one_is_given(refine, monkeypatch):
    def used():
        return sidecar()["made_by"]["settings"]["threshold"]

    code, out, _ = refine(*IMAGE)
    assert code == 0 and "threshold 0.4, of runs/fill;" in out and used() == 0.4
    use_models(monkeypatch, refiner=refiner(threshold=0.7))
    code, out, err = refine(*IMAGE)
    assert code == 2 and "settings.threshold was 0.4 and is now 0.7" in err and err.count("\n") == 1
    code, out, _ = refine(*IMAGE, "--overwrite")
    assert code == 0 and "threshold 0.7, of runs/fill;" in out and used() == 0.7
    for given in (["--threshold", "0.5"], ["--config.threshold=0.5"]):
        code, out, _ = refine(*IMAGE, *given, "--overwrite")
        assert code == 0 and "threshold 0.5, as given;" in out and used() == 0.5
    code, out, _ = refine(*IMAGE, "--refiner", "none", "--overwrite")
    assert code == 0 and "threshold 0.4, default without a refiner;" in out and used() == 0.4


@pytest.mark.parametrize("size", ["30,5,5.1", "30,3.9,4", "60,5,4"])
def test_another_voxel_size_than_in_training_is_one_line_of_warning(refine, size):
    code, _, err = refine(*IMAGE, "--voxel_size_nm", size, *SMALL)
    assert code == 0 and Path("out/a.json").exists()
    assert err.startswith(f"warning: a has voxels of {size.replace(',', ' x ')} nm") and not mistakes(err)
    assert sidecar()["warnings"][0] in err
    assert "runs/fake was trained on 30 x 5 x 4 nm" in err


def test_a_voxel_size_that_is_similar_or_not_known_is_no_reason_for_a_warning(refine):
    code, _, err = refine(*IMAGE, "--voxel_size_nm", "36,4.1,4.9")
    assert (code, mistakes(err)) == (0, "") and "has voxels of" not in err
    tifffile.imwrite("unknown.tif", image(), imagej=True, metadata={"axes": "ZYX"})
    code, _, err = refine(*IMAGE[2:], "--input", "unknown.tif")
    assert (code, mistakes(err)) == (0, "") and "has voxels of" not in err
    assert "unknown: no file says how large a voxel is, so every slice is filled in by itself" in err
    assert sidecar("unknown")["agreeing_slices"] == 0


def test_what_learns_nothing_was_trained_on_no_voxel_size(refine):
    asked = ("--hidden", "hidden.tif", "--refiner", "nearest", "--output", "out", "--config.report=false")
    hidden = np.zeros(SHAPE, np.uint8)
    hidden[1, 8:12, 8:12] = 1
    write_tiff("hidden.tif", hidden, SIZE)
    code, _, err = refine("--labels", "a_labels.tif", *asked, "--voxel_size_nm", "90,50,50")
    assert code == 0 and "was trained on" not in err


def test_grey_values_of_another_kind_than_in_training_are_one_line_of_warning(refine, monkeypatch):
    use_models(monkeypatch, segmenter=segmenter()._replace(facts={"intensity_range": [1.0, 254.0]}))
    code, _, err = refine(*IMAGE, *SMALL)
    assert code == 0 and "grey values" not in err
    write_tiff("unit.tif", image() / np.float32(255), SIZE)
    code, _, err = refine("--input", "unit.tif", *IMAGE[2:], *SMALL)
    assert code == 0 and Path("out/unit.json").exists() and mistakes(err) == ""
    assert "warning: unit has grey values from 0.0" in err and "runs/fake was trained on 1 to 254" in err


def test_models_of_different_voxel_sizes_are_refused(refine, monkeypatch):
    use_models(monkeypatch, refiner=refiner(voxel_size_nm=[30.0, 5.0, 5.0]))
    code, _, err = refine(*IMAGE)
    assert code == 2 and err.count("\n") == 1 and not Path("out").exists()
    assert "runs/fake was trained with voxels of [30.0, 5.0, 4.0]" in err and "runs/fill of [30.0, 5.0, 5.0]" in err


def test_other_number_of_classes_in_the_workdirs(refine, monkeypatch):
    three = {"names": ["background", "in", "out"], "colours": [[0, 0, 0]] * 3, "ambiguous": -1}
    use_models(monkeypatch, refiner=refiner(scheme=three))
    code, _, err = refine(*IMAGE)
    assert code == 2 and "trained for different classes" in err
    code, _, err = refine(*LABELS, "--entropy", "stacks/a_entropy.tif")
    assert code == 2 and "holds the labels 0, 1, 2 and 3, beyond the classes 0 background, 1 in, 2 out" in err
    assert not Path("out").exists()


def test_a_refiner_without_ways_to_fill_says_so(refine):
    code, _, err = refine(*IMAGE, "--config.use.rounds=2")
    assert code == 2 and "method 'fill' fills in one way; leave out" in err


def test_orientations_belong_to_an_ensemble(refine):
    entropy = ["--entropy", "stacks/a_entropy.tif"]
    code, _, err = refine(*LABELS, *entropy, "--config.ensemble_symmetries=true")
    assert code == 2 and "how --ensemble predicts, which is missing" in err and not Path("out").exists()


def test_with_strict_a_warning_stops_with_exit_code_2_and_one_input_does_not_stop_the_others(refine):
    code, _, err = refine(*IMAGE, "--voxel_size_nm", "60,5,4", *SMALL, "--strict")
    assert code == 2 and err.count("\n") == 1 and not Path("out").exists()
    assert err.startswith("error: a: stopped by --strict, nothing was written: a has voxels of 60 x 5 x 4 nm")
    given = ["--labels", "[ab]_labels.tif", "--entropy", "stacks/{stem}.tif", "--refiner", "mae", "--output", "out"]
    for stem, size in (("a", (30.0, 5.0, 4.0)), ("b", (60.0, 5.0, 4.0))):
        write_tiff(f"{stem}_labels.tif", labels(), size)
        write_tiff(f"stacks/{stem}_labels.tif", entropy_of(0), size)
    code, out, err = refine(*given, "--strict", *SMALL)
    assert (
        code == 1 and "1 of 2 inputs done; failed: b_labels" in out and "error: b_labels: b_labels: stopped by" in err
    )
