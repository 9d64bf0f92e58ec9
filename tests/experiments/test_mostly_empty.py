"""A mostly empty volume, from sampler to use: what was never shown is called foreground, what was is left alone."""

import json

import jax
import numpy as np
import pytest

from maeref_jax.commands.command_line import load_config
from maeref_jax.experiments import experiment, run
from maeref_jax.pipeline import methods
from maeref_jax.pipeline.blockwise import segment_block
from maeref_jax.volumes.volume import array_volume, write_tiff
from maeref_jax.volumes.windows import whole

SHAPE = (6, 160, 160)


def stack(seed):
    """(image, labels): bright squares in two per cent of the volume, near its left side; bright lines, which are
    nothing, on the right, farther away than a crop is wide.
    """
    rng = np.random.default_rng(seed)
    image, labels = rng.normal(100, 5, SHAPE).astype(np.float32), np.zeros(SHAPE, np.uint8)
    for z in range(SHAPE[0]):
        for top in (20, 100):
            y, x = top + rng.integers(0, 20), rng.integers(4, 16)
            image[z, y : y + 16, x : x + 16] += 80
            labels[z, y : y + 16, x : x + 16] = 1
        for top in range(8, 152, 24):
            x = rng.integers(80, 130)
            image[z, top : top + 2, x : x + 24] += 80
    return image, labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("squares")
    for seed, name in enumerate(("train", "validation", "test")):
        for role, array in zip(("image", "labels"), stack(seed), strict=True):
            write_tiff(path / f"{name}_{role}.tif", array, (20.0, 10.0, 10.0))
    return path


def settings(root, folder, share):
    files = [
        f"data.{split}.{role}s=('{folder}/{split}_{role.removesuffix('s')}{'s' if role == 'label' else ''}.tif',)"
        for split in ("train", "validation")
        for role in ("image", "label")
    ]
    changes = [
        "data.phantom.train=", "data.phantom.validation=", "classes.names=('background','square')",
        "classes.colours=((0,0,0),(250,220,60))", "classes.ambiguous=-1", "class_weights=(1.0,1.0)", "members=1",
        "steps=100", "evaluate_every=100", "batch=4", "optimizer.warmup_steps=5", "optimizer.rate=0.02",
        "model.widths=(8,16)", "model.strides=((2,2),)", f"anywhere_share={share}", *files,
    ]  # fmt: skip
    found = load_config(f"{root / 'configs' / 'ensemble.py'}:smoke", [f"--config.{change}" for change in changes])
    return found.to_dict()


@pytest.fixture(scope="module")
def trained(root, folder, tmp_path_factory):
    """{share of crops drawn anywhere: (summary, labels of the test volume as they are used)}."""
    image, _ = stack(2)
    found = {}
    for share in (0.0, 0.3):
        workdir = tmp_path_factory.mktemp("run") / "ensemble"
        run.train(settings(root, folder, share), workdir)
        model = methods.load_model(workdir, "segmenter")
        source = model.apply, jax.device_put((model.params, model.state)), None, array_volume(image, "test")
        means, _ = segment_block(*source, whole(SHAPE), 16)
        assert "## Validation on 2 of 6 whole slices" in (workdir / "model_card.md").read_text()
        found[share] = json.loads((workdir / "summary.json").read_text()), means.argmax(-1)
    return found


def scores(found, labels):
    both = ((found == 1) & (labels == 1)).sum()
    return both / max((found == 1).sum(), 1), both / (labels == 1).sum()


def test_an_ensemble_that_was_shown_the_empty_part_leaves_it_alone(trained):
    _, labels = stack(2)
    (blind, _), (precision, recall) = (scores(trained[share][1], labels) for share in (0.0, 0.3))
    assert blind < 0.75, "the lines look like squares to it"
    assert precision > 0.85 and recall > 0.85


def test_validation_says_what_use_shows_whatever_the_crops_held(trained):
    _, labels = stack(2)
    for summary, found in trained.values():
        judged = [summary["validation"][f"validation_{name}_square"] for name in ("precision", "recall")]
        np.testing.assert_allclose(judged, scores(found, labels), atol=0.06)
        assert summary["validated_on"] == "2 of 6 whole slices"


def test_validation_counts_as_use_does_on_the_same_slices(root, folder, trained, tmp_path):
    given = settings(root, folder, 0.3) | {"validation_slices": 6}
    prepared = experiment.prepare(given, tmp_path, range(given["batch"]))
    labels = np.concatenate([batch["labels"].ravel() for batch in prepared.validation])
    assert (labels >= 0).sum() == np.prod(SHAPE) and 0.01 < (labels == 1).sum() / np.prod(SHAPE) < 0.03
