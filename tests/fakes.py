"""Small volumes, and a segmenter and a refiner in closed form in the place of trained ones."""

import jax.numpy as jnp
import numpy as np

from maeref_jax.pipeline import jobs, refining
from maeref_jax.records import Refiner, Segmenter
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole

NAMES = ["background", "intermembrane", "cristae", "matrix", "ambiguous"]
COLOURS = [[0, 0, 0], [40, 90, 255], [40, 200, 80], [250, 220, 60], [150, 150, 150]]
SCHEME = {"names": NAMES, "colours": COLOURS, "ambiguous": 4}
VOXEL_SIZE_NM = [30.0, 5.0, 4.0]  # a list, as JSON gives it
SHAPE = (3, 29, 38)  # no multiple of anything
TOKEN = 4
GAIN = 0.02  # of the corrector


def predict(params, state, image):
    """Two members whose logits are smooth functions of a blurred neighbourhood, so that windows matter a little."""
    around = image + 0.1 * (jnp.roll(image, 1, -1) + jnp.roll(image, 1, -2))
    logits = jnp.stack([params["scale"] * jnp.sin(around * (c + 1) / 20) for c in range(5)], -1)
    members = jnp.stack([logits, 0.5 * logits])
    exponentials = jnp.exp(members - members.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def row_filler(shift):
    """A refine function: fills with the class `shift` after the commonest one in the window's row, of all labels that
    it is given. One function, one compilation.
    """

    def refine(params, state, inputs, key):
        given = inputs["labels"]
        counts = jnp.stack([(given == c).sum(-1, keepdims=True) * jnp.ones(given.shape) for c in range(4)], -1)
        probabilities = (jnp.roll(counts, shift, -1) + params["floor"]) ** 2
        return probabilities / probabilities.sum(-1, keepdims=True)

    return refine


refine = row_filler(1)
right_in_rows = row_filler(0)  # where labels are the same along a row


def segmenter(scale=8.0):
    apply = Segmenter(predict, (16, 16), (8, 8), 2)
    known = {"classes": SCHEME, "voxel_size_nm": VOXEL_SIZE_NM, "members": 2, "use": {"symmetries": False}}
    return jobs.Model("runs/fake", "fake", known, {"scale": np.float32(scale)}, {}, apply, {})


def refiner(needs=(), scheme=SCHEME, fill=refine, **changes):
    apply = Refiner(fill, (16, 16), (8, 8), 2, needs, TOKEN)
    known = {"classes": scheme, "voxel_size_nm": VOXEL_SIZE_NM, "threshold": 0.4, "ambiguous_threshold": 0.5} | changes
    return jobs.Model("runs/fill", "fill", known, {"floor": np.float32(0.5)}, {}, apply, {})


def said_along_z(params, state, inputs, key):
    """The mean of what was said of a slice and its neighbours: what all three agree about is more probable."""
    mean = inputs["stored_probabilities"][..., :4].mean(1) + 1e-3
    return mean / mean.sum(-1, keepdims=True)


def corrector(judged=False):
    """A refiner that says how likely a label is wrong; judged: it says what it fills in as well."""
    model = refiner(use={"temperature": 1.0, "gain": GAIN, "caution": 1.0})
    apply = Refiner(said_along_z, (16, 16), (8, 8), 2, ("stored_probabilities",), TOKEN, context=1)
    model = model._replace(workdir="runs/corrector", name="corrector", apply=apply)
    return model._replace(judge=model) if judged else model


def image(seed=0):
    """Tiles of one grey value each, with a little noise: some are decided, some are not."""
    rng = np.random.default_rng(seed)
    tiles = np.kron(rng.uniform(0, 255, (SHAPE[0], 5, 6)), np.ones((1, 7, 7)))[:, : SHAPE[1], : SHAPE[2]]
    return (tiles + rng.normal(size=tiles.shape)).astype(np.float32)


def labels(seed=0, classes=4):
    return np.random.default_rng(seed).integers(0, classes, SHAPE).astype(np.uint8)


def rows(seed=0):
    """Labels that are the same along a row, two rows of a class at a time: the nearest one is often of another row."""
    drawn = np.random.default_rng(seed).integers(0, 4, (SHAPE[0], SHAPE[1] // 2 + 1, 1)).repeat(2, 1)[:, : SHAPE[1]]
    return np.broadcast_to(drawn, SHAPE).astype(np.uint8)


def settings(**changes):
    return jobs.Settings(**({"block": (2, 16, 16), "batch": 3} | changes))


def image_job(directory, stem="a", **changes):
    return jobs.Job(stem, directory, **({"image": array_volume(image(), "image", (30.0, 5.0, 4.0))} | changes))


def label_job(directory, **changes):
    entropy = np.zeros(SHAPE, np.float32)
    entropy[1, 8:16, 4:12] = 1.0
    given = {"labels": array_volume(labels(), "labels"), "entropy": array_volume(entropy, "entropy")}
    return jobs.Job("a", directory, **(given | changes))


def result(directory, role, stem="a"):
    return refining.open_result(directory, stem, role).read(whole(SHAPE))
