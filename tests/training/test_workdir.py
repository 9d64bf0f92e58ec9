"""training/workdir.py: a folder belongs to one run, and says how another one differs."""

import os
import subprocess
import sys

import pytest

from maeref_jax.errors import BadInput
from maeref_jax.training.workdir import check_same_run, write_config

SETTINGS = {"method": "mae", "steps": 4, "rate": 0.1, "data": {"ensemble": "runs/e", "labels": ("a.tif[0:4]", "b.tif")}}


@pytest.fixture
def claimed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_same_run("run", SETTINGS)
    write_config("run", SETTINGS, {})
    return tmp_path


def changed(**data):
    return {**SETTINGS, "data": {**SETTINGS["data"], **data}}


def test_a_path_is_the_same_however_it_is_typed(claimed):
    check_same_run(claimed / "run", changed(ensemble=f"{claimed}/runs/e"))
    check_same_run("./run", changed(labels=(f"{claimed}/a.tif[0:4]", "./b.tif")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (changed(ensemble="runs/f"), "data.ensemble: runs/e there, runs/f here"),
        (changed(ensemble=""), "data.ensemble"),
        (changed(labels=("a.tif[0:5]", "b.tif")), "data.labels"),
        ({**SETTINGS, "rate": 0.2}, "rate: 0.1 there, 0.2 here"),
        ({**SETTINGS, "method": "crf"}, "method"),
        ({name: value for name, value in SETTINGS.items() if name != "rate"}, "absent here"),
    ],
)
def test_another_run_is_refused_with_the_differences(claimed, settings, message):
    with pytest.raises(BadInput, match=message):
        check_same_run("run", settings)


def test_a_run_may_be_made_longer(claimed):
    check_same_run("run", {**SETTINGS, "steps": 8})


def test_a_second_start_finds_what_the_first_one_compiled(tmp_path):
    (tmp_path / "run").mkdir()
    script = "import sys, jax; from maeref_jax.training.workdir import keep_compiled; keep_compiled(sys.argv[1]); "
    script += "print(jax.jit(lambda x: x * 3)(2.0), jax.config.jax_compilation_cache_dir)"

    def start(**environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        command = [sys.executable, "-c", script, str(tmp_path / "run")]
        done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert start(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own")) == ["6.0", str(tmp_path / "own")]
    assert not list((tmp_path / "run").iterdir()), "a folder that the user chose stays"
    assert start()[0] == "6.0"
    (entry,) = (tmp_path / "run" / "compiled").glob("*/*-cache")
    stamp = entry.stat().st_mtime_ns
    assert start()[0] == "6.0" and entry.stat().st_mtime_ns == stamp
    entry.write_bytes(entry.read_bytes()[:100])  # killed while it wrote
    assert start()[0] == "6.0"


def test_what_an_earlier_version_did_not_know_was_not_set_there(claimed):
    check_same_run("run", changed(within=(), at_voxel_size_nm=None))
    with pytest.raises(BadInput, match=r"data.within: absent there"):
        check_same_run("run", changed(within=("mask.tif",)))
