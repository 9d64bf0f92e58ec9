"""Morphological filling: hidden pixels take the majority of what lies around them, from the border of a hole inwards.

It learns nothing. A disc of `radius_px` votes, class by class; what is filled votes in the next round. When no hole is
left, every pixel's probabilities are the share of the votes in its disc, which smooths what met in the middle.
"""

import jax
import jax.numpy as jnp
import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.records import Refiner
from maeref_jax.refiners.masked_training import real_classes


def disc(radius):
    """float32 (k, k): 1 where a pixel's centre lies within `radius` pixels of the middle one's."""
    reach = int(radius)
    offset = np.arange(-reach, reach + 1)
    return (np.hypot(offset[:, None], offset) <= radius).astype(np.float32)


def votes(labels, classes, kernel):
    """float32 (b, y, x, c): how many pixels of each class lie under the kernel. labels: int (b, y, x), -1 none."""
    planes = jnp.moveaxis(jax.nn.one_hot(labels, classes), -1, 1)
    found = jax.lax.conv_general_dilated(planes.reshape(-1, 1, *labels.shape[1:]), kernel[None, None], (1, 1), "SAME")
    return jnp.moveaxis(found.reshape(planes.shape), 1, -1)


def grown(labels, holes, classes, kernel):
    """Labels int (b, y, x) with all holes (bool) filled from their borders inwards, those that touch no label -1."""

    def one_round(carry):
        labels, _ = carry
        around = votes(labels, classes, kernel)
        now = holes & (labels < 0) & (around.sum(-1) > 0.5)
        return jnp.where(now, around.argmax(-1), labels), now.any()

    start = jnp.where(holes, -1, labels)
    return jax.lax.while_loop(lambda carry: carry[1], one_round, (start, jnp.asarray(True)))[0]


def refiner(settings):
    """The Refiner of a config of configs/morphology.py. Where nothing votes, all classes are equally likely."""
    classes, radius = real_classes(settings), settings["radius_px"]
    if radius < 1:
        raise BadInput(f"radius_px must be at least 1, or no pixel has a neighbour, found {radius}")

    def refine(params, state, inputs, key):
        labels = inputs["labels"].astype(jnp.int32)
        kernel, labels = jnp.asarray(disc(radius)), jnp.where(labels < classes, labels, -1)
        filled = grown(labels, inputs["hidden"], classes, kernel)
        around = votes(filled, classes, kernel)
        total = around.sum(-1, keepdims=True)
        return jnp.where(total > 0.5, around / jnp.maximum(total, 1), 1 / classes)

    box = (tuple(settings["window"]), tuple(settings["stride"]))
    return Refiner(refine, *box, dims=2, needs=(), token=settings["token"])
