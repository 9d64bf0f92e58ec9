"""evaluate.py where a corrector says what is hidden: every competitor fills in the same tokens."""

import json

import closed_form
import fakes
import numpy as np
import pytest
import tifffile
from closed_form import SETTINGS, evaluate

from maeref_jax.errors import BadInput
from maeref_jax.pipeline import methods
from maeref_jax.records import Refiner


@pytest.fixture
def correctors(monkeypatch):
    found = closed_form.models()
    known = SETTINGS | {"use": {"temperature": 1.0, "gain": 0.05, "caution": 1.0}}
    apply = Refiner(fakes.said_along_z, (32, 32), (16, 16), 2, ("stored_probabilities",), 4, context=1)
    corrector = found["refiner"]._replace(name="corrector", workdir="C", settings=known, apply=apply)
    segmenter = found["segmenter"]._replace(settings=SETTINGS | {"members": 3})
    found |= {"C": corrector, "R": found["refiner"], "segmenter": segmenter}
    monkeypatch.setattr(methods, "load_model", lambda workdir, kind: found.get(str(workdir), found[kind]))
    return found


def test_competitors_fill_in_what_the_corrector_hides(root, tmp_path, correctors, capsys):
    given = ("--config.refiner=C", "--config.hide_by=error", "--config.competitors=('R',)")
    assert not evaluate(root, tmp_path, *given)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["dice_hidden"]) == {"initial", "nearest", "refined", "R"}
    folder = tmp_path / "held_out"
    hidden = tifffile.imread(folder / "phantom_100_hidden.tif") > 0
    initial, refined = (tifffile.imread(folder / f"phantom_100_{role}.tif") for role in ("initial", "refined"))
    assert 0 < hidden.mean() < 0.5
    np.testing.assert_array_equal(initial[~hidden], refined[~hidden])
    # Another refiner fills in what the corrector hides, controls and all.
    assert not evaluate(root, tmp_path / "filled", "--config.refiner=R", "--config.hide_by=C", "--config.controls=true")
    same = tifffile.imread(tmp_path / "filled" / "held_out" / "phantom_100_hidden.tif") > 0
    np.testing.assert_array_equal(same, hidden)
    # The other way round: a corrector as a competitor, at the tokens of entropy.
    given = ("--config.refiner=R", "--config.competitors=('C',)")
    assert not evaluate(root, tmp_path / "other", *given)
    assert "C" in json.loads((tmp_path / "other" / "summary.json").read_text())["dice_hidden"]
    by_entropy = tifffile.imread(tmp_path / "other" / "held_out" / "phantom_100_hidden.tif") > 0
    assert (by_entropy != hidden).any()


def test_the_error_that_it_expects_is_judged_beside_entropy(root, tmp_path, correctors, capsys):
    given = ("--config.task=places", "--config.refiner=none", "--config.judges=('C',)")
    assert not evaluate(root, tmp_path, *given)
    found = json.loads((tmp_path / "places.json").read_text())["scores"]
    assert set(found) > {"entropy of the mean", "error that C expects", "the errors themselves"}
    assert 0 < found["error that C expects"]["auroc"]["everywhere"] < 1
    assert (tmp_path / "held_out" / "C" / "phantom_100.ome.zarr" / "error").is_dir()


def test_who_says_what_is_hidden_has_not_seen_the_volume_either(root, tmp_path, correctors):
    learned = correctors["C"]._replace(facts={"volumes": ["phantom_100"]})
    correctors["C"] = learned
    with pytest.raises(BadInput, match="phantom_100"):
        evaluate(root, tmp_path, "--config.refiner=R", "--config.hide_by=C")


def test_two_judges_of_one_name_would_be_one_row(root, tmp_path, correctors):
    with pytest.raises(BadInput, match="two workdirs are called 'C'"):
        evaluate(root, tmp_path, "--config.task=places", "--config.refiner=none", "--config.judges=('a/C','b/C')")
