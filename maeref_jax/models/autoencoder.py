"""The convolutional autoencoder of whole label maps: its narrow middle carries what is typical, and not the rest."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput
from maeref_jax.models.blocks import Dense
from maeref_jax.models.group_norm import group_norm


class Autoencoder(nn.Module):
    """Label maps int (b, y, x) -> float32 logits (b, y, x, classes). y and x must be multiples of `stride_of(widths)`,
    and of the same size at every call: the dense middle has a place for every position.

    Attributes: classes; widths, one strided convolution each, halving y and x; latent, width of the dense middle;
    dtype of the computation (parameters stay float32). Ids outside 0 … classes-1 are one class more: unknown.
    """

    classes: int
    widths: tuple[int, ...]
    latent: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, labels):
        multiple = stride_of(self.widths)
        if any(size % multiple for size in labels.shape[1:]):
            raise BadInput(f"the autoencoder's window must be multiples of {multiple}, found {labels.shape[1:]}")
        known = (labels >= 0) & (labels < self.classes)
        x = jax.nn.one_hot(jnp.where(known, labels, self.classes), self.classes + 1, dtype=self.dtype)
        for i, width in enumerate(self.widths):
            x = nn.Conv(width, (4, 4), (2, 2), dtype=self.dtype, name=f"down{i}" if i else "embed")(x)
            x = self._activated(x, f"down_norm{i}")
        middle = x.shape[1:]
        x = nn.Dense(self.latent, dtype=self.dtype, name="to_latent")(x.reshape(len(x), -1))
        x = nn.Dense(math.prod(middle), dtype=self.dtype, name="from_latent")(x).reshape(-1, *middle)
        x = nn.relu(x)
        for i, width in reversed(list(enumerate(self.widths))):
            x = DoublingConvolution(width, dtype=self.dtype, name=f"up{i}")(x)
            x = self._activated(x, f"up_norm{i}")
        return Dense(self.classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)

    def _activated(self, x, name):
        # Groups of four channels at least: of a single pixel and channel nothing would be left.
        groups = math.gcd(8, x.shape[-1] // 4, x.shape[-1])
        return nn.relu(group_norm(groups, self.dtype, name)(x))


class DoublingConvolution(nn.Module):
    """A transposed convolution of 4 x 4 and stride 2, as nn.ConvTranspose with the same parameters: (b, y, x, c) ->
    (b, 2 y, 2 x, width). Written as one product of two matrices, every pixel spreading over 4 x 4, whose four quarters
    are then shifted and added up: on CPUs the compiler's own form takes many times as long, above all backward.
    """

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        batch, height, width, channels = x.shape
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (4, 4, channels, self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        spread = kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(channels, 16 * self.width)
        # A quarter (j, i) holds the 2 x 2 pixels that lie 2 j further down and 2 i further right.
        quarters = (x.reshape(-1, channels) @ spread).reshape(batch, height, width, 2, 2, 2, 2, self.width)
        total = 0
        for j in range(2):
            for i in range(2):
                quarter = quarters[:, :, :, j, :, i].transpose(0, 1, 3, 2, 4, 5)
                quarter = quarter.reshape(batch, 2 * height, 2 * width, self.width)
                total += jnp.pad(quarter, ((0, 0), (2 * j, 2 - 2 * j), (2 * i, 2 - 2 * i), (0, 0)))
        return total[:, 1:-1, 1:-1] + bias


def stride_of(widths):
    """By how much so many strided convolutions make y and x smaller."""
    return 2 ** len(widths)
