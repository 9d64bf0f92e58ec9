"""A network that learns from single labelled voxels to say the class of a voxel from what lies around it; an ensemble
of them, members on the axis k as in ensemble.py, each with clicks of its own (design law 6).

Phase "clicks": crops around labelled voxels, the middle hidden, are to be painted in again, and their class read from
the latents. Phase "pseudo_labels": every click brings neighbours without a label, and those that lie near the mean
latent of a class are taken for it. After "ε-Seg" (models/hierarchical_vae.py).
"""

import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput
from maeref_jax.masking.symmetries import over_orientations
from maeref_jax.models import sliding, variational
from maeref_jax.models.hierarchical_vae import HierarchicalVAE, inside, with_middle_hidden
from maeref_jax.models.prototypes import above, nearest_class, prototypes
from maeref_jax.models.unet import axis_of_devices
from maeref_jax.records import MEMBER_LOSS, Method, Segmenter
from maeref_jax.training.mapping import MAPPINGS, map_members

PHASES = ("clicks", "pseudo_labels")
STATISTICS = ("batch_stats",)  # what of `state` has a member axis


def network(settings):
    """The network of one member. settings: the config of configs/sparse_labels.py as a dict."""
    model = settings["model"]
    sizes = {name: model[name] for name in ("levels", "blocks", "filters", "latent", "remat")}
    classes = len(settings["classes"]["names"])
    return HierarchicalVAE(classes, tuple(settings["window"]), **sizes, dtype=jnp.dtype(model["compute_dtype"]))


def crop_shape(settings):
    """What is cut out of an image for a voxel: the window, and the margin around it."""
    return tuple(side + 2 * settings["margin"] for side in settings["window"])


def segmenter(settings):
    """The Segmenter of a workdir. It works on tiles, which overlap by a crop, so that every voxel has its whole
    window inside of one; at the border of an image what lies around a voxel is mirrored. use.symmetries: the mean over
    the orientations of the plane; those of a single member are handed on as if they were members.
    """
    check(settings)
    net, window, use = network(settings), tuple(settings["window"]), settings["use"]
    tile, crop, margin = tuple(use["tile"]), crop_shape(settings), settings["margin"]

    def member(params, statistics, x):
        variables = {"params": params, **statistics}

        def encoded(x, dense=False):
            return net.apply(variables, x, dense=dense, method="encoded")[-1]

        def read(top):
            return net.apply(variables, top, method="read")

        if use["dense"]:
            return sliding.dense(lambda x: encoded(x, dense=True), read, x, window, net.levels, margin)
        return sliding.one_by_one(lambda x: read(encoded(x)), x, crop, tuple(settings["stride"]))

    def once(params, state, image):
        x = normalised(image, state["grey"])[..., None]
        return mapped(settings, "scan", lambda *own: member(*own, x), params, _statistics(state))

    def predict(params, state, image):
        if not use["symmetries"]:
            return once(params, state, image)
        return over_orientations(lambda image: once(params, state, image), image, apart=settings["members"] == 1)

    return Segmenter(predict, tile, tuple(t - c for t, c in zip(tile, crop, strict=True)), dims=len(window))


def method(settings, admitted=above):
    """The Method that trains members. Batches: those of samples/click_crops.py, click_batch, in the phase of
    pseudo-labels group_batch, with "threshold" among what is shared; to evaluate, JudgedBatches.

    admitted: (confidence, threshold) -> which pseudo-labels are learned from. Raises BadInput for settings that no
    network can be made of.
    """
    check(settings)
    net, losses, hidden, names = network(settings), settings["losses"], settings["hidden"], settings["classes"]["names"]
    classes, grouped = len(names), tuple(settings["phases"]) == PHASES[1:]

    def init(key, batch):
        x = jnp.zeros((1, *settings["window"], 1))
        nothing = tuple(jnp.zeros((1, *shape)) for shape in net.latent_shapes())
        keys = jax.random.split(key, batch["image"].shape[1])
        variables = jax.vmap(lambda k: net.init(k, x, nothing))(keys)
        return variables.pop("params"), {"grey": batch["shared"]["grey"], **variables}

    def noise_of(key, index, member, neighbours):
        """A draw for every latent of every crop: the key of a sample is its own and the member's."""

        def one(index):
            own = jax.random.fold_in(jax.random.fold_in(key, index), member)
            keys = jax.random.split(own, net.levels)
            shapes = [(neighbours, *shape) for shape in net.latent_shapes()]
            return tuple(jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True))

        return tuple(x.reshape(-1, *x.shape[2:]) for x in jax.vmap(one)(index))

    def taught(means, labels, threshold):
        """Labels (b,) of all crops, those of clicks as they are, of neighbours as they lie; -1 where not admitted."""
        means = jax.lax.stop_gradient(means).reshape(len(labels), -1, means[0].size)
        own, near = means[:, 0], means[:, 1:]
        centres, present = prototypes(own, labels, classes, _summed)
        temperature = settings["pseudo_labels"]["temperature"]
        found, confidence = nearest_class(near.reshape(-1, near.shape[-1]), centres, present, temperature)
        found = jnp.where(admitted(confidence, threshold), found, -1).reshape(near.shape[:2])
        return jnp.concatenate([labels[:, None], found], 1).reshape(-1), (found >= 0).sum()

    def member_loss(params, statistics, member, images, labels, *, batch, state, key):
        """Loss sum, weight, new statistics and logs of one member. images (b, …), labels (b,), of clicks; with
        neighbours (b, 1 + neighbours, …).
        """
        neighbours, labels = images.shape[1] if grouped else 1, labels.astype(jnp.int32)
        x = normalised(images.reshape(-1, *crop_shape(settings)), state["grey"])[..., None]
        noise = noise_of(key, batch["index"], member, neighbours)
        seen = with_middle_hidden(x, hidden["side"], hidden["ring"])
        out, changed = net.apply({"params": params, **statistics}, seen, noise, train=True, mutable=list(statistics))
        logs = {}
        if grouped:
            labels, admitted_count = taught(out.means[-1], labels, batch["shared"]["threshold"])
            logs["admitted"] = (admitted_count.astype(jnp.float32), jnp.float32(len(labels) - len(images)))
        gathered, everybody = [_gathered(mean) for mean in out.means], _gathered(labels)
        apart = variational.contrastive(gathered, everybody, classes, losses["margin"])
        found = {
            "inpainting": variational.inpainting(out.reconstruction, inside(x, settings["window"]), hidden["side"]),
            "cross_entropy": variational.cross_entropy(out.logits, labels),
        }
        divergences = variational.latent_divergences(out, labels, losses["prior_height"])
        terms = [(losses[name], *found[name]) for name in found]
        terms += [(losses["divergence"] / net.levels, *one) for one in divergences]
        # Every term is a mean over samples of its own, of all devices; their sum weighs as much as there are samples.
        # What is of pairs every device knows, and gives its share.
        total = sum(weight * sums / jnp.maximum(_summed(counts), 1) for weight, sums, counts in terms)
        total += losses["contrastive"] * apart / _summed(1)
        known = labels >= 0
        right = ((out.logits.argmax(-1) == labels) & known).sum().astype(jnp.float32)
        logs |= found | {"contrastive": (apart, jnp.ones(())), "accuracy": (right, known.sum().astype(jnp.float32))}
        logs["divergence"] = tuple(sum(one) for one in zip(*divergences, strict=True))
        weight = jnp.float32(len(labels))
        return total * _summed(weight), weight, changed, logs

    def loss(params, state, batch, key):
        images, labels = (jnp.swapaxes(batch[name], 0, 1) for name in ("image", "labels"))

        def one(*own):
            return member_loss(*own, batch=batch, state=state, key=key)

        own = params, _statistics(state), batch["shared"]["members"], images, labels
        total, weight, changed, logs = mapped(settings, "unroll", one, *own)
        return total, weight, {**state, **changed}, jax.tree.map(jnp.sum, logs)

    def evaluate(params, state, batch):
        """Members one by one (cross-entropy of crops as in use, nothing hidden), and the classes that their mean is
        decided for: Dice, precision and recall of each, over labelled voxels.
        """
        x, labels = normalised(batch["image"], state["grey"])[..., None], batch["labels"].astype(jnp.int32)

        def member(params, statistics):
            variables = {"params": params, **statistics}
            return net.apply(variables, net.apply(variables, x, method="encoded")[-1], method="read")

        logits = mapped(settings, "scan", member, params, _statistics(state))
        sums, weight = jax.vmap(lambda one: variational.cross_entropy(one, labels))(logits)
        predicted, known = jax.nn.softmax(logits).mean(0).argmax(-1), labels >= 0
        metrics = {"loss": (sums.sum(), weight.sum())}
        metrics |= {MEMBER_LOSS.format(i): (sums[i], weight[i]) for i in range(settings["members"])}
        for c, name in enumerate(names):
            found, wanted = (predicted == c) & known, labels == c
            both, found, wanted = (one.sum().astype(jnp.float32) for one in (found & wanted, found, wanted))
            metrics[f"dice_{name}"] = (2 * both, found + wanted)
            metrics[f"precision_{name}"] = (both, found)
            metrics[f"recall_{name}"] = (both, wanted)
        return metrics

    def preview(params, state, batch):
        """What the first member paints where the middle is hidden."""
        x = normalised(batch["image"], state["grey"])[..., None]
        params, statistics = jax.tree.map(lambda leaf: leaf[0], (params, _statistics(state)))
        nothing = tuple(jnp.zeros((len(x), *shape)) for shape in net.latent_shapes())
        seen = with_middle_hidden(x, hidden["side"], hidden["ring"])
        out = net.apply({"params": params, **statistics}, seen, nothing)
        x, seen = (inside(one, settings["window"]) for one in (x, seen))
        shown = {"image": x, "input": seen, "prediction": out.reconstruction}
        return {name: jnp.clip(array[..., 0], -3, 3) for name, array in shown.items()}

    apart = settings["member_chunk"] if settings["member_mapping"] == "auto" else None
    return Method(init, loss, evaluate, preview, settings["members"], STATISTICS, apart)


def normalised(image, grey):
    """An image with the mean and the deviation of the training volumes taken out, `grey`."""
    return (image.astype(jnp.float32) - grey[0]) / grey[1]


def mapped(settings, on_cpu, function, *stacked):
    """function over members, as the settings say."""
    how = {"mapping": settings["member_mapping"], "chunk": settings["member_chunk"], "on_cpu": on_cpu}
    return map_members(function, *stacked, **how)


def check(settings):
    """Raises BadInput for settings that no network can be made of, or none that can be used."""
    net, window, tile = network(settings), tuple(settings["window"]), tuple(settings["use"]["tile"])
    nothing = tuple(jnp.zeros((1, *shape)) for shape in net.latent_shapes())
    jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *window, 1)), nothing)
    if settings["member_mapping"] not in MAPPINGS:
        raise BadInput(f"member_mapping must be one of {', '.join(MAPPINGS)}, found {settings['member_mapping']!r}")
    step = 2**net.levels
    if settings["margin"] < 0 or settings["margin"] % step:
        raise BadInput(f"margin must be 0 or a multiple of {step} for {net.levels} levels, found {settings['margin']}")
    multiple, crop = step if settings["use"]["dense"] else 1, crop_shape(settings)
    if len(tile) != len(window) or any(t <= c or t % multiple for t, c in zip(tile, crop, strict=True)):
        raise BadInput(
            f"use.tile must be {len(window)} numbers above those of the window with its margin {crop}"
            f"{f', multiples of {multiple}' if multiple > 1 else ''}; found {tile}"
        )
    side, ring = settings["hidden"]["side"], settings["hidden"]["ring"]
    if side < 1 or ring < 0 or side + 2 * ring >= min(window):
        raise BadInput(
            f"hidden.side must be at least 1, hidden.ring at least 0, and both fit into the window {window}; found "
            f"{side} and {ring}"
        )
    numbers = settings["losses"]
    if min(numbers.values()) < 0:
        raise BadInput(f"losses must not be negative, found {numbers}")


def _statistics(state):
    return {name: state[name] for name in STATISTICS}


def _summed(tree):
    """The sum over all devices that compute a step together."""
    axis = axis_of_devices()
    return tree if axis is None else jax.lax.psum(tree, axis)


def _gathered(x):
    """The samples (b, …) of all devices that compute a step together."""
    axis = axis_of_devices()
    return x if axis is None else jax.lax.all_gather(x, axis, tiled=True)
