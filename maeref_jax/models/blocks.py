"""What networks share: fixed and rotary positions, dense layers, scanned transformer blocks."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from maeref_jax.models.attention import ATTENTION, attention

ROTARY_BASE = 20.0


def sine_cosine_positions(grid, width):
    """Fixed positions of a (rows, columns) grid of tokens, float32 (n, width); width a multiple of 4.

    The first half of the channels encodes the column, the second half the row; inside a half all sines, then all
    cosines, with frequencies 10000^(-i / (width/4)). Computed in float64.
    """
    if width % 4:
        raise ValueError(f"the width of a transformer must be a multiple of 4 for its positions, found {width}")
    rows, columns = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij")
    frequency = 10000.0 ** (-np.arange(width // 4, dtype=np.float64) / (width // 4))
    angles = [position.reshape(-1, 1) * frequency for position in (columns, rows)]
    return np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1).astype(np.float32)


def turns(places, channels):
    """(cosine, sine) float32 (b, l, channels / 2) each: how far rotary positions turn every pair of channels of a head
    (Su et al. 2021, in two dimensions).

    places: (b, l, 2) row and column in token sides; channels: of a head, a multiple of 4. Half of the pairs turn with
    the row, half with the column, at wavelengths from 6 to some 100 tokens. Place (0, 0) turns nothing.
    """
    quarter = channels // 4
    if channels % 4:
        raise ValueError(f"rotary positions need a multiple of 4 channels per head, found {channels}")
    frequency = ROTARY_BASE ** (-jnp.arange(quarter, dtype=jnp.float32) / quarter)
    angle = (places[..., None].astype(jnp.float32) * frequency).reshape(*places.shape[:2], 2 * quarter)
    return jnp.cos(angle), jnp.sin(angle)


def turned(x, turns):
    """Queries or keys turned by where their token lies, so that attention sees how far apart two tokens are and in
    which direction. x: (b, l, …, e); turns: what `turns` made of the tokens' places and e.
    """
    cosine, sine = (t.astype(x.dtype).reshape(*x.shape[:2], *(1,) * (x.ndim - 3), -1) for t in turns)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cosine - second * sine, first * sine + second * cosine], axis=-1)


def _of_one_list(x, kernel, _, **precision):
    """x (…, d) @ kernel (d, e), as a product of two matrices."""
    product = jax.lax.dot(x.reshape(-1, x.shape[-1]), kernel, **precision)
    return product.reshape(*x.shape[:-1], kernel.shape[1])


# With more axes before the last the gradient of a dense layer takes up to twice as long on CPUs
# (benchmarks/layer_forms.py).
Dense = partial(nn.Dense, dot_general=_of_one_list)


class TransformerBlock(nn.Module):
    """Pre-norm block: x += attention(norm x); x += mlp(norm x). Input and output (b, l, d).

    turned_by: what `turns` made of the tokens' places, None to go without rotary positions. Norms and dense layers see
    one long list of tokens, (b · l, d): with a batch axis before it their gradients take longer on CPUs.
    """

    heads: int
    mlp_ratio: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, valid, turned_by):
        b, length, width = x.shape
        x = x.reshape(-1, width)
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm1")(x)
        qkv = nn.Dense(3 * width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="qkv")(y)
        query, key, value = jnp.moveaxis(qkv.reshape(b, length, 3, self.heads, width // self.heads), 2, 0)
        if turned_by is not None:
            query, key = turned(query, turned_by), turned(key, turned_by)
        y = attention(query, key, value, valid).reshape(-1, width)
        x = x + nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="out")(y)
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm2")(x)
        y = nn.Dense(
            int(self.mlp_ratio * width),
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            name="mlp1",
        )(y)
        y = nn.gelu(y, approximate=False)
        x = x + nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="mlp2")(y)
        return x.reshape(b, length, width), None


class Transformer(nn.Module):
    """`depth` blocks, scanned (one compiled block, parameters stacked on a leading axis), and a final norm.

    places: (b, l, 2) row and column of every token for rotary positions, None to go without.
    remat: recompute a block's activations in the backward pass instead of keeping them. On CPUs that is always done,
    but for attention: what is kept goes through memory, whose first touch takes longer than computing it again.
    """

    depth: int
    heads: int
    mlp_ratio: float
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, valid, places=None):
        block = TransformerBlock
        if self.remat or jax.default_backend() == "cpu":
            kept = jax.checkpoint_policies.save_only_these_names(ATTENTION)
            block = nn.remat(TransformerBlock, prevent_cse=False, policy=kept)
        blocks = nn.scan(
            block,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.depth,
            check_constancy_invariants=False,  # nothing is broadcast out, and looking takes another tracing
        )(self.heads, self.mlp_ratio, self.dtype, name="blocks")
        # Once for all blocks: inside of them, sines are computed over and over, which on a CPU is slow.
        turned_by = None if places is None else turns(places, x.shape[-1] // self.heads)
        x, _ = blocks(x.astype(self.dtype), valid, turned_by)
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x)
