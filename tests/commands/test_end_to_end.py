"""The main job as a newcomer meets it: a phantom's image in, refined labels out, the truth asked."""

import json

import numpy as np
import pytest
import tifffile

from maeref_jax.phantoms.phantom import phantom
from maeref_jax.volumes.volume import array_volume, write_tiff

SHAPE = (5, 66, 70)  # no multiple of a token


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    made = phantom(7, SHAPE)
    path = tmp_path_factory.mktemp("data") / "cell.tif"
    write_tiff(path, array_volume(made.image, "cell", made.voxel_size_nm), made.voxel_size_nm)
    return path


@pytest.fixture(scope="module")
def refined(run, smoke, image, tmp_path_factory):
    output = tmp_path_factory.mktemp("refined")
    models = ("--ensemble", smoke / "ensemble", "--refiner", smoke, "--threshold", "0.9")
    return output, (lambda: run("refine.py", "--input", image, "--output", output, *models))


def test_an_image_is_segmented_and_repaired_where_it_was_undecided_only(refined):
    output, command = refined
    done = command()
    assert done.returncode == 0, done.stderr
    read = {role: tifffile.imread(output / f"cell_{role}.tif") for role in ("initial", "refined", "entropy", "hidden")}
    assert {found.shape for found in read.values()} == {SHAPE}
    hidden = read["hidden"] > 0
    assert hidden.any()
    np.testing.assert_array_equal(read["initial"][~hidden], read["refined"][~hidden])
    assert read["refined"].max() <= 3
    sidecar = json.loads((output / "cell.json").read_text())
    assert np.isclose(sidecar["hidden_share"], hidden.mean())
    assert sidecar["changed_voxels"] == (read["initial"] != read["refined"]).sum()


def test_the_same_command_again_does_nothing(refined):
    output, command = refined
    written = (output / "cell_refined.tif").stat().st_mtime_ns
    done = command()
    assert done.returncode == 0 and "complete" in done.stdout
    assert (output / "cell_refined.tif").stat().st_mtime_ns == written


def test_labels_of_other_peoples_making_are_repaired_under_a_painted_mask(run, smoke, tmp_path):
    made = phantom(8, SHAPE)
    painted = np.zeros(SHAPE, np.uint8)
    painted[:, 20:40, 20:44] = 1
    damaged = np.where(painted, 0, made.labels).astype(np.uint8)
    for name, array in (("labels", damaged), ("mask", painted)):
        write_tiff(tmp_path / f"{name}.tif", array_volume(array, name, made.voxel_size_nm), made.voxel_size_nm)
    done = run(
        "refine.py", "--labels", tmp_path / "labels.tif", "--hidden", tmp_path / "mask.tif",
        "--refiner", smoke, "--output", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = tifffile.imread(tmp_path / "out" / "labels_refined.tif")
    np.testing.assert_array_equal(found[painted == 0], damaged[painted == 0])


def test_a_file_of_the_users_is_never_replaced(run, smoke, image, tmp_path):
    mine = tmp_path / "cell_entropy.tif"
    mine.write_bytes(b"mine")
    models = ("--ensemble", smoke / "ensemble", "--refiner", smoke)
    done = run("refine.py", "--input", image, "--output", tmp_path, *models)
    assert done.returncode == 2 and "cell_entropy.tif is there already" in done.stderr
    assert mine.read_bytes() == b"mine" and list(tmp_path.iterdir()) == [mine]


def test_a_refiner_of_other_classes_is_refused(run, smoke, image, tmp_path):
    config = json.loads((smoke / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "checkpoints").symlink_to(smoke / "checkpoints")
    config["config"]["classes"]["names"] = ["background", "nucleus", "cristae", "matrix", "ambiguous"]
    (other / "config.json").write_text(json.dumps(config))
    models = ("--ensemble", smoke / "ensemble", "--refiner", other)
    done = run("refine.py", "--input", image, "--output", tmp_path / "out", *models)
    assert done.returncode == 2 and "nucleus" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_evaluation_asks_the_truth(run, smoke, tmp_path):
    models = (f"--config.ensemble={smoke / 'ensemble'}", f"--config.refiner={smoke}")
    done = run("evaluate.py", "--config", "configs/evaluate.py:smoke", "--workdir", tmp_path, *models)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary) == {"endpoint", "dice_hidden", "dice_low_signal", "dice_all", "repairs", "validity", "seconds"}
    assert set(summary["dice_hidden"]["initial"]) == {"mean", "1", "2", "3"}
    assert "report.html" in done.stdout and (tmp_path / "report.html").is_file()
