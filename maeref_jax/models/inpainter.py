"""A convolutional inpainter: a U of gated convolutions (Yu et al. 2019), class logits out."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from maeref_jax.models.blocks import Dense
from maeref_jax.models.convolution import Conv
from maeref_jax.models.group_norm import group_norm


class Inpainter(nn.Module):
    """Labels with holes -> float32 logits (b, y, x, classes). Any window: grown behind the far faces to what the
    strides need, the growth being unknown, and cropped back.

    Attributes: classes; widths, channels per level, every level half as fine as the one before; dilations of the
    convolutions at the bottom, which see far without more levels; dtype of the computation (parameters stay float32).
    """

    classes: int
    widths: tuple[int, ...]
    dilations: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, labels, hidden):
        """labels: int (b, y, x), -1 where unknown; hidden: bool (b, y, x), to be filled in. Labels under hidden pixels
        are not looked at.
        """
        visible = (labels >= 0) & (labels < self.classes) & ~hidden
        planes = jax.nn.one_hot(jnp.where(visible, labels, -1), self.classes, dtype=self.dtype)
        masks = jnp.stack([visible, hidden], -1).astype(self.dtype)
        x = jnp.concatenate([planes, masks], -1)
        height, width = labels.shape[1:]
        multiple = 2 ** (len(self.widths) - 1)
        x = jnp.pad(x, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)))
        skips = []
        for level, channels in enumerate(self.widths):
            if level:
                skips.append(x)
                x = GatedConvolution(channels, stride=2, dtype=self.dtype, name=f"down{level}")(x)
            x = GatedConvolution(channels, dtype=self.dtype, name=f"encode{level}" if level else "embed")(x)
        for i, dilation in enumerate(self.dilations):
            x = x + GatedConvolution(self.widths[-1], dilation=dilation, dtype=self.dtype, name=f"bottom{i}")(x)
        for level in reversed(range(len(self.widths) - 1)):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = GatedConvolution(self.widths[level], dtype=self.dtype, name=f"up{level}")(x)
            x = jnp.concatenate([skips[level], x], -1)
            x = GatedConvolution(self.widths[level], dtype=self.dtype, name=f"merge{level}")(x)
        x = Dense(self.classes, dtype=self.dtype, name="head")(x)
        return x[:, :height, :width].astype(jnp.float32)


class GatedConvolution(nn.Module):
    """Features times a gate in (0, 1), both learned from the same 3 x 3 neighbourhood: the network decides for itself
    where there is something to go by, which in partial convolutions is a rule.
    """

    width: int
    stride: int = 1
    dilation: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        shape = {"strides": self.stride, "kernel_dilation": self.dilation, "dtype": self.dtype}
        x = Conv(2 * self.width, (3, 3), **shape, name="conv")(x)
        features, gate = jnp.split(x, 2, axis=-1)
        groups = math.gcd(8, self.width)
        features = group_norm(groups, self.dtype, "norm")(features)
        return nn.elu(features) * nn.sigmoid(gate)
