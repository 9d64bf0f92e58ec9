"""refine.py as a user meets it: globs, name patterns, exit codes, resuming, refusals, and one message per mistake."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from test_pipeline import SHAPE, image, labels, refiner, segmenter

import refine
from maeref_jax import command_line, passes, pipeline, stain
from maeref_jax.metrics import witness
from maeref_jax.refining import plan
from maeref_jax.volumes.formats.ome_zarr import create_ome_zarr
from maeref_jax.volumes.volume import create_volume, labels_from_disk, open_volume, write_tiff
from maeref_jax.volumes.windows import whole

SIZE = (30.0, 5.0, 4.0)
SMALL = ["--config", f"{refine.CONFIG}:smoke"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with three image stacks, their labels and entropy, and two workdirs of fake models."""
    monkeypatch.chdir(tmp_path)
    for name in ("ensemble", "mae"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.setattr(pipeline, "load_model", lambda _, kind: segmenter() if kind == "segmenter" else refiner())
    (tmp_path / "stacks").mkdir()
    for seed, stem in enumerate("abc"):
        write_tiff(tmp_path / "stacks" / f"{stem}.tif", image(seed), SIZE)
        write_tiff(tmp_path / f"{stem}_labels.tif", labels(seed), SIZE)
        write_tiff(tmp_path / "stacks" / f"{stem}_entropy.tif", entropy_of(seed), SIZE)
    return tmp_path


def entropy_of(seed):
    entropy = np.zeros(SHAPE, np.float32)
    entropy[:, 4 * seed : 4 * seed + 8, 8:16] = 0.9
    return entropy


@pytest.fixture
def run(here, monkeypatch, capsys):
    """run(arguments) -> (exit code, stdout, stderr), through the same door as `python refine.py`."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["refine.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            command_line.run(refine.main)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return exit_.value.code, out, err

    return call


def result(directory, stem, role="refined"):
    return pipeline.open_result(directory, stem, role).read(whole(SHAPE))


def test_an_image_and_an_ensemble(run):
    command = ["--input", "stacks/a.tif", "--ensemble", "ensemble", "--refiner", "mae", "--output", "out"]
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert "a: " in out and "hidden" in out and "out/a.json" in out
    summary = json.loads(Path("out/a.json").read_text())
    exported = open_volume("out/a_refined.tif")
    assert exported.voxel_size_nm == SIZE
    np.testing.assert_array_equal(exported.read(whole(SHAPE)), result("out", "a"))
    assert summary["changed_voxels"] > 0
    code, out, _ = run(*command)
    assert code == 0 and "complete already" in out


def test_the_threshold_is_the_refiners_unless_one_is_given(run, monkeypatch):
    def used():
        return json.loads(Path("out/a.json").read_text())["made_by"]["settings"]["threshold"]

    code, out, _ = run(*IMAGE)
    assert code == 0 and "threshold 0.4, of runs/fill;" in out and used() == 0.4
    models = {"segmenter": segmenter(), "refiner": refiner(threshold=0.7)}
    monkeypatch.setattr(pipeline, "load_model", lambda _, kind: models[kind])
    code, out, err = run(*IMAGE)
    assert code == 2 and "settings.threshold was 0.4 and is now 0.7" in err and err.count("\n") == 1
    code, out, _ = run(*IMAGE, "--overwrite")
    assert code == 0 and "threshold 0.7, of runs/fill;" in out and used() == 0.7
    for given in (["--threshold", "0.5"], ["--config.threshold=0.5"]):
        code, out, _ = run(*IMAGE, *given, "--overwrite")
        assert code == 0 and "threshold 0.5, as given;" in out and used() == 0.5
    code, out, _ = run(*IMAGE, "--refiner", "none", "--overwrite")
    assert code == 0 and "threshold 0.4, default without a refiner;" in out and used() == 0.4


@pytest.mark.parametrize("size", ["30,5,5.1", "30,3.9,4", "60,5,4"])
def test_another_voxel_size_than_in_training_is_one_line_of_warning(run, size):
    code, _, err = run(*IMAGE, "--voxel_size_nm", size, *SMALL)
    assert code == 0 and Path("out/a.json").exists()
    assert err.startswith(f"warning: a has voxels of {size.replace(',', ' x ')} nm") and err.count("\n") == 1
    assert "runs/fake was trained on 30 x 5 x 4 nm" in err


def test_a_voxel_size_that_is_similar_or_not_known_is_no_reason_for_a_warning(run):
    code, _, err = run(*IMAGE, "--voxel_size_nm", "36,4.1,4.9")
    assert (code, err) == (0, "")
    tifffile.imwrite("unknown.tif", image(), imagej=True, metadata={"axes": "ZYX"})
    code, _, err = run(*IMAGE[2:], "--input", "unknown.tif")
    assert (code, err) == (0, "")


def test_models_of_different_voxel_sizes_are_refused(run, monkeypatch):
    models = {"segmenter": segmenter(), "refiner": refiner(voxel_size_nm=[30.0, 5.0, 5.0])}
    monkeypatch.setattr(pipeline, "load_model", lambda _, kind: models[kind])
    code, _, err = run(*IMAGE)
    assert code == 2 and err.count("\n") == 1 and not Path("out").exists()
    assert "runs/fake was trained with voxels of [30.0, 5.0, 4.0]" in err and "runs/fill of [30.0, 5.0, 5.0]" in err


def test_several_inputs_globs_and_name_patterns(run):
    code, out, err = run(
        *["--input", "stacks/[ab].tif", "stacks/c.tif", "--labels", "./{stem}_labels.tif"],
        *["--entropy", "{stem}_entropy.tif", "--refiner", "mae", "--output", "out", *SMALL],
    )
    assert (code, err) == (0, "") and "3 of 3 inputs done" in out
    for seed, stem in enumerate("abc"):
        np.testing.assert_array_equal(result("out", stem, "initial"), labels(seed))
        assert (result("out", stem, "hidden")[:, 4 * seed : 4 * seed + 8, 8:16] == 1).all()
        assert result("out", stem, "hidden").mean() < 0.2
    assert not Path("out/a_refined.tif").exists(), "the smoke mode exports no TIFF"


def test_labels_alone_with_a_glob(run):
    for stem in "ab":
        write_tiff(f"{stem}_labels_mask.tif", entropy_of(0) > 0, None)
    code, _, err = run(
        "--labels", "[ab]_labels.tif", "--hidden", "{stem}_mask.tif", "--refiner", "mae", "--output", "out"
    )
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(result("out", "b_labels", "initial"), labels(1))
    np.testing.assert_array_equal(result("out", "b_labels", "hidden"), entropy_of(0) > 0)


def test_probabilities_and_zarr_and_slices(run):
    draw = np.random.default_rng(1).dirichlet(np.ones(4), SHAPE).astype(np.float32)
    for name, share in (("first", draw), ("second", draw**2 / (draw**2).sum(-1, keepdims=True))):
        tifffile.imwrite(f"{name}.tif", np.moveaxis(share, -1, 0), photometric="minisblack", metadata={"axes": "CZYX"})
    code, _, err = run("--probabilities", "first.tif", "second.tif", "--refiner", "mae", "--output", "out")
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(result("out", "first", "initial"), draw.argmax(-1))
    code, _, err = run(
        *["--labels", "out/first.ome.zarr/labels/initial[1:3]", "--entropy", "out/first.ome.zarr/entropy[1:3]"],
        *["--refiner", "mae", "--output", "again"],
    )
    assert (code, err) == (0, "")
    stored = pipeline.open_result("again", "initial", "initial")
    np.testing.assert_array_equal(stored.read(whole(stored.shape)), draw.argmax(-1)[1:3])


def test_refiner_none_only_segments(run):
    code, out, _ = run(
        "--input", "stacks/a.tif", "--ensemble", "ensemble", "--refiner", "none", "--output", "out", *SMALL
    )
    assert code == 0 and "0.00% relabelled" in out
    assert not Path("out/a.ome.zarr/labels/refined").exists() and Path("out/a.ome.zarr/entropy").exists()


def test_one_failing_input_does_not_stop_the_rest(run):
    bad = image()
    bad[0, 0, 0] = np.nan
    tifffile.imwrite("stacks/b.tif", bad, imagej=True, metadata={"axes": "ZYX"})
    Path("stacks/c.tif").write_bytes(Path("stacks/c.tif").read_bytes()[:300])
    command = ["--input", "stacks/[abc].tif", "--ensemble", "ensemble", "--refiner", "mae", "--output", "out", *SMALL]
    code, out, err = run(*command)
    assert code == 1 and "1 of 3 inputs done; failed: c, b" in out
    assert "error: b: stacks/b.tif holds nan" in err and "error: c: stacks/c.tif" in err and err.count("\n") == 2
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.json", "a.ome.zarr"], "half-written output"
    write_tiff("stacks/b.tif", image(1), SIZE)
    write_tiff("stacks/c.tif", image(2), SIZE)
    code, out, _ = run(*command)
    assert code == 0 and "out/a.json is complete already" in out and "3 of 3" in out


def damage_last_page(path):
    """A compressed stack of whole numbers whose last page is no compressed data: it opens, and cannot be read."""
    tifffile.imwrite(path, image().astype(np.uint8), compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages[-1].dataoffsets[0], tif.pages[-1].databytecounts[0]
    content = bytearray(Path(path).read_bytes())
    content[start : start + count] = bytes(count)
    Path(path).write_bytes(content)


def test_a_damaged_page_found_midway_is_one_message_and_leaves_nothing_that_looks_finished(run):
    damage_last_page("stacks/b.tif")
    command = [*IMAGE[2:], "--axes", "ZYX", "--config.block=1,64,64"]
    code, out, err = run(*command, "--input", "stacks/b.tif")
    assert code == 2 and "relabelled" not in out
    assert err.startswith("error: stacks/b.tif: page 2 cannot be decoded") and err.count("\n") == 1
    assert [path.name for path in Path("out").iterdir()] == ["b.ome.zarr"], "a sidecar or an export looks finished"
    code, out, err = run(*command, "--input", "stacks/[ab].tif")
    assert code == 1 and "1 of 2 inputs done; failed: b" in out and err.startswith("error: b: stacks/b.tif: page 2")
    assert Path("out/a.json").exists() and not Path("out/b.json").exists()


def test_interrupted_is_130_and_the_same_command_continues(run, monkeypatch):
    command = ["--input", "stacks/a.tif", "--ensemble", "ensemble", "--refiner", "mae", "--output", "out"]
    command += ["--config.block=1,8,64"]
    real, calls = passes.refine_block, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(passes, "refine_block", interrupted)
    code, _, err = run(*command)
    assert code == 130 and not Path("out/a.json").exists() and "interrupted" in err
    assert run(*command)[0] == 0
    assert len(calls) == 12 + 1, "a finished block was repeated"


IMAGE = ["--input", "stacks/a.tif", "--ensemble", "ensemble", "--refiner", "mae", "--output", "out"]
LABELS = ["--labels", "a_labels.tif", "--refiner", "mae", "--output", "out"]


def write(path, array, **options):
    return lambda: tifffile.imwrite(path, array, **({"imagej": True, "metadata": {"axes": "ZYX"}} | options))


PLAIN = {"imagej": False, "photometric": "minisblack", "metadata": None}


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (None, [*IMAGE[2:], "--input", "none.tif"], "no such file: none.tif"),
        (None, [*IMAGE[2:], "--input", "stacks/*.tiff"], "no file matches"),
        (None, IMAGE[2:], "--input is missing"),
        (None, IMAGE[:4] + IMAGE[6:], "--refiner is missing"),
        (None, IMAGE[:6], "--output is missing"),
        (None, IMAGE[:2] + IMAGE[4:], "expected one of --ensemble"),
        (None, [*IMAGE, "--labels", "a_labels.tif"], "found --ensemble and --labels"),
        (None, [*IMAGE, "--entropy", "stacks/a_entropy.tif"], "--entropy belongs to --labels"),
        (None, LABELS, "--labels needs one of --entropy and --hidden"),
        (None, [*LABELS, "--entropy", "x.tif", "--hidden", "y.tif"], "found --entropy and --hidden"),
        (None, [*IMAGE, "--treshold", "0.3"], "did you mean '--threshold'?"),
        (None, [*IMAGE, "--threshold", "high"], "threshold must be a number"),
        (None, [*IMAGE, "--threshold", "2"], "threshold is 2.0, expected 0 to 1"),
        (None, [*IMAGE, "--config.treshold=1"], "did you mean 'threshold'?"),
        (None, [*IMAGE, "--config.block=1,2"], "three positive numbers"),
        (None, [*IMAGE, "--config", f"{refine.CONFIG}:fast"], "has no mode 'fast'"),
        (None, [*IMAGE, "--config", "configs/none.py"], "no config file"),
        (None, [*IMAGE, "--voxel_size_nm", "5"], "three positive numbers"),
        (None, [*IMAGE, "--voxel_size_nm", "a,b,c"], "three positive numbers"),
        (None, [*IMAGE, "--channel", "1"], "has no channel axis"),
        (None, [*IMAGE, "--ensemble", "stacks"], "stacks is not the workdir of a train.py run"),
        (None, [*IMAGE, "--refiner", "nowhere"], "nowhere is not the workdir"),
        (None, [*IMAGE, "--axes", "CZYX"], "names 4 axes, but stacks/a.tif has 3"),
        (
            None,
            ["--input", "stacks/[ab].tif", "--labels", "a_labels.tif", "--hidden", "{stem}", *LABELS[2:]],
            "with several inputs a name pattern",
        ),
        (
            None,
            [*IMAGE[2:], "--input", "stacks/a.tif", "a_labels.tif", "./stacks/a.tif"],
            "several inputs are called 'a'",
        ),
        (write("x.tif", image()[0], metadata={}), [*IMAGE[2:], "--input", "x.tif"], "x.tif is a plane"),
        (write("x.tif", image(), **PLAIN), [*IMAGE[2:], "--input", "x.tif"], "give them, e.g. --axes ZYX"),
        (write("x.tif", image() * np.nan), [*IMAGE[2:], "--input", "x.tif"], "x.tif holds nan"),
        (lambda: Path("x.tif").write_bytes(b""), [*IMAGE[2:], "--input", "x.tif"], "empty or truncated"),
        (write("a_labels.tif", labels() + 3), [*LABELS, "--entropy", "stacks/a_entropy.tif"], "expected 0 to 4"),
        (
            write("a_labels.tif", labels() + np.float32(0.5)),
            [*LABELS, "--entropy", "stacks/a_entropy.tif"],
            "holds 0.5; labels are whole numbers",
        ),
        (write("x.tif", image()[:2] / 300), [*LABELS, "--entropy", "x.tif"], "has shape (2, 29, 38), but"),
        (write("x.tif", entropy_of(0) * 1.5), [*LABELS, "--entropy", "x.tif"], "nats"),
        (write("x.tif", entropy_of(0) * np.nan), [*LABELS, "--entropy", "x.tif"], "x.tif holds nan"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(run, prepare, arguments, message):
    if prepare is not None:
        prepare()
    before = sorted(Path().rglob("*"))
    code, out, err = run(*arguments)
    assert code == 2
    assert message in err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    assert all(line.startswith("threshold ") for line in out.splitlines())


def test_other_number_of_classes_in_the_workdirs(run, monkeypatch):
    three = {"names": ["background", "in", "out"], "colours": [[0, 0, 0]] * 3, "ambiguous": -1}
    monkeypatch.setattr(
        pipeline, "load_model", lambda _, kind: segmenter() if kind == "segmenter" else refiner(scheme=three)
    )
    code, _, err = run(*IMAGE)
    assert code == 2 and "trained for different classes" in err
    code, _, err = run(*LABELS, "--entropy", "stacks/a_entropy.tif")
    assert code == 2 and "holds the labels [3], expected 0 to 2" in err
    assert not Path("out").exists()


def test_an_output_that_cannot_be_written(run):
    Path("out").write_text("a file, no folder")
    code, _, err = run(*IMAGE)
    assert code == 1 and err.startswith("error: a: ") and "out" in err


def test_other_formats_give_the_same_result(run):
    pytest.importorskip("h5py")
    code, _, err = run("--input", "stacks/a.tif", *LABELS, "--entropy", "stacks/a_entropy.tif")
    assert code == 0, err
    raw = np.stack([image()[::-1], image()])
    options = {"voxel_size_nm": SIZE, "classes": 2, "channels": ("back", "em")}
    stored = create_ome_zarr("a.ome.zarr", SHAPE, raw.dtype, **options)
    stored.write(tuple(slice(0, n) for n in raw.shape), raw)
    for name, array in (("a.n5", labels().astype(np.uint8)), ("a.h5:/volumes/entropy", entropy_of(0))):
        create_volume(name, SHAPE, array.dtype, voxel_size_nm=SIZE).write(whole(SHAPE), array)
    command = ["--input", "a.ome.zarr", "--labels", "{stem}.n5", "--entropy", "{stem}.h5:/volumes/entropy"]
    code, _, err = run(*command, "--channel", "em", "--refiner", "mae", "--output", "other")
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(result("other", "a"), result("out", "a"))
    code, _, err = run(*command, "--channel", "er", "--refiner", "mae", "--output", "third")
    assert code == 2 and "no channel of that name" in err and "called back, em" in err


def test_a_refiner_without_ways_to_fill_says_so(run):
    given = ("--input", "stacks/a.tif", "--ensemble", "ensemble", "--refiner", "mae", "--output", "out")
    code, _, err = run(*given, "--config.use.rounds=2")
    assert code == 2 and "method 'fill' fills in one way; leave out" in err


def test_non_ascii_paths(run):
    Path("données µ").mkdir()
    write_tiff("données µ/Zelle 1.tif", image(), SIZE)
    code, _, err = run(*IMAGE[2:], "--input", "données µ/Zelle 1.tif")
    assert (code, err) == (0, "") and Path("out/Zelle 1_refined.tif").exists()


def test_the_script_itself_answers_fast_and_without_traceback():
    root = Path(refine.__file__).parent
    started = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            root / "refine.py",
            "--input",
            "none.tif",
            "--output",
            "o",
            "--refiner",
            "none",
            "--ensemble",
            "x",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: --ensemble x is not the workdir of a train.py run: it has no config.json\n"
    assert time.monotonic() - started < 10
    check = "import sys, refine; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=root, check=False).returncode == 0, "jax is imported early"


def test_parts_are_run_again_until_all_is_done(run):
    command = [*IMAGE, "--num_parts", "2", "--config.block=1,16,16", "--config.wait_minutes=0", "--part_id"]
    code, _, err = run(*command, "0")
    assert code == 1 and "waited 0 minutes" in err and "run the same command again when the parts 1 are done" in err
    code, out, _ = run(*command, "1")
    assert code == 0 and "waits for the parts 0" in out and not Path("out/a.json").exists()
    code, out, _ = run(*command, "0")
    assert code == 0 and "relabelled" in out and Path("out/a.json").exists()
    code, _, err = run(*command, "2", "--overwrite")
    assert code == 2 and "part_id is 2 of num_parts 2" in err
    code, _, err = run(*command, "1", "--workers", "2")
    assert code == 2 and "expected one of the two" in err


def test_dry_run_of_twelve_stacks_of_the_papers_size_writes_nothing(run, monkeypatch):
    monkeypatch.setattr(plan, "_TIMED_S", 0.1)
    for i, depth in enumerate(np.linspace(74, 234, 12).astype(int)):
        for name in ("labels", "entropy"):  # no chunk is written: they take no disk
            create_ome_zarr(f"{name}/{i:02}.ome.zarr", (depth, 2048, 2048), "uint8", voxel_size_nm=SIZE)
    before = sorted(Path().rglob("*"))
    command = ["--labels", "labels/*", "--entropy", "entropy/{stem}.ome.zarr", "--refiner", "mae"]
    code, out, err = run(*command, "--output", "out", "--dry_run", "--num_parts", "4")
    assert (code, err) == (0, "")
    assert out.count(" x 2048 x 2048 voxels of 30 x 5 x 4 nm") == 12 and "00: 74 x" in out
    assert "all 12: disk at most" in out and "shared by 4 parts" in out and out.count("not measured") == 2
    assert sorted(Path().rglob("*")) == before


def test_a_batch_table_and_a_folder_of_volumes(run):
    rows = ["image,labels,entropy,hidden,stem,axes,voxel_size_nm", "stacks/a.tif,,,,,,", "stacks/none.tif,,,,,,"]
    rows += ["stacks/b.tif,b_labels.tif,stacks/b_entropy.tif,,,,", 'plain.tif,,,,c,ZYX,"30,5,4"']
    tifffile.imwrite("plain.tif", image(2), photometric="minisblack", metadata=None)
    Path("table.csv").write_text("\n".join(rows))
    command = ["--batch", "table.csv", "--ensemble", "ensemble", "--refiner", "mae", "--output", "out", *SMALL]
    code, out, err = run(*command)
    assert code == 1 and "2 of 4 inputs done; failed: table.csv line 4, none" in out
    assert "error: table.csv line 4: expected one of ensemble" in err and "no such file: stacks/none.tif" in err
    assert err.count("\n") == 2
    assert sorted(path.name for path in Path("out").glob("*.json")) == ["a.json", "c.json"]
    assert pipeline.open_result("out", "c", "refined").voxel_size_nm == SIZE
    code, _, err = run(*command, "--input", "stacks/a.tif")
    assert code == 2 and "--batch and --input both say what to refine" in err
    Path("many").mkdir()
    for stem in "ab":
        create_volume(f"many/{stem}.npy", SHAPE, "float32").write(whole(SHAPE), image())
    given = ["--axes", "ZYX", "--voxel_size_nm", "30,5,4", "--output", "folder", *SMALL]
    code, out, err = run("--input", "many", "--ensemble", "ensemble", "--refiner", "mae", *given)
    assert (code, err) == (0, "") and "2 of 2 inputs done" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dry_run"], "does not go with --dry_run"),
        (["--num_parts", "2"], "does not go with --num_parts"),
        (["--workers", "2"], "does not go with --workers"),
        (["--refiner", "none"], "does not go with --refiner none"),
        (["--input", "stacks/a.tif", "stacks/b.tif"], "tries one input, found a, b"),
    ],
)
def test_a_threshold_is_suggested_for_one_input_in_one_process(run, more, message):
    code, _, err = run(*IMAGE, "--suggest_threshold", "a_labels.tif", *more)
    assert code == 2 and message in err and err.count("\n") == 1 and not Path("out").exists()


def test_a_dry_run_refuses_what_the_run_would_refuse(run, monkeypatch):
    known = {"threshold": 0.9, "entropy_kind": "votes", "classes": 5, "members": 3}
    models = {"segmenter": segmenter(), "refiner": refiner()._replace(chosen=known)}
    monkeypatch.setattr(pipeline, "load_model", lambda _, kind: models[kind])
    code, _, err = run(*IMAGE, "--dry_run")
    assert code == 2 and "belongs to entropy_kind votes, found mean" in err and err.count("\n") == 1


def test_paths_may_go_up(run):
    Path("below").mkdir()
    code, _, err = run(*IMAGE, "--output", "below/../out")
    assert (code, err) == (0, "") and result("below/../out", "a").shape == SHAPE


def test_orientations_belong_to_an_ensemble(run):
    entropy = ["--entropy", "stacks/a_entropy.tif"]
    code, _, err = run(*LABELS, *entropy, "--config.ensemble_symmetries=true")
    assert code == 2 and "how --ensemble predicts, which is missing" in err and not Path("out").exists()


def channels():
    """Image and a stain that is bright on the outlines of the refined labels of "a": two channels, and a file of it."""
    bright = witness.near_outline(labels_from_disk(result("out", "a")), (1, 2, 3, 4), 3) * 200 + 10
    both = np.stack([image(), bright]).astype(np.float32)
    tifffile.imwrite("both.tif", both.swapaxes(0, 1), imagej=True, metadata={"axes": "ZCYX"})
    write_tiff("a_tom20.tif", bright.astype(np.uint8), SIZE)


def sidecar(stem="a", directory="out"):
    return json.loads(Path(directory, f"{stem}.json").read_text())


def test_the_report_is_of_all_inputs_the_same_when_run_again_and_can_be_left_out(run):
    command = ["--input", "stacks/[ab].tif", *IMAGE[2:]]
    code, out, err = run(*command)
    assert (code, err) == (0, "") and "pictures and tables: out/report.html" in out
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "2 volumes" in page and page.count("<figure class=slider>") == 2 and "How to cite" in page
    assert run(*command)[0] == 0 and Path("out/report.html").read_text(encoding="utf-8") == page
    damage_last_page("stacks/b.tif")
    code, _, err = run("--input", "stacks/[ab].tif", *IMAGE[2:6], "--output", "other", "--axes", "ZYX")
    assert code == 1 and "failed: stacks/b.tif: page 2" in Path("other/report.html").read_text(encoding="utf-8")
    code, out, _ = run(*IMAGE[:6], "--output", "none", "--config.report=false")
    assert code == 0 and not Path("none/report.html").exists() and "report.html" not in out


def test_the_last_part_makes_the_report(run):
    command = [*IMAGE, "--num_parts", "2", "--config.block=1,16,16", "--config.wait_minutes=0", "--part_id"]
    for part, there in (("0", False), ("1", False), ("0", True)):
        run(*command, part)
        assert Path("out/report.html").exists() == there, part


def test_a_witness_is_a_file_or_a_channel_and_may_come_later(run):
    assert run(*IMAGE)[0] == 0
    before = sidecar()
    channels()
    code, out, err = run(*IMAGE, "--witness", "./{stem}_tom20.tif")
    assert (code, err) == (0, "") and "complete already" in out and "near hidden tokens: AUROC" in out
    found = sidecar()["witness"]
    assert sidecar() == before | {"witness": found}
    assert found["everywhere"]["refined"]["auroc"] == 1.0 > found["everywhere"]["initial"]["auroc"]
    assert found["classes"] == [1, 2, 3, 4] and found["distance_vx"] == 3.0
    assert "Agreement with an independent stain" in Path("out/report.html").read_text(encoding="utf-8")
    code, _, err = run("--input", "both.tif", "--channel", "0", "--witness", "1", *IMAGE[2:])
    assert (code, err) == (0, "")
    again = sidecar("both")["witness"]
    assert again["near_hidden"]["refined"]["near_voxels"] == found["near_hidden"]["refined"]["near_voxels"]
    assert again["everywhere"]["refined"]["contrast"] == found["everywhere"]["refined"]["contrast"]
    assert run(*IMAGE, "--witness", "./{stem}_tom20.tif", "--config.witness_distance_vx=1")[0] == 0
    assert sidecar()["witness"]["everywhere"]["refined"]["contrast"] < found["everywhere"]["refined"]["contrast"]


def test_a_witness_is_counted_once(run, monkeypatch):
    assert run(*IMAGE)[0] == 0
    channels()
    calls, real = [], stain.score
    monkeypatch.setattr(stain, "score", lambda *arguments: (calls.append(1), real(*arguments))[1])
    for _ in range(2):
        assert run(*IMAGE, "--witness", "./{stem}_tom20.tif")[0] == 0
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nothing.tif", "no such file"),
        ("./{stem}_other.tif", "expected that of the input"),
        ("1", "has no channel axis"),
        ("tom20", "has no channel axis"),
    ],
)
def test_a_witness_that_cannot_be_used_is_one_line_before_any_work(run, given, message):
    write_tiff("a_other.tif", image()[:2], SIZE)
    code, _, err = run(*IMAGE, "--witness", given)
    assert code == 2 and message in err and err.count("\n") == 1 and not Path("out").exists()


def test_a_channel_is_one_of_an_image(run):
    code, _, err = run(*LABELS, "--entropy", "stacks/a_entropy.tif", "--witness", "1")
    assert code == 2 and "it is a channel of the image; give --input, or a path" in err
