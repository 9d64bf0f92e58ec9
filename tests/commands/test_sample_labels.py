"""maeref sample-labels as a user types it: what it writes is what maeref train takes, and what it refuses."""

import numpy as np
import pytest
import tifffile

from maeref_jax.samples.training_volumes import volumes_from_files
from maeref_jax.volumes.class_scheme import scheme_of_names
from maeref_jax.volumes.volume import open_volume, write_tiff

NAMES = "background,mitochondria"


@pytest.fixture
def truth(tmp_path):
    """A mask of 0 and 255, a tenth of it mitochondria, in one slice of six none; and its image."""
    mask = np.zeros((6, 40, 40), np.uint8)
    mask[:5, 10:20, 10:26] = 255
    for name in ("truth", "image"):
        write_tiff(tmp_path / f"{name}.tif", mask, (40.0, 8.0, 8.0))
    return tmp_path / "truth.tif"


def learned_from(folder, labels):
    split = {"images": (str(folder / "image.tif"),), "labels": (str(labels),), "entropy": (), "labelled_slices": ()}
    data = {"label_map": (), "shell_class": -1, "shell_vx": 0.0}
    return volumes_from_files(split, data, scheme_of_names(NAMES.split(",")), True, [].append)[0].labels


def test_clicks_and_a_label_volume_say_the_same_and_can_be_learned_from(run, truth, tmp_path):
    typed = (
        "maeref",
        "sample-labels",
        "--labels",
        truth,
        "--classes",
        NAMES,
        "--per_class",
        "3",
        "--slices",
        "0:6:5,2",
    )
    found = []
    for name in ("clicks.csv", "clicks.tif", "again.csv"):
        done = run(*typed, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
        found.append(learned_from(tmp_path, tmp_path / name))
    assert (tmp_path / "clicks.csv").read_text() == (tmp_path / "again.csv").read_text()
    np.testing.assert_array_equal(found[0], found[1])
    mask = tifffile.imread(truth) > 0
    assert (found[0] >= 0).sum((1, 2)).tolist() == [6, 0, 6, 0, 0, 3]
    assert ((found[0] == mask) | (found[0] < 0)).all()
    assert set(np.unique(tifffile.imread(tmp_path / "clicks.tif"))) == {0, 1, 255}
    assert open_volume(tmp_path / "clicks.tif").voxel_size_nm == (40.0, 8.0, 8.0)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["mitochondria", "6", "320", "5"] in rows and ["background", "9", "4,480"] in rows
    assert "15 of 9,600 voxels are labelled (0.156 %): background 9, mitochondria 6" in done.stdout


def test_without_names_ids_are_classes_and_unknown_is_never_drawn(run, tmp_path):
    ids = np.full((2, 16, 16), 255, np.uint8)
    ids[:, 4:8], ids[:, 8:10] = 0, 3
    tifffile.imwrite(tmp_path / "ids.tif", ids)
    typed = ("maeref", "sample-labels", "--labels", tmp_path / "ids.tif", "--axes", "ZYX", "--share", "0.05")
    done = run(*typed, "--output", tmp_path / "c.csv", "--seed", "4")
    assert done.returncode == 0, done.stderr
    classes = [line.split(",")[3] for line in (tmp_path / "c.csv").read_text().splitlines()[1:]]
    assert len(classes) == 26 and set(classes) == {"0", "3"} and abs(classes.count("0") - 13) <= 1
    assert "nothing was drawn of 1, 2" in done.stderr


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ((), "expected one of --per_class K and --share S, found neither"),
        (("--per_class", "1", "--share", "0.1"), "found both"),
        (("--per_class", "0"), "--per_class must be at least 1, found 0"),
        (("--share", "1.5"), "--share must be above 0 and at most 1 (all voxels), found 1.5"),
        (("--per_class", "1", "--slices", "3:99", "--classes", NAMES), "--slices holds '3:99', but"),
        (("--per_class", "1", "--slices", "one", "--classes", NAMES), "--slices holds 'one', expected a slice"),
        (("--per_class", "1", "--at_voxel_size_nm", "8,8,8"), "leave --at_voxel_size_nm out here"),
        (("--per_class", "1", "--label_map", "0:0,255:1"), "the classes have to be named, too: --classes"),
        (("--per_class", "1"), "holds no class but 0, 255 is unknown; say what they mean: --classes"),
        (("--per_class", "1", "--piece_gb", "much"), "--piece_gb must be a number, found 'much'"),
        (
            ("--per_class", "1", "--inside_vx", "30", "--classes", NAMES, "--slices", "1"),
            "30 of their own class to all sides",
        ),
        (("--per_class", "1", "--config.seed=1"), "this command has no config"),
    ],
)
def test_what_contradicts_itself_is_one_line_and_writes_nothing(run, truth, tmp_path, typed, message):
    done = run("maeref", "sample-labels", "--labels", truth, "--output", tmp_path / "c.csv", *typed)
    assert done.returncode == 2 and message in done.stderr and done.stderr.startswith("error: ")
    assert not (tmp_path / "c.csv").exists()


@pytest.mark.parametrize(("typed", "slices"), [("[1:3]", "1:3"), ("[2:]", "2:"), ("[0:6:2]", "0:6:2")])
def test_a_range_of_the_file_is_refused_for_clicks_are_voxels_of_the_whole(run, truth, tmp_path, typed, slices):
    given = ("--labels", f"{truth}{typed}", "--output", tmp_path / "c.csv", "--per_class", "1", "--classes", NAMES)
    done = run("maeref", "sample-labels", *given)
    assert done.returncode == 2 and not (tmp_path / "c.csv").exists()
    assert done.stderr.rstrip().endswith(f"give --labels {truth} --slices {slices}") and done.stderr.count("\n") == 1


def test_what_is_there_is_not_replaced_and_objects_are_no_classes(run, truth, tmp_path):
    done = run("maeref", "sample-labels", "--labels", truth, "--output", truth, "--per_class", "1")
    assert done.returncode == 2 and "is there already, and may be somebody's clicks" in done.stderr
    done = run("maeref", "sample-labels", "--labels", truth, "--output", tmp_path / "no" / "c.csv", "--per_class", "1")
    assert done.returncode == 2 and "there is no folder" in done.stderr
    tifffile.imwrite(tmp_path / "objects.tif", np.arange(800, dtype=np.uint16).reshape(2, 20, 20))
    typed = ("--labels", tmp_path / "objects.tif", "--axes", "ZYX", "--output", tmp_path / "c.csv", "--per_class", "1")
    done = run("maeref", "sample-labels", *typed)
    assert done.returncode == 2 and "holds ids up to 799, expected classes" in done.stderr
