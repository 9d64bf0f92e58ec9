"""evaluate.py from the command line to the report, with closed-form models in the place of trained ones."""

import json
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

import evaluate
from maeref_jax import jobs, pipeline
from maeref_jax.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import agreement, cases, pictures
from maeref_jax.evaluation.models import load_others
from maeref_jax.records import Refiner, Segmenter

SETTINGS = {
    "classes": {
        "names": ["background", "intermembrane", "cristae", "matrix", "ambiguous"],
        "colours": [[0, 0, 0], [40, 90, 255], [40, 200, 80], [250, 220, 60], [150, 150, 150]],
        "ambiguous": 4,
    },
    "voxel_size_nm": [20.0, 10.0, 10.0],
    "threshold": 0.6,
    "ambiguous_threshold": 0.5,
}
NO_FILES = {"truths": (), "images": (), "labels": (), "entropy": ()}
STAIN = (105.0, 62.0, 122.0, 178.0)


def by_intensity(params, state, image):
    """Members that disagree on what grey value a class has: noisy labels with entropy."""
    shift = jnp.array([-25.0, 0.0, 25.0])[:, None, None, None, None]
    distance = jnp.abs(image[None, ..., None] + shift - jnp.array(STAIN))
    scores = jnp.concatenate([-distance / 6, jnp.full((*distance.shape[:-1], 1), -40.0)], -1)
    return jnp.exp(scores) / jnp.exp(scores).sum(-1, keepdims=True)


def always_background(params, state, inputs, key):
    return jnp.zeros((*inputs["labels"].shape, 4)).at[..., 0].set(1.0)


@pytest.fixture
def models(monkeypatch):
    """Puts the two closed-form models where trained workdirs would be."""
    refiner = Refiner(always_background, (32, 32), (16, 16), 2, (), 4)
    found = {
        "segmenter": jobs.Model("E", "ensemble", SETTINGS, {}, {}, Segmenter(by_intensity, (32, 32), (16, 16), 2), {}),
        "refiner": jobs.Model("R", "mae", SETTINGS, {}, {}, refiner, {"volumes": ["phantom_10"]}),
    }
    monkeypatch.setattr(pipeline, "load_model", lambda workdir, kind: found[kind])


def run(root, workdir, *overrides):
    config = f"{root / 'configs' / 'evaluate.py'}:smoke"
    return evaluate.main(["--config", config, "--workdir", str(workdir), *overrides])


def macro_dice(truth, found, region):
    truth, found = truth[region], found[region]
    return np.mean(
        [2 * ((truth == c) & (found == c)).sum() / ((truth == c).sum() + (found == c).sum()) for c in (1, 2, 3)]
    )


def test_summary_equals_what_the_files_on_disk_say(root, tmp_path, models, capsys):
    assert not run(root, tmp_path)
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
    assert not warned
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
    evaluate.main([*config, "--workdir", str(tmp_path)])
    printed, warned = capsys.readouterr()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "threshold 0.6, of R; ambiguous_threshold 0.5, of R\n" in printed
    assert ">refine.threshold</th><td>0.6<" in page and "in agreement with the 3 nearest slices" in page, "of 12 nm"
    sidecar = json.loads((tmp_path / "held_out" / "phantom_100.json").read_text())
    assert sidecar["made_by"]["settings"]["threshold"] == 0.6
    assert warned.startswith("warning: phantom_100 has voxels of 12 x 6 x 6 nm") and warned.count("\n") == 1


def test_competitors_fill_the_same_tokens_and_are_compared_volume_by_volume(root, tmp_path, models, capsys):
    pair = ("--config.phantom.seeds=(100,101)", "--config.competitors=('runs/other',)")
    run(root, tmp_path, *pair)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["dice_hidden"]["other"] == summary["dice_hidden"]["refined"]
    assert summary["dice_all"]["other"] == summary["dice_all"]["refined"] != summary["dice_all"]["initial"]
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("other") and "[" in line)
    assert "+0.000" in row and "[+0.000, +0.000]" in row and row.endswith("1.000")
    assert "paired bootstrap over 2 volumes" in " ".join(printed.split())
    with pytest.raises(BadInput, match="'refined' is taken"):
        run(root, tmp_path, "--config.competitors=('runs/refined',)")
    with pytest.raises(BadInput, match=r"endpoint_classes \(7,\)"):
        run(root, tmp_path, "--config.endpoint_classes=(7,)")


def test_controls_published_forms_other_ensembles_and_shifts_have_their_tables(root, tmp_path, models, capsys):
    given = ("phantom.shifts=('blur','dense cristae')", "other_ensembles=('runs/second',)", "as_published=true")
    run(root, tmp_path, *(f"--config.{setting}" for setting in given))
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
        run(root, tmp_path, "--config.phantom.shifts=('fog',)")


def test_a_second_run_takes_the_place_of_the_first(root, tmp_path, models):
    run(root, tmp_path)
    first = json.loads((tmp_path / "summary.json").read_text())
    run(root, tmp_path, "--config.refine.threshold=0.9")
    second = json.loads((tmp_path / "summary.json").read_text())
    assert second["dice_hidden"] != first["dice_hidden"]
    assert second["dice_all"]["initial"] == first["dice_all"]["initial"]


def test_volumes_a_model_has_seen_are_refused(root, tmp_path, models):
    with pytest.raises(BadInput, match="phantom_10 belonged to the training"):
        run(root, tmp_path, "--config.phantom.seeds=(10,)")
    assert not (tmp_path / "held_out").exists()


def test_files_a_model_has_seen_are_refused_by_their_slices_however_the_path_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = jobs.Model("R", "mae", SETTINGS, {}, {}, None, {"volumes": [f"{tmp_path}/a.tif[0:4]"]})
    validated = trained._replace(facts={"validation_volumes": [f"{tmp_path}/b.tif"]})

    def check(*truths):
        settings = {"phantom": {"seeds": ()}, "files": {**NO_FILES, "truths": truths}, "on_validation": False}
        cases.check_held_out(settings, [trained, validated])

    check("a.tif[4:8]", "c.tif")
    for seen in ("a.tif", "a.tif[3:6]", "./a.tif[0:1]", f"{tmp_path}/a.tif", "b.tif[0:1]"):
        with pytest.raises(BadInput, match=re.escape(f"but {seen} belonged to the training")):
            check("c.tif", seen)
    to_choose = {"phantom": {"seeds": ()}, "files": {**NO_FILES, "truths": ("b.tif",)}, "on_validation": True}
    cases.check_held_out(to_choose, [trained, validated])
    # Other annotations of the same image, and labels to refine that were learned from.
    segmenter = trained._replace(facts={"volumes": ["/annotated.tif"], "images": [f"{tmp_path}/image.tif"]})
    for role, path in (("images", "image.tif"), ("labels", "a.tif")):
        files = {**NO_FILES, "truths": ("truth.tif",), role: (path,)}
        with pytest.raises(BadInput, match="belonged to the training"):
            cases.check_held_out({**to_choose, "files": files}, [trained, segmenter])


def test_files_beside_phantoms_are_refused_not_ignored(root, tmp_path, models):
    for given in ("truths=a.tif", "images=a.tif", "damage=20"):
        with pytest.raises(BadInput, match=r"add --config\.phantom\.seeds="):
            run(root, tmp_path / "work", f"--config.files.{given}")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [(9, r"truth\.tif: expected ids 0 … 4, found 9"), (0.5, "holds 0.5; labels are whole numbers")],
)
def test_a_truth_with_ids_that_are_no_class_is_refused(root, tmp_path, models, value, message):
    truth = np.zeros((3, 32, 32), np.float32)
    truth[1, 5:9, 5:9] = value
    for name in ("truth.tif", "image.tif"):
        tifffile.imwrite(tmp_path / name, truth, metadata={"axes": "ZYX"}, imagej=True)
    given = (f"--config.files.{role}s={tmp_path / role}.tif" for role in ("truth", "image"))
    with pytest.raises(BadInput, match=message):
        run(root, tmp_path / "work", "--config.phantom.seeds=", *given)
    assert not (tmp_path / "work").exists()


def test_damaged_real_labels_are_asked_back_without_any_image(root, tmp_path, models, capsys):
    labels = np.zeros((4, 64, 64), np.uint8)
    labels[:, 8:56, 8:56] = 1
    tifffile.imwrite(tmp_path / "own.tif", labels, photometric="minisblack")
    truths = f"--config.files.truths={tmp_path / 'own.tif'}"
    run(
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


def test_a_segmentation_alone_can_be_judged(root, tmp_path, models):
    run(root, tmp_path, "--config.refiner=none", "--config.validity.classes=")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["dice_all"]) == {"initial"}
    assert "repairs" not in summary


def test_files_that_do_not_fit_together_are_refused_before_anything_is_written(root, tmp_path, models):
    for name, depth in (("truth.tif", 3), ("image.tif", 4)):
        tifffile.imwrite(tmp_path / name, np.zeros((depth, 32, 32), np.uint8), metadata={"axes": "ZYX"}, imagej=True)
    given = ["--config.phantom.seeds=", f"--config.files.truths={tmp_path / 'truth.tif'}"]
    with pytest.raises(BadInput, match=r"\(3, 32, 32\).*\(4, 32, 32\)"):
        run(root, tmp_path / "work", *given, f"--config.files.images={tmp_path / 'image.tif'}")
    with pytest.raises(BadInput, match=r"as many files\.images"):
        run(root, tmp_path / "work", *given, "--config.files.images=('a.tif','b.tif')")
    with pytest.raises(BadInput, match="nothing to evaluate"):
        run(root, tmp_path / "work", "--config.phantom.seeds=")
    assert not (tmp_path / "work").exists()


def test_every_mode_of_the_config_loads(root):
    path = root / "configs" / "evaluate.py"
    modes = ("", "demo", "smoke", "phantom", "mef_cristae", "vnc_sstem")
    configs = {mode: load_config(f"{path}:{mode}") for mode in modes}
    assert {config.task for config in configs.values()} == {"refinement", "phantoms"}
    assert min(seed for config in configs.values() for seed in config.phantom.seeds) >= 100


def test_slices_shown_are_the_most_repaired_ones_and_the_worst():
    gains, losses = np.array([0, 9, 8, 0, 0, 0, 7, 0]), np.array([0, 0, 0, 0, 0, 0, 0, 5])
    judged = [
        (None, None, agreement.Judged(None, {}, {}, gains, np.zeros(8), {})),
        (None, None, agreement.Judged(None, {}, {}, gains * 0, losses, {})),
    ]
    chosen = pictures.choose_slices(judged, 3)
    assert [(i, z) for i, z, _ in chosen] == [(0, 1), (0, 6), (1, 7)]
    assert "made wrong" in chosen[-1][2]
    assert [(i, z) for i, z, _ in pictures.choose_slices(judged, 1)] == [(0, 1)]


def test_a_missing_workdir_is_one_line_and_exit_code_2(root, tmp_path):
    command = [sys.executable, str(root / "evaluate.py"), "--config", str(root / "configs" / "evaluate.py:smoke")]
    done = subprocess.run([*command, "--workdir", str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "train.py" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_a_threshold_chosen_with_another_ensemble_is_refused(root, tmp_path, models, monkeypatch):
    known = {"threshold": 0.9, "entropy_kind": "mean", "classes": 5, "members": 6}
    three = pipeline.load_model("", "segmenter")._replace(settings=SETTINGS | {"members": 3})
    found = {"segmenter": three, "refiner": pipeline.load_model("", "refiner")._replace(chosen=known)}
    monkeypatch.setattr(pipeline, "load_model", lambda workdir, kind: found[kind])
    settings = load_config(f"{root / 'configs' / 'evaluate.py'}", ["--config.phantom.seeds=100"]).to_dict()
    with pytest.raises(BadInput, match="belongs to members 6, found 3"):
        evaluate.judge_refinement(settings, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.task=uncertain"], "task is uncertain, expected one of refinement, uncertainty, phantoms"),
        (["--config.task=phantoms"], "belongs to configs/evaluate.py:phantom"),
        (["--config.endpoint_classes="], "expected some foreground classes of 0 background, 1 intermembrane"),
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
        run(root, tmp_path / "out", *overrides)
    assert not (tmp_path / "out").exists()


WRONG = np.zeros((2, 32, 32), np.uint8)
WRONG[1, 3, 4] = 9
UNDECIDED = np.where(WRONG, 255, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("role", "second", "message"),
    [
        ("labels", WRONG, r"2\.tif .uint8. holds the labels \[9\], expected 0 to 4"),
        ("labels", UNDECIDED, r"2\.tif says unknown \(-1, 255\) or ambiguous in 1 voxels whose truth is known"),
        ("labels", np.where(WRONG, 4, 0).astype(np.uint8), r"or ambiguous in 1 voxels"),
        ("truths", WRONG, r"2\.tif: expected ids 0 … 4, found 9"),
        ("low_signal", WRONG[:1], r"2\.tif has shape \(2, 32, 32\), but its low_signal .*2\.tif has \(1, 32, 32\)"),
        ("conditions", ("x", "y"), "conditions are compared in nm, but not every file"),
        ("conditions", ("x", "y", "x"), r"as many files\.conditions as files\.truths \(2\), found 3"),
        ("damage", 20.0, r"files\.damage is 20 beside files\.labels, files\.hidden, files\.low_signal"),
    ],
)
def test_what_is_wrong_with_the_second_volume_is_told_before_the_first_is_refined(
    root, tmp_path, models, monkeypatch, role, second, message
):
    monkeypatch.chdir(tmp_path)
    given = {}
    for name in ("truths", "labels", "hidden", "low_signal"):
        (tmp_path / name).mkdir()
        for file, array in (("1.tif", WRONG * 0), ("2.tif", second if name == role else WRONG * 0)):
            tifffile.imwrite(tmp_path / name / file, array, photometric="minisblack")
        given[name] = (f"{name}/1.tif", f"{name}/2.tif")
    if role not in given:
        given[role] = second
    files = [f"--config.files.{name}={value}" for name, value in given.items()]
    with pytest.raises(BadInput, match=message):
        run(root, tmp_path / "work", "--config.phantom.seeds=", "--config.files.axes=ZYX", *files)
    assert not (tmp_path / "work").exists()


def test_phantoms_are_for_models_of_their_classes(root, tmp_path, models, monkeypatch):
    two = {"names": ["background", "mitochondrion"], "colours": [[0, 0, 0], [255, 255, 255]], "ambiguous": -1}
    model = pipeline.load_model("", "segmenter")._replace(settings=SETTINGS | {"classes": two})
    monkeypatch.setattr(pipeline, "load_model", lambda *_: model)
    given = [f"--config.{setting}" for setting in ("refiner=none", "validity.classes=", "endpoint_classes=1")]
    with pytest.raises(BadInput, match="0 … 3, but the models have background, mitochondrion"):
        run(root, tmp_path / "work", *given)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"needs": ("image",)}, r"own: the refiner runs/other needs image as well"),
        ({"needs": ("probabilities",)}, r"needs probabilities as well; an ensemble or your own class probabilities"),
        ({"token": 8}, "runs/other hides tokens of 8 voxels a side, R of 4: not comparable"),
        ({"token": 2, "needs": ("probabilities",)}, "of 2 voxels a side, R of 4"),
    ],
)
def test_what_a_competitor_lacks_is_told_before_anything_is_refined(
    root, tmp_path, models, monkeypatch, changes, message
):
    refiner = pipeline.load_model("", "refiner")
    other = refiner._replace(workdir="runs/other", apply=refiner.apply._replace(**changes))
    monkeypatch.setattr(pipeline, "load_model", lambda workdir, _: other if workdir == "runs/other" else refiner)
    tifffile.imwrite(tmp_path / "own.tif", np.ones((2, 32, 32), np.uint8), photometric="minisblack")
    files = (f"files.truths={tmp_path / 'own.tif'}", "files.damage=100", "files.axes=ZYX", "phantom.seeds=")
    given = (f"--config.{setting}" for setting in (*files, "competitors=('runs/other',)"))
    with pytest.raises(BadInput, match=message):
        run(root, tmp_path / "work", *given)
    assert not (tmp_path / "work").exists()


def test_slices_of_unknown_thickness_are_told_before_anything_is_refined(root, tmp_path, models, monkeypatch):
    unknown = pipeline.load_model("", "refiner")._replace(settings=SETTINGS | {"voxel_size_nm": []})
    monkeypatch.setattr(pipeline, "load_model", lambda *_: unknown)
    tifffile.imwrite(tmp_path / "own.tif", np.ones((2, 32, 32), np.uint8), photometric="minisblack")
    files = (f"files.truths={tmp_path / 'own.tif'}", "files.damage=100", "files.axes=ZYX", "phantom.seeds=")
    with pytest.raises(BadInput, match="R says how thick a slice is"):
        run(root, tmp_path / "work", *(f"--config.{setting}" for setting in files))
    assert not (tmp_path / "work").exists()


def test_competitors_are_of_the_same_classes(models, monkeypatch):
    refiner = pipeline.load_model("", "refiner")
    other = SETTINGS | {"classes": SETTINGS["classes"] | {"names": ["a", "b", "c", "d", "e"]}}
    monkeypatch.setattr(pipeline, "load_model", lambda *_: refiner._replace(workdir="C", settings=other))
    with pytest.raises(BadInput, match="R and C were trained for different classes"):
        load_others(("C",), refiner, "refiner")


def test_a_competitor_named_by_a_dot_has_a_name(tmp_path, models, monkeypatch):
    """Without one its results would take the place of the refiner's."""
    (tmp_path / "rival").mkdir()
    monkeypatch.chdir(tmp_path / "rival")
    assert list(load_others((".",), pipeline.load_model("", "refiner"), "refiner")) == ["rival"]


def test_uncertainty_of_files_makes_its_workdir_and_needs_a_truth(root, tmp_path, models, monkeypatch):
    model = pipeline.load_model("", "segmenter")
    known = model._replace(settings=SETTINGS | {"members": 3})
    kinds = {"segmenter": known, "refiner": pipeline.load_model("", "refiner")}
    monkeypatch.setattr(pipeline, "load_model", lambda _, kind: kinds[kind])
    draw = np.random.default_rng(0)
    for name, array in (("image", draw.integers(0, 255, (2, 32, 32))), ("truth", draw.integers(0, 4, (2, 32, 32)))):
        tifffile.imwrite(tmp_path / f"{name}.tif", array.astype(np.uint8), imagej=True, metadata={"axes": "ZYX"})
    files = [f"--config.files.{role}s={tmp_path}/{role}.tif" for role in ("image", "truth")]
    with pytest.raises(BadInput, match="needs images to judge"):
        run(root, tmp_path / "new", "--config.task=uncertainty", "--config.phantom.seeds=", files[1])
    assert not (tmp_path / "new").exists()
    run(root, tmp_path / "new" / "run", "--config.task=uncertainty", "--config.phantom.seeds=", *files)
    assert (tmp_path / "new" / "run" / "uncertainty.html").exists()
    log = (tmp_path / "new" / "run" / "openings.log").read_text()
    assert log.endswith("volumes truth  models ensemble E\n") and log.count("\n") == 1, "looking at errors is a look"
    for task in ("uncertainty", "refinement"):
        with pytest.raises(BadInput, match="cannot make the workdir"):
            run(root, tmp_path / "image.tif", f"--config.task={task}", "--config.phantom.seeds=", *files)
    unknown = np.full((2, 32, 32), 255, np.uint8)
    tifffile.imwrite(tmp_path / "truth.tif", unknown, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(BadInput, match="holds no known label"):
        run(root, tmp_path / "new" / "run", "--config.task=uncertainty", "--config.phantom.seeds=", *files)
