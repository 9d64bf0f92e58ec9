"""evaluation/sparse.py: every segmenter of a folder against the truth."""

import json

import numpy as np
import pytest
from closed_form import SETTINGS

from maeref_jax.commands.evaluate import main
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import sparse
from maeref_jax.pipeline import methods


def test_precision_recall_and_dice_are_of_all_voxels_counted():
    means = np.zeros((1, 2, 4, 3), np.float32)
    for place, called in np.ndenumerate(np.array([[[0, 0, 1, 1], [1, 1, 0, 2]]])):
        means[place][called] = 0.8
        means[place][(called + 1) % 3] = 0.2
    means[0, 0, 0] = (0.5, 0.5, 0)  # the one error, and the one doubt
    truth = np.array([[[1, 0, 1, 1], [1, 1, 0, -1]]])
    one, other = (sparse.count_means(means[:, y : y + 1], truth[:, y : y + 1], 3) for y in (0, 1))
    found = sparse.numbers(sparse.sum_of([one, other]), ("a", "b", "c"))
    assert found["precision"]["a"] == pytest.approx(2 / 3) and found["recall"]["a"] == 1
    assert found["recall"]["b"] == pytest.approx(4 / 5) and found["dice"]["b"] == pytest.approx(8 / 9)
    assert np.isnan(found["recall"]["c"]) and found["mean_dice"] == found["dice"]["b"] and found["auroc"] == 1


def test_every_segmenter_of_the_folder_is_judged_and_nothing_else(root, tmp_path, models, monkeypatch):
    model = methods.load_model("", "segmenter")._replace(settings=SETTINGS | {"members": 3})
    monkeypatch.setattr(methods, "load_model", lambda workdir, kind: model._replace(workdir=str(workdir)))
    for place, method in (
        ("few/clicks", "sparse_labels"),
        ("few", "ensemble"),
        ("few/mae", "mae"),
        ("new", "ensemble"),
    ):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "config.json").write_text(json.dumps({"method": method, "config": {}}))
        if place != "new":  # its training goes on
            (tmp_path / place / "summary.json").write_text("{}")
    typed = ["--config", f"{root / 'configs' / 'evaluate.py'}:sparse", "--workdir", str(tmp_path / "out")]
    typed.append("--config.phantom.shape=4,32,32")
    with pytest.raises(BadInput, match=r"no segmenter's workdir in .*nowhere"):
        main([*typed, f"--config.sparse.folder={tmp_path / 'nowhere'}"])
    main([*typed, f"--config.sparse.folder={tmp_path}", "--config.phantom.shifts=blur"])
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(found) == ["few", "few/clicks"] and 0.3 < found["few"]["mean_dice"] < 1
    assert (tmp_path / "out" / "claims" / "evaluating_1").exists(), "one evaluation at a time"
    assert found["few"]["auroc"] > 0.5 and (tmp_path / "out" / "openings.log").exists()
    table = (tmp_path / "out" / "tables.txt").read_text()
    assert "few/clicks" in table and "AUROC" in table and "with a shift (blur) are" in table
