"""What the tests of evaluate.py share: closed-form models in the place of trained ones, and the command."""

import jax.numpy as jnp

from maeref_jax.commands.evaluate import main
from maeref_jax.pipeline import jobs
from maeref_jax.records import Refiner, Segmenter

SETTINGS = {
    "classes": {
        "names": ["background", "intermembrane", "cristae", "matrix", "ambiguous"],
        "colours": [[0, 0, 0], [40, 90, 255], [40, 200, 80], [250, 220, 60], [150, 150, 150]],
        "ambiguous": 4,
    },
    "voxel_size_nm": [20.0, 10.0, 10.0],
    "threshold": 0.6,
    "ambiguous_threshold": 0.5,
}
NO_FILES = {"truths": (), "images": (), "labels": (), "entropy": ()}
STAIN = (105.0, 62.0, 122.0, 178.0)


def by_intensity(params, state, image):
    """Members that disagree on what grey value a class has: noisy labels with entropy."""
    shift = jnp.array([-25.0, 0.0, 25.0])[:, None, None, None, None]
    distance = jnp.abs(image[None, ..., None] + shift - jnp.array(STAIN))
    scores = jnp.concatenate([-distance / 6, jnp.full((*distance.shape[:-1], 1), -40.0)], -1)
    return jnp.exp(scores) / jnp.exp(scores).sum(-1, keepdims=True)


def always_background(params, state, inputs, key):
    return jnp.zeros((*inputs["labels"].shape, 4)).at[..., 0].set(1.0)


def models():
    """{kind: Model} of both."""
    segmenter = Segmenter(by_intensity, (32, 32), (16, 16), 2)
    refiner = Refiner(always_background, (32, 32), (16, 16), 2, (), 4)
    return {
        "segmenter": jobs.Model("E", "ensemble", SETTINGS, {}, {}, segmenter, {}),
        "refiner": jobs.Model("R", "mae", SETTINGS, {}, {}, refiner, {"volumes": ["phantom_10"]}),
    }


def evaluate(root, workdir, *overrides):
    config = f"{root / 'configs' / 'evaluate.py'}:smoke"
    return main(["--config", config, "--workdir", str(workdir), *overrides])
