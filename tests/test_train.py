"""train.py as a user types it: every config's smoke mode, what it leaves behind, and what it refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest

CONFIGS = ("ensemble", "ensemble_vnc_sstem", "mae", "mae_mef_cristae")


def run(root, *arguments, **environment):
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment or None, check=False)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_training_config_runs_in_smoke_mode(root, tmp_path, name, request, monkeypatch):
    if "_" in name:
        monkeypatch.setenv("MAEREF_DATA", str(request.getfixturevalue("real_data")))
    done = run(root, "train.py", "--config", f"configs/{name}.py:smoke", "--workdir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 4 and np.isfinite(summary["validation"]["validation_loss"])
    assert (tmp_path / "run" / "model_card.md").read_text().startswith(f"# {name.split('_')[0]}")
    again = run(root, "train.py", "--config", f"configs/{name}.py:smoke", "--workdir", tmp_path / "run")
    assert again.returncode == 0 and json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 4
    if name == "mae":
        facts = json.loads((tmp_path / "run" / "config.json").read_text())["facts"]
        assert facts["labels"].startswith("predicted by the ensemble")
        assert (tmp_path / "run" / "ensemble" / "checkpoints").is_dir()


def test_every_training_config_is_in_the_list_above(root):
    methods = {path.stem for path in (root / "configs").glob("*.py") if '"method"' in path.read_text()}
    assert methods <= set(CONFIGS)
    assert {path.stem for path in (root / "configs").glob("*_*.py")} <= set(CONFIGS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "configs/nothing.py", "--workdir", "W"], "no config file"),
        (["--config", "configs/mae.py:huge", "--workdir", "W"], "no mode 'huge'"),
        (["--config", "configs/mae.py", "--workdir", "W", "--config.stepz=3"], "did you mean 'steps'"),
        (["--config", "configs/mae.py", "--workdir", "W", "--config.steps=many"], "whole number"),
        (["--config", "configs/mae.py"], "--workdir"),
        (["--config", "configs/mae.py:smoke", "--workdir", "W", "--config.data.ensemble=nowhere"], "nowhere"),
        (
            ["--config", "configs/ensemble.py:smoke", "--workdir", "W", "--config.volumes_per_member=9"],
            "volumes_per_member",
        ),
        (
            [
                "--config", "configs/mae.py:smoke", "--workdir", "W", "--config.data.phantom.train=",
                "--config.data.train.labels=missing.tif", "--config.data.validation.labels=missing.tif",
            ],
            "missing.tif",
        ),
    ],
)  # fmt: skip
def test_bad_usage_is_one_message_exit_code_2_and_nothing_half_written(root, tmp_path, arguments, expected):
    workdir = tmp_path / "run"
    done = run(root, "train.py", *(workdir if argument == "W" else argument for argument in arguments))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert expected in done.stderr and done.stderr.count("\n") <= 2
    assert not (workdir / "config.json").exists()
