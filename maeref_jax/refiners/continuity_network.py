"""A U-Net that sees adjacent slices of masks and gives the middle one, made continuous along z: it learns what the
morphology of masking/continuity.py does with labelled slices, and needs none in use. After arXiv 2206.02392, ISBI 2022.

As published it works everywhere and knows no hidden places; at hidden tokens alone it sees what lies there as well.
"""

import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput
from maeref_jax.masking.symmetries import orientations, turned, turned_back
from maeref_jax.models import unet
from maeref_jax.records import Method, Refiner
from maeref_jax.refiners.masked_training import dice_sums, loss_and_logs, real_classes


def network(settings):
    """The UNet of a config of configs/continuity_network.py, as a dict."""
    return unet.without_statistics(real_classes(settings), settings["model"])


def seen_slices(settings):
    """How many adjacent slices it sees, an odd number: those within slices_nm, at least 3; without it, `slices`."""
    number, length = settings["slices"], settings["slices_nm"]
    if length:
        number = 2 * max(round((length / settings["voxel_size_nm"][0] - 1) / 2), 1) + 1
    if number < 3 or number % 2 == 0 or length < 0:
        raise BadInput(
            f"slices is {number}, expected an odd number, 3 or more: one in the middle, as many on each side; or a "
            f"length, slices_nm, found {length}"
        )
    return number


def encoded(slices, classes):
    """Masks int (b, n, y, x) of n adjacent slices -> float32 (b, y, x, n (classes - 1)): of every slice, whether it is
    of each class above 0; unknown is of none.
    """
    masks = slices[..., None] == jnp.arange(1, classes)
    return jnp.moveaxis(masks, 1, 3).reshape(*slices.shape[:1], *slices.shape[2:], -1).astype(jnp.float32)


def refiner(settings):
    """The Refiner of a workdir. With use.symmetries the mean over the orientations of the plane, eight of a square."""
    net, classes, use = network(settings), real_classes(settings), settings["use"]

    def refine(params, state, inputs, key):
        seen = encoded(inputs["slices"], classes)

        def once(turn):
            return turned_back(jax.nn.softmax(net.apply({"params": params}, turned(seen, turn))), turn)

        turns = orientations(seen.shape) if use["symmetries"] else [0]
        return sum(map(once, turns)) / len(turns)

    box = (tuple(settings["window"]), tuple(settings["stride"]))
    return Refiner(
        *(refine, *box),
        dims=2,
        needs=(),
        token=settings["token"],
        sees_hidden=True,
        everywhere=use["everywhere"],
        context=seen_slices(settings) // 2,
    )


def method(settings):
    """The Method that trains it. Batches: samples.adjacent_slices.batch. The loss is over all known pixels of the
    target; those of labelled slices weigh `labelled_weight` times as much.
    """
    net, classes = network(settings), real_classes(settings)
    weights, more = jnp.asarray(settings["class_weights"], jnp.float32), settings["labelled_weight"]
    if more <= 0:
        raise BadInput(f"labelled_weight must be above 0, found {more}")
    # Wrong attributes of the network are found here, before anything is computed or written.
    number = seen_slices(settings)
    example = jnp.zeros((1, number, *settings["window"]), jnp.int16)
    jax.eval_shape(net.init, jax.random.key(0), encoded(example, classes))

    def forward(params, batch):
        target = batch["target"].astype(jnp.int32)
        target = jnp.where(target < classes, target, -1)
        weight = jnp.where(batch["labelled"], more, 1.0)[:, None, None] * weights[jnp.maximum(target, 0)]
        logits = net.apply({"params": params}, encoded(batch["slices"], classes))
        return target, logits, jnp.where(target >= 0, weight, 0.0)

    def init(key, batch):
        return net.init(key, encoded(batch["slices"], classes))["params"], {}

    def loss(params, state, batch, key):
        total, weight, logs = loss_and_logs(*forward(params, batch))
        return total, weight, state, logs

    def evaluate(params, state, batch):
        """Loss, accuracy and Dice per class over what training counts."""
        target, logits, weight = forward(params, batch)
        total, weight_sum, metrics = loss_and_logs(target, logits, weight)
        names = settings["classes"]["names"][:classes]
        return {**metrics, "loss": (total, weight_sum), **dice_sums(names, target, logits, weight > 0)}

    def preview(params, state, batch):
        target, logits, _ = forward(params, batch)
        return {"input": batch["slices"][:, number // 2], "prediction": logits.argmax(-1), "truth": target}

    return Method(init, loss, evaluate, preview)
