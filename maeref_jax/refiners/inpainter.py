"""A convolutional inpainter with the masks of the masked autoencoder: what is hidden, what counts and how it is used
are those of masked_training.py, so that only the network differs.
"""

import jax.numpy as jnp

from maeref_jax.masking.tokens import join_tokens, split_tokens
from maeref_jax.models.inpainter import Inpainter
from maeref_jax.refiners import masked_training
from maeref_jax.refiners.masked_training import Filler, known, real_classes


def network(settings):
    """The Inpainter of a config of configs/inpainter.py, as a dict."""
    model = settings["model"]
    shape = (tuple(model["widths"]), tuple(model["dilations"]))
    return Inpainter(real_classes(settings), *shape, jnp.dtype(model["compute_dtype"]))


def filler(settings):
    """The Filler of an inpainter. It sees every visible token, however far, and fills every hidden one."""
    net, token = network(settings), settings["token"]

    def planes(tokens, hidden, grid):
        hidden = jnp.broadcast_to(hidden[..., None], tokens.shape)
        return join_tokens(tokens, grid, token), join_tokens(hidden, grid, token)

    def init(key, tokens, hidden, grid, given):
        return net.init(key, *planes(tokens, hidden, grid))["params"], {}

    def logits(params, state, tokens, hidden, grid, given, lengths):
        found = net.apply({"params": params}, *planes(tokens, hidden, grid))
        by_token = split_tokens(jnp.moveaxis(found, -1, 0), token)
        return jnp.moveaxis(by_token, 0, -1), hidden | known(tokens)

    return Filler(init, logits)


def refiner(settings):
    """The Refiner of an inpainter's workdir."""
    return masked_training.refiner(settings, filler(settings))


def method(settings):
    """The Method that trains an inpainter. Batches: samples.sampling.label_batch."""
    return masked_training.method(settings, filler(settings), real_classes(settings))
