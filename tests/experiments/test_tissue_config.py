"""configs/tissue.py: what keeps resin alone and tissue alone apart, and what the network learns from."""

import jax
import numpy as np
import pytest

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import class_settings, experiment, train_settings
from maeref_jax.segmenters import ensemble


@pytest.fixture(scope="module")
def settings():
    return load_config("tissue:smoke").to_dict()


@pytest.fixture(scope="module")
def prepared(settings):
    return experiment.prepare(settings, "nowhere", range(settings["batch"]))


def test_training_and_validation_blocks_are_apart_and_remembered(prepared):
    assert prepared.facts["volumes"] == ["tissue_mixed_0", "tissue_resin_1", "tissue_tissue_2"]
    assert prepared.facts["validation_volumes"] == ["tissue_mixed_102"]
    assert prepared.facts["normalisation"] == "volume"


def test_cubes_of_resin_alone_are_among_those_that_are_learned_from(settings):
    small = load_config("tissue:small").to_dict()
    small["data"]["phantom"] |= {"train": (0, 2, 3), "shape": (32, 40, 40), "validation": (102,)}
    given = experiment.prepare({**small, "volumes_per_member": 3}, "nowhere", range(1))
    shares = [(labels > 0).mean() for step in range(20) for labels in given.batches(step)["labels"][0]]
    assert min(shares) == 0 and max(shares) > 0.2
    assert 0.1 < np.mean(np.array(shares) == 0) < 0.8


def test_a_volume_that_is_brighter_is_seen_alike(prepared, settings):
    """The scale is the volume's own, once for all of its cubes."""
    volumes = experiment.shown_annotated(settings, "train", lambda text: None)
    for volume in volumes:
        low, high = np.quantile(volume.image, (0.01, 0.99))
        assert low == pytest.approx(0, abs=1e-3) and high == pytest.approx(1, abs=1e-3), volume.name


@pytest.mark.parametrize("mode", ["", "small", "smoke"])
def test_no_layer_normalises_by_the_cube_at_hand(mode):
    settings = load_config(f"tissue:{mode}").to_dict()
    train_settings.check(settings)
    assert settings["model"]["norm"] == "batch" and settings["batch"] > 1


def test_a_cube_says_the_same_whatever_the_rest_of_it_is():
    """A dark corner far away changes nothing here: with a norm over the cube it would."""
    net = ensemble.network(load_config("tissue:smoke").to_dict())
    cube = np.random.default_rng(0).uniform(0, 1, (1, 48, 8, 8, 1)).astype(np.float32)
    other = cube.copy()
    other[:, 32:] = 0
    variables = jax.jit(net.init)(jax.random.key(0), cube)
    found = [np.asarray(jax.jit(net.apply)(variables, one))[:, :8] for one in (cube, other)]
    assert np.allclose(*found, atol=1e-5)


def test_blocks_have_two_classes_and_real_texture_wants_its_file(settings):
    three = class_settings.with_classes(settings, {**settings["classes"], "names": ("a", "b", "c")})
    three["classes"]["colours"] = ((0, 0, 0),) * 3
    with pytest.raises(BadInput, match="blocks of tissue have two classes, resin and tissue"):
        class_settings.check(three)
    data = settings["data"] | {"phantom": {**settings["data"]["phantom"]}}
    tissue = data["phantom"]["tissue"]
    data["phantom"]["tissue"] = tissue | {"kinds": ("pasted",), "texture": tissue["texture"] | {"path": "nowhere.tif"}}
    with pytest.raises(BadInput, match=r"nowhere\.tif"):
        experiment.prepare({**settings, "data": data}, "nowhere", range(1))
