"""The masked autoencoder as something that learns from label maps and fills in hidden tokens (paper section 3.3).

Which tokens take part, in training and in use alike:
  hidden    drawn at random or undecided (training), or chosen by entropy (use); always decoded, labels never read
  unknown   every pixel is -1 (outside the volume) and not hidden: neither encoded nor decoded
  near      within `keep_within` token sides, or `keep_within_nm`, of visible foreground
  kept      visible and near: the encoder sees these; visible far tokens take no part and keep their label
By the rules of the original (original_rules.py, `original.rules`) near is a rank, and far hidden tokens are background.

What comes out are marginal probabilities: each pixel's own, given what is visible. Equation 2 of the paper asks for a
joint distribution of all hidden ones; sampled fillings in rounds (filling.py) come nearer to it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from maeref_jax import original_rules
from maeref_jax.errors import BadInput
from maeref_jax.filling import filled
from maeref_jax.masking import MASK_SHAPES, gathered_indices, hidden_tokens, near_tokens, shaped_tokens, shapes_after
from maeref_jax.models.mae import MaskedAutoencoder
from maeref_jax.records import Method, Refiner
from maeref_jax.tokens import join_tokens, split_tokens, token_mean


def check(settings):
    """Raises BadInput for settings that no training can work with."""
    weights, shapes = settings["class_weights"], settings["mask_shapes"]
    if settings["loss_over"] not in ("hidden", "near"):
        raise BadInput(f"loss_over must be hidden or near, found {settings['loss_over']!r}")
    if len(shapes) != len(MASK_SHAPES) or min(shapes) < 0 or not sum(shapes):
        raise BadInput(f"mask_shapes must be weights >= 0 of {', '.join(MASK_SHAPES)}, found {shapes}")
    if not 0 <= settings["curriculum"] <= 1:
        raise BadInput(f"curriculum is a share of the training, 0 to 1, found {settings['curriculum']}")
    if len(weights) < learned_classes(settings):
        raise BadInput(f"class_weights needs {learned_classes(settings)} weights, one per class, found {weights}")
    if settings["original"]["rules"] and not 0 < settings["original"]["keep"] <= 1:
        raise BadInput(f"original.keep is a share of the tokens, in (0, 1], found {settings['original']['keep']}")


class Roles(NamedTuple):
    """Bool (b, n) each: which tokens the encoder keeps and which the decoder decodes; hidden ones are to be filled."""

    kept: jax.Array
    decoded: jax.Array
    hidden: jax.Array


def real_classes(settings):
    """Number of classes without the ambiguous one, which is never learned and never an output."""
    classes = settings["classes"]
    return len(classes["names"]) - (classes["ambiguous"] >= 0)


def learned_classes(settings):
    """Number of classes of the network: the real ones; all of them by the rules of the original."""
    return len(settings["classes"]["names"]) if settings["original"]["rules"] else real_classes(settings)


def network(settings):
    """The MaskedAutoencoder of a config of configs/mae.py, as a dict."""
    model = dict(settings["model"])
    dtype = jnp.dtype(model.pop("compute_dtype"))
    return MaskedAutoencoder(classes=learned_classes(settings), token=settings["token"], dtype=dtype, **model)


def reach(settings):
    """How far from foreground is near, and the height and width of a token in the same unit."""
    if not settings["keep_within_nm"]:
        return settings["keep_within"], (1.0, 1.0)
    return settings["keep_within_nm"], tuple(settings["token"] * size for size in settings["voxel_size_nm"][1:])


def roles(labels, hidden, grid, keep_within, side=(1.0, 1.0)):
    """Roles of tokens. labels: int (b, n, p); hidden: bool (b, n); keep_within, side: see `masking.near_tokens`.
    Labels of hidden tokens are not looked at.
    """
    visible = known(labels) & ~hidden
    foreground = visible & (labels > 0).any(-1)
    near = near_tokens(foreground.reshape(-1, *grid), keep_within, side).reshape(hidden.shape)
    return Roles(kept=visible & near, decoded=hidden | (visible & near), hidden=hidden)


def roles_by_rank(labels, hidden, near):
    """Roles of tokens by the rule of the original, which decodes near tokens only. near: bool (b, n)."""
    return Roles(kept=near & known(labels) & ~hidden, decoded=near & (known(labels) | hidden), hidden=hidden)


def known(labels):
    """Bool (b, n): tokens (b, n, p) with a label at all."""
    return (labels >= 0).any(-1)


def near_by_rank(settings, labels):
    """Bool (b, n): the tokens that are near by the rule of the original. labels: int (b, y, x), none blanked."""
    distance = token_mean(original_rules.foreground_distance(labels), settings["token"])
    return original_rules.near(distance.reshape(len(labels), -1), settings["original"]["keep"])


def logits_of(settings, net, params, labels, grid, roles, length):
    """Class logits float32 (b, n, p, c) of every token; meaningful where roles.decoded. length: static number of places
    for kept tokens.
    """
    kept, kept_valid = gathered_indices(roles.kept, length)
    everything = jnp.broadcast_to(jnp.arange(labels.shape[1], dtype=jnp.int32), roles.decoded.shape)
    if not settings["original"]["rules"]:
        return net.apply({"params": params}, labels, grid, kept, kept_valid, everything, roles.decoded)
    # It knows no "unknown": for such a pixel of a known token it is told "ambiguous", or background without that class.
    labels = jnp.where(labels < 0, max(settings["classes"]["ambiguous"], 0), labels)
    logits = net.apply({"params": params}, labels, grid, kept, kept_valid, everything, roles.decoded)
    return original_rules.far_as_background(logits, roles.decoded)


def pixel_weights(settings, tokens, entropy, roles):
    """Class weight float32 (b, n, p) of every pixel that counts: in a token that the loss is over (hidden, or near: all
    that is decoded), known, and decided by the ensemble. entropy: (b, n, p).
    """
    over = {"hidden": roles.hidden, "near": roles.decoded}[settings["loss_over"]]
    limit = settings["train_threshold"]
    reliable = entropy <= limit if settings["original"]["rules"] else entropy < limit
    counts = over[..., None] & reliable & (tokens >= 0)
    weights = jnp.asarray(settings["class_weights"], jnp.float32)
    return jnp.where(counts, weights[jnp.maximum(tokens, 0)], 0.0)


def loss_and_logs(tokens, logits, weight):
    """Sum of weighted negative log-likelihoods, sum of the weights, and logs."""
    target = jnp.maximum(tokens, 0)
    likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1)[..., 0]
    counted = weight > 0
    right = ((logits.argmax(-1) == tokens) & counted).sum()
    # Flat, because XLA sums small arrays of several axes number by number on a CPU, losing digits.
    return -(weight * likelihood).ravel().sum(), weight.ravel().sum(), {"accuracy": (right, counted.sum())}


def refiner(settings):
    """The Refiner of a masked autoencoder's workdir."""
    net, token, use = network(settings), settings["token"], settings["use"]
    if use["rounds"] < 1 or use["samples"] < 0:
        raise BadInput(f"use.rounds must be at least 1 and use.samples at least 0, found {use}")

    def fill(params, labels, hidden):
        grid = (labels.shape[-2] // token, labels.shape[-1] // token)
        # Blanked before anything is derived from them: a hidden label cannot leak (design law 3).
        tokens = split_tokens(jnp.where(hidden, -1, labels), token)
        masked = split_tokens(hidden, token).any(-1)
        if settings["original"]["rules"]:
            # Not blanked: the exception of its own distance rule, see original_rules.py.
            part = roles_by_rank(tokens, masked, near_by_rank(settings, labels))
        else:
            part = roles(tokens, masked, grid, *reach(settings))
        logits = logits_of(settings, net, params, tokens, grid, part, tokens.shape[1])
        return join_tokens(jax.nn.softmax(logits[..., : real_classes(settings)]), grid, token)

    def refine(params, state, inputs, key):
        labels = inputs["labels"].astype(jnp.int32)
        return filled(lambda *given: fill(params, *given), labels, inputs["hidden"], key, token, **use)

    return Refiner(
        refine,
        tuple(settings["window"]),
        tuple(settings["stride"]),
        dims=2,
        needs=(),
        token=settings["token"],
    )


def method(settings):
    """The Method that trains a masked autoencoder. Batches: volumes.sampling.label_batch."""
    check(settings)
    net, token, classes = network(settings), settings["token"], learned_classes(settings)

    def prepare(batch, key):
        """Tokens with the labels they had, those with hidden ones blanked, and their roles.

        Ids that the network has no class for, such as "ambiguous", are unknown.
        """
        labels = batch["labels"].astype(jnp.int32)
        labels = jnp.where(labels < classes, labels, -1)
        grid = (labels.shape[-2] // token, labels.shape[-1] // token)
        tokens = split_tokens(labels, token)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["index"])
        if settings["original"]["rules"]:
            near = near_by_rank(settings, labels)
            noise = jax.vmap(lambda k: jax.random.uniform(k, (tokens.shape[1],)))(keys)
            counts = original_rules.visible_counts(tokens.shape[1], settings["original"]["keep"])
            visible = original_rules.visible(noise, near, jnp.asarray(counts)[batch["shared"]["hidden_count"]])
            return tokens, tokens, roles_by_rank(tokens, near & known(tokens) & ~visible, near), grid
        hidden = drawn(batch, keys, grid) & known(tokens)
        undecided = hidden_tokens(token_mean(batch["entropy"], token), settings["threshold"])
        hidden = hidden | undecided.reshape(hidden.shape)
        seen = jnp.where(hidden[..., None], -1, tokens)
        return tokens, seen, roles(seen, hidden, grid, *reach(settings)), grid

    def drawn(batch, keys, grid):
        """Bool (b, n): the tokens that training hides. Every sample draws its own."""
        count, weights = batch["shared"]["hidden_count"], tuple(settings["mask_shapes"])
        needs_donor = weights[2] > 0
        if settings["curriculum"]:
            weights = shapes_after(weights, settings["curriculum"], batch["shared"]["progress"])
        if not needs_donor:
            return jax.vmap(lambda k: shaped_tokens(k, count, grid, weights))(keys)
        donor = token_mean(batch["donor"], token)
        return jax.vmap(lambda k, entropy: shaped_tokens(k, count, grid, weights, entropy))(keys, donor)

    def forward(params, batch, key):
        tokens, seen, part, grid = prepare(batch, key)
        logits = logits_of(settings, net, params, seen, grid, part, places(batch))
        entropy = split_tokens(batch["entropy"], token)
        return tokens, part, logits, pixel_weights(settings, tokens, entropy, part), grid

    def places(batch):
        """Static number of places for kept tokens."""
        length = batch["shared"]["slots"].shape[0]
        if not settings["original"]["rules"]:
            return length
        tokens = batch["labels"][0].size // token**2
        return min(length, original_rules.near_count(tokens, settings["original"]["keep"]))

    def loss(params, state, batch, key):
        tokens, _, logits, weight, _ = forward(params, batch, key)
        total, weight, logs = loss_and_logs(tokens, logits, weight)
        return total, weight, state, logs

    def evaluate(params, state, batch):
        """Loss and accuracy over what training counts, Dice per class over those pixels of them that lie in hidden
        tokens; masks drawn from a fixed key.
        """
        tokens, part, logits, weight, _ = forward(params, batch, jax.random.key(0))
        total, weight_sum, metrics = loss_and_logs(tokens, logits, weight)
        metrics["loss"] = (total, weight_sum)
        judged = (weight > 0) & part.hidden[..., None]
        predicted = jnp.where(judged, logits.argmax(-1), -1)
        for i, name in enumerate(settings["classes"]["names"][:classes]):
            found, wanted = predicted == i, (tokens == i) & judged
            metrics[f"dice_{name}"] = (
                2.0 * (found & wanted).sum(),
                (found.sum() + wanted.sum()).astype(jnp.float32),
            )
        return metrics

    def init(key, batch):
        tokens, _, part, grid = prepare(batch, key)
        kept, kept_valid = gathered_indices(part.kept, places(batch))
        everything = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), part.decoded.shape)
        return net.init(key, tokens, grid, kept, kept_valid, everything, part.decoded)["params"], {}

    def preview(params, state, batch):
        tokens, part, logits, _, grid = forward(params, batch, jax.random.key(0))
        hidden = jnp.broadcast_to(part.hidden[..., None], tokens.shape)
        filled = jnp.where(hidden, logits.argmax(-1), tokens)
        return {
            "input": join_tokens(jnp.where(hidden, -1, tokens), grid, token),
            "hidden": join_tokens(hidden, grid, token),
            "prediction": join_tokens(filled, grid, token),
            "truth": join_tokens(tokens, grid, token),
        }

    return Method(init, loss, evaluate, preview)
