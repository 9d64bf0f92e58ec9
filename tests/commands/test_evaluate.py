"""evaluate.py from the command line to the report, with closed-form models in the place of trained ones."""

import html
import json
import subprocess
import sys

import closed_form
import numpy as np
import pytest
import tifffile
from closed_form import SETTINGS, evaluate
from stacks import mistakes

from maeref_jax.commands.command_line import load_config
from maeref_jax.commands.evaluate import main
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import methods


def macro_dice(truth, found, region):
    truth, found = truth[region], found[region]
    return np.mean(
        [2 * ((truth == c) & (found == c)).sum() / ((truth == c).sum() + (found == c).sum()) for c in (1, 2, 3)]
    )


def test_summary_equals_what_the_files_on_disk_say(root, tmp_path, models, capsys):
    assert not evaluate(root, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    roles = ("image", "truth", "low_signal", "initial", "refined", "entropy", "hidden")
    stacks = {role: tifffile.imread(tmp_path / "held_out" / f"phantom_100_{role}.tif") for role in roles}
    assert {stack.shape for stack in stacks.values()} == {(8, 96, 96)}
    truth, hidden = stacks["truth"].astype(int), stacks["hidden"] > 0
    assert 0 < hidden.mean() < 1, "the fake models must disagree in places"
    regions = {"dice_hidden": hidden, "dice_low_signal": stacks["low_signal"] > 0, "dice_all": np.ones_like(hidden)}
    for name, region in regions.items():
        assert set(summary[name]) == {"initial", "nearest", "refined"}
        assert set(summary[name]["initial"]) == {"mean", "1", "2", "3"}
        for labels in ("initial", "refined"):
            assert summary[name][labels]["mean"] == pytest.approx(macro_dice(truth, stacks[labels], region))
    initial, refined = (stacks[role].astype(int) for role in ("initial", "refined"))
    np.testing.assert_array_equal(initial[~hidden], refined[~hidden])
    assert summary["repairs"] == {
        "wrong_to_right": ((initial != truth) & (refined == truth)).sum(),
        "right_to_wrong": ((initial == truth) & (refined != truth)).sum(),
    }
    assert set(summary) == {*regions, "endpoint", "repairs", "validity", "seconds"}
    assert summary["endpoint"]["name"] == "nearest" and summary["endpoint"]["difference"]["low"] is None
    assert set(summary["validity"]) == {"initial", "nearest", "refined", "truth"}
    for metrics in summary["validity"].values():
        assert list(metrics) == ["end_points", "cycles", "boundary_to_area", "cristae_boundary", "inner_background"]
        assert all(set(value) == {"mean", "se"} for value in metrics.values())
    assert summary["validity"]["truth"]["inner_background"]["mean"] == 0
    printed, warned = capsys.readouterr()
    assert not mistakes(warned) and "has voxels of" not in warned
    for text in ("inside hidden tokens", "inside low-signal regions", "everywhere", "nearest visible label", "truth"):
        assert text in printed
    assert f"{summary['dice_hidden']['refined']['mean']:.3f}" in printed
    assert str(tmp_path / "report.html") in printed
    assert "did not rise" in printed, "a refiner that erases everything must not be praised"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("data:image/png") == 9, (
        "a slider of two, its panels, six figures"
    )


def test_the_threshold_is_the_refiners_and_a_foreign_voxel_size_is_told(root, tmp_path, models, capsys):
    small = ("phantom.seeds=100", "phantom.shape=4,64,64", "phantom.voxel_size_nm=12,6,6", "validity.classes=")
    config = ("--config", str(root / "configs" / "evaluate.py"), *(f"--config.{setting}" for setting in small))
    main([*config, "--workdir", str(tmp_path)])
    printed, warned = capsys.readouterr()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "threshold 0.6, of R; ambiguous_threshold 0.5, of R\n" in printed
    assert ">refine.threshold</th><td>0.6<" in page and "in agreement with the 3 nearest slices" in page, "of 12 nm"
    sidecar = json.loads((tmp_path / "held_out" / "phantom_100.json").read_text())
    assert sidecar["made_by"]["settings"]["threshold"] == 0.6
    assert sidecar["warnings"] and all(html.escape(text) in page for text in sidecar["warnings"])
    assert warned.startswith("warning: phantom_100 has voxels of 12 x 6 x 6 nm") and warned.count("has voxels of") == 1


def test_competitors_fill_the_same_tokens_and_are_compared_volume_by_volume(root, tmp_path, models, capsys):
    pair = ("--config.phantom.seeds=(100,101)", "--config.competitors=('runs/other',)")
    evaluate(root, tmp_path, *pair)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["dice_hidden"]["other"] == summary["dice_hidden"]["refined"]
    assert summary["dice_all"]["other"] == summary["dice_all"]["refined"] != summary["dice_all"]["initial"]
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("other") and "[" in line)
    assert "+0.000" in row and "[+0.000, +0.000]" in row and row.endswith("1.000")
    assert "paired bootstrap over 2 volumes" in " ".join(printed.split())
    with pytest.raises(BadInput, match="'refined' is taken"):
        evaluate(root, tmp_path, "--config.competitors=('runs/refined',)")
    with pytest.raises(BadInput, match=r"endpoint_classes \(7,\)"):
        evaluate(root, tmp_path, "--config.endpoint_classes=(7,)")


def test_controls_published_forms_other_ensembles_and_shifts_have_their_tables(root, tmp_path, models, capsys):
    given = ("phantom.shifts=('blur','dense cristae')", "other_ensembles=('runs/second',)", "as_published=true")
    evaluate(root, tmp_path, *(f"--config.{setting}" for setting in given))
    printed = capsys.readouterr().out
    for title in ("Are the right places hidden?", "What no training volume had", "Table 1: labels hidden at random"):
        assert title in printed
    rows = [line.split() for line in printed.splitlines()]
    shifted = {row[0] for row in rows[rows.index(["What", "no", "training", "volume", "had"]) :] if row}
    assert {"none", "blur", "dense"} <= shifted
    summary = json.loads((tmp_path / "summary.json").read_text())
    # The other ensemble is the same one: its labels are those that are there.
    assert summary["dice_all"]["second"] == summary["dice_all"]["initial"]
    assert (tmp_path / "tables.txt").read_text().strip() in printed
    line = (tmp_path / "openings.log").read_text()
    assert "phantom_100, phantom_100_blur, phantom_100_dense_cristae" in line and "refiner R" in line
    with pytest.raises(BadInput, match=r"phantom\.shifts: no 'fog'"):
        evaluate(root, tmp_path, "--config.phantom.shifts=('fog',)")


def test_a_second_run_takes_the_place_of_the_first(root, tmp_path, models):
    evaluate(root, tmp_path)
    first = json.loads((tmp_path / "summary.json").read_text())
    mine = tmp_path / "picture_of_mine.png"
    mine.touch()
    assert (tmp_path / "picture_1.png").exists()
    evaluate(root, tmp_path, "--config.refine.threshold=0.9", "--config.pictures=0")
    assert [path.name for path in tmp_path.glob("*.png")] == [mine.name], "those of an earlier report are gone"
    second = json.loads((tmp_path / "summary.json").read_text())
    assert second["dice_hidden"] != first["dice_hidden"]
    assert second["dice_all"]["initial"] == first["dice_all"]["initial"]


def test_damaged_real_labels_are_asked_back_without_any_image(root, tmp_path, models, capsys):
    labels = np.zeros((4, 64, 64), np.uint8)
    labels[:, 8:56, 8:56] = 1
    tifffile.imwrite(tmp_path / "own.tif", labels, photometric="minisblack")
    truths = f"--config.files.truths={tmp_path / 'own.tif'}"
    evaluate(
        root, tmp_path, truths, "--config.phantom.seeds=", "--config.files.axes=ZYX",
        "--config.files.label_map=((0,0),(1,3))", "--config.files.damage=100", "--config.files.shell_class=1",
        "--config.files.shell_vx=3",
    )  # fmt: skip
    hidden = tifffile.imread(tmp_path / "held_out" / "own_hidden.tif") > 0
    assert hidden.any()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["dice_hidden"]["refined"]["3"] == 0.0
    assert summary["dice_hidden"]["initial"]["2"] is None, "no cristae in truth or prediction: undefined, not 0 or 1"
    assert "sanity: refined, its shell derived again" in capsys.readouterr().out


def test_binary_masks_are_judged_without_a_setting_and_what_needs_other_classes_is_left_out(
    root, tmp_path, models, monkeypatch, capsys
):
    two = {"names": ["background", "mitochondria"], "colours": [[0, 0, 0], [250, 220, 60]], "ambiguous": -1}
    refiner = methods.load_model("", "refiner")
    apply = refiner.apply._replace(refine=lambda *given: closed_form.always_background(*given)[..., :2])
    binary = refiner._replace(settings=SETTINGS | {"classes": two}, apply=apply)
    monkeypatch.setattr(methods, "load_model", lambda *_: binary)
    mask = np.zeros((4, 64, 64), np.uint8)
    mask[:, 8:56, 8:56] = 1
    painted = np.zeros_like(mask)
    painted[:, 20:40, 20:40] = 7
    for name, array in {"truth": mask * 255, "own": mask * 100, "painted": painted}.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack")
    given = {"truths": "truth", "labels": "own", "hidden": "painted"}
    files = [f"--config.files.{role}={tmp_path / name}.tif" for role, name in given.items()]
    given = ("--config.phantom.seeds=", "--config.files.axes=ZYX", "--classes", "background,mitochondria")
    evaluate(root, tmp_path, *files, *given)
    printed, summary = capsys.readouterr().out, json.loads((tmp_path / "summary.json").read_text())
    assert "truth.tif holds 0 and 255: 255 is taken as class 1, mitochondria" in printed
    assert "own.tif holds 0 and 100: 100 is taken as class 1, mitochondria" in printed
    assert summary["dice_all"]["initial"] == {"mean": 1.0, "1": 1.0} and summary["dice_hidden"]["refined"]["1"] == 0
    assert "Last three: of mitochondria together" in " ".join(printed.split())
    assert "validity" not in summary and "(validity metrics) is not counted" in " ".join(printed.split())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ">endpoint_classes</th><td>(1,)<" in page and "255 is taken as class 1, mitochondria" in page


def test_a_segmentation_alone_can_be_judged(root, tmp_path, models):
    evaluate(root, tmp_path, "--config.refiner=none", "--config.validity.classes=")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["dice_all"]) == {"initial"}
    assert "repairs" not in summary


def test_every_mode_of_the_config_loads(root):
    path = root / "configs" / "evaluate.py"
    modes = ("", "demo", "smoke", "phantom", "mef_cristae", "vnc_sstem")
    configs = {mode: load_config(f"{path}:{mode}") for mode in modes}
    assert {config.task for config in configs.values()} == {"refinement", "phantoms"}
    assert min(seed for config in configs.values() for seed in config.phantom.seeds) >= 100


def test_mistakes_in_the_command_do_not_wait_for_jax(root):
    check = "import sys, evaluate, train; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=root, check=False).returncode == 0


def test_a_missing_workdir_is_one_line_and_exit_code_2(root, tmp_path):
    command = [sys.executable, str(root / "evaluate.py"), "--config", "evaluate:smoke"]
    done = subprocess.run([*command, "--workdir", str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "train.py" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.task=uncertain"], "task is uncertain, expected one of refinement, uncertainty, phantoms"),
        (["--config.task=phantoms"], "belongs to configs/evaluate.py:phantom, whose group 'real'"),
        (["--config.task=sparse"], "'sparse' belongs to configs/evaluate.py:sparse, .* give --config evaluate:sparse"),
        (["--config.task=continuity"], "'continuity' belongs to configs/evaluate.py:epfl_hippocampus"),
        (["--config.task=tissue"], "'tissue' belongs to configs/evaluate.py:tissue"),
        (["--config.phantom.shape=8,96"], r"phantom.shape is \(8, 96\), expected three numbers of voxels"),
        (["--config.phantom.shape=8,0,96"], r"phantom.shape is \(8, 0, 96\)"),
        (["--config.phantom.voxel_size_nm=8,0,6"], r"phantom.voxel_size_nm is .*expected three lengths"),
        (["--config.phantom.seeds=-5"], r"phantom.seeds is \(-5,\), expected whole numbers of 0 or more"),
        (["--config.fading.seeds=-5"], r"fading.seeds is \(-5,\), expected whole numbers of 0 or more"),
        (["--config.priors=('a',)"], r"priors holds 'a', expected pairs \(condition, competitor\)"),
        (["--config.priors=(('a','b','c'),)"], r"priors holds \('a', 'b', 'c'\)"),
        (["--config.phantom.seeds=", "--config.files.damage=nan"], "files.damage is nan beside nothing; expected 0"),
        (["--config.phantom.seeds=", "--config.files.damage=inf"], "files.damage is inf beside nothing; expected 0"),
        (["--config.endpoint_classes=0,1"], "expected some foreground classes of 0 background, 1 intermembrane"),
        (["--classes", "background,mitochondria"], "but R was trained for background,intermembrane,cristae,matrix,amb"),
        (["--config.validity.classes=0,1,2,7"], "expected the ids of background, intermembrane space, cristae and"),
        (["--config.validity.classes=0,1,2"], r"validity.classes \(0, 1, 2\): expected the ids"),
        (["--config.validity.classes=0,1,1,3"], r"four of 0 background, 1 intermembrane, 2 cristae, 3 matrix"),
        (["--config.validity.size=0"], r"expected validity.size \(0\)"),
        (["--config.reconstruction.crops=-1"], r"reconstruction.crops \(-1\) of 0 or more"),
        (["--config.files.conditions=x,y"], r"files.conditions are given; for files only"),
        (["--config.phantom.seeds=", "--config.files.damage=-1"], "files.damage is -1 beside nothing; expected 0"),
        (["--config.fading.seeds="], "expected seeds of phantoms"),
        (["--config.phantom.shape=8,16,16"], "larger than the phantoms, phantom.shape"),
        (["--config.competitors=runs/crf", "--config.refiner=none"], "runs/crf are compared with a refiner"),
        (["--config.task=uncertainty", "--config.fading.seeds="], "expected seeds of phantoms"),
        (["--config.task=uncertainty", "--config.fading.mitochondria=0"], "the number of mitochondria to fade"),
    ],
)
def test_mistakes_are_told_before_any_work(root, tmp_path, models, overrides, message):
    with pytest.raises(BadInput, match=message):
        evaluate(root, tmp_path / "out", *overrides)
    assert not (tmp_path / "out").exists()
