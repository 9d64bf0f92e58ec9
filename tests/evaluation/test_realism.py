"""The side-by-side table: phantoms, real labels where there are some, the paper's row."""

import numpy as np
import pytest
import tifffile

from maeref_jax.commands import evaluate
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import realism

CROPS = {"size": 16, "min_foreground": 0.1, "slice_step": 1}


def run(root, workdir, *overrides):
    config = f"{root / 'configs' / 'evaluate.py'}:phantom"
    small = ["--config.phantom.seeds=(100,)", "--config.phantom.shape=4,64,64", "--config.validity.size=64"]
    return evaluate.main(["--config", config, "--workdir", str(workdir), *small, *overrides])


def test_without_real_labels_the_table_says_what_is_missing(root, tmp_path, capsys):
    run(root, tmp_path, "--config.real.z_planes=nowhere.tif", "--config.real.y_planes=")
    printed = capsys.readouterr().out
    assert "phantoms, 10 nm" in printed
    assert "3.55 ± 0.30" in printed
    assert "nowhere.tif" in printed
    assert (tmp_path / "phantoms.txt").read_text(encoding="utf-8") == printed


def test_real_labels_stand_beside_the_phantoms(root, tmp_path, capsys):
    labels = np.zeros((6, 60, 60), np.uint8)
    labels[:, 10:50, 10:50] = 1
    labels[:, 28:32, 10:50] = 2
    tifffile.imwrite(tmp_path / "one.tif", labels)
    run(root, tmp_path, f"--config.real.z_planes={tmp_path / 'one.tif'}", "--config.real.y_planes=")
    printed = capsys.readouterr().out
    assert "mef_cristae, 5 nm, 1 volumes" in printed
    assert "mef_cristae, 10 nm, 1 volumes" in printed
    assert "not found" not in printed


def test_without_seeds_or_with_impossible_ones_there_is_nothing_to_look_at(root, tmp_path):
    for seeds, said in (("", "phantom.seeds is empty"), ("-5", r"phantom.seeds is \(-5,\), expected whole numbers")):
        with pytest.raises(BadInput, match=said):
            run(root, tmp_path / "out", f"--config.phantom.seeds={seeds}")
    assert not (tmp_path / "out").exists()


def test_beyond_the_faces_of_a_small_volume_nothing_is_known():
    labels = np.full((2, 8, 8), 3, np.int16)
    found = realism.over_volumes([labels], CROPS)
    assert found["boundary_to_area"]["mean"] == 0.0
    assert found["end_points"]["crops"] == 1


def test_each_volume_counts_once_however_many_crops_it_has():
    bar = np.zeros((1, 16, 16), np.int16)
    bar[:, 4:9, 2:14] = 3
    ring = np.zeros((3, 16, 16), np.int16)
    ring[:, 2:14, 2:14] = 3
    ring[:, 6:10, 6:10] = 0
    found = realism.over_volumes([bar, ring], CROPS)
    assert found["cycles"]["mean"] == 0.5
    assert found["end_points"]["mean"] == 1.0
