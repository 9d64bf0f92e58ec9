"""A corrector: a U-Net that reads the ensemble's class probabilities, of a slice and those above and below it, and says
what is probably there. It has learned from the ensemble's own mistakes: from what members say of volumes that they have
not seen, as they are and with signal taken away, against the annotations.

What it says is a probability of every class everywhere, calibrated on validation volumes. So it tells both what to fill
in and where: the probability that a label is wrong is 1 minus that of the label, and what is won by replacing it, on
the mean, is the difference to the likeliest class (pipeline/passes.py: the pass "judge"). It sees no labels, so no
hidden one can leak. Ours; after the published idea of a network that cleans up another one's output.
"""

import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput
from maeref_jax.masking.symmetries import orientations, turned, turned_back
from maeref_jax.models import unet
from maeref_jax.records import Method, Refiner
from maeref_jax.refiners.masked_training import dice_sums, loss_and_logs, real_classes
from maeref_jax.samples.intensities import normalised

SMALLEST = 1e-2  # of a probability, before its logarithm: a few 255ths of a network are no certainty


def network(settings):
    """The UNet of a config of configs/corrector.py, as a dict."""
    return unet.without_statistics(real_classes(settings), settings["model"])


def check(settings):
    """Raises BadInput for settings that no corrector can work with."""
    if settings["context"] < 0:
        raise BadInput(f"context is {settings['context']}, expected a number of slices above and below, 0 for none")
    if not 0 < settings["most_hidden"] <= 1:
        raise BadInput(f"most_hidden is a share of the voxels, above 0, found {settings['most_hidden']}")
    if settings["repaired_per_broken"] < 0:
        raise BadInput(f"repaired_per_broken is a ratio, 0 or more, found {settings['repaired_per_broken']}")
    if settings["use"]["temperature"] <= 0 or not 0 <= settings["use"]["gain"] <= 1:
        raise BadInput(f"use.temperature must be above 0 and use.gain from 0 to 1, found {settings['use']}")
    network(settings)


def is_chosen(found):
    """Whether what was read from a gain.json says what a corrector is used with."""
    if not isinstance(found, dict):
        return False
    temperature, gain = found.get("temperature"), found.get("threshold")
    numbers = isinstance(temperature, int | float) and isinstance(gain, int | float)
    return numbers and temperature > 0 and 0 <= gain <= 1


def encoded(probabilities, image, intensity_range):
    """What the network sees: probabilities float32 (b, n, y, x, c) of n slices and image (b, n, y, x), or None, as
    channels (b, y, x, n c [+ n]).
    """
    b, n, y, x, c = probabilities.shape
    seen = jnp.moveaxis(probabilities, 1, 3).reshape(b, y, x, n * c)
    if image is None:
        return seen
    grey = normalised(image.astype(jnp.float32), intensity_range)
    return jnp.concatenate([seen, jnp.moveaxis(grey, 1, 3)], -1)


def logits(net, params, state, probabilities, image, classes):
    """Class logits float32 (b, y, x, classes) of the slice in the middle: what the ensemble said, and by how much the
    network corrects it. probabilities: of all classes of the scheme, 0 outside the volume.
    """
    said = jnp.log(jnp.maximum(probabilities[:, probabilities.shape[1] // 2, ..., :classes], SMALLEST))
    seen = encoded(probabilities, image, state.get("intensity_range"))
    return said + net.apply({"params": params}, seen)


def refiner(settings):
    """The Refiner of a workdir. It needs the ensemble's probabilities, and the image where it learned with it."""
    check(settings)
    net, classes, use = network(settings), real_classes(settings), settings["use"]
    needs = ("stored_probabilities", *("image",) * settings["with_image"])

    def refine(params, state, inputs, key):
        seen = inputs["stored_probabilities"]
        seen = seen if settings["context"] else seen[:, None]
        image = inputs.get("image") if settings["with_image"] else None
        image = image if image is None or settings["context"] else image[:, None]

        def once(turn):
            slices = jax.vmap(lambda planes: turned(planes, turn))
            found = logits(net, params, state, slices(seen), None if image is None else slices(image), classes)
            return turned_back(jax.nn.softmax(found / use["temperature"]), turn)

        turns = orientations(seen.shape[:1] + seen.shape[2:]) if use["symmetries"] else [0]
        return sum(map(once, turns)) / len(turns)

    box = (tuple(settings["window"]), tuple(settings["stride"]))
    return Refiner(refine, *box, dims=2, needs=needs, token=settings["token"], context=settings["context"])


def method(settings):
    """The Method that trains it. Batches: samples.predicted.batch. The loss is over all known pixels of the target."""
    check(settings)
    net, classes = network(settings), real_classes(settings)
    weights = jnp.asarray(settings["class_weights"], jnp.float32)
    # Wrong attributes of the network are found here, before anything is computed or written.
    channels = (2 * settings["context"] + 1) * (len(settings["classes"]["names"]) + settings["with_image"])
    jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *settings["window"], channels)))

    def given(batch):
        return batch["probabilities"].astype(jnp.float32) / 255, batch.get("image")

    def forward(params, state, batch):
        target = batch["target"].astype(jnp.int32)
        target = jnp.where(target < classes, target, -1)
        weight = jnp.where(target >= 0, weights[jnp.maximum(target, 0)], 0.0)
        return target, logits(net, params, state, *given(batch), classes), weight

    def init(key, batch):
        state = {}
        if settings["with_image"]:
            state = {"intensity_range": jnp.asarray(batch["shared"]["intensity_range"])}
        params = net.init(key, encoded(*given(batch), state.get("intensity_range")))["params"]
        # It begins by leaving everything as it is.
        return {**params, "head": jax.tree.map(jnp.zeros_like, params["head"])}, state

    def loss(params, state, batch, key):
        total, weight, logs = loss_and_logs(*forward(params, state, batch))
        return total, weight, state, logs

    def evaluate(params, state, batch):
        """Loss, accuracy and Dice per class over what training counts, and the accuracy of the ensemble itself."""
        target, found, weight = forward(params, state, batch)
        total, weight_sum, metrics = loss_and_logs(target, found, weight)
        said = given(batch)[0][:, settings["context"], ..., :classes]
        metrics["accuracy_before"] = (((said.argmax(-1) == target) & (weight > 0)).sum(), (weight > 0).sum())
        names = settings["classes"]["names"][:classes]
        return {**metrics, "loss": (total, weight_sum), **dice_sums(names, target, found, weight > 0)}

    def preview(params, state, batch):
        target, found, _ = forward(params, state, batch)
        said = given(batch)[0][:, settings["context"], ..., :classes].argmax(-1)
        return {"input": said, "prediction": found.argmax(-1), "truth": target}

    return Method(init, loss, evaluate, preview)
