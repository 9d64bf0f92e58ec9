"""The masked autoencoder on label maps (paper section 3.3): the encoder sees kept tokens only, the decoder fills in."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from maeref_jax.masking.hidden import placed
from maeref_jax.models.blocks import Dense, Transformer, sine_cosine_positions

_xavier = nn.initializers.xavier_uniform()


def _uniform_bias(token):
    """Initial bias of the embedding of one number a pixel: uniform in ±1 / token, where those of one-hot are 0."""
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -1 / token, 1 / token)


class MaskedAutoencoder(nn.Module):
    """Label tokens -> class logits.

    Attributes: classes it reads and writes, token side in pixels, width, depth and heads of encoder and decoder,
    mlp_ratio, one_hot (else the class id is read as a number, as the original does), position_weight (what the fixed
    positions of the encoder's tokens are multiplied by), rotary (attention sees relative positions; without, only the
    fixed ones that are added to the tokens), remat (see Transformer), dtype of the computation (parameters stay
    float32).
    """

    classes: int
    token: int
    encoder_width: int
    encoder_depth: int
    encoder_heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    mlp_ratio: float = 2.0
    one_hot: bool = True
    position_weight: float = 1.0
    rotary: bool = True
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, labels, grid, kept, kept_valid, decoded, decoded_valid, context=None):
        """labels: int (b, n, p), any id outside 0 … classes-1 counts as unknown (all-zero one-hot, or 0).
        grid: (rows, columns), static. kept, decoded: int32 (b, l), (b, m) token indices with valid bool of the same
        shape. context: (b, n, decoder width) or None, what else is known of every token, added to the latents of kept
        ones and to the mask token of the others. Returns float32 logits (b, m, p, c). Labels of tokens that are not
        kept are never read.
        """
        labels = jnp.take_along_axis(labels, kept[..., None], axis=1)
        x = self._embed(labels)
        positions = jnp.asarray(self.position_weight * sine_cosine_positions(grid, self.encoder_width), self.dtype)
        x, valid = self._with_class_token(x + positions[kept], kept_valid, self.encoder_width, "class_token")
        shared = {"mlp_ratio": self.mlp_ratio, "remat": self.remat, "dtype": self.dtype}
        # What is sown is for looking inside (maeref import-original --verify) and costs nothing otherwise.
        self.sow("intermediates", "encoder_in", x)
        encoder = Transformer(self.encoder_depth, self.encoder_heads, **shared, name="encoder")
        x = encoder(x, valid, self._places(kept, grid))
        x = Dense(self.decoder_width, dtype=self.dtype, kernel_init=_xavier, name="to_decoder")(x)
        class_token, latent = x[:, :1], x[:, 1:]
        x = self._fill_in(latent, grid, kept, kept_valid, decoded, context)
        x = jnp.concatenate([class_token, x], axis=1)
        valid = jnp.concatenate([valid[:, :1], decoded_valid], axis=1)
        self.sow("intermediates", "decoder_in", x)
        decoder = Transformer(self.decoder_depth, self.decoder_heads, **shared, name="decoder")
        x = decoder(x, valid, self._places(decoded, grid))
        x = Dense(self.token**2 * self.classes, dtype=self.dtype, kernel_init=_xavier, name="head")(x[:, 1:])
        return x.reshape(*decoded.shape, self.token**2, self.classes).astype(jnp.float32)

    def _embed(self, labels):
        """Tokens (b, l, p) of labels -> (b, l, d)."""
        if self.one_hot:
            pixels, bias = jax.nn.one_hot(labels, self.classes, dtype=self.dtype), nn.initializers.zeros
            pixels = pixels.reshape(*labels.shape[:2], -1)
        else:
            pixels = jnp.where((labels >= 0) & (labels < self.classes), labels, 0).astype(self.dtype)
            bias = _uniform_bias(self.token)
        dense = Dense(self.encoder_width, dtype=self.dtype, kernel_init=_xavier, bias_init=bias, name="embed")
        return dense(pixels)

    def _with_class_token(self, x, valid, width, name):
        token = self.param(name, nn.initializers.normal(0.02), (1, 1, width)).astype(self.dtype)
        token = jnp.broadcast_to(token, (len(x), 1, width))
        return jnp.concatenate([token, x], axis=1), jnp.pad(valid, ((0, 0), (1, 0)), constant_values=True)

    def _places(self, index, grid):
        """Row and column (b, 1 + l, 2) of the class token, which lies at (0, 0), and of the tokens."""
        if not self.rotary:
            return None
        return jnp.pad(jnp.stack([index // grid[1], index % grid[1]], -1), ((0, 0), (1, 0), (0, 0)))

    def _fill_in(self, latent, grid, kept, kept_valid, decoded, context):
        """Kept latents at their places, the mask token everywhere else; then the decoded places, with positions."""
        mask_token = self.param("mask_token", nn.initializers.normal(0.02), (1, 1, self.decoder_width))
        full = jnp.broadcast_to(mask_token.astype(self.dtype), (len(latent), grid[0] * grid[1], self.decoder_width))
        full = placed(latent, kept, kept_valid, full)
        full = full if context is None else full + context
        positions = jnp.asarray(sine_cosine_positions(grid, self.decoder_width), self.dtype)
        return jnp.take_along_axis(full, decoded[..., None], axis=1) + positions[decoded]
