"""training/workdir.py: a folder belongs to one run, and says how another one differs."""

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
