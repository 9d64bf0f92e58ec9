"""A U-Net for planes or volumes (Ronneberger et al. 2015), logits out."""

import math
from functools import partial, reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput
from maeref_jax.models.blocks import Dense
from maeref_jax.models.convolution import Conv
from maeref_jax.models.group_norm import group_norm
from maeref_jax.records import DEVICES

NORMS = ("group", "instance", "batch", "none")
BLOCKS = ("plain", "residual")
MOMENTUM = 0.9  # of the moving averages that batch normalisation keeps for use


class UNet(nn.Module):
    """(b, [z,] y, x, channels) -> float32 logits (b, [z,] y, x, classes). Any number of channels, any spatial size:
    mirrored behind the far faces to what the strides need, and cropped back.

    Attributes: widths, channels per level; strides, one tuple per step down, so that anisotropic stacks need not be
    pooled along z; plane_levels, how many of the finest levels of a volume convolve in the plane alone, as is best
    while a voxel is much longer along z (Isensee et al. 2021), and cheaper; norm, one of NORMS; block, `plain` (two
    convolutions) or `residual` (their sum with the input); remat, recompute activations in the backward pass; dtype of
    the computation (parameters stay float32).

    With norm = "batch" there is a collection `batch_stats`, and train = True normalises by the batch or micro-batch at
    hand, of all devices where several compute it (records.DEVICES), and wants that collection mutable. Raises BadInput
    for attributes that do not fit together.
    """

    classes: int
    widths: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    plane_levels: int = 0
    norm: str = "group"
    block: str = "plain"
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train=False):
        spatial = x.shape[1:-1]
        self._check(len(spatial))
        block = nn.remat(TwoConvolutions) if self.remat else TwoConvolutions
        block = partial(block, norm=self.norm, residual=self.block == "residual", train=train, dtype=self.dtype)
        axes = [2 if level < self.plane_levels else len(spatial) for level in range(len(self.widths))]
        multiples = [math.prod(s[axis] for s in self.strides) for axis in range(len(spatial))]
        pads = [(-size) % multiple for size, multiple in zip(spatial, multiples, strict=True)]
        x = jnp.pad(x.astype(self.dtype), ((0, 0), *((0, pad) for pad in pads), (0, 0)), mode="symmetric")
        skips = []
        for level, width in enumerate(self.widths[:-1]):
            x = block(width, axes[level], name=f"down{level}")(x)
            skips.append(x)
            x = max_pooled(x, self.strides[level])
        x = block(self.widths[-1], axes[-1], name="bottom")(x)
        for level in reversed(range(len(self.widths) - 1)):
            x = UpConvolution(self.widths[level], self.strides[level], self.dtype, name=f"up{level}")(x)
            x = jnp.concatenate([skips[level], x], -1)
            x = block(self.widths[level], axes[level], name=f"merge{level}")(x)
        x = Dense(self.classes, dtype=self.dtype, name="head")(x)
        crop = tuple(slice(0, size) for size in spatial)
        return x[(slice(None), *crop)].astype(jnp.float32)

    def _check(self, dims):
        for name, allowed in (("norm", NORMS), ("block", BLOCKS)):
            if getattr(self, name) not in allowed:
                raise BadInput(f"model.{name} must be one of {', '.join(allowed)}, found {getattr(self, name)!r}")
        if not 0 <= self.plane_levels <= len(self.widths):
            raise BadInput(f"model.plane_levels must be 0 to {len(self.widths)} levels, found {self.plane_levels}")
        if self.plane_levels and dims == 2:
            raise BadInput(
                f"model.plane_levels is for a window of three numbers, found {self.plane_levels} with two; set it to 0"
            )
        if len(self.strides) != len(self.widths) - 1 or any(len(stride) != dims for stride in self.strides):
            raise BadInput(
                f"model.strides must be {len(self.widths) - 1} tuples, one between each two of the widths "
                f"{self.widths}, of {dims} numbers each as the window has; found {self.strides}"
            )


def without_statistics(classes, model, plane_levels=0):
    """The UNet of so many classes of the settings `model` of a config, where nobody keeps batch statistics. Raises
    BadInput for a norm that needs them.
    """
    if model["norm"] == "batch":
        raise BadInput("model.norm is batch, expected group, instance or none")
    shape = tuple(model["widths"]), tuple(map(tuple, model["strides"]))
    return UNet(classes, *shape, plane_levels, norm=model["norm"], dtype=jnp.dtype(model["compute_dtype"]))


class TwoConvolutions(nn.Module):
    """Twice: convolution of 3 along the last `axes` axes, normalisation, ReLU. residual: the input, brought to the new
    width where it has another, is added before the last ReLU.
    """

    width: int
    axes: int
    norm: str
    residual: bool
    train: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        y = x
        for i in range(2):
            y = Conv(self.width, (3,) * self.axes, dtype=self.dtype, name=f"conv{i}")(y)
            y = self._normalised(y, f"norm{i}")
            if i == 1 and self.residual:
                same = x.shape[-1] == self.width
                y = y + (x if same else Dense(self.width, dtype=self.dtype, name="project")(x))
            y = nn.relu(y)
        return y

    def _normalised(self, x, name):
        if self.norm == "group":
            return group_norm(math.gcd(8, self.width), self.dtype, name)(x)
        if self.norm == "instance":
            return group_norm(self.width, self.dtype, name)(x)
        if self.norm == "batch":
            axis = axis_of_devices()
            return nn.BatchNorm(not self.train, momentum=MOMENTUM, dtype=self.dtype, axis_name=axis, name=name)(x)
        return x


def axis_of_devices():
    """DEVICES where a training step is computed by several devices together, None elsewhere."""
    try:
        jax.lax.axis_size(DEVICES)
    except NameError:
        return None
    return DEVICES


def max_pooled(x, stride):
    """(b, …, c) -> the largest value of every box of `stride`, which divides the spatial size. The voxels that have it
    share the gradient. Written as a maximum of slices: the gradient of nn.max_pool takes many times as long on CPUs.
    """
    for axis, step in enumerate(stride, start=1):
        x = reduce(jnp.maximum, [jax.lax.slice_in_dim(x, i, None, step, axis) for i in range(step)])
    return x


class UpConvolution(nn.Module):
    """A transposed convolution whose kernel equals its stride, written as a dense layer: much faster on CPUs."""

    width: int
    stride: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        b, *spatial, _ = x.shape
        dims = len(spatial)
        x = Dense(math.prod(self.stride) * self.width, use_bias=False, dtype=self.dtype, name="kernel")(x)
        x = x.reshape(b, *spatial, *self.stride, self.width)
        order = [axis for pair in zip(range(1, dims + 1), range(dims + 1, 2 * dims + 1), strict=True) for axis in pair]
        x = jnp.transpose(x, (0, *order, 2 * dims + 1))
        x = x.reshape(b, *(size * step for size, step in zip(spatial, self.stride, strict=True)), self.width)
        return x + self.param("bias", nn.initializers.zeros_init(), (self.width,)).astype(self.dtype)
