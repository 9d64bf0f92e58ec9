"""An ensemble of U-Nets, trained and applied as one tree (paper section 3.1, design law 6).

Every leaf of `params` has a leading member axis k. Member i equals that U-Net alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from maeref_jax.entropy import normalised_entropy
from maeref_jax.models.unet import UNet
from maeref_jax.records import Method, Segmenter


def network(settings):
    """The U-Net of one member. settings: the config of configs/ensemble.py as a dict."""
    model = settings["model"]
    return UNet(
        classes=len(settings["classes"]["names"]),
        widths=tuple(model["widths"]),
        strides=tuple(tuple(stride) for stride in model["strides"]),
        norm=model["norm"],
        remat=model["remat"],
        dtype=jnp.dtype(model["compute_dtype"]),
    )


def map_members(function, *stacked):
    """function over the leading member axis of every argument, results stacked.

    On CPU the members are unrolled inside one program: vmap over convolution weights becomes a grouped convolution,
    which is several times slower there. The results are the same.
    """
    if jax.default_backend() != "cpu":
        return jax.vmap(function)(*stacked)
    members = jax.tree.leaves(stacked[0])[0].shape[0]
    results = [function(*jax.tree.map(lambda leaf, i=i: leaf[i], stacked)) for i in range(members)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def normalised(image, intensity_range):
    """Intensities clipped to `intensity_range` (low, high) and scaled to [0, 1]."""
    low, high = intensity_range
    return (jnp.clip(image, low, high) - low) / (high - low)


def select_members(params, members):
    """The parameters of some members only, e.g. of those that never saw a volume."""
    return jax.tree.map(lambda leaf: leaf[np.asarray(members)], params)


def segmenter(settings):
    """The Segmenter of an ensemble's workdir."""
    net = network(settings)

    def predict(params, state, image):
        x = normalised(image, state["intensity_range"])[..., None]
        return map_members(lambda member: jax.nn.softmax(net.apply({"params": member}, x)), params)

    return Segmenter(predict, tuple(settings["window"]), tuple(settings["stride"]), dims=2)


def method(settings):
    """The Method that trains an ensemble. Batches: volumes.sampling.image_batch."""
    net = network(settings)
    classes = len(settings["classes"]["names"])
    weights = jnp.asarray(settings["class_weights"], jnp.float32)

    def init(key, batch):
        members = batch["image"].shape[1]
        x = jnp.zeros((1, *batch["image"].shape[2:], 1))
        params = jax.vmap(lambda k: net.init(k, x)["params"])(jax.random.split(key, members))
        return params, {"intensity_range": batch["shared"]["intensity_range"]}

    def member_logits(params, state, batch):
        x = normalised(jnp.swapaxes(batch["image"], 0, 1), state["intensity_range"])[..., None]
        return map_members(lambda member, images: net.apply({"params": member}, images), params, x)

    def member_losses(logits, labels):
        """Weighted cross-entropy over known pixels: sums and weights, (k,) each."""
        known = (labels >= 0) & (labels < classes)
        weight = jnp.where(known, weights[jnp.clip(labels, 0, classes - 1)], 0.0)
        likelihood = jnp.take_along_axis(
            jax.nn.log_softmax(logits), jnp.clip(labels, 0, classes - 1)[..., None].astype(jnp.int32), -1
        )[..., 0]
        axes = tuple(range(1, labels.ndim))
        return -(weight * likelihood).sum(axes), weight.sum(axes)

    def loss(params, state, batch, key):
        logits = member_logits(params, state, batch)
        labels = jnp.swapaxes(batch["labels"], 0, 1)
        sums, weight = member_losses(logits, labels)
        right = ((logits.argmax(-1) == labels) & (labels >= 0)).sum()
        return sums, weight, state, {"accuracy": (right, (labels >= 0).sum())}

    def evaluate(params, state, batch):
        """Members one by one (loss), and their mean (Dice per class, as twice the overlap over the sum of areas)."""
        logits = member_logits(params, state, batch)
        labels = jnp.swapaxes(batch["labels"], 0, 1)
        sums, weight = member_losses(logits, labels)
        mean = jax.nn.softmax(logits).mean(0)
        truth, predicted = labels[0], mean.argmax(-1)
        metrics = {"loss": (sums.sum(), weight.sum())}
        for i, name in enumerate(settings["classes"]["names"]):
            found, wanted = (predicted == i) & (truth >= 0), truth == i
            metrics[f"dice_{name}"] = (
                2.0 * (found & wanted).sum(),
                (found.sum() + wanted.sum()).astype(jnp.float32),
            )
        return metrics

    def preview(params, state, batch):
        mean = jax.nn.softmax(member_logits(params, state, batch)).mean(0)
        return {
            "image": batch["image"][:, 0],
            "prediction": mean.argmax(-1),
            "entropy": normalised_entropy(mean),
            "truth": batch["labels"][:, 0],
        }

    return Method(init, loss, evaluate, preview, members=settings["members"])
