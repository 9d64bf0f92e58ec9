"""An ensemble of U-Nets, trained and applied as one tree (paper section 3.1, design law 6).

Every leaf of `params`, and of the batch statistics where there are any, has a leading member axis k. Member i equals
that U-Net alone: it has its own initialisation, crops and augmentation, and no number of another member reaches it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.masking.symmetries import over_orientations
from maeref_jax.models.unet import UNet
from maeref_jax.records import MEMBER_LOSS, Method, Segmenter
from maeref_jax.samples import augmentation
from maeref_jax.samples.intensities import normalised, scaled
from maeref_jax.training.mapping import MAPPINGS, map_members
from maeref_jax.uncertainty.entropy import normalised_entropy
from maeref_jax.uncertainty.foreground import shifted
from maeref_jax.volumes.volume import share_slices

LOSSES = ("cross_entropy", "dice", "cross_entropy+dice")
AMBIGUOUS_AS = ("class", "unknown", "per_member")
STATISTICS = ("batch_stats",)  # what of `state` has a member axis, where the network has it


def network(settings):
    """The U-Net of one member. settings: the config of configs/ensemble.py as a dict."""
    model = settings["model"]
    return UNet(
        classes=len(settings["classes"]["names"]),
        widths=tuple(model["widths"]),
        strides=tuple(tuple(stride) for stride in model["strides"]),
        plane_levels=model["plane_levels"],
        norm=model["norm"],
        block=model["block"],
        remat=model["remat"],
        dtype=jnp.dtype(model["compute_dtype"]),
    )


def select_members(params, state, members):
    """(params, state) of some members only: an ensemble of those, e.g. of the ones that never saw a volume."""

    def chosen(tree):
        return jax.tree.map(lambda leaf: leaf[np.asarray(members)], tree)

    return chosen(params), {name: chosen(tree) if name in STATISTICS else tree for name, tree in state.items()}


def ambiguous_taught(settings):
    """How each member is taught "ambiguous", a list of "class" and "unknown". settings: `ambiguous_as`, one of

    class       it is a class like the others
    unknown     those pixels do not count: nobody learns them, and the network's output for that class only falls
    per_member  a class to the members 1, 3, 5, …, unknown to the members 0, 2, 4, …

    Raises BadInput for another, or members that cannot differ.
    """
    kind, members = settings["ambiguous_as"], settings["members"]
    if kind not in AMBIGUOUS_AS:
        raise BadInput(f"ambiguous_as must be one of {', '.join(AMBIGUOUS_AS)}, found {kind!r}")
    if kind == "per_member" and members < 2:
        raise BadInput("ambiguous_as = per_member needs at least 2 members; set class or unknown")
    return [("unknown", "class")[i % 2] if kind == "per_member" else kind for i in range(members)]


def out_of_fold(names, volumes_of_members):
    """Indices of the members that never saw a slice of the volumes `names` (of a volume and its annotations, say), None
    for all of them.

    volumes_of_members: a list of names for every member. Raises BadInput if every member saw one.
    """
    members = tuple(
        i
        for i, seen in enumerate(volumes_of_members)
        if not any(share_slices(name, other) for name in names for other in seen)
    )
    if not members:
        shown = ", ".join(sorted(names))
        raise BadInput(f"every member of the ensemble was trained on {shown}: nobody can predict it out of fold")
    return None if len(members) == len(volumes_of_members) else members


def segmenter(settings):
    """The Segmenter of an ensemble's workdir.

    With use.symmetries every member's probabilities are the mean over the orientations of the plane; those of a single
    member are handed on one by one, as if they were members: its entropy is then that over orientations. With
    use.foreground_threshold they are `foreground.shifted`, and so are labels and entropy.
    """
    net, mapped, use = network(settings), _mapping(settings), settings["use"]

    def predict(params, state, image):
        return shifted(oriented(params, state, image), use["foreground_threshold"])

    def oriented(params, state, image):
        if not use["symmetries"]:
            return once(params, state, image)
        return over_orientations(lambda image: once(params, state, image), image, apart=settings["members"] == 1)

    def once(params, state, image):
        x = normalised(image, state["intensity_range"])[..., None]

        def member(params, statistics):
            return jax.nn.softmax(net.apply({"params": params, **statistics}, x))

        return mapped(member, params, _statistics(state))

    return Segmenter(predict, tuple(settings["window"]), tuple(settings["stride"]), dims=len(settings["window"]))


def method(settings):
    """The Method that trains an ensemble. Batches: samples.sampling.image_batch; to evaluate and to look at, those of
    samples.whole_slices, of which every member sees the same images. Raises BadInput for settings that no network can
    be made of.
    """
    net, mapped = network(settings), _mapping(settings)
    classes = len(settings["classes"]["names"])
    weights = jnp.asarray(settings["class_weights"], jnp.float32)
    strengths, voxel_size_nm = settings["augmentation"], settings["voxel_size_nm"]
    augmentation.check(strengths)
    if settings["loss"] not in LOSSES:
        raise BadInput(f"loss must be one of {', '.join(LOSSES)}, found {settings['loss']!r}")
    if settings["member_mapping"] not in MAPPINGS:
        raise BadInput(f"member_mapping must be one of {', '.join(MAPPINGS)}, found {settings['member_mapping']!r}")
    ambiguous = settings["classes"]["ambiguous"]
    ignores = np.array([how == "unknown" for how in ambiguous_taught(settings)])
    # Wrong attributes of the network are found here, before anything is computed or written.
    jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *settings["window"], 1)))

    def init(key, batch):
        x = jnp.zeros((1, *batch["image"].shape[2:], 1))
        keys = jax.random.split(key, batch["image"].shape[1])
        variables = jax.vmap(lambda k: net.init(k, x))(keys)
        params = variables.pop("params")
        return params, {"intensity_range": batch["shared"]["intensity_range"], **variables}

    def taught(member, labels):
        """The labels (b, [z,] y, x) as one member is taught them."""
        return jnp.where(jnp.asarray(ignores)[member] & (labels == ambiguous), -1, labels)

    def varied(member, images, labels, index, key):
        """Normalised images and labels of one member, augmented: the key of a sample is its own and the member's."""

        def one(image, labels, index):
            own = jax.random.fold_in(jax.random.fold_in(key, index), member)
            return augmentation.augmented(own, image, labels, strengths, voxel_size_nm)

        return jax.vmap(one)(images, labels, index)

    def member_loss(params, statistics, member, images, labels, *, batch, state, key):
        """Loss sum, weight, new statistics and (right, known) pixels of one member."""
        images, labels = scaled(images, state["intensity_range"]), taught(member, labels)
        images, labels = varied(member, images, labels, batch["index"], key)
        x, variables = jnp.clip(images, 0.0, 1.0)[..., None], {"params": params, **statistics}
        logits, changed = net.apply(variables, x, train=True, mutable=list(statistics))
        total, weight = segmentation_loss(settings["loss"], logits, labels, weights)
        known = (labels >= 0) & (labels < classes)
        return total, weight, changed, (((logits.argmax(-1) == labels) & known).sum(), known.sum())

    def loss(params, state, batch, key):
        images, labels = (jnp.swapaxes(batch[name], 0, 1) for name in ("image", "labels"))
        one = partial(member_loss, batch=batch, state=state, key=key)
        members = batch["shared"]["members"]
        total, weight, changed, right = _mapping(settings, on_cpu="unroll")(
            one, params, _statistics(state), members, images, labels
        )
        return total, weight, {**state, **changed}, {"accuracy": jax.tree.map(jnp.sum, right)}

    def member_logits(params, state, batch):
        x = normalised(batch["image"], state["intensity_range"])[..., None]

        def member(params, statistics):
            return net.apply({"params": params, **statistics}, x)

        return mapped(member, params, _statistics(state))

    def evaluate(params, state, batch):
        """Members one by one (loss, over what each is taught), and the classes that their mean is decided for: Dice,
        precision and recall of each. Where nobody is taught "ambiguous" it has none, and those pixels are unknown.
        """
        logits, truth = member_logits(params, state, batch), batch["labels"]
        labels = jax.vmap(taught, in_axes=(0, None))(batch["shared"]["members"], truth)
        sums, weight = jax.vmap(lambda x, y: segmentation_loss(settings["loss"], x, y, weights))(logits, labels)
        predicted = jax.nn.softmax(logits).mean(0).argmax(-1)
        truth = jnp.where(ignores.all() & (truth == ambiguous), -1, truth)
        metrics = {"loss": (sums.sum(), weight.sum())}
        metrics |= {MEMBER_LOSS.format(i): (sums[i], weight[i]) for i in range(settings["members"])}
        for i, name in enumerate(settings["classes"]["names"]):
            if i == ambiguous and ignores.all():
                continue
            found, wanted = (predicted == i) & (truth >= 0), truth == i
            both, found, wanted = ((x.sum().astype(jnp.float32)) for x in (found & wanted, found, wanted))
            metrics[f"dice_{name}"] = (2 * both, found + wanted)
            metrics[f"precision_{name}"] = (both, found)
            metrics[f"recall_{name}"] = (both, wanted)
        return metrics

    def preview(params, state, batch):
        mean = jax.nn.softmax(member_logits(params, state, batch)).mean(0)
        return {
            "image": batch["image"],
            "prediction": mean.argmax(-1),
            "entropy": normalised_entropy(mean),
            "truth": batch["labels"],
        }

    apart = settings["member_chunk"] if settings["member_mapping"] == "auto" else None
    return Method(init, loss, evaluate, preview, settings["members"], STATISTICS, apart)


def segmentation_loss(kind, logits, labels, class_weights):
    """(sum, weight) of one of LOSSES over crops: logits float32 (b, [z,] y, x, c), labels int (b, [z,] y, x), outside
    0 … c-1 unknown.

    A crop weighs as much as the class weights of its known pixels sum up to. Cross-entropy is summed over pixels, soft
    Dice is that of a crop, times the crop's weight: both are sums over crops, so that devices and micro-batches add up
    (design law 4), and sum / weight of "cross_entropy+dice" is the sum of the two.
    """
    classes, axes = logits.shape[-1], tuple(range(1, labels.ndim))
    known = (labels >= 0) & (labels < classes)
    target = jnp.where(known, labels, 0).astype(jnp.int32)
    pixels = jnp.where(known, class_weights[target], 0.0)
    crops = pixels.sum(axes)
    total = jnp.zeros_like(crops)
    if "cross_entropy" in kind:
        likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1)[..., 0]
        total -= (pixels * likelihood).sum(axes)
    if "dice" in kind:
        total += crops * soft_dice_loss(jax.nn.softmax(logits), target, known, class_weights)
    return total.sum(), crops.sum()


def soft_dice_loss(probabilities, target, known, class_weights):
    """1 - soft Dice of every crop, float32 (b,) in [0, 1]: the weighted mean over the classes that its known pixels
    have. A class that is not there has no Dice; what is wrongly called so is missing from another one's.
    """
    axes, classes = tuple(range(1, target.ndim)), probabilities.shape[-1]
    truth = jax.nn.one_hot(target, classes) * known[..., None]
    found = probabilities * known[..., None]
    overlap, wanted = (found * truth).sum(axes), truth.sum(axes)
    dice = 2 * overlap / jnp.maximum(found.sum(axes) + wanted, 1e-6)
    present = jnp.where(wanted > 0, class_weights[:classes], 0.0)
    return ((1 - dice) * present).sum(-1) / jnp.maximum(present.sum(-1), 1e-6)


def _mapping(settings, on_cpu="scan"):
    return partial(map_members, mapping=settings["member_mapping"], chunk=settings["member_chunk"], on_cpu=on_cpu)


def _statistics(state):
    """{"batch_stats": …} where the network has batch statistics, else {}."""
    return {name: state[name] for name in STATISTICS if name in state}
