"""Which tokens take part in a masked autoencoder, of those that are hidden, visible or unknown (masked_training.py):

hidden    always decoded, whatever their distance
near      within `keep_within` token sides, or `keep_within_nm`, of visible foreground
kept      visible and near: the encoder sees these; visible far tokens take no part and keep their label
unknown   neither encoded nor decoded
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from maeref_jax.masking.hidden import gathered_indices, near_tokens, placed


class Roles(NamedTuple):
    """Bool (b, n) each: which tokens the encoder keeps and which the decoder decodes."""

    kept: jax.Array
    decoded: jax.Array


def reach(settings):
    """How far from foreground is near, and the height and width of a token in the same unit."""
    if not settings["keep_within_nm"]:
        return settings["keep_within"], (1.0, 1.0)
    return settings["keep_within_nm"], tuple(settings["token"] * size for size in settings["voxel_size_nm"][1:])


def roles(tokens, hidden, grid, keep_within, side=(1.0, 1.0)):
    """Roles of tokens. tokens: int (b, n, p) labels; hidden: bool (b, n); keep_within, side: see `masking.near_tokens`.
    Labels of hidden tokens are not looked at.
    """
    visible = (tokens >= 0).any(-1) & ~hidden
    foreground = visible & (tokens > 0).any(-1)
    near = near_tokens(foreground.reshape(-1, *grid), keep_within, side).reshape(hidden.shape)
    return Roles(kept=visible & near, decoded=hidden | (visible & near))


def gathered(tokens, grid, roles, lengths):
    """The arguments of models.mae.MaskedAutoencoder.

    lengths: static numbers of places for kept and for decoded tokens. With as many of these as there are tokens, each
    is decoded in its place. What the network makes of decoded tokens is the same whatever the lengths: attention leaves
    out the others, be they there or not.
    """
    kept, kept_valid = gathered_indices(roles.kept, lengths[0])
    if lengths[1] == tokens.shape[1]:
        everything = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), roles.decoded.shape)
        return tokens, grid, kept, kept_valid, everything, roles.decoded
    return tokens, grid, kept, kept_valid, *gathered_indices(roles.decoded, lengths[1])


def in_place(logits, roles):
    """Logits (b, m, p, c) of m places for decoded tokens -> (b, n, p, c) of every token; meaningful where
    roles.decoded, 0 elsewhere if m < n.
    """
    n, length = roles.decoded.shape[1], logits.shape[1]
    if length == n:
        return logits
    nothing = jnp.zeros((len(logits), n, *logits.shape[2:]), logits.dtype)
    return placed(logits, *gathered_indices(roles.decoded, length), nothing)


def most_counts(tokens, hidden, grid, refilled, keep_within, side=(1.0, 1.0)):
    """How many tokens of each sample are kept and decoded, int32 (b, 2), by `roles`; refilled: no fewer than that when
    any of the hidden ones have been filled in, with whatever.
    """
    if refilled:
        hidden, tokens = jnp.zeros_like(hidden), jnp.where(hidden[..., None], 1, tokens)
    found = roles(tokens, hidden, grid, keep_within, side)
    return jnp.stack([found.kept.sum(1), found.decoded.sum(1)], -1)
