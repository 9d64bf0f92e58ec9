"""An ensemble that learns from clicks, from files to a workdir: they alone count, and the workdir says how many."""

import json

import jax
import numpy as np
import pytest

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import experiment, run
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.samples import drawn_labels
from maeref_jax.segmenters import ensemble
from maeref_jax.volumes.clicks import write_clicks
from maeref_jax.volumes.view import array_volume
from maeref_jax.volumes.volume import write_tiff

NAMES = ("background", "intermembrane", "cristae", "matrix")
SIZE = (20.0, 10.0, 10.0)


def clicks_on(path, labels, classes=4, number=2):
    found = drawn_labels.per_class(array_volume(labels, "truth"), classes, range(len(labels)), 0, number)
    write_clicks(path, found.places, found.classes)


def settings_of(root, files, names, colours, **changes):
    typed = {f"data.{role}": (str(path),) for role, path in files.items()}
    typed |= {"data.phantom.train": (), "data.phantom.validation": (), "classes.names": names, "classes.ambiguous": -1}
    typed |= {"classes.colours": colours, "class_weights": (1.0,) * len(names), "members": 2, **changes}
    typed = [f"--config.{key}={value}" for key, value in typed.items()]
    return load_config(f"{root / 'configs' / 'ensemble.py'}:smoke", typed).to_dict()


COLOURS = tuple((i, i, i) for i in range(4))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Files of two phantoms, and clicks on them; truth: the labels of the first."""
    folder, files = tmp_path_factory.mktemp("phantoms"), {}
    for seed, split in enumerate(("train", "validation")):
        made = phantom(seed, (6, 64, 64), SIZE)
        write_tiff(folder / f"{split}.tif", made.image.astype(np.float32), SIZE)
        clicks_on(folder / f"{split}.csv", made.labels.astype(np.int16))
        files |= {f"{split}.images": folder / f"{split}.tif", f"{split}.labels": folder / f"{split}.csv"}
    return files


def test_the_loss_is_of_the_clicked_voxels_alone(root, phantoms):
    still = {"augmentation.symmetries": False, **{f"augmentation.{name}": 0.0 for name in ("contrast", "brightness")}}
    still |= {"augmentation.gamma": 0.0, "augmentation.noise": 0.0}
    still |= {"model.widths": (4,), "model.strides": ()}
    settings = settings_of(root, phantoms, NAMES, COLOURS, **still)
    prepared = experiment.prepare(settings, "unused", range(4))
    batch = prepared.batches(0)
    truth = phantom(0, (6, 64, 64), SIZE).labels
    known = batch["labels"] >= 0
    assert known.any((2, 3)).all() and known.sum() < 0.02 * known.size
    assert set(np.unique(batch["labels"])) <= {-1, 0, 1, 2, 3}
    params, state = prepared.method.init(jax.random.key(0), batch)
    sums, weight, _, _ = jax.jit(prepared.method.loss)(params, state, batch, jax.random.key(1))
    np.testing.assert_allclose(weight, known.sum((0, 2, 3)))
    low, high = batch["shared"]["intensity_range"]
    images = np.clip((batch["image"] - low) / (high - low), 0, 1)
    for member in range(2):
        own = jax.tree.map(lambda leaf, member=member: leaf[member], params)
        logits = ensemble.network(settings).apply({"params": own}, images[:, member, ..., None])
        likely = np.take_along_axis(
            np.asarray(jax.nn.log_softmax(logits)), np.maximum(batch["labels"][:, member, ..., None], 0), -1
        )[..., 0]
        np.testing.assert_allclose(sums[member], -likely[known[:, member]].sum(), rtol=1e-4)
    said = {name: 2 * int((truth == i).any((1, 2)).sum()) for i, name in enumerate(NAMES)}
    assert prepared.facts["labelled"]["classes"] == said and prepared.facts["labelled"]["of"] == 6 * 64 * 64
    assert f"{sum(said.values())} of 24,576 voxels are labelled" in prepared.description
    assert prepared.judged_on == "6 clicked slices"


def squares(seed):
    """(image, labels): bright squares in a tenth of the volume."""
    rng = np.random.default_rng(seed)
    image, labels = rng.normal(100, 5, (6, 96, 96)).astype(np.float32), np.zeros((6, 96, 96), np.uint8)
    for z in range(6):
        for top in (8, 56):
            y, x = top + rng.integers(0, 20), rng.integers(4, 70)
            labels[z, y : y + 20, x : x + 20] = 1
    return image + 60 * labels, labels


def test_a_few_clicks_in_every_slice_are_enough_to_find_squares(root, tmp_path, capsys):
    files = {}
    for seed, split in enumerate(("train", "validation")):
        image, labels = squares(seed)
        write_tiff(tmp_path / f"{split}.tif", image, SIZE)
        write_tiff(tmp_path / f"{split}_labels.tif", labels, SIZE)
        files |= {f"{split}.images": tmp_path / f"{split}.tif", f"{split}.labels": tmp_path / f"{split}_labels.tif"}
    clicks_on(tmp_path / "clicks.csv", squares(0)[1].astype(np.int16), 2)
    files["train.labels"] = tmp_path / "clicks.csv"
    learning = {"steps": 40, "evaluate_every": 20, "optimizer.rate": 0.02, "optimizer.warmup_steps": 5}
    settings = settings_of(root, files, ("background", "square"), COLOURS[:2], **learning)
    run.train(settings, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(value) for row in rows for name, value in row.items() if "loss" in name)
    assert rows[-1]["validation_dice_square"] > 0.35, "judged by the dense truth; of squares alone it would be .16"
    said = "24 of 55,296 voxels are labelled (0.0434 %): background 12, square 12"
    assert said in capsys.readouterr().out
    facts = json.loads((tmp_path / "run" / "config.json").read_text())["facts"]
    assert facts["labelled"]["voxels"] == 24 and facts["volumes"] == [str(tmp_path / "clicks.csv")]
    card = (tmp_path / "run" / "model_card.md").read_text()
    assert "- labelled: voxels 24, of 55296, share 0.000434, classes: background 12, square 12\n" in card


def test_what_cannot_be_learned_from_clicks_is_refused_in_one_line(root, phantoms, tmp_path):
    one = tmp_path / "one.csv"
    one.write_text("z,y,x,class\n0,1,1,2\n1,1,1,cristae\n")
    settings = settings_of(root, {**phantoms, "train.labels": one}, NAMES, COLOURS)
    with pytest.raises(BadInput, match="all 2 labelled voxels of the training volumes are cristae: a network needs at"):
        experiment.prepare(settings, "unused", range(4))
    alone = load_config(
        f"{root / 'configs' / 'mae.py'}:smoke", ["--config.data.phantom.train=", "--config.data.phantom.validation="]
    )
    alone.data.train.labels = (str(phantoms["train.labels"]),)
    with pytest.raises(
        BadInput, match=r"train\.csv holds clicks, and here whole label maps are needed: train an ensem"
    ):
        experiment.prepare(alone.to_dict(), "unused", range(4))


def test_classes_without_a_click_are_warned_of(root, phantoms, tmp_path, capsys):
    some = tmp_path / "some.csv"
    some.write_text("z,y,x,class\n0,1,1,2\n1,1,1,3\n")
    settings = settings_of(root, {**phantoms, "train.labels": some}, NAMES, COLOURS)
    experiment.prepare(settings, "unused", range(4))
    said = "no voxel of the training volumes is background, intermembrane, which cannot be learned from them"
    assert said in capsys.readouterr().err
