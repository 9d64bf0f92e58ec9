"""Workdirs that are damaged, lost a file, are in use or somebody else's: one line, and nothing taken on trust."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import identity, jobs, methods
from maeref_jax.results import claim
from maeref_jax.training import checkpoint
from maeref_jax.volumes.volume import array_volume, write_tiff

MAE = ("train.py", "--config", "configs/mae.py:smoke", "--workdir")


@pytest.fixture
def workdir(smoke, tmp_path):
    """A copy of a trained refiner, without its ensemble and predictions."""
    return Path(shutil.copytree(smoke, tmp_path / "mae", ignore=shutil.ignore_patterns("ensemble", "predictions")))


@pytest.fixture
def labels(tmp_path):
    """Label and mask files of a small volume, as flags."""
    made = phantom(8, (4, 40, 40))
    arrays = {"labels": made.labels, "hidden": np.zeros((4, 40, 40), np.uint8)}
    arrays["hidden"][:, 12:24, 12:24] = 1
    for name, array in arrays.items():
        write_tiff(tmp_path / f"{name}.tif", array_volume(array.astype(np.uint8), name), made.voxel_size_nm)
    return [word for name in arrays for word in (f"--{name}", tmp_path / f"{name}.tif")]


def flip(folder):
    """A bit here and there in the largest of the files that hold the model's numbers: some bytes nobody reads."""
    file = max((path for path in (folder / "model").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    for place in range(1, 8):
        data[len(data) * place // 8] ^= 1
    file.write_bytes(data)


# Of several damaged files orbax reports one; the futures of the others are collected unread.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_next_best_checkpoint_is_used_with_a_warning_and_is_another_model(run, workdir, labels, tmp_path):
    def refine(output):
        models = ("--refiner", workdir, "--output", tmp_path / output, "--config.ask=0")
        return run("refine.py", *labels, *models)

    best = checkpoint.load_best(workdir).step
    assert refine("before").returncode == 0
    assert run("maeref", "verify", workdir).stdout == f"{workdir}: whole, 2 checkpoints\n"
    flip(workdir / "checkpoints" / str(best))
    done = run("maeref", "verify", workdir)
    assert done.returncode == 1 and f"{workdir / 'checkpoints' / str(best)} is damaged" in done.stdout
    done = refine("after")
    assert done.returncode == 0 and done.stderr.count(f"damaged is checkpoints/{best} (") == 1, done.stderr
    sidecar = json.loads((tmp_path / "after" / "labels.json").read_text())
    assert any(f"damaged is checkpoints/{best}" in text for text in sidecar["warnings"])
    assert f"damaged is checkpoints/{best}" in (tmp_path / "after" / "report.html").read_text()
    again = refine("before")
    assert again.returncode == 2 and f"damaged_checkpoints was null and is now [{best}]" in again.stderr
    flip(workdir / "checkpoints" / str(6 - best))  # steps 2 and 4
    done = refine("nothing")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"checkpoints/{best} is damaged" in done.stderr and not (tmp_path / "nothing").exists()


def everything_loaded(workdir):
    """What the pipeline reads of a model before any work."""
    model = methods.load_model(workdir, "refiner")
    settings = jobs.settled(jobs.Settings(), model)
    return identity.identity(jobs.Job("a", workdir), {}, None, model, settings)


def test_a_setting_of_another_type_or_value_is_refused(workdir):
    path = workdir / "config.json"
    good, rng, loaded = json.loads(path.read_text()), random.Random(0), 0
    before = everything_loaded(workdir)
    places = [
        (group, key)
        for group in (good, good["config"], good["config"]["use"], good["config"]["classes"])
        for key in group
    ]
    for group, key in places:
        kept = group[key]
        for value in rng.sample([None, "x", [], {}, -1, 1e30, [[]], {"a": [None]}], 2):
            group[key] = value
            path.write_text(json.dumps(good))
            try:
                found = everything_loaded(workdir)
            except BadInput as error:
                assert "\n" not in str(error) and "mae" in str(error), key
                continue
            # What decides nothing: how long it was trained, where its data are, versions.
            loaded += 1
            assert key in ("versions", "facts", "data", "init_from", "steps", "evaluate_every", "stop_after"), key
            assert found["refiner"]["parameters_sha256"] == before["refiner"]["parameters_sha256"]
        group[key] = kept
    assert 0 < loaded < len(places)


def test_other_facts_of_the_training_data_are_refused(workdir):
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    config["facts"]["entropy" if "entropy" in config["facts"] else "labels"] = "other"
    path.write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"config\.json is damaged, or was edited: its facts"):
        methods.load_model(workdir, "refiner")


@pytest.mark.parametrize("name", ["config.json", "calibration.json", "threshold.json", "summary.json"])
@pytest.mark.parametrize("text", ["", "[1]", '{"verdict": 3}', '{"a":' * 100_000])
def test_damaged_json_is_one_line(workdir, name, text):
    (workdir / name).write_text(text)
    with pytest.raises(BadInput, match=name) as told:
        methods.load_model(workdir, "refiner")
    assert "\n" not in str(told.value)


def test_a_lost_config_is_written_again_and_never_for_another_run(run, smoke, workdir):
    command = (*MAE, workdir, f"--config.data.ensemble={smoke / 'ensemble'}")
    # Trained without naming its ensemble, which lies inside.
    shutil.copytree(smoke / "ensemble", workdir / "ensemble")
    path = workdir / "config.json"
    config = json.loads(path.read_text())["config"]
    path.unlink()
    other = run(*MAE, workdir, "--config.seed=7")
    assert other.returncode == 2 and "seed: 0 there, 7 here" in other.stderr and not path.exists()
    assert "data.ensemble" in run(*command).stderr and not path.exists()
    with pytest.raises(BadInput, match=r"config\.json.*give the train\.py command again"):
        methods.load_model(workdir, "refiner")
    done = run(*MAE, workdir)
    assert done.returncode == 0, done.stderr
    assert "was lost; it is written again, as checkpoint 4 has these settings" in done.stdout
    assert json.loads(path.read_text())["config"] == config


def test_a_folder_with_files_of_somebodys_own_is_refused_by_name(run, tmp_path):
    (tmp_path / "slurm.out").touch()  # what a scheduler writes is no obstacle
    for name in (".hidden", "thesis.docx"):
        (tmp_path / name).write_text("mine")
    done = run(*MAE, tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "holds thesis.docx and no config.json" in done.stderr and "--workdir" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "slurm.out", "thesis.docx"]


def test_a_workdir_that_cannot_be_is_refused_before_any_work(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = run(*MAE, tmp_path / "file" / "run")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "file is a file; choose another --workdir" in done.stderr


def test_a_workdir_that_is_being_trained_is_left_alone(run, workdir):
    before = sorted((path, path.stat().st_mtime_ns) for path in workdir.rglob("*"))
    with claim.alone(workdir / "claims", "training", "mine"):
        done = run(*MAE, workdir)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "is being trained already, by process " in done.stderr
    kept = sorted((path, path.stat().st_mtime_ns) for path in workdir.rglob("*") if "claims" not in path.parts)
    assert kept == [(path, time) for path, time in before if path != workdir and "claims" not in path.parts]


def test_a_report_does_not_take_the_place_of_a_models_summary(run, smoke):
    before = (smoke / "summary.json").read_bytes()
    done = run("evaluate.py", "--config", "configs/evaluate.py:smoke", "--workdir", smoke)
    assert done.returncode == 2 and "holds a model, whose summary.json would be replaced" in done.stderr
    assert (smoke / "summary.json").read_bytes() == before


def test_what_a_copy_lacks_is_said_wherever_it_is_used(run, workdir):
    assert methods.load_model(workdir, "refiner").doubts == ()
    best = workdir / "checkpoints" / str(json.loads((workdir / "summary.json").read_text())["validation"]["step"])
    (workdir / "calibration.json").unlink()
    shutil.rmtree(best)
    doubts = methods.load_model(workdir, "refiner").doubts
    assert [text.split(" is missing")[0] for text in doubts] == [str(workdir / "calibration.json"), str(best)]
    done = run("maeref", "verify", workdir)
    assert done.returncode == 1 and all(text in done.stdout for text in doubts)


def test_a_workdir_without_its_config_or_checkpoints_is_no_whole_one(run, workdir):
    (workdir / "config.json").rename(workdir / "config.lost")
    done = run("maeref", "verify", workdir)
    assert done.returncode == 1 and f"{workdir / 'config.json'} is missing; copy the workdir again" in done.stdout
    (workdir / "config.lost").rename(workdir / "config.json")
    shutil.rmtree(workdir / "checkpoints")
    done = run("maeref", "verify", workdir)
    assert done.returncode == 1 and f"{workdir / 'checkpoints'} is missing" in done.stdout


def test_the_stages_of_a_training_are_verified_each(run, workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "staged" / "refiner")
    shutil.copy(workdir / "config.json", tmp_path / "staged")
    done = run("maeref", "verify", tmp_path / "staged")
    assert done.returncode == 0 and f"{tmp_path / 'staged' / 'refiner'}: whole" in done.stdout
