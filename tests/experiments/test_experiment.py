"""experiment.py: what a masked autoencoder is given to learn from."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import class_settings, experiment, train_settings
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.records import Segmenter
from maeref_jax.samples.training_volumes import TrainingVolume
from maeref_jax.volumes.volume import write_tiff
from maeref_jax.volumes.windows import whole

BRIGHT = 150.0


def bright_is_ambiguous(params, state, image):
    """One member: certain of "ambiguous" where it is bright, its second choice is class 2; elsewhere undecided."""
    bright = jnp.array([0.0, 0.0, 0.01, 0.0, 0.99])
    return jnp.where(image[None, ..., None] > BRIGHT, bright, jnp.array([0.2, 0.4, 0.2, 0.2, 0.0]))


@pytest.fixture
def ensemble(root, monkeypatch):
    """An ensemble that is no network, for the phantoms of the smoke modes."""
    known = json.loads(json.dumps(load_config(f"{root / 'configs' / 'mae.py'}:smoke").to_dict()))
    apply = Segmenter(bright_is_ambiguous, (32, 32), (16, 16), 2)
    model = jobs.Model("E", "ensemble", known, {}, {}, apply, {"member_volumes": [[]]})
    monkeypatch.setattr(methods, "load_model", lambda workdir, kind: model)


def test_what_the_ensemble_calls_ambiguous_is_neither_target_nor_context(root, tmp_path, ensemble):
    settings = load_config(f"{root / 'configs' / 'mae.py'}:smoke").to_dict()
    prepared = experiment.prepare(settings, tmp_path, range(settings["batch"]))

    bright = phantom(3, tuple(settings["data"]["phantom"]["shape"])).image > BRIGHT
    depth, height, width = bright.shape
    tokens = bright.reshape(depth, height // 4, 4, width // 4, 4).mean((2, 4)) > 0.5
    share = tokens.mean()
    assert 0.01 < share < 0.9
    stored = refining.open_result(tmp_path / "predictions", "phantom_3", "hidden")
    np.testing.assert_array_equal(stored.read(whole(stored.shape))[:, ::4, ::4] > 0, tokens)
    for step in range(3):
        batch = prepared.batches(step)
        assert 0 < (batch["labels"] == -1).mean() < 1
        np.testing.assert_array_equal(batch["labels"] == -1, batch["entropy"] == 1)


def test_a_refiner_that_needs_the_image_is_given_that_of_the_phantom_and_its_range(root, tmp_path, ensemble):
    settings = load_config(f"{root / 'configs' / 'mae_image.py'}:smoke").to_dict()
    prepared = experiment.prepare(settings, tmp_path, range(settings["batch"]))
    batch, low_high = prepared.batches(0), prepared.facts["intensity_range"]
    np.testing.assert_array_equal(batch["shared"]["intensity_range"], np.float32(low_high))
    assert batch["image"].shape == batch["labels"].shape
    # Where this ensemble says "ambiguous" it is bright, so image and labels belong together.
    bright, unknown = batch["image"] > BRIGHT, batch["labels"] == -1
    assert bright[unknown].mean() > 0.5 > bright[~unknown].mean()
    assert prepared.validation[0]["image"].shape == prepared.validation[0]["labels"].shape


def test_an_autoencoder_is_given_no_masks(root, tmp_path, ensemble):
    settings = load_config(f"{root / 'configs' / 'autoencoder.py'}:smoke").to_dict()
    prepared = experiment.prepare(settings, tmp_path, range(settings["batch"]))
    assert prepared.batches(0)["shared"] == {} and "image" not in prepared.batches(0)


def test_images_without_labels_are_segmented_by_the_members_that_never_saw_their_annotations(
    root, tmp_path, ensemble, monkeypatch, capsys
):
    for name in ("a", "b"):
        write_tiff(tmp_path / f"{name}.tif", phantom(3, (12, 64, 64)).image, (20.0, 10.0, 10.0))
    a, b, labels = (str(tmp_path / f"{name}.tif") for name in ("a", "b", "labels"))
    annotated = {"train": {"images": (a,), "labels": (labels,)}}
    model = methods.load_model("", "segmenter")
    facts = {"member_volumes": [[labels], []]}
    two = model.apply._replace(predict=lambda *given: jnp.repeat(bright_is_ambiguous(*given), 2, 0))
    told = model._replace(facts=facts, settings={**model.settings, "data": annotated}, apply=two)
    monkeypatch.setattr(methods, "load_model", lambda workdir, kind: told)
    asked, refine_volume = {}, refining.refine_volume

    def remembered(job, *others):
        asked[job.stem] = job.members
        return refine_volume(job._replace(members=None), *others)

    monkeypatch.setattr(refining, "refine_volume", remembered)
    overrides = ["data.phantom.train=", "data.phantom.validation=", "data.ensemble=E"]
    overrides += [f"data.train.images=('{a}',)", f"data.validation.images=('{b}',)"]
    settings = load_config(f"{root / 'configs' / 'mae.py'}:smoke", [f"--config.{o}" for o in overrides]).to_dict()
    train_settings.check(settings)
    prepared = experiment.prepare(settings, tmp_path / "work", range(settings["batch"]))
    assert asked == {"a": (1,), "b": None}
    assert prepared.facts["volumes"] == [a] and prepared.facts["validation_volumes"] == [b]
    batch = prepared.batches(0)
    np.testing.assert_array_equal(batch["labels"] == -1, batch["entropy"] == 1)
    capsys.readouterr()
    # Their truth is for the verdict: what is learned from and chosen by does not even open it.
    settings["data"]["validation"]["labels"] = (str(tmp_path / "missing.tif"),)
    experiment.prepare(settings, tmp_path / "work", range(settings["batch"]))
    capsys.readouterr()
    assert [volume.name for volume in experiment.validation_maps(settings, tmp_path / "work")] == [b]
    assert not any(capsys.readouterr()), "what was said when the training began is said again"
    settings["data"]["ensemble"] = ""
    with pytest.raises(BadInput, match="images are given without"):
        train_settings.check(settings)
    settings["data"]["ensemble"], settings["data"]["validation"]["images"] = "E", (a,)
    with pytest.raises(BadInput, match="shares slices"):
        train_settings.check(settings)


def test_a_class_that_no_training_volume_has_is_warned_of_and_kept_with_the_workdir(root, tmp_path, capsys):
    labels, image = np.zeros((2, 64, 64), np.uint8), np.zeros((2, 64, 64), np.float32)
    labels[:, 8:40, 8:40] = 1
    own = ["--config.data.phantom.train=", "--config.data.phantom.validation="]
    for name in ("a", "b"):
        write_tiff(tmp_path / f"{name}.tif", image, (20.0, 10.0, 10.0))
        write_tiff(tmp_path / f"{name}_l.tif", labels, (20.0, 10.0, 10.0))
    for part, name in (("train", "a"), ("validation", "b")):
        own += [f"--config.data.{part}.images={tmp_path}/{name}.tif"]
        own += [f"--config.data.{part}.labels={tmp_path}/{name}_l.tif"]
    own += ["--config.members=1", "--config.data.label_map=identity"]
    settings = load_config(f"{root / 'configs' / 'ensemble.py'}:smoke", own).to_dict()
    settings = class_settings.settled(settings, ("background", "mitochondria", "nuclei"))
    warned = "warning: no voxel of the training volumes is nuclei, which cannot be learned from them"
    assert experiment.prepare(settings, tmp_path, range(4)).facts["notes"] == [warned]
    assert capsys.readouterr().err == f"{warned}\n"


def files_of(root, tmp_path, train, validation, config="ensemble"):
    """Settings of a smoke mode that learns binary masks from files. train, validation: pairs (image, labels)."""
    own = ["--config.data.phantom.train=", "--config.data.phantom.validation="]
    settings = load_config(f"{root / 'configs' / config}.py:smoke", own).to_dict()
    settings = class_settings.settled(settings, ("background", "mitochondria"))
    for split, pairs in (("train", train), ("validation", validation)):
        images, labels = zip(*pairs, strict=True)
        settings["data"][split]["images"] = tuple(f"{tmp_path}/{name}" for name in images)
        settings["data"][split]["labels"] = tuple(f"{tmp_path}/{name}" for name in labels)
    return settings


OTHER = [("c.tif", "c_l.tif")]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([("a.tif", "a_l.tif")] * 2, r"a.tif is given twice in data.train; name every volume once"),
        (
            [("b.tif", "b_l.tif"), ("a.tif[0:4]", "a_l.tif[0:4]"), ("a.tif[3:6]", "a_l.tif[3:6]")],
            "share slices in data",
        ),
        ([("a.tif", "a_l.tif"), ("b/../a.tif", "b/../a_l.tif")], "a.tif share slices in data.train"),
    ],
)
def test_a_volume_is_learned_from_once(root, tmp_path, train, message):
    settings = files_of(root, tmp_path, train, OTHER)
    with pytest.raises(BadInput, match=message):
        train_settings.check(settings)
    # Of one stack some volumes may learn from other slices, or inside other masks.
    settings["data"]["train"]["labelled_slices"] = tuple((i,) for i in range(len(train)))
    train_settings.check(settings)
    settings["data"]["train"] |= {"labelled_slices": (), "within": ("m.tif",) * len(train)}
    train_settings.check(settings)


def test_parts_of_a_stack_and_two_annotators_of_an_image_are_no_volume_twice(root, tmp_path):
    parts = [("a.tif[0:4]", "a_l.tif[0:4]"), ("a.tif[4:6]", "a_l.tif[4:6]")]
    train_settings.check(files_of(root, tmp_path, parts, OTHER))
    train_settings.check(files_of(root, tmp_path, [("a.tif", "one.tif"), ("a.tif", "two.tif")], OTHER))


def test_labels_of_one_image_by_two_annotators_and_validation_without_foreground_are_warned_of(root, tmp_path):
    labels, image = np.zeros((2, 64, 64), np.uint8), np.zeros((2, 64, 64), np.float32)
    for name in ("a", "c"):
        write_tiff(tmp_path / f"{name}.tif", image, (20.0, 10.0, 10.0))
    write_tiff(tmp_path / "empty.tif", labels, (20.0, 10.0, 10.0))
    labels[:, 8:40, 8:40] = 1
    for name in ("one", "two"):
        write_tiff(tmp_path / f"{name}.tif", labels, (20.0, 10.0, 10.0))
    both = [("a.tif", "one.tif"), ("a.tif", "two.tif")]
    settings = files_of(root, tmp_path, both, [("c.tif", "empty.tif")])
    unlearned, shared = experiment.prepare(settings, tmp_path, range(4)).facts["notes"]
    assert unlearned.startswith("warning: no voxel of the validation volumes is mitochondria, so they cannot show")
    assert "a.tif in data.train shares slices with" in shared and "with other labels" in shared
    settings = files_of(root, tmp_path, both[:1], [("c.tif", "two.tif")])
    assert experiment.prepare(settings, tmp_path, range(4)).facts["notes"] == []
    settings = files_of(root, tmp_path, both[:1], [("c.tif", "empty.tif")], "mae")
    settings["data"]["train"]["images"] = settings["data"]["validation"]["images"] = ()
    (told,) = experiment.prepare(settings, tmp_path, range(4)).facts["notes"]
    assert told == unlearned


def test_what_an_ensemble_says_outside_of_a_mask_is_not_learned(root, tmp_path, ensemble, capsys):
    mask = np.zeros((12, 64, 64), np.uint8)
    mask[:, :32, :48] = 1
    for name in ("a", "b"):
        write_tiff(tmp_path / f"{name}.tif", phantom(3, mask.shape).image, (20.0, 10.0, 10.0))
    write_tiff(tmp_path / "mask.tif", mask, (20.0, 10.0, 10.0))
    a, b, within = (str(tmp_path / f"{name}.tif") for name in ("a", "b", "mask"))
    overrides = ["data.phantom.train=", "data.phantom.validation=", "data.ensemble=E"]
    overrides += [f"data.train.images={a}", f"data.validation.images={b}", f"data.validation.within={within}"]
    settings = load_config(f"{root / 'configs' / 'mae.py'}:smoke", [f"--config.{o}" for o in overrides]).to_dict()
    train_settings.check(settings)
    experiment.prepare(settings, tmp_path / "work", range(settings["batch"]))
    assert f"37.50% of {b} lies inside; what is outside is left out" in capsys.readouterr().out
    (volume,) = experiment.validation_maps(settings, tmp_path / "work")
    assert (volume.labels[mask == 0] == -1).all() and (volume.labels[mask == 1] >= 0).any()
    assert (volume.entropy[mask == 0] == 0).all()
    sidecar = json.loads((tmp_path / "work" / "predictions" / "b.json").read_text())
    assert sidecar["within"]["inside_share"] == 0.375, "nothing was computed there"
    settings["data"]["phantom"] |= {"train": (1,), "validation": (2,)}
    settings["data"]["train"]["images"] = ()
    with pytest.raises(BadInput, match="masks of files, and phantoms have none"):
        train_settings.check(settings)


def test_an_ensemble_may_know_a_volume_by_its_labels_or_by_its_image():
    named = ("/a_label.tif", "/b_label.tif")
    volumes = [TrainingVolume(name, None, np.zeros((1, 2, 2), np.int16), None) for name in named]
    expected = [("/a_label.tif", "/a.tif"), ("/b_label.tif", "/b.tif[0:4]")]
    assert experiment.known_as(volumes, ("/a.tif", "/b.tif[0:4]")) == expected
