"""train.py as a user types it: every config's smoke mode, what it leaves behind, and what it refuses."""

import json
import shutil

import numpy as np
import pytest

from maeref_jax.commands import command_line, train
from maeref_jax.errors import BadInput
from maeref_jax.experiments import verdict
from maeref_jax.training.workdir import read_config

ORIGINAL = "mae_original"
COMPETITORS = ("autoencoder", "inpainter", "mae_image", "morphology", "nearest", "unrefined")  # run elsewhere
REAL = ("ensemble_vnc_sstem", "ensemble_epfl_hippocampus", "mae_mef_cristae")
STACKS = ("ensemble_3d",)  # run by test_ensemble_workdir.py


def check_workdir(workdir, method):
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["steps"] == 4 and np.isfinite(summary["validation"]["validation_loss"])
    assert (workdir / "model_card.md").read_text().startswith(f"# {method}")
    assert json.loads((workdir / "config.json").read_text())["versions"]["jax"]


def test_a_fresh_clone_trains_the_ensemble_first_and_learns_from_its_predictions(smoke):
    check_workdir(smoke / "ensemble", "ensemble")
    check_workdir(smoke, "mae")
    facts = json.loads((smoke / "config.json").read_text())["facts"]
    assert facts["labels"].startswith("predicted by the ensemble") and (smoke / "predictions").is_dir()


def test_the_rules_of_the_original_train_as_well(run, smoke, tmp_path):
    models = f"--config.data.ensemble={smoke / 'ensemble'}"
    done = run("train.py", "--config", f"configs/{ORIGINAL}.py:smoke", "--workdir", tmp_path / "run", models)
    assert done.returncode == 0, done.stderr
    check_workdir(tmp_path / "run", "mae")


@pytest.mark.parametrize("name", REAL)
def test_the_configs_of_real_data_run_in_smoke_mode(run, tmp_path, real_data, monkeypatch, name):
    monkeypatch.setenv("MAEREF_DATA", str(real_data))
    method = name.split("_")[0]
    # The data is what these configs bring; their networks are those of the configs that they build on.
    small = ["--config.model.widths=4", "--config.model.strides="] if method == "ensemble" else []
    # Their whole slices hold hundreds of windows of this size.
    small += ["--config.validation_slices=1", "--config.evaluate_every=4"] if method == "ensemble" else []
    done = run("train.py", "--config", f"configs/{name}.py:smoke", "--workdir", tmp_path / "run", *small)
    assert done.returncode == 0, done.stderr
    check_workdir(tmp_path / "run", method)


def test_the_same_command_again_completes_what_a_kill_left_and_finds_nothing_to_train(
    run, smoke, tmp_path, monkeypatch
):
    workdir = shutil.copytree(smoke, tmp_path / "mae")
    command = ("train.py", "--config", "configs/mae.py:smoke", "--workdir", workdir)
    metrics, summary = ((workdir / name).read_text() for name in ("metrics.jsonl", "summary.json"))
    assert json.loads(summary)["verdict"]["sentence"]

    def killed(settings, workdir):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(verdict, "judge", killed)
        assert run(*command).returncode == 130
        assert (workdir / "summary.json").read_text() == summary, "no verdict is lost to a kill before the next one"
        (workdir / "summary.json").unlink()
        assert run(*command).returncode == 130
        assert not (workdir / "summary.json").exists(), "a summary says that all is done"
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert (workdir / "metrics.jsonl").read_text() == metrics
    verdicts = [json.loads(text)["verdict"] for text in (summary, (workdir / "summary.json").read_text())]
    assert verdicts[0] == verdicts[1]
    check_workdir(workdir, "mae")


def test_a_method_without_gradients_is_searched_used_and_judged(run, smoke, tmp_path):
    ensemble, workdir = smoke / "ensemble", tmp_path / "crf"
    command = ("train.py", "--config", "configs/crf.py:smoke", "--workdir", workdir)
    done = run(*command, f"--config.data.ensemble={ensemble}")
    assert done.returncode == 0, done.stderr
    trials = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((workdir / "summary.json").read_text())
    assert [row["step"] for row in trials] == [1, 2, 3] and summary["steps"] == 3
    assert summary["validation"]["validation_score"] == max(row["validation_score"] for row in trials)
    assert "The best of 3 settings" in (workdir / "model_card.md").read_text()
    # Its windows take long.
    given = (f"--config.ensemble={ensemble}", f"--config.refiner={workdir}", "--config.phantom.shape=2,64,64")
    judged = run("evaluate.py", "--config", "configs/evaluate.py:smoke", "--workdir", tmp_path / "judged", *given)
    assert judged.returncode == 0, judged.stderr
    assert "Outside the hidden tokens no voxel changed" in " ".join(judged.stdout.split())


def test_every_training_config_is_tried_above(root):
    methods = {path.stem for path in (root / "configs").glob("*.py")} - {"defaults", "evaluate", "refine"}
    methods -= {"rendered", "render_mef_cristae", "urocell", "render_urocell"}  # volumes, not methods
    methods -= {"texture", "tissue_mask"}  # in test_tissue.py
    methods -= {"tissue", "judged_tissue"}  # in test_tissue_config.py and test_judged_tissue.py
    # In test_refine_everywhere.py, test_adjacent_stacks.py and test_spatial_continuity.py.
    methods -= {"continuity", "continuity_network", "spatial_continuity"}
    methods -= {"sparse_labels", "corrector"}  # in test_clicks_phases.py and test_corrections.py
    # What an ensemble says of files is in test_experiment.py; of slices this large it would take minutes here.
    assert methods == {"ensemble", "mae", "mae_vnc_sstem", "crf", ORIGINAL, *REAL, *STACKS, *COMPETITORS}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "configs/nothing.py"], "no config file"),
        (["--config", "configs/mae.py:huge"], "no mode 'huge'"),
        (["--config", "configs/mae.py", "--config.stepz=3"], "did you mean 'steps'"),
        (["--config", "configs/mae.py", "--config.steps=many"], "whole number"),
        (["--config", "configs/mae.py:smoke", "--config.data.ensemble=nowhere"], "nowhere"),
        (["--config", "configs/ensemble.py:smoke", "--config.volumes_per_member=9"], "volumes_per_member"),
        (["--config", "configs/mae.py:smoke", "--config.data.phantom.train="], "no volumes to learn from"),
        (["--config", "configs/mae.py:smoke", "--config.data.train.labels=a.tif"], "both phantoms and files"),
        (["--config", "configs/mae.py:smoke", "--config.window=32"], "window"),
        (["--config", "configs/mae.py:smoke", "--config.evaluate_every=0"], "at least 1"),
        (["--config", "configs/mae.py:smoke", "--config.optimizer.name=sgd"], "adamw, adam, adamax, rmsprop"),
        (["--config", "configs/mae.py:smoke", "--config.optimizer.clip=-1"], "optimizer.clip must be at least 0"),
        (["--config", "configs/mae.py:smoke", "--config.optimizer.rate=nan"], "optimizer.rate must be at least 0"),
        (["--config", "configs/mae.py:smoke", "--config.masking_ratio=0.9,0.1"], "masking_ratio must be"),
        (["--config", "configs/mae.py:smoke", "--config.model.compute_dtype=float9"], "float32 or bfloat16"),
        (["--config", "configs/mae.py:smoke", "--config.token=5"], "multiples of token, 5"),
        (["--config", "configs/autoencoder.py:smoke", "--config.window=32,64"], "multiples of 64"),
        (["--config", "configs/morphology.py", "--config.radius_px=0"], "radius_px must be at least 1"),
        (["--config", "configs/mae.py:smoke", "--config.data.phantom.validation=3"], "keep whole volumes apart"),
        (["--config", "configs/mae.py:smoke", "--config.optimizer.accumulate=3"], "set batch to 6 or 9"),
        (["--config", "configs/mae.py:smoke", "--init_from", "nowhere"], "nowhere is not the workdir"),
        (["--config", "configs/mae.py:smoke", "--config.seed=-1"], "seed must be between 0"),
        (["--config", "nearest", "--labels", "a.tif"], "nearest has no data.train.labels to set; leave the flag out"),
        (["--config", "configs/crf.py:smoke", "--distributed"], "searched in one process"),
        (["--config", "configs/crf.py:smoke", "--config.search.iterations=0,5"], "search.iterations must be"),
        (["--config", "configs/crf.py:smoke", "--config.data.phantom.validation="], "data.ensemble is missing"),
        (["--config", "configs/mae.py:smoke", "--processes", "2"], "belong together"),
        (
            ["--config", "configs/mae.py:smoke", "--config.data.phantom.train=", "--config.data.train.labels=a.tif"],
            "a.tif",
        ),
    ],
)
def test_bad_usage_is_one_message_exit_code_2_and_nothing_half_written(run, tmp_path, arguments, expected):
    done = run("train.py", *arguments, "--workdir", tmp_path / "run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert expected in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_voxel_size_is_given_to_every_method_by_the_same_flag(run, tmp_path):
    nearest = ["train.py", "--config", "nearest", "--workdir", tmp_path / "near", "--voxel_size_nm", "30,5,4"]
    assert run(*nearest).returncode == 0
    assert read_config(tmp_path / "near")["config"]["voxel_size_nm"] == [30, 5, 4]
    mae = ["train.py", "--config", "mae:smoke", "--workdir", tmp_path / "mae", "--init_from", tmp_path / "near"]
    assert "method is nearest there, mae here" in run(*mae).stderr and not (tmp_path / "mae").exists()


@pytest.mark.parametrize("theirs", ["[1]", '{"model_type": "bert"}'])
def test_a_config_json_of_another_program_is_no_workdir(tmp_path, theirs):
    (tmp_path / "config.json").write_text(theirs)
    with pytest.raises(BadInput, match=r"is not the workdir of a train\.py run: .*config\.json"):
        read_config(tmp_path)


def test_a_missing_flag_is_named(run):
    done = run("train.py", "--config", "configs/mae.py")
    assert done.returncode == 2 and "--workdir" in done.stderr and "Traceback" not in done.stderr


def test_other_settings_in_the_same_workdir_are_refused(run, smoke):
    done = run("train.py", "--config", "configs/mae.py:smoke", "--workdir", smoke, "--config.seed=7")
    assert done.returncode == 2 and "seed: 0 there, 7 here" in done.stderr


def overrides(config, *typed):
    arguments, _ = command_line.parse(train.flags(), ["--config", config, "--workdir", "run", *map(str, typed)])
    return train.flag_overrides(arguments, command_line.load_config(config))


def test_files_by_flag_are_those_of_the_config_without_phantoms(tmp_path):
    for name in ("a.tif", "b, c.tif", "d.tif"):
        (tmp_path / name).touch()
    typed = ["--images", tmp_path / "*.tif", "--validation_labels", "v.tif[0:4]", "--ensemble", "runs/mine"]
    data = command_line.load_config("mae", overrides("mae", *typed)).data
    assert data.train.images == tuple(str(tmp_path / name) for name in ("a.tif", "b, c.tif", "d.tif"))
    assert data.validation.labels == ("v.tif[0:4]",) and data.train.labels == () and data.ensemble == "runs/mine"
    assert data.phantom.train == data.phantom.validation == ()
    assert overrides("mae") == []


def test_the_labelled_slices_of_a_config_are_those_of_its_own_stacks_and_may_be_typed_in_any_form():
    typed = overrides("spatial_continuity", "--images", "a.tif", "--labels", "b.tif")
    for text, expected in (
        (None, ()),
        ("0:160:5", ("0:160:5",)),
        ("0,7,20:30", ("0", "7", "20:30")),
        ("((0,10),(5,'20:30'))", ((0, 10), (5, "20:30"))),
    ):
        more = [] if text is None else [f"--config.data.train.labelled_slices={text}"]
        data = command_line.load_config("spatial_continuity", [*typed, *more]).data
        assert data.train.labelled_slices == expected and data.validation.labelled_slices == ()


def test_how_a_config_reads_its_own_files_says_nothing_of_others_unless_it_is_typed():
    def data(config, *typed):
        return command_line.load_config(config, overrides(config, *typed)).data

    for config in ("spatial_continuity", "ensemble_epfl_hippocampus", "mae_mef_cristae"):
        found = data(config, "--images", "a.nii", "--labels", "b.nii")
        assert (found.axes, found.label_map, found.shell_class, found.shell_vx) == ("", (), -1, 0.0), config
    assert data("spatial_continuity", "--images", "a.nii", "--axes", "XYZ").axes == "XYZ"
    # What trains are its own files still: their axes, ids and slices stay.
    kept = data("mae_mef_cristae", "--validation_labels", "c.tif")
    assert kept.axes == "ZYX" and kept.label_map and kept.shell_class == 1
    assert data("spatial_continuity", "--validation_images", "c.tif").train.labelled_slices == (0, "4:128:4")


def test_flags_fit_every_config_or_are_refused_by_their_name():
    found = overrides("crf", "--ensemble", "runs/mine", "--validation_images", "a.tif", "--validation_labels", "b.tif")
    data = command_line.load_config("crf", found).data
    assert data.validation.images == ("a.tif",) and data.phantom.validation == () and data.ensemble == "runs/mine"
    assert command_line.load_config("nearest", overrides("nearest", "--voxel_size_nm", "45,4,4")).voxel_size_nm[0] == 45
    for config, *typed in (
        ("nearest", "--labels", "a.tif"),
        ("unrefined", "--axes", "ZYX"),
        ("crf", "--images", "a.tif"),
        ("ensemble", "--ensemble", "runs/mine"),
    ):
        with pytest.raises(BadInput, match=rf"{typed[0]}: the config {config} has no data.* to set"):
            overrides(config, *typed)


def test_masks_by_flag_are_those_of_the_files():
    typed = ["--images", "a.tif", "b.tif", "--within", "a_m.ome.zarr", "", "--validation_within", "c_m.tif"]
    data = command_line.load_config("ensemble", overrides("ensemble", *typed)).data
    assert data.train.within == ("a_m.ome.zarr", "") and data.validation.within == ("c_m.tif",)
    with pytest.raises(BadInput, match=r"--within: the config nearest has no data\.train\.within to set"):
        overrides("nearest", "--within", "a.tif")
