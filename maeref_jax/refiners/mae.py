"""The masked autoencoder as something that learns from label maps and fills in hidden tokens (paper section 3.3).

Which tokens take part is said in roles.py, what is hidden and what counts in masked_training.py. By the rules of the
original (original_rules.py, `original.rules`) near is a rank, and far hidden tokens are background.

What comes out are marginal probabilities: each pixel's own, given what is visible. Equation 2 of the paper asks for a
joint distribution of all hidden ones; sampled fillings in rounds (filling.py) come nearer to it.
"""

import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput
from maeref_jax.masking import original_rules
from maeref_jax.masking.roles import Roles, gathered, in_place, most_counts, reach, roles
from maeref_jax.masking.tokens import join_tokens, token_mean
from maeref_jax.models.mae import MaskedAutoencoder
from maeref_jax.refiners import masked_training
from maeref_jax.refiners.masked_training import Filler, known, real_classes, sample_keys


def learned_classes(settings):
    """Number of classes of the network: the real ones; all of them by the rules of the original."""
    return len(settings["classes"]["names"]) if settings["original"]["rules"] else real_classes(settings)


def network(settings):
    """The MaskedAutoencoder of a config of configs/mae.py, as a dict."""
    model = dict(settings["model"])
    dtype = jnp.dtype(model.pop("compute_dtype"))
    return MaskedAutoencoder(classes=learned_classes(settings), token=settings["token"], dtype=dtype, **model)


def roles_by_rank(labels, hidden, near):
    """Roles of tokens by the rule of the original, which decodes near tokens only. near: bool (b, n)."""
    return Roles(kept=near & known(labels) & ~hidden, decoded=near & (known(labels) | hidden))


def near_by_rank(settings, labels):
    """Bool (b, n): the tokens that are near by the rule of the original. labels: int (b, y, x), none blanked."""
    distance = token_mean(original_rules.foreground_distance(labels), settings["token"])
    return original_rules.near(distance.reshape(len(labels), -1), settings["original"]["keep"])


def logits_of(settings, net, params, labels, grid, roles, lengths):
    """Class logits float32 (b, n, p, c) of every token; meaningful where roles.decoded. lengths: static numbers of
    places for kept and for decoded tokens.
    """
    if not settings["original"]["rules"]:
        return in_place(net.apply({"params": params}, *gathered(labels, grid, roles, lengths)), roles)
    # It knows no "unknown": for such a pixel of a known token it is told "ambiguous", or background without that class.
    labels = jnp.where(labels < 0, max(settings["classes"]["ambiguous"], 0), labels)
    logits = in_place(net.apply({"params": params}, *gathered(labels, grid, roles, lengths)), roles)
    return original_rules.far_as_background(logits, roles.decoded)


def filler(settings):
    """The Filler of a masked autoencoder."""
    net, by_rank = network(settings), settings["original"]["rules"]

    def parts(tokens, hidden, grid):
        if not by_rank:
            return roles(tokens, hidden, grid, *reach(settings))
        # Labels that are not blanked: the exception of its own distance rule, see original_rules.py.
        labels = join_tokens(tokens, grid, settings["token"])
        return roles_by_rank(tokens, hidden, near_by_rank(settings, labels))

    def init(key, tokens, hidden, grid, given):
        shown = gathered(tokens, grid, parts(tokens, hidden, grid), (tokens.shape[1],) * 2)
        return net.init(key, *shown)["params"], {}

    def logits(params, state, tokens, hidden, grid, given, lengths):
        if by_rank:
            lengths = (
                min(lengths[0], original_rules.near_count(tokens.shape[1], settings["original"]["keep"])),
                lengths[1],
            )
        part = parts(tokens, hidden, grid)
        return logits_of(settings, net, params, tokens, grid, part, lengths), part.decoded

    def counts(tokens, hidden, grid, refilled):
        if not by_rank:
            return most_counts(tokens, hidden, grid, refilled, *reach(settings))
        # No more than are near, whatever the labels; of these, no more are kept than are visible.
        near = jnp.full(len(tokens), original_rules.near_count(tokens.shape[1], settings["original"]["keep"]))
        visible = (known(tokens) & ~hidden).sum(1)
        return jnp.stack([near if refilled else jnp.minimum(near, visible), near], -1)

    def hide_by_rank(batch, key, tokens, grid):
        near = near_by_rank(settings, join_tokens(tokens, grid, settings["token"]))
        noise = jax.vmap(lambda k: jax.random.uniform(k, (tokens.shape[1],)))(sample_keys(key, batch))
        counts = original_rules.visible_counts(tokens.shape[1], settings["original"]["keep"])
        visible = original_rules.visible(noise, near, jnp.asarray(counts)[batch["shared"]["hidden_count"]])
        return near & known(tokens) & ~visible

    return Filler(init, logits, hide=hide_by_rank if by_rank else None, original=by_rank, counts=counts)


def refiner(settings):
    """The Refiner of a masked autoencoder's workdir."""
    return masked_training.refiner(settings, filler(settings))


def method(settings):
    """The Method that trains a masked autoencoder. Batches: samples.sampling.label_batch."""
    if settings["original"]["rules"] and not 0 < settings["original"]["keep"] <= 1:
        raise BadInput(f"original.keep is a share of the tokens, in (0, 1], found {settings['original']['keep']}")
    return masked_training.method(settings, filler(settings), learned_classes(settings))
