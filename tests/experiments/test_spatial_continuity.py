"""spatial_continuity.py: stage after stage into one workdir, each made once, on a phantom of which few slices count."""

import copy
import json
import shutil

import numpy as np
import pytest
import tifffile

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import run, spatial_continuity
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.samples.labelled_slices import labelled_in
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole


def settings(*overrides):
    small = ("--config.steps=2", "--config.evaluate_every=2", "--config.augmentation.rotation_degrees=0")
    small += ("--config.augmentation.piecewise_share=0", "--config.use.symmetries=false")
    small += ("--config.network.use.symmetries=false", "--config.network.evaluate_every=2")
    return load_config("spatial_continuity:smoke", (*small, *overrides)).to_dict()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("stages") / "scm"
    spatial_continuity.train(settings(), path)
    return path


def test_the_threshold_that_was_chosen_is_the_one_the_segmenter_is_used_with(workdir):
    chosen = json.loads((workdir / "segmenter" / "foreground.json").read_text())
    model = methods.load_model(workdir / "segmenter", "segmenter")
    assert model.settings["use"] == {"symmetries": False, "foreground_threshold": chosen["threshold"]}


def test_a_workdir_from_before_there_was_a_threshold_decides_evenly(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "check_config", lambda *both: None)  # its checkpoint was as old
    old = tmp_path / "old"
    shutil.copytree(workdir / "segmenter", old)
    (old / "foreground.json").unlink()
    config = json.loads((old / "config.json").read_text())
    del config["config"]["use"]["foreground_threshold"]
    (old / "config.json").write_text(json.dumps(config))
    assert methods.load_model(old, "segmenter").settings["use"]["foreground_threshold"] == 0.5
    (old / "foreground.json").write_text('{"threshold": 2}')
    with pytest.raises(BadInput, match=r"foreground.json is damaged, expected what maeref train"):
        methods.load_model(old, "segmenter")


def test_targets_are_the_truth_where_it_is_known_and_masks_made_continuous_elsewhere(workdir):
    (stack,) = spatial_continuity.stacks_of(settings(), "train")
    assert labelled_in(stack.truth) == [0, 4, 8]
    target = tifffile.imread(workdir / "targets" / "train_phantom_0.tif").astype(int)
    masks = tifffile.imread(workdir / "predictions" / "train" / "phantom_0_initial.tif").astype(int)
    known = stack.truth >= 0
    np.testing.assert_array_equal(target[known], stack.truth[known])
    assert (target[~known] != masks[~known]).any() and target.shape == masks.shape


def test_the_network_knows_what_its_masks_were_made_with_and_refines_a_stack_that_nobody_labelled(workdir, tmp_path):
    segmenter = methods.load_model(workdir / "segmenter", "segmenter")
    network = methods.load_model(workdir / "refiner", "refiner")
    assert network.facts["foreground_threshold"] == segmenter.settings["use"]["foreground_threshold"]
    assert network.facts["labelled_slices"] == [3] and network.settings["classes"] == segmenter.settings["classes"]
    new = array_volume(phantom(7, (6, 40, 70), (20.0, 10.0, 10.0)).image, "new", (20.0, 10.0, 10.0))
    job = jobs.Job("new", tmp_path, image=new)
    refining.refine_volume(job, segmenter, network, jobs.Settings(tiff_export=False), lambda text: None)
    found = refining.open_result(tmp_path, "new", "refined").read(whole(new.shape))
    assert found.shape == new.shape and set(np.unique(found)) <= {0, 1, 2, 3}


def test_what_is_there_is_not_made_again_and_what_is_missing_is(workdir, monkeypatch):
    trained = []
    monkeypatch.setattr(run, "train", lambda given, place: trained.append(place.name))
    path = workdir / "targets" / "train_phantom_0.tif"
    before = tifffile.imread(path)
    path.unlink()
    spatial_continuity.train(settings(), workdir)
    np.testing.assert_array_equal(tifffile.imread(path), before)
    assert trained == []
    finished = workdir / "refiner" / "summary.json"
    finished.rename(finished.with_suffix(".away"))
    spatial_continuity.train(settings(), workdir)
    finished.with_suffix(".away").rename(finished)
    assert trained == ["refiner"], "it goes on with the stage at which it was stopped"


def test_a_workdir_of_other_settings_is_refused_but_not_for_going_further(workdir):
    with pytest.raises(BadInput, match=r"morphology.shrink: 3.0 there, 1.0 here"):
        spatial_continuity.train(settings("--config.morphology.shrink=1.0"), workdir)
    spatial_continuity.train(settings("--config.until=segmenter"), workdir)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": {"slices": 13}}, "phantom_0 has 12 slices, but the network sees 13 at a time"),
        ({"network": {"slices": 4}}, "slices is 4, expected an odd number"),
        ({"until": "network"}, "until is 'network', expected one of segmenter, targets, refiner"),
        ({"morphology": {"shrink": -1.0}}, "shrink must be a number from 0 on"),
        ({"data": {"train": {"labelled_slices": ("0:160:5",)}}}, "'0:160:5', but phantom_0 has 12 slices"),
        ({"data": {"train": {"labelled_slices": ("3:3",)}}}, "without any slice"),
        ({"data": {"phantom": {"shape": (1, 64, 64)}, "train": {"labelled_slices": ()}}}, "has one slice"),
    ],
)
def test_what_no_stage_can_work_with_is_refused_before_anything_is_written(changed, message, tmp_path):
    given = merged(settings(), changed)
    with pytest.raises(BadInput, match=message):
        spatial_continuity.train(given, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_labels_of_another_shape_are_refused_before_anything_is_written(tmp_path):
    for name, shape in (("image", (6, 64, 64)), ("labels", (6, 64, 60))):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8))
    files = {"images": (str(tmp_path / "image.tif"),), "labels": (str(tmp_path / "labels.tif"),)}
    data = {"phantom": {"train": (), "validation": ()}, "train": files, "axes": "ZYX"}
    with pytest.raises(BadInput, match=r"\(6, 64, 60\)"):
        spatial_continuity.train(merged(settings(), {"data": data}), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def merged(tree, changed):
    """A copy of nested settings with some of them changed."""
    tree = copy.deepcopy(tree)
    for name, value in changed.items():
        tree[name] = merged(tree[name], value) if isinstance(value, dict) else value
    return tree


def test_a_stack_named_twice_with_other_slices_is_one_stack_that_knows_all_of_them(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("image", "labels"):
        tifffile.imwrite(tmp_path / f"{name}.tif", rng.integers(0, 4, (6, 64, 64)).astype(np.uint8))
    files = {"images": (str(tmp_path / "image.tif"),) * 2, "labels": (str(tmp_path / "labels.tif"),) * 2}
    files["labelled_slices"] = ((0, 3), ("4:6",))
    data = {"phantom": {"train": ()}, "train": files, "axes": "ZYX"}
    (stack,) = spatial_continuity.stacks_of(merged(settings(), {"data": data}), "train")
    assert labelled_in(stack.truth) == [0, 3, 4, 5] and stack.stem == "image"
