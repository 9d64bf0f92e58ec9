"""experiments/sparse_labels.py: two phases into one workdir, which is then a segmenter like any other."""

import copy
import json
import shutil

import jax
import numpy as np
import pytest
import tifffile

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import clicked, sparse_labels
from maeref_jax.experiments import run as trainer
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.training import workdir as folder
from maeref_jax.training.checkpoint import load_best
from maeref_jax.volumes.volume import write_tiff

SIZE = (12.0, 6.0, 6.0)


def settings(*overrides):
    return load_config("sparse_labels:smoke", overrides).to_dict()


@pytest.fixture(scope="module")
def workdir(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("phases") / "clicks"
    done = run("train.py", "--config", "configs/sparse_labels.py:smoke", "--workdir", path)
    assert done.returncode == 0, done.stderr
    return path


def test_the_workdir_says_how_much_was_labelled(workdir):
    facts = json.loads((workdir / "config.json").read_text())["facts"]
    # One voxel of each of four classes in each of four slices of two phantoms.
    names = ("background", "intermembrane", "cristae", "matrix")
    wanted = {"voxels": 32, "of": 2 * 4 * 64 * 64, "share": 32 / (2 * 4 * 64 * 64), "classes": dict.fromkeys(names, 8)}
    assert facts["labelled"] == wanted and facts["validation_labelled"]["voxels"] == 16


def test_the_second_phase_starts_from_the_best_step_of_the_first(workdir):
    second = sparse_labels.of_pseudo_labels(settings())
    prepared = clicked.prepare(second, workdir, range(second["batch"]))
    batch = prepared.batches(0)
    params, state = prepared.method.init(jax.random.key(0), batch)
    best = load_best(workdir / "clicks")
    jax.tree.map(np.testing.assert_array_equal, (params, state), (best.params, best.state))
    assert batch["image"].shape == (2, 2, 3, 16, 16)
    found = [prepared.batches(step)["shared"]["threshold"] for step in (0, 99, 100, 10**6)]
    np.testing.assert_allclose(found, [0.5, 0.5, 0.505, 0.99])


def test_a_volume_is_segmented_with_entropy(run, workdir, tmp_path):
    write_tiff(tmp_path / "new.tif", phantom(7, (2, 40, 44), SIZE).image, SIZE)
    given = ("--input", tmp_path / "new.tif", "--ensemble", workdir, "--output", tmp_path / "out")
    done = run("refine.py", *given, "--refiner", "none", "--config.objects=False")
    assert done.returncode == 0, done.stderr
    labels, entropy = (tifffile.imread(tmp_path / "out" / f"new_{role}.tif") for role in ("initial", "entropy"))
    assert labels.shape == (2, 40, 44) and set(np.unique(labels)) <= {0, 1, 2, 3} and len(np.unique(entropy)) > 1


def test_what_is_there_is_not_trained_again(workdir, monkeypatch):
    trained = []
    monkeypatch.setattr(trainer, "train", lambda given, place: trained.append((place.name, given["phases"])))
    finished = workdir / "clicks" / "summary.json"
    sparse_labels.train(settings(), workdir)
    finished.rename(finished.with_suffix(".away"))
    sparse_labels.train(settings(), workdir)
    finished.with_suffix(".away").rename(finished)
    last = ("clicks", ("pseudo_labels",))
    assert trained == [last, ("clicks", ("clicks",)), last], "it goes on with the phase in which it was stopped"
    with pytest.raises(BadInput, match=r"losses\.margin"):
        sparse_labels.train(settings("--config.losses.margin=3.0"), workdir)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch=8", "batch: 4 there, 8 here"),
        ("optimizer.rate=0.5", r"optimizer\.rate: 3e-05 there, 0\.5 here"),
        ("init_from=elsewhere", "init_from: .*there, .*elsewhere.* here"),
    ],
)
def test_settings_of_the_first_phase_alone_cannot_be_changed_either(workdir, monkeypatch, override, message):
    trained = []
    monkeypatch.setattr(trainer, "train", lambda given, place: trained.append(place))
    with pytest.raises(BadInput, match=rf"clicks belongs to a run with other settings \({message}\)"):
        sparse_labels.train(settings(f"--config.{override}"), workdir)
    assert not trained


def test_more_steps_are_taken_by_the_second_phase_and_refused_for_the_first(workdir, monkeypatch):
    trained = []
    monkeypatch.setattr(trainer, "train", lambda given, place: trained.append((place.name, given["steps"])))
    with pytest.raises(BadInput, match=r"finished with 4 steps.*--config\.steps=6 take a new --workdir.*pseudo_labels"):
        sparse_labels.train(settings("--config.steps=6"), workdir)
    assert not trained
    sparse_labels.train(settings("--config.pseudo_labels.steps=3"), workdir)
    assert trained == [("clicks", 3)]


def test_a_workdir_that_was_moved_goes_on(workdir, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere"
    shutil.copytree(workdir, moved, ignore=shutil.ignore_patterns("compiled", "tensorboard"))
    monkeypatch.setattr(trainer, "train", lambda given, place: folder.check_same_run(place, given))
    sparse_labels.train(settings(), moved)
    second = json.loads((moved / "config.json").read_text())
    assert str(workdir) not in json.dumps(second), "nothing in it names its old place"
    shutil.rmtree(moved / "checkpoints")
    found = clicked.prepare(second["config"], moved, range(2)).method.init(jax.random.key(0), None)
    jax.tree.map(np.testing.assert_array_equal, found[0], load_best(moved / "clicks").params)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.window=(96,96)", "--config.use.tile=(128,128)"], "smaller than the window"),
        (["--config.data.phantom.clicks=0"], "no voxel of the training volumes is labelled background"),
        (["--config.model.filters=10"], "must be twice model.latent"),
        (["--config.phases=pseudo_labels,"], "phases must be"),
        (["--config.member_share=1.5"], "member_share must be between 0 and 1"),
        (["--config.pseudo_labels.neighbours=0"], "pseudo_labels.neighbours must be at least 1"),
        (["--config.optimizer.accumulate=2"], "optimizer.accumulate must be 1 where phases has pseudo_labels, found 2"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(overrides, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        sparse_labels.train(settings(*overrides), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_micro_batches_are_taken_where_there_are_no_pseudo_labels(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(trainer, "train", lambda given, place: trained.append(given["optimizer"]["accumulate"]))
    sparse_labels.train(settings("--config.optimizer.accumulate=2", "--config.phases=clicks,"), tmp_path / "new")
    assert trained == [2]


def test_a_workdir_in_a_bucket_is_refused_and_makes_no_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"^gs://bucket/run: .* on a local disk only$"):
        sparse_labels.train(settings(), "gs://bucket/run")
    assert not list(tmp_path.iterdir())


def of_files(tmp_path, validation_labels=None):
    """Settings of the first phase for files of 4 x 4 labelled voxels, or of other labels to judge by."""
    rng, files = np.random.default_rng(0), {}
    for split in ("train", "validation"):
        labels = np.full((2, 32, 32), 255, np.uint8)
        labels[1, 8:12, 8:12] = rng.integers(0, 4, (4, 4))
        labels = validation_labels if split == "validation" and validation_labels is not None else labels
        tifffile.imwrite(tmp_path / f"{split}.tif", rng.integers(0, 255, labels.shape).astype(np.uint8))
        tifffile.imwrite(tmp_path / f"{split}_labels.tif", labels)
        files[split] = {"images": (str(tmp_path / f"{split}.tif"),), "labels": (str(tmp_path / f"{split}_labels.tif"),)}
    given = copy.deepcopy(settings())
    given["data"]["phantom"].update({"train": (), "validation": ()})
    given["data"]["axes"], given["data"]["label_map"] = "ZYX", ("identity",)
    for split, own in files.items():
        given["data"][split].update(own)
    return {**given, "phases": ("clicks",)}


def test_clicks_of_files_are_taken_as_they_are(tmp_path):
    prepared = clicked.prepare(of_files(tmp_path), tmp_path / "new", range(4))
    assert prepared.facts["labelled"]["voxels"] == 16 and prepared.facts["labelled"]["of"] == 2048
    assert prepared.judged_on == "16 labelled voxels"


def test_a_volume_that_is_labelled_as_a_whole_is_judged_by_some_of_its_voxels_and_says_so(tmp_path):
    whole = (np.arange(2 * 64 * 64) % 16 == 0).astype(np.uint8).reshape(2, 64, 64)
    prepared = clicked.prepare(of_files(tmp_path, whole), tmp_path / "new", range(4))
    assert prepared.judged_on == "4,096 of 8,192 labelled voxels, drawn at random"
    labels = np.concatenate([batch["labels"] for batch in prepared.validation])
    assert len(labels) == 4096 and 180 < (labels == 1).sum() < 340, "a sixteenth, as in the volume"
    assert prepared.facts["validation_labelled"]["voxels"] == 8192
