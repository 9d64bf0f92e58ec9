"""The segmentation's own opinion, as a refiner: nothing is filled in, and what the pipeline does besides, agreement of
slices, is done. Whoever fills in has to be better than that.
"""

import jax.numpy as jnp

from maeref_jax.records import Refiner


def refiner(settings):
    """The Refiner of a config of configs/unrefined.py. It needs class probabilities, of an ensemble or given ones."""

    def refine(params, state, inputs, key):
        return jnp.asarray(inputs["probabilities"], jnp.float32)

    box = (tuple(settings["window"]), tuple(settings["stride"]))
    return Refiner(refine, *box, dims=2, needs=("probabilities",), token=settings["token"])
