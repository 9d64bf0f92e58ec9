"""A 3-D ensemble from training to use, as a user types it: refine.py, one member by itself, out-of-fold predictions."""

import json
import os

import jax
import numpy as np
import pytest
import tifffile

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import out_of_fold
from maeref_jax.experiments.export_member import export_member
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import methods
from maeref_jax.segmenters import ensemble
from maeref_jax.uncertainty.entropy import normalised_entropy
from maeref_jax.volumes.volume import array_volume, write_tiff
from maeref_jax.volumes.windows import whole

SETTINGS = (
    "--config.subsets=folds", "--config.model.norm=batch", "--config.loss=cross_entropy+dice", "--config.steps=2",
    "--config.data.phantom.shape=8,32,32",
)  # fmt: skip


@pytest.fixture(scope="module")
def workdir(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("stacks") / "ensemble"
    done = run("train.py", "--config", "configs/ensemble_3d.py:smoke", "--workdir", path, *SETTINGS)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def predicted(workdir, tmp_path_factory):
    output = tmp_path_factory.mktemp("out_of_fold")
    return output, out_of_fold.predict(workdir, output, say=lambda line: None)


def test_training_leaves_a_workdir_with_statistics_per_member(workdir):
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["steps"] == 2 and summary["member_steps"] == [2, 2]
    (line,) = (json.loads(text) for text in (workdir / "metrics.jsonl").read_text().splitlines())
    assert {"validation_loss_member_0", "validation_loss_member_1"} <= set(line)
    model = methods.load_model(workdir, "segmenter")
    assert model.apply.dims == 3 and {leaf.shape[0] for leaf in jax.tree.leaves(model.params)} == {2}
    means = model.state["batch_stats"]["bottom"]["norm0"]["mean"]
    assert means.shape[0] == 2 and np.abs(means[0] - means[1]).max() > 0


def test_a_workdir_without_a_setting_that_a_model_has_now_is_refused_by_its_name(workdir, tmp_path):
    config = json.loads((workdir / "config.json").read_text())
    del config["config"]["model"]["plane_levels"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"by a version that had no setting 'plane_levels'.*train it again"):
        methods.load_model(tmp_path, "segmenter")


def test_annotated_volumes_are_predicted_by_the_members_that_did_not_see_them(predicted, workdir):
    output, members = predicted
    assert members == {"phantom_0": (1,), "phantom_1": (0,)}
    model = methods.load_model(workdir, "segmenter")
    for seed, own in ((0, 1), (1, 0)):
        image = phantom(seed, (8, 32, 32), (40.0, 10.0, 10.0)).image  # one window
        probabilities = jax.jit(model.apply.predict)(model.params, model.state, image[None])
        expected = np.asarray(normalised_entropy(probabilities))[:, 0] * 255
        found = tifffile.imread(output / f"phantom_{seed}_entropy.tif")
        assert np.abs(found - expected[own]).max() < 0.51 < np.abs(found - expected[1 - own]).max()


def test_annotated_files_are_known_by_their_labels_and_give_results_of_different_names(tmp_path):
    stack = np.arange(6 * 8 * 8, dtype=np.uint8).reshape(6, 8, 8)
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "image.tif", tmp_path / "b" / "image.tif"):
        tifffile.imwrite(path, stack)
    images = tuple(f"{tmp_path}/{name}" for name in ("image.tif[0:2]", "image.tif[2:6]", "image.tif", "b/image.tif"))
    labels = tuple(f"{tmp_path}/{name}" for name in ("l.tif[0:2]", "l.tif[2:6]", "l.tif", "b/l.tif"))
    data = {"phantom": {"train": ()}, "train": {"images": images, "labels": labels}, "axes": "ZYX"}
    found = out_of_fold.annotated({"data": data, "voxel_size_nm": (1.0, 1.0, 1.0)})
    assert [name for name, _, _ in found] == list(labels)
    assert [stem for _, stem, _ in found] == ["image_0_2", "image_2_6", "image_2", "image_3"]
    volume = found[1][2]()
    np.testing.assert_array_equal(volume.read(whole(volume.shape)), stack[2:6])


def test_a_volume_that_everybody_saw_is_refused_before_anything_is_written(workdir, tmp_path):
    config = json.loads((workdir / "config.json").read_text())
    config["facts"]["member_volumes"] = [["phantom_0", "phantom_1"]] * 2
    del config["facts_blake2b"]  # as an earlier version wrote it
    copy = tmp_path / "copy"
    copy.mkdir()
    os.symlink(workdir / "checkpoints", copy / "checkpoints")
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="every member of the ensemble was trained on phantom_0"):
        out_of_fold.predict(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_exported_member_says_what_it_said_in_the_ensemble(workdir, tmp_path):
    export_member(workdir, 1, tmp_path / "one")
    many, alone = (methods.load_model(path, "segmenter") for path in (workdir, tmp_path / "one"))
    image = np.random.default_rng(0).uniform(0, 255, (1, 8, 32, 32)).astype(np.float32)
    together, own = (jax.jit(model.apply.predict)(model.params, model.state, image) for model in (many, alone))
    assert own.shape[0] == 1
    np.testing.assert_allclose(own[0], together[1], atol=1e-6)
    assert np.abs(own[0] - together[0]).max() > 1e-4
    assert alone.facts["member_volumes"] == [["phantom_1"]] and alone.facts["volumes"] == ["phantom_1"]
    with pytest.raises(BadInput, match="there already"):
        export_member(workdir, 1, tmp_path / "one")
    with pytest.raises(BadInput, match="members 0 … 1"):
        export_member(workdir, 2, tmp_path / "other")


def test_a_3d_ensemble_is_judged_by_the_command_that_judges_a_2d_one(run, workdir, tmp_path):
    phantoms = {"phantom.voxel_size_nm": "40,10,10", "phantom.shape": "12,64,64", "phantom.seeds": "(100,)"}
    settings = phantoms | {"fading.seeds": "(200,)", "fading.mitochondria": 3, "ensemble": workdir}
    overrides = [f"--config.{name}={value}" for name, value in settings.items()]
    done = run(
        "evaluate.py", "--config", "configs/evaluate.py:uncertainty", "--workdir", tmp_path / "judged", *overrides
    )
    assert done.returncode == 0, done.stderr
    assert "Members, their mean, their vote" in done.stdout and "Entropy where the signal was taken away" in done.stdout
    assert (tmp_path / "judged" / "uncertainty.html").exists()
    assert "volumes phantom_100, phantom_200  models ensemble" in (tmp_path / "judged" / "openings.log").read_text()


@pytest.mark.parametrize("mode", ["small", "small_2d"])
def test_the_small_stacks_differ_in_the_network_alone(mode):
    config = load_config(f"configs/ensemble_3d.py:{mode}", []).to_dict()
    same = load_config("configs/ensemble_3d.py:small", []).to_dict()
    for name in ("members", "voxel_size_nm", "data", "seed", "subsets", "volumes_per_member", "augmentation"):
        assert config[name] == same[name]
    method = ensemble.method(config)
    assert method.members == 3 and len(config["window"]) == (2 if mode == "small_2d" else 3)


def test_the_commands_answer_and_an_exported_member_segments_a_stack(run, workdir, tmp_path):
    done = run("maeref", "export-member", "--ensemble", workdir, "--member", "0", "--output", tmp_path / "zero")
    assert done.returncode == 0 and "ready" in done.stdout, done.stderr
    made = phantom(9, (10, 40, 44), (40.0, 10.0, 10.0))
    write_tiff(tmp_path / "cell.tif", array_volume(made.image, "cell", made.voxel_size_nm), made.voxel_size_nm)
    models = ("--ensemble", tmp_path / "zero", "--refiner", "none", "--config.batch=1", "--config.block=8,64,64")
    done = run("refine.py", "--input", tmp_path / "cell.tif", "--output", tmp_path / "out", *models)
    assert done.returncode == 0, done.stderr
    assert tifffile.imread(tmp_path / "out" / "cell_initial.tif").shape == (10, 40, 44)
    done = run("maeref", "out-of-fold", "--ensemble", tmp_path / "nowhere", "--output", tmp_path / "x")
    assert done.returncode == 2 and "nowhere" in done.stderr and "Traceback" not in done.stderr
