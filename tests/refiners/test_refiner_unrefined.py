"""refiners/unrefined.py: the ensemble's own opinion, with slices that agree and without."""

import jax
import numpy as np
from test_refiner_nearest import SETTINGS

from maeref_jax.commands import train
from maeref_jax.pipeline import blockwise, methods
from maeref_jax.refiners import unrefined
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole


def test_hidden_voxels_keep_the_segmentations_opinion_until_slices_agree():
    apply, shape = unrefined.refiner(SETTINGS), (3, 16, 24)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), shape).astype(np.float32)
    labels, hidden = probabilities.argmax(-1).astype(np.int16), np.zeros(shape, bool)
    hidden[:, 4:12, 8:20] = True
    arrays = {"labels": labels, "entropy": np.zeros(shape, np.float32), "hidden": hidden}
    volumes = {name: array_volume(array, name) for name, array in arrays.items()}
    volumes["probabilities"] = array_volume(np.moveaxis(probabilities, -1, 0), "probabilities")
    alone, sure, *_ = blockwise.refine_block(apply, ({}, {}), jax.random.key(0), volumes, whole(shape), 4)
    np.testing.assert_array_equal(alone, labels)
    np.testing.assert_allclose(sure[hidden] / 255, probabilities.max(-1)[hidden], atol=1 / 255)
    together, *_ = blockwise.refine_block(apply, ({}, {}), jax.random.key(0), volumes, whole(shape), 4, None, 2)
    np.testing.assert_array_equal(together[~hidden], labels[~hidden])
    assert (together != labels)[hidden].mean() > 0.2


def test_its_config_makes_a_workdir(root, tmp_path):
    train.main(["--config", f"{root}/configs/unrefined.py:smoke", "--workdir", str(tmp_path / "unrefined")])
    model = methods.load_model(tmp_path / "unrefined", "refiner")
    assert model.name == "unrefined" and model.apply.needs == ("probabilities",)
