"""From the config of the network of adjacent slices to a training run: its data, what its workdir remembers of them."""

import numpy as np
import pytest

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import experiment, train_settings
from maeref_jax.volumes.volume import write_tiff


@pytest.fixture
def settings(tmp_path):
    labels = np.zeros((8, 40, 40), np.uint8)
    labels[:, 8:30, 8:30] = 1
    for name in ("mask", "target", "validation", "validation_target"):
        write_tiff(tmp_path / f"{name}.tif", labels, (5, 5, 5))

    def made(*overrides):
        given = {"train.labels": "mask", "train.targets": "target"}
        given |= {"validation.labels": "validation", "validation.targets": "validation_target"}
        files = [f"--config.data.{name}={tmp_path / file}.tif" for name, file in given.items()]
        found = load_config("continuity_network:smoke", [*files, *overrides]).to_dict()
        train_settings.check(found)
        return found

    return made


def test_the_workdir_remembers_how_its_masks_were_made(settings, tmp_path):
    given = settings("--config.data.foreground_threshold=0.35", "--config.data.train.labelled_slices=0:8:4")
    prepared = experiment.prepare(given, tmp_path, range(2))
    facts = prepared.facts
    assert facts["foreground_threshold"] == 0.35 and facts["labelled_slices"] == [2]
    assert facts["masks"] == [str(tmp_path / "mask.tif")] and facts["volumes"] == [str(tmp_path / "target.tif")]
    batch = prepared.batches(0)
    assert batch["slices"].shape == (2, 5, 32, 32) and batch["target"].shape == (2, 32, 32)
    np.testing.assert_array_equal(batch["slices"][:, 2], batch["target"])
    assert "8 slices, 2 of them labelled" in prepared.description


def test_a_stack_of_fewer_slices_than_it_sees_is_refused(settings, tmp_path):
    with pytest.raises(BadInput, match=r"target\.tif has 8 slices, fewer than the 9 that the network sees at a time"):
        experiment.prepare(settings("--config.slices=9"), tmp_path, range(2))
