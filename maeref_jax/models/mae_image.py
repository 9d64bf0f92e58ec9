"""The masked autoencoder with the image beside the labels (MAE+X): nothing of the image is hidden."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from maeref_jax.models.blocks import Dense, Transformer, sine_cosine_positions
from maeref_jax.models.mae import MaskedAutoencoder


class ImageMaskedAutoencoder(nn.Module):
    """Label tokens and all image tokens -> class logits.

    Attributes: autoencoder of the labels; width, depth and heads of the image's encoder. What else that one needs, it
    shares with the autoencoder.
    """

    autoencoder: MaskedAutoencoder
    width: int
    depth: int
    heads: int

    @nn.compact
    def __call__(self, labels, grid, kept, kept_valid, decoded, decoded_valid, image):
        """image: float (b, n, p), intensities 0 … 1; the rest as in MaskedAutoencoder. Returns float32 logits
        (b, m, p, c).
        """
        net = self.autoencoder
        dense = partial(Dense, dtype=net.dtype, kernel_init=nn.initializers.xavier_uniform())
        x = dense(self.width, name="embed_image")(image)
        x = x + jnp.asarray(sine_cosine_positions(grid, self.width), net.dtype)
        index = jnp.broadcast_to(jnp.arange(image.shape[1]), image.shape[:2])
        places = jnp.stack([index // grid[1], index % grid[1]], -1) if net.rotary else None
        shape = (self.depth, self.heads, net.mlp_ratio, net.remat, net.dtype)
        x = Transformer(*shape, name="image_encoder")(x, jnp.ones(image.shape[:2], bool), places)
        context = dense(net.decoder_width, name="image_to_decoder")(x)
        return net(labels, grid, kept, kept_valid, decoded, decoded_valid, context)
