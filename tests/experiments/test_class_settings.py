"""class_settings.py: what has a length per class follows the classes, or is refused; a refiner's are its ensemble's."""

import json

import pytest

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import class_settings, parameter_search, train_settings

BINARY = ("background", "mitochondria")
OWN = ["--config.data.phantom.train=", "--config.data.phantom.validation="]


def config(root, name, *overrides):
    return load_config(f"{root / 'configs' / name.partition(':')[0]}.py:{name.partition(':')[2]}", overrides).to_dict()


@pytest.fixture
def ensemble(tmp_path):
    """A workdir of an ensemble of binary masks, as far as a refiner's settings look into it."""
    scheme = {"names": list(BINARY), "colours": [[0, 0, 0], [1, 2, 3]], "ambiguous": -1}
    settings = {"classes": scheme, "voxel_size_nm": [5.0, 5.0, 5.0]}
    (tmp_path / "config.json").write_text(json.dumps({"method": "ensemble", "config": settings}))
    return str(tmp_path)


@pytest.mark.parametrize("name", ["ensemble", "ensemble_3d", "mae", "mae_image", "inpainter", "autoencoder"])
@pytest.mark.parametrize("names", [BINARY, (*BINARY, "ambiguous"), ("a", "b", "c", "d", "e", "f", "g")])
def test_weights_of_every_learning_config_follow_the_classes(root, name, names):
    settings = class_settings.settled(config(root, f"{name}:smoke", *OWN), names)
    train_settings.check(settings)
    real = len(names) - ("ambiguous" in names)
    assert settings["class_weights"] == (1.0,) * (len(names) if name.startswith("ensemble") else real)
    assert settings["classes"]["names"] == names and len(settings["classes"]["colours"]) == len(names)


@pytest.mark.parametrize("name", ["nearest", "morphology", "unrefined"])
def test_what_learns_nothing_has_the_classes_too(root, name):
    settings = class_settings.settled(config(root, name), BINARY)
    train_settings.check(settings)
    assert settings["classes"]["names"] == BINARY


def test_a_search_is_judged_by_all_of_the_new_classes(root, ensemble):
    settings = config(
        root, "crf:rendered", "--config.data.validation.images=a.tif", f"--config.data.ensemble={ensemble}"
    )
    assert settings["score_classes"] == (2, 3)
    followed = class_settings.settled(settings, BINARY)
    parameter_search.check(followed)
    assert followed["score_classes"] == () and followed["classes"]["colours"][1] == [1, 2, 3], "drawn as the ensemble's"


def test_classes_that_are_the_configs_change_nothing_but_colours(root):
    settings = config(root, "mae_original:smoke")
    again = class_settings.settled(settings, settings["classes"]["names"])
    assert again == settings


@pytest.mark.parametrize(
    ("name", "names", "overrides", "message"),
    [
        ("mae_original:smoke", BINARY, OWN, "class_weights .* give 2 weights with --config.class_weights"),
        (
            "ensemble:smoke",
            BINARY,
            [*OWN, "--config.class_weights=1.0,1.0,1.0"],
            "one weight, not negative, for each of",
        ),
        ("ensemble:smoke", (), ["--config.class_weights=1.0,1.0"], "for each of 0 background, 1 intermembrane"),
        ("ensemble:smoke", (), ["--config.class_weights=1.0,1.0,1.0,1.0"], "one weight, not negative, for each of"),
        ("mae:smoke", (), ["--config.class_weights=1.0,1.0,1.0,1.0,1.0,1.0"], "one weight, not negative, for each of"),
        ("mae:smoke", (), ["--config.class_weights=1.0,1.0,1.0,-1.0"], "one weight, not negative, for each of"),
        ("ensemble:smoke", (), ["--config.classes.names=a,b"], "with 5 colours, .* give the names with --classes"),
        ("ensemble:smoke", BINARY, ["--config.classes.names=a,b"], "both say what the classes are"),
        ("ensemble:smoke", BINARY, [], "phantoms have the classes background, intermembrane, cristae, matrix"),
        ("ensemble:smoke", BINARY, [*OWN, "--config.data.shell_class=2"], "data.shell_class is 2"),
        ("ensemble:smoke", (), ["--config.data.label_map=255"], "label_map is .* expected pairs"),
        ("ensemble:smoke", ("mitochondria",), OWN, "e.g. --classes background,mitochondria"),
    ],
)
def test_what_contradicts_the_classes_is_refused(root, name, names, overrides, message):
    given = {override.removeprefix("--config.").partition("=")[0] for override in overrides}
    with pytest.raises(BadInput, match=message):
        train_settings.check(class_settings.settled(config(root, name, *overrides), names, given))


def test_weights_that_are_given_stay(root):
    given = [*OWN, "--config.class_weights=1.0,3.0"]
    assert class_settings.settled(config(root, "mae:smoke", *given), BINARY, {"class_weights"})["class_weights"] == (
        1,
        3,
    )


def test_a_refiner_has_the_classes_and_voxels_of_its_ensemble_and_says_so(root, ensemble):
    said, of = [], f"--config.data.ensemble={ensemble}"
    settings = class_settings.settled(config(root, "mae:smoke", *OWN, of), say=said.append)
    assert settings["classes"]["names"] == list(BINARY) and settings["class_weights"] == (1.0, 1.0)
    assert settings["voxel_size_nm"] == (5.0, 5.0, 5.0)
    assert said == [
        f"as the ensemble {ensemble} was trained: classes 0 background, 1 mitochondria; voxel_size_nm 5, 5, 5"
    ]
    assert class_settings.settled(settings, BINARY, say=said.append) == settings and len(said) == 1
    given = config(root, "mae:smoke", *OWN, of, "--config.voxel_size_nm=9,9,9")
    assert class_settings.settled(given, (), {"voxel_size_nm"}, said.append)["voxel_size_nm"] == (9, 9, 9)
    with pytest.raises(BadInput, match=r"--classes background,nuclei, but .* was trained for background,mitochondria"):
        class_settings.settled(settings, ("background", "nuclei"))


def test_a_label_map_is_kept_in_one_form_however_it_is_given(root):
    forms = ("255:1,0:0", "((255,1),(0,0))")
    kept = {
        class_settings.settled(config(root, "ensemble", f"--config.data.label_map={f}"))["data"]["label_map"]
        for f in forms
    }
    assert kept == {((255, 1), (0, 0))}
