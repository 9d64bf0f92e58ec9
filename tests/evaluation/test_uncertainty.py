"""evaluation/uncertainty.py: the task of the ensemble alone, from files to its page."""

import numpy as np
import pytest
import tifffile
from closed_form import SETTINGS, evaluate

from maeref_jax.errors import BadInput
from maeref_jax.pipeline import methods


def test_uncertainty_of_files_makes_its_workdir_and_needs_a_truth(root, tmp_path, models, monkeypatch):
    model = methods.load_model("", "segmenter")
    known = model._replace(settings=SETTINGS | {"members": 3})
    kinds = {"segmenter": known, "refiner": methods.load_model("", "refiner")}
    monkeypatch.setattr(methods, "load_model", lambda _, kind: kinds[kind])
    draw = np.random.default_rng(0)
    for name, array in (("image", draw.integers(0, 255, (2, 32, 32))), ("truth", draw.integers(0, 4, (2, 32, 32)))):
        tifffile.imwrite(tmp_path / f"{name}.tif", array.astype(np.uint8), imagej=True, metadata={"axes": "ZYX"})
    files = [f"--config.files.{role}s={tmp_path}/{role}.tif" for role in ("image", "truth")]
    with pytest.raises(BadInput, match="needs images to judge"):
        evaluate(root, tmp_path / "new", "--config.task=uncertainty", "--config.phantom.seeds=", files[1])
    assert not (tmp_path / "new").exists()
    evaluate(root, tmp_path / "new" / "run", "--config.task=uncertainty", "--config.phantom.seeds=", *files)
    assert (tmp_path / "new" / "run" / "uncertainty.html").exists()
    log = (tmp_path / "new" / "run" / "openings.log").read_text()
    assert log.endswith("volumes truth  models ensemble E\n") and log.count("\n") == 1, "looking at errors is a look"
    for task in ("uncertainty", "refinement"):
        with pytest.raises(BadInput, match="cannot make the workdir"):
            evaluate(root, tmp_path / "image.tif", f"--config.task={task}", "--config.phantom.seeds=", *files)
    unknown = np.full((2, 32, 32), 255, np.uint8)
    tifffile.imwrite(tmp_path / "truth.tif", unknown, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(BadInput, match="holds the labels 255, a mask, it seems"):
        evaluate(root, tmp_path / "new" / "run", "--config.task=uncertainty", "--config.phantom.seeds=", *files)
