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


def files_of(folder, depth=12, left=None, known=1.0):
    """Settings of two equal stacks of 64 x 64 in files, image.tif and, for validation, other.tif. left: masks are
    beside them that leave as many columns; known: the share of the rows of every slice that is labelled.
    """
    made = phantom(0, (depth, 64, 64), (12.0, 6.0, 6.0))
    labels = np.where(np.arange(64)[:, None] < 64 * known, made.labels, 255)
    parts = {"image": made.image.astype(np.float32), "labels": labels.astype(np.uint8)}
    if left is not None:
        parts["mask"] = np.broadcast_to((np.arange(64) < left).astype(np.uint8), made.labels.shape)
    split = {}
    for stem in ("image", "other"):
        named = {name: folder / (f"{stem}.tif" if name == "image" else f"{stem}_{name}.tif") for name in parts}
        for name, part in parts.items():
            tifffile.imwrite(named[name], part, photometric="minisblack")
        files = {"images": (str(named["image"]),), "labels": (str(named["labels"]),)}
        files["within"] = (str(named["mask"]),) if left is not None else ()
        split[stem] = files | {"labelled_slices": ("0:12:4",) if depth == 12 else ()}
    data = {"phantom": {"train": (), "validation": ()}, "axes": "ZYX"}
    data |= {"train": split["image"], "validation": split["other"]}
    return merged(settings(), {"data": data})


def test_nothing_outside_of_a_mask_is_learned_and_its_slices_count_by_what_lies_inside(tmp_path):
    given = files_of(tmp_path, left=32, known=0.75)
    spatial_continuity.train({**given, "until": "targets"}, tmp_path / "run")
    target = tifffile.imread(tmp_path / "run" / "targets" / "train_image.tif")
    assert (target[..., 32:] == 255).all() and (target[..., :32] != 255).any()
    predicted = tifffile.imread(tmp_path / "run" / "predictions" / "train" / "image_initial.tif")
    assert (predicted[..., 32:] == 0).all()
    (stack,) = spatial_continuity.stacks_of(given, "train")
    assert (stack.truth >= 0).mean() < 0.5 and spatial_continuity.labelled_slices(stack) == [0, 4, 8]


def test_slices_that_are_half_unknown_are_said_not_to_be_carried(tmp_path, capsys):
    given = files_of(tmp_path, known=0.5)
    (stack,) = spatial_continuity.stacks_of(given, "train")
    spatial_continuity.check_stack(stack, "train", given)
    said = capsys.readouterr().err
    assert "half or more of 3 of its slices is unknown (0, 4, 8)" in said and "has no labelled slice" in said


def test_a_shallow_stack_to_validate_on_is_warned_of_and_a_single_slice_refused(tmp_path, capsys):
    given = files_of(tmp_path, depth=4)
    (stack,) = spatial_continuity.stacks_of(given, "validation")
    spatial_continuity.check_stack(stack, "validation", given)
    assert "other has 4 slices, fewer than the 5 that the network sees" in capsys.readouterr().err
    single = stack._replace(truth=stack.truth[:1], inside=stack.inside[:1])
    with pytest.raises(BadInput, match="other has one slice"):
        spatial_continuity.check_stack(single, "validation", given)


def test_a_finished_stage_is_not_taken_for_one_of_other_labels_or_more_steps(tmp_path):
    given = files_of(tmp_path)
    given["until"] = "segmenter"
    spatial_continuity.train(given, tmp_path / "run")
    with pytest.raises(BadInput, match="is finished with 2 steps, and 4 are wanted now"):
        spatial_continuity.train({**given, "steps": 4}, tmp_path / "run")
    labels = tifffile.imread(tmp_path / "image_labels.tif")
    tifffile.imwrite(tmp_path / "image_labels.tif", labels[:, ::-1], photometric="minisblack")
    with pytest.raises(BadInput, match=r"the labels of image are others than those that .*segmenter has learned"):
        spatial_continuity.train(given, tmp_path / "run")


def test_a_threshold_that_is_set_is_not_chosen_anew(tmp_path):
    given = merged(files_of(tmp_path), {"use": {"foreground_threshold": 0.7}, "until": "segmenter"})
    spatial_continuity.train(given, tmp_path / "run")
    assert not (tmp_path / "run" / "segmenter" / "foreground.json").exists()
    model = methods.load_model(tmp_path / "run" / "segmenter", "segmenter")
    assert model.settings["use"]["foreground_threshold"] == 0.7


def test_a_bucket_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="on a local disk only"):
        spatial_continuity.train(settings(), "gs://bucket/run")
    assert not list(tmp_path.iterdir())


def test_a_stack_named_twice_with_other_slices_is_one_stack_that_knows_all_of_them(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("image", "labels"):
        tifffile.imwrite(tmp_path / f"{name}.tif", rng.integers(0, 4, (6, 64, 64)).astype(np.uint8))
    files = {"images": (str(tmp_path / "image.tif"),) * 2, "labels": (str(tmp_path / "labels.tif"),) * 2}
    files["labelled_slices"] = ((0, 3), ("4:6",))
    data = {"phantom": {"train": ()}, "train": files, "axes": "ZYX"}
    (stack,) = spatial_continuity.stacks_of(merged(settings(), {"data": data}), "train")
    assert labelled_in(stack.truth) == [0, 3, 4, 5] and stack.stem == "image"
