"""Which tokens take part in a masked autoencoder, of those that are hidden, visible or unknown (masked_training.py):

hidden    always decoded, whatever their distance
near      within `keep_within` token sides, or `keep_within_nm`, of visible foreground
kept      visible and near: the encoder sees these; visible far tokens take no part and keep their label
unknown   neither encoded nor decoded
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from maeref_jax.masking import gathered_indices, near_tokens


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


def gathered(tokens, grid, roles, length):
    """The arguments of models.mae.MaskedAutoencoder that decode every token in its place.

    length: static number of places for kept tokens. The logits are meaningful where roles.decoded.
    """
    kept, kept_valid = gathered_indices(roles.kept, length)
    everything = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), roles.decoded.shape)
    return tokens, grid, kept, kept_valid, everything, roles.decoded
