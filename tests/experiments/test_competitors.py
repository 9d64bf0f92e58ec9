"""Every competitor of the masked autoencoder as docs/refiners.md says: a workdir, used by the pipeline."""

import json
import shutil

import numpy as np
import pytest

from maeref_jax.commands import train
from maeref_jax.commands.command_line import load_config
from maeref_jax.commands.load_models import used_as
from maeref_jax.errors import BadInput
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.volumes.volume import array_volume, labels_from_disk
from maeref_jax.volumes.windows import whole

SHAPE = (2, 64, 70)  # no multiple of a token or a window
SETTINGS = jobs.Settings(batch=2, tiff_export=False)
SEES_HIDDEN = {"autoencoder": True, "inpainter": False, "mae_image": False, "morphology": False, "nearest": False}


@pytest.fixture(scope="module", params=sorted(SEES_HIDDEN))
def model(request, root, smoke, tmp_path_factory):
    """A competitor trained in smoke mode, from the predictions that the masked autoencoder learned from."""
    workdir = tmp_path_factory.mktemp("competitors") / request.param
    shutil.copytree(smoke / "predictions", workdir / "predictions")
    mode = "denoising_smoke" if request.param == "autoencoder" else "smoke"
    config = root / "configs" / f"{request.param}.py"
    given = {}
    if request.param in methods.LEARNED:
        given = {"data.ensemble": smoke / "ensemble", "steps": 2}
    overrides = [f"--config.{name}={value}" for name, value in given.items()]
    train.main(["--config", f"{config}:{mode}", "--workdir", str(workdir), *overrides])
    return methods.load_model(workdir, "refiner")


@pytest.fixture(scope="module")
def made():
    return phantom(7, SHAPE)


def refined(model, made, painted, output, labels=None):
    """(initial, refined) of labels under a painted mask."""
    job = jobs.Job(
        *("a", output),
        image=array_volume(made.image, "image"),
        labels=array_volume(made.labels.astype(np.int16) if labels is None else labels, "labels"),
        hidden=array_volume(painted.astype(np.uint8), "painted"),
    )
    refining.refine_volume(job, None, model, SETTINGS)
    return [
        labels_from_disk(refining.open_result(output, "a", role).read(whole(SHAPE))) for role in ("initial", "refined")
    ]


def test_only_hidden_voxels_change_and_hidden_labels_matter_to_those_alone_that_say_so(model, made, tmp_path):
    assert model.apply.sees_hidden == SEES_HIDDEN[model.name]
    painted = np.zeros(SHAPE, bool)
    painted[:, 16:40, 20:44] = True
    initial, found = refined(model, made, painted, tmp_path / "one")
    np.testing.assert_array_equal(found[~painted], initial[~painted])
    assert found[painted].min() >= 0 and found.max() < 4
    if not model.apply.sees_hidden:
        other = np.where(painted, 3 - made.labels, made.labels).astype(np.int16)
        np.testing.assert_array_equal(
            refined(model, made, painted, tmp_path / "two", other)[1][painted], found[painted]
        )


def test_nothing_hidden_changes_nothing_and_all_hidden_is_defined(model, made, tmp_path):
    initial, found = refined(model, made, np.zeros(SHAPE, bool), tmp_path / "nothing")
    np.testing.assert_array_equal(found, initial)
    _, found = refined(model, made, np.ones(SHAPE, bool), tmp_path / "everything")
    assert found.min() >= 0 and found.max() < 4


def test_a_workdir_holds_what_it_learned_if_anything(model, root):
    if model.name in methods.UNLEARNED:
        assert model.params == {} and model.facts == {}
    else:
        summary = json.loads((root / model.workdir / "summary.json").read_text())
        assert summary["steps"] == 2 and np.isfinite(summary["validation"]["validation_loss"])
        assert model.facts["labels"].startswith("predicted by the ensemble")
        assert ("intensity_range" in model.facts) == ("image" in model.apply.needs)


def test_other_ways_to_fill_are_for_those_that_have_them(model):
    if "use" in model.settings:
        assert used_as(model, {"rounds": 2}).settings["use"]["rounds"] == 2
    else:
        with pytest.raises(BadInput, match=r"fills in one way; leave out --config\.use\.rounds"):
            used_as(model, {"rounds": 2})


@pytest.mark.parametrize("name", sorted(SEES_HIDDEN))
def test_competitors_share_what_makes_the_comparison_fair(root, name):
    """Classes, voxel size, thresholds; of those that learn also data, steps and batches."""
    for mode in ("", "demo", "smoke"):
        ours = load_config(f"{root / 'configs' / 'mae.py'}:{mode}").to_dict()
        theirs = load_config(f"{root / 'configs' / name}.py:{mode}").to_dict()
        alone = {"method", "model", "image_model", "normalisation", "denoising", "radius_px", "optimizer"}
        alone |= {"window", "stride"} if name == "autoencoder" else set()  # multiples of 64
        assert {key: value for key, value in theirs.items() if key not in alone}.items() <= ours.items()
        assert theirs.get("optimizer", ours["optimizer"])["rate"] == ours["optimizer"]["rate"]
