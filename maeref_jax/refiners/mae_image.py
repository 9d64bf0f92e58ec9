"""The masked autoencoder that sees the image too (MAE+X): labels are hidden and filled in as by refiners/mae.py, with
the image's features at every token, hidden ones included.
"""

import jax.numpy as jnp

from maeref_jax.masking.roles import gathered, in_place, most_counts, reach, roles
from maeref_jax.masking.tokens import split_tokens
from maeref_jax.models.mae import MaskedAutoencoder
from maeref_jax.models.mae_image import ImageMaskedAutoencoder
from maeref_jax.refiners import masked_training
from maeref_jax.refiners.masked_training import Filler, real_classes
from maeref_jax.samples.intensities import normalised


def network(settings):
    """The ImageMaskedAutoencoder of a config of configs/mae_image.py, as a dict."""
    model, image = dict(settings["model"]), settings["image_model"]
    dtype = jnp.dtype(model.pop("compute_dtype"))
    labels = MaskedAutoencoder(classes=real_classes(settings), token=settings["token"], dtype=dtype, **model)
    return ImageMaskedAutoencoder(labels, image["width"], image["depth"], image["heads"])


def filler(settings):
    """The Filler of a masked autoencoder with the image. Its state keeps the range of intensities of training."""
    net, token = network(settings), settings["token"]

    def arguments(state, tokens, hidden, grid, given, lengths):
        part = roles(tokens, hidden, grid, *reach(settings))
        image = normalised(given["image"].astype(jnp.float32), state["intensity_range"])
        return (*gathered(tokens, grid, part, lengths), split_tokens(image, token)), part

    def init(key, tokens, hidden, grid, given):
        state = {"intensity_range": jnp.asarray(given["shared"]["intensity_range"])}
        shown, _ = arguments(state, tokens, hidden, grid, given, (tokens.shape[1],) * 2)
        return net.init(key, *shown)["params"], state

    def logits(params, state, tokens, hidden, grid, given, lengths):
        shown, part = arguments(state, tokens, hidden, grid, given, lengths)
        return in_place(net.apply({"params": params}, *shown), part), part.decoded

    def counts(tokens, hidden, grid, refilled):
        return most_counts(tokens, hidden, grid, refilled, *reach(settings))

    return Filler(init, logits, needs=("image",), counts=counts)


def refiner(settings):
    """The Refiner of such a workdir; it needs the image."""
    return masked_training.refiner(settings, filler(settings))


def method(settings):
    """The Method that trains it. Batches: samples.sampling.label_batch, with images."""
    return masked_training.method(settings, filler(settings), real_classes(settings))
