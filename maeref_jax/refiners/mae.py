"""The masked autoencoder as something that learns from label maps and fills in hidden tokens (paper section 3.3).

Which tokens take part, in training and in use alike:
  hidden    drawn at random or undecided (training), or chosen by entropy (use); always decoded, labels never read
  unknown   every pixel is -1 (outside the volume) and not hidden: neither encoded nor decoded
  near      within `keep_within` token sides of visible foreground
  kept      visible and near: the encoder sees these; visible far tokens take no part and keep their label
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from maeref_jax.masking import gathered_indices, hidden_tokens, near_tokens, scattered_tokens
from maeref_jax.models.mae import MaskedAutoencoder
from maeref_jax.records import Method, Refiner
from maeref_jax.tokens import join_tokens, split_tokens, token_mean


class Roles(NamedTuple):
    """Bool (b, n) each: which tokens the encoder keeps and which the decoder decodes; hidden ones are to be filled."""

    kept: jax.Array
    decoded: jax.Array
    hidden: jax.Array


def real_classes(settings):
    """Number of classes without the ambiguous one, which is never learned and never an output."""
    classes = settings["classes"]
    return len(classes["names"]) - (classes["ambiguous"] >= 0)


def network(settings):
    """The MaskedAutoencoder of a config of configs/mae.py, as a dict."""
    model = dict(settings["model"])
    dtype = jnp.dtype(model.pop("compute_dtype"))
    return MaskedAutoencoder(classes=real_classes(settings), token=settings["token"], dtype=dtype, **model)


def roles(labels, hidden, keep_within, grid):
    """Roles of tokens. labels: int (b, n, p); hidden: bool (b, n). Labels of hidden tokens are not looked at."""
    known = (labels >= 0).any(-1)
    visible = known & ~hidden
    foreground = visible & (labels > 0).any(-1)
    near = near_tokens(foreground.reshape(-1, *grid), keep_within).reshape(hidden.shape)
    return Roles(kept=visible & near, decoded=hidden | (visible & near), hidden=hidden)


def logits_of(net, params, labels, grid, roles, length):
    """Class logits float32 (b, n, p, c) of every token; meaningful where roles.decoded."""
    kept, kept_valid = gathered_indices(roles.kept, length)
    everything = jnp.broadcast_to(jnp.arange(labels.shape[1], dtype=jnp.int32), roles.decoded.shape)
    return net.apply({"params": params}, labels, grid, kept, kept_valid, everything, roles.decoded)


def refiner(settings):
    """The Refiner of a masked autoencoder's workdir."""
    net, token = network(settings), settings["token"]

    def refine(params, state, inputs, key):
        labels, hidden = inputs["labels"].astype(jnp.int32), inputs["hidden"]
        grid = (labels.shape[-2] // token, labels.shape[-1] // token)
        # Blanked before anything is derived from them: a hidden label cannot leak (design law 3).
        tokens = split_tokens(jnp.where(hidden, -1, labels), token)
        masked = split_tokens(hidden, token).any(-1)
        part = roles(tokens, masked, settings["keep_within"], grid)
        logits = logits_of(net, params, tokens, grid, part, tokens.shape[1])
        return join_tokens(jax.nn.softmax(logits), grid, token)

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
    net, token, classes = network(settings), settings["token"], real_classes(settings)
    weights = jnp.asarray(settings["class_weights"], jnp.float32)

    def prepare(batch, key):
        """Tokens with the labels they had, those with hidden ones blanked, and their roles.

        Ids that the network has no class for, such as "ambiguous", are unknown.
        """
        labels, entropy = batch["labels"].astype(jnp.int32), batch["entropy"]
        labels = jnp.where(labels < classes, labels, -1)
        grid = (labels.shape[-2] // token, labels.shape[-1] // token)
        tokens = split_tokens(labels, token)
        count = batch["shared"]["hidden_count"]
        drawn = jax.vmap(lambda i: scattered_tokens(jax.random.fold_in(key, i), count, tokens.shape[1]))(batch["index"])
        undecided = hidden_tokens(token_mean(entropy, token).reshape(drawn.shape), settings["threshold"])
        known = (tokens >= 0).any(-1)
        hidden = (drawn & known) | undecided
        seen = jnp.where(hidden[..., None], -1, tokens)
        return tokens, seen, roles(seen, hidden, settings["keep_within"], grid), grid

    def pixel_weights(batch, tokens, part):
        """Class weight of every pixel that counts: under a hidden token, known, and decided by the ensemble."""
        reliable = split_tokens(batch["entropy"], token) < settings["train_threshold"]
        counts = part.hidden[..., None] & reliable & (tokens >= 0)
        return jnp.where(counts, weights[jnp.maximum(tokens, 0)], 0.0)

    def forward(params, batch, key):
        tokens, seen, part, grid = prepare(batch, key)
        logits = logits_of(net, params, seen, grid, part, batch["shared"]["slots"].shape[0])
        return tokens, part, logits, pixel_weights(batch, tokens, part), grid

    def loss_and_logs(tokens, logits, weight):
        target = jnp.maximum(tokens, 0)
        likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1)[..., 0]
        counted = weight > 0
        right = ((logits.argmax(-1) == tokens) & counted).sum()
        return -(weight * likelihood).sum(), weight.sum(), {"accuracy": (right, counted.sum())}

    def loss(params, state, batch, key):
        tokens, _, logits, weight, _ = forward(params, batch, key)
        total, weight, logs = loss_and_logs(tokens, logits, weight)
        return total, weight, state, logs

    def evaluate(params, state, batch):
        """Loss, accuracy and Dice per class over the counted pixels of hidden tokens, masks drawn from a fixed key."""
        tokens, _, logits, weight, _ = forward(params, batch, jax.random.key(0))
        total, weight_sum, metrics = loss_and_logs(tokens, logits, weight)
        metrics["loss"] = (total, weight_sum)
        predicted = jnp.where(weight > 0, logits.argmax(-1), -1)
        for i, name in enumerate(settings["classes"]["names"][:classes]):
            found, wanted = predicted == i, (tokens == i) & (weight > 0)
            metrics[f"dice_{name}"] = (
                2.0 * (found & wanted).sum(),
                (found.sum() + wanted.sum()).astype(jnp.float32),
            )
        return metrics

    def init(key, batch):
        tokens, _, part, grid = prepare(batch, key)
        kept, kept_valid = gathered_indices(part.kept, batch["shared"]["slots"].shape[0])
        everything = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), part.decoded.shape)
        return net.init(key, tokens, grid, kept, kept_valid, everything, part.decoded)["params"], {}

    def preview(params, state, batch):
        tokens, part, logits, _, grid = forward(params, batch, jax.random.key(0))
        hidden = jnp.broadcast_to(part.hidden[..., None], tokens.shape)
        filled = jnp.where(hidden, logits.argmax(-1), tokens)
        return {
            "hidden": join_tokens(hidden, grid, token),
            "prediction": join_tokens(filled, grid, token),
            "truth": join_tokens(tokens, grid, token),
        }

    return Method(init, loss, evaluate, preview)
