"""A U-Net for planes or volumes (Ronneberger et al. 2015), logits out."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp


class UNet(nn.Module):
    """(b, [z,] y, x, channels) -> float32 logits (b, [z,] y, x, classes).

    Attributes: widths, channels per level; strides, one tuple per step down, so anisotropic stacks need not be pooled
    along z; norm, `group` or `none`; remat, recompute activations in the backward pass; dtype of the computation
    (parameters stay float32). Any spatial size: padded inside by mirroring to what the strides need, cropped back.
    """

    classes: int
    widths: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    norm: str = "group"
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        block = nn.remat(DoubleConvolution) if self.remat else DoubleConvolution
        spatial = x.shape[1:-1]
        multiples = [math.prod(s[axis] for s in self.strides) for axis in range(len(spatial))]
        pads = [(-size) % multiple for size, multiple in zip(spatial, multiples, strict=True)]
        x = jnp.pad(x.astype(self.dtype), ((0, 0), *((0, pad) for pad in pads), (0, 0)), mode="symmetric")
        skips = []
        for level, width in enumerate(self.widths[:-1]):
            x = block(width, self.norm, self.dtype, name=f"down{level}")(x)
            skips.append(x)
            x = nn.max_pool(x, self.strides[level], self.strides[level])
        x = block(self.widths[-1], self.norm, self.dtype, name="bottom")(x)
        for level in reversed(range(len(self.widths) - 1)):
            x = _upsample(x, self.widths[level], self.strides[level], self.dtype, f"up{level}")
            x = jnp.concatenate([skips[level], x], -1)
            x = block(self.widths[level], self.norm, self.dtype, name=f"merge{level}")(x)
        x = nn.Dense(self.classes, dtype=self.dtype, name="head")(x)
        crop = tuple(slice(0, size) for size in spatial)
        return x[(slice(None), *crop)].astype(jnp.float32)


class DoubleConvolution(nn.Module):
    """Twice: convolution of 3 along every axis, normalisation, ReLU."""

    width: int
    norm: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        for i in range(2):
            x = nn.Conv(self.width, (3,) * (x.ndim - 2), dtype=self.dtype, name=f"conv{i}")(x)
            if self.norm == "group":
                x = nn.GroupNorm(num_groups=math.gcd(8, self.width), dtype=self.dtype, name=f"norm{i}")(x)
            x = nn.relu(x)
        return x


def _upsample(x, width, stride, dtype, name):
    """A transposed convolution whose kernel equals its stride, written as a dense layer: much faster on CPUs."""
    b, *spatial, _ = x.shape
    x = nn.Dense(math.prod(stride) * width, dtype=dtype, name=name)(x).reshape(b, *spatial, *stride, width)
    dims = len(spatial)
    order = [axis for pair in zip(range(1, dims + 1), range(dims + 1, 2 * dims + 1), strict=True) for axis in pair]
    x = jnp.transpose(x, (0, *order, 2 * dims + 1))
    return x.reshape(b, *(size * step for size, step in zip(spatial, stride, strict=True)), width)
