"""The nearest visible label, as a refiner: it learns nothing, and one that learns has to be better.

The same rule as metrics/baselines.py, which sees a whole slice: here as far as a window shows.
"""

import jax
import jax.numpy as jnp

from maeref_jax.records import Refiner
from maeref_jax.refiners.masked_training import real_classes


def nearest_label(labels, lender):
    """The label int (b, y, x) of the nearest pixel (Euclidean, in the plane) with lender = True, and whether the plane
    has any, bool (b, 1, 1). Of equally near ones, the one in the left-most column, then the top one.
    """
    _, height, width = labels.shape
    nothing = jnp.float32(4 * (height + width) ** 2)  # more than any squared distance
    squared = jnp.where(lender, jnp.float32(0), nothing)
    # First along columns, then along rows: the least of what lies there plus the square of the way.
    for axis, size in ((1, height), (2, width)):
        way = jnp.square(jnp.arange(size, dtype=jnp.float32)[:, None] - jnp.arange(size, dtype=jnp.float32))
        across, lent = jnp.moveaxis(squared, axis, -1), jnp.moveaxis(labels, axis, -1)

        def least(row, across=across, lent=lent):
            total = across + row
            best = total.argmin(-1)[..., None]
            return tuple(jnp.take_along_axis(array, best, -1)[..., 0] for array in (total, lent))

        squared, labels = (jnp.moveaxis(found, 0, axis) for found in jax.lax.map(least, way))
    return labels, lender.any((1, 2), keepdims=True)


def refiner(settings):
    """The Refiner of a config of configs/nearest.py. A window without any visible label says nothing: all classes are
    equally likely.
    """
    classes = real_classes(settings)

    def refine(params, state, inputs, key):
        labels = inputs["labels"].astype(jnp.int32)
        label, found = nearest_label(labels, (labels >= 0) & (labels < classes) & ~inputs["hidden"])
        return jnp.where(found[..., None], jax.nn.one_hot(label, classes), 1 / classes)

    box = (tuple(settings["window"]), tuple(settings["stride"]))
    return Refiner(refine, *box, dims=2, needs=(), token=settings["token"])
