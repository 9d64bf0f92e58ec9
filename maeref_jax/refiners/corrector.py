"""A corrector: a U-Net that reads the ensemble's class probabilities, in a box of the volume or in a slice and those
above and below it, and says what is probably there. It has learned from the ensemble's own mistakes: from what members
say of volumes that they have not seen, as they are and with signal taken away, against the annotations.

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
from maeref_jax.uncertainty.entropy import normalised_entropy

SMALLEST = 1e-2  # of a probability, before its logarithm: a few 255ths of a network are no certainty
SURE = 0.05  # what a pixel weighs in training that the ensemble is sure of; one that it knows nothing of weighs 1 more


def network(settings):
    """The UNet of a config of configs/corrector.py, as a dict."""
    return unet.without_statistics(real_classes(settings), settings["model"], settings["model"]["plane_levels"])


def in_boxes(settings):
    """Whether it reads boxes of a volume, and says what is in all of their slices; else it reads `context` slices
    around one, and says what is in that.
    """
    return len(settings["window"]) == 3


def check(settings):
    """Raises BadInput for settings that no corrector can work with."""
    if settings["context"] < 0:
        raise BadInput(f"context is {settings['context']}, expected a number of slices above and below, 0 for none")
    if not 0 < settings["most_hidden"] <= 1:
        raise BadInput(f"most_hidden is a share of the voxels, above 0, found {settings['most_hidden']}")
    if settings["repaired_per_broken"] < 0:
        raise BadInput(f"repaired_per_broken is a ratio, 0 or more, found {settings['repaired_per_broken']}")
    use = settings["use"]
    if use["temperature"] <= 0 or not 0 <= use["gain"] <= 1 or use["caution"] < 1:
        raise BadInput(f"use.temperature must be above 0, use.gain from 0 to 1, use.caution 1 or more, found {use}")
    network(settings)


def is_chosen(found):
    """Whether what was read from a gain.json says what a corrector is used with."""
    if not isinstance(found, dict):
        return False
    chosen = found.get("temperature"), found.get("threshold"), found.get("caution", 1.0)
    if not all(isinstance(one, int | float) for one in chosen):
        return False
    temperature, gain, caution = chosen
    return temperature > 0 and 0 <= gain <= 1 and caution >= 1


def encoded(settings, probabilities, image, intensity_range):
    """What the network sees of probabilities float32 (b, n, y, x, c) of n slices and image (b, n, y, x), or None:
    (b, [n,] y, x, channels), of every slice that is judged, those around it as channels: so they are seen as finely as
    the slice itself. Beyond a box there is nothing.
    """
    grey = () if image is None else (normalised(image.astype(jnp.float32), intensity_range)[..., None],)
    seen, context = jnp.concatenate([probabilities, *grey], -1), settings["context"]
    if in_boxes(settings):
        seen = jnp.pad(seen, ((0, 0), (context, context), *[(0, 0)] * 3))
    depth = seen.shape[1] - 2 * context
    around = jnp.concatenate([seen[:, i : i + depth] for i in range(2 * context + 1)], -1)
    return around if in_boxes(settings) else around[:, 0]


def judged(settings, slices):
    """Of what a window holds, (b, n, …), what is said anything of: all of a box, (b, n, …), or the slice in the middle,
    (b, …).
    """
    return slices if in_boxes(settings) else slices[:, slices.shape[1] // 2]


def logits(settings, params, state, probabilities, image):
    """Class logits float32 (b, [n,] y, x, classes) of what is judged: what the ensemble said, and by how much the
    network corrects it. probabilities: of all classes of the scheme, 0 outside the volume.
    """
    said = judged(settings, probabilities)[..., : real_classes(settings)]
    seen = encoded(settings, probabilities, image, state.get("intensity_range"))
    return jnp.log(jnp.maximum(said, SMALLEST)) + network(settings).apply({"params": params}, seen)


def refiner(settings):
    """The Refiner of a workdir. It needs the ensemble's probabilities, and the image where it learned with it."""
    check(settings)
    use, boxes = settings["use"], in_boxes(settings)
    context = 0 if boxes else settings["context"]  # a box has the slices around in it
    needs = ("stored_probabilities", *("image",) * settings["with_image"])

    def refine(params, state, inputs, key):
        seen = inputs["stored_probabilities"]
        image = inputs.get("image") if settings["with_image"] else None
        if not boxes and not context:
            seen, image = (one if one is None else one[:, None] for one in (seen, image))

        def once(turn):
            slices = jax.vmap(lambda planes: turned(planes, turn))
            found = logits(settings, params, state, slices(seen), None if image is None else slices(image))
            found = jax.nn.softmax(found / use["temperature"])
            planes = found.reshape(-1, *found.shape[-3:])
            back = turned_back(planes, turn)
            return back.reshape(*found.shape[:-3], *back.shape[1:])

        turns = orientations(seen.shape[:1] + seen.shape[2:]) if use["symmetries"] else [0]
        return sum(map(once, turns)) / len(turns)

    box = (tuple(settings["window"]), tuple(settings["stride"]))
    dims = len(settings["window"])
    return Refiner(refine, *box, dims=dims, needs=needs, token=settings["token"], context=context)


def method(settings):
    """The Method that trains it. Batches: samples.predicted.batch. The loss is over all known pixels of the target.
    Each weighs SURE and the entropy of what the ensemble says: most are plain, and have nothing to teach. So does the
    loss of validation. A weight that goes by what is seen, not by the target as class_weights do, does not change which
    probabilities are the best ones to say.
    """
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
        probabilities, image = given(batch)
        doubt = SURE + normalised_entropy(judged(settings, probabilities))
        weight = jnp.where(target >= 0, weights[jnp.maximum(target, 0)] * doubt, 0.0)
        return target, logits(settings, params, state, probabilities, image), weight

    def before(batch):
        return judged(settings, given(batch)[0])[..., :classes].argmax(-1)

    def init(key, batch):
        state = {}
        if settings["with_image"]:
            state = {"intensity_range": jnp.asarray(batch["shared"]["intensity_range"])}
        params = net.init(key, encoded(settings, *given(batch), state.get("intensity_range")))["params"]
        # It begins by leaving everything as it is.
        return {**params, "head": jax.tree.map(jnp.zeros_like, params["head"])}, state

    def loss(params, state, batch, key):
        total, weight, logs = loss_and_logs(*forward(params, state, batch))
        return total, weight, state, logs

    def evaluate(params, state, batch):
        """Loss, accuracy and Dice per class over what training counts, and the accuracy of the ensemble itself."""
        target, found, weight = forward(params, state, batch)
        total, weight_sum, metrics = loss_and_logs(target, found, weight)
        metrics["accuracy_before"] = (((before(batch) == target) & (weight > 0)).sum(), (weight > 0).sum())
        names = settings["classes"]["names"][:classes]
        return {**metrics, "loss": (total, weight_sum), **dice_sums(names, target, found, weight > 0)}

    def preview(params, state, batch):
        target, found, _ = forward(params, state, batch)
        return {"input": before(batch), "prediction": found.argmax(-1), "truth": target}

    return Method(init, loss, evaluate, preview)
