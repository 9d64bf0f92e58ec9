"""The convolutional autoencoder of label maps, plain or denoising, as published: it knows no hidden tokens and reads a
window's labels wherever they are, those that the ensemble was unsure of included (`sees_hidden`).

plain: trained to give back what it sees; what its narrow middle cannot carry is lost, the anatomy is kept
denoising: trained to give back what the labels were before a synthetic deterioration (deterioration.py)
"""

import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput
from maeref_jax.models.autoencoder import Autoencoder, stride_of
from maeref_jax.records import Method, Refiner
from maeref_jax.refiners.masked_training import (
    dice_sums,
    loss_and_logs,
    only_classes,
    pixel_weights,
    real_classes,
    sample_keys,
)
from maeref_jax.samples import deterioration


def network(settings):
    """The Autoencoder of a config of configs/autoencoder.py, as a dict."""
    model = settings["model"]
    net = Autoencoder(
        real_classes(settings), tuple(model["widths"]), model["latent"], jnp.dtype(model["compute_dtype"])
    )
    multiple = stride_of(net.widths)
    if any(size % multiple for size in settings["window"]):
        raise BadInput(
            f"window {tuple(settings['window'])} must be multiples of {multiple}: {len(net.widths)} convolutions "
            "(model.widths) halve it"
        )
    return net


def refiner(settings):
    """The Refiner of an autoencoder's workdir."""
    net = network(settings)

    def refine(params, state, inputs, key):
        return jax.nn.softmax(net.apply({"params": params}, inputs["labels"]))

    box = (tuple(settings["window"]), tuple(settings["stride"]))
    return Refiner(refine, *box, dims=2, needs=(), token=settings["token"], sees_hidden=True)


def method(settings):
    """The Method that trains an autoencoder. Batches: samples.sampling.label_batch. The loss is over all known pixels
    of the crops that the ensemble was sure of.
    """
    net, classes, denoising = network(settings), real_classes(settings), settings["denoising"]
    deterioration.check(denoising)
    if len(settings["class_weights"]) < classes:
        raise BadInput(f"class_weights needs {classes} weights, one per class, found {settings['class_weights']}")

    def prepare(batch, key):
        """Labels as they are to come out, and as they are shown."""
        labels = only_classes(batch["labels"], classes)
        if not denoising["enabled"]:
            return labels, labels

        def worse(key, plane):
            return deterioration.deteriorated(key, plane, classes, denoising)

        return labels, jax.vmap(worse)(sample_keys(key, batch), labels)

    def forward(params, batch, key):
        labels, shown = prepare(batch, key)
        logits = net.apply({"params": params}, shown)
        return labels, shown, logits, pixel_weights(settings, labels, batch["entropy"], True)

    def init(key, batch):
        return net.init(key, only_classes(batch["labels"], classes))["params"], {}

    def loss(params, state, batch, key):
        labels, _, logits, weight = forward(params, batch, key)
        total, weight, logs = loss_and_logs(labels, logits, weight)
        return total, weight, state, logs

    def evaluate(params, state, batch):
        """Loss, accuracy and Dice per class over what training counts; deteriorated from a fixed key."""
        labels, _, logits, weight = forward(params, batch, jax.random.key(0))
        total, weight_sum, metrics = loss_and_logs(labels, logits, weight)
        names = settings["classes"]["names"][:classes]
        return {**metrics, "loss": (total, weight_sum), **dice_sums(names, labels, logits, weight > 0)}

    def preview(params, state, batch):
        labels, shown, logits, _ = forward(params, batch, jax.random.key(0))
        return {"input": shown, "prediction": logits.argmax(-1), "truth": labels}

    return Method(init, loss, evaluate, preview)
