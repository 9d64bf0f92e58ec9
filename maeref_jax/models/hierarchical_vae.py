"""A hierarchical variational autoencoder that reads the class of a voxel from what lies around it.

A crop with its middle hidden goes up through levels of residual blocks, each half as fine as the one before; down again
through as many latents, from the coarsest, whose prior is a mixture with a component for every class, to the finest;
and out as the image, middle included. The class of the middle is read from the coarsest latent. After "ε-Seg" (NeurIPS
2025, arXiv 2510.18637), in the form its authors call vanilla.

Parameters of planes, 4 classes and the published size (64 filters, 32 latents, 3 levels of 5 blocks, 64 x 64):
convolutions of 3 x 3 from 64 to 64 have 36,928, one with its normalisation 37,056; a block 74,112, and 8,320 more where
it is gated. Stem 1,664 + 74,112; up 3 x (36,928 + 5 x 82,432); the coarsest latent 18,464 + 8,196 + 640 + 2 x 36,928;
the class 1,056 + 65,568 + 132: what a prediction needs, 1,590,952. Down 3 x (18,496 + 36,928 + 5 x 82,432); posteriors
2 x 36,928; merges 4 x (8,256 + 82,432); out 5 x 82,432 + 577. All in all 3,843,049.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput
from maeref_jax.models.blocks import Dense
from maeref_jax.models.convolution import Conv
from maeref_jax.models.unet import MOMENTUM, axis_of_devices

MOST = 10.0  # of means and logarithms of variances, either way


class Latents(NamedTuple):
    """What the network makes of crops, all float32. Levels are counted from the finest.

    reconstruction: (b, [z,] y, x, 1); means, log_variances: a tuple with (b, [z,] y, x, latent) of every level;
    prior_means, prior_log_variances: the same of all but the coarsest; logits: (b, classes) of the middle voxel.
    """

    reconstruction: Any
    means: tuple
    log_variances: tuple
    prior_means: tuple
    prior_log_variances: tuple
    logits: Any


class HierarchicalVAE(nn.Module):
    """Crops (b, [z,] y, x, 1) of `window`, normalised to mean 0 and deviation 1, -> Latents. Crops may have a margin of
    a multiple of 2 ** levels around the window: only the first convolutions look there, up to the coarsest map.

    Attributes: classes; window, multiples of 2 ** levels; levels, as many as latents; blocks per level; filters, twice
    `latent`, since what comes down is the next prior, mean and log variance; remat, recompute activations in the
    backward pass; dtype of the computation (parameters stay float32). Raises BadInput where they do not fit together.

    Batch normalisation, as published, with its statistics in the collection `batch_stats`, which train = True wants
    mutable: in use it is a factor and a sum for every channel, the same for every window, and that lets neighbouring
    windows share their work (`encoded` with dense = True). Group normalisation would look at each window by itself.
    """

    classes: int
    window: tuple[int, ...]
    levels: int = 3
    blocks: int = 5
    filters: int = 64
    latent: int = 32
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self):
        self._check()
        axes, levels = len(self.window), range(self.levels)
        block = nn.remat(Residual, static_argnums=(2,)) if self.remat else Residual
        residual = partial(block, self.filters, axes, dtype=self.dtype)
        conv = partial(Conv, kernel_size=(3,) * axes, dtype=self.dtype)
        gated = partial(residual, gated=True)
        self.stem = Conv(self.filters, (5,) * axes, dtype=self.dtype)
        self.stem_block = residual(gated=False)
        self.halving = [conv(self.filters) for _ in levels]
        self.up_blocks = [[gated() for _ in range(self.blocks)] for _ in levels]
        self.guess = conv(self.latent)
        self.guessed_class = Dense(self.classes, dtype=self.dtype)
        self.class_factor, self.class_sum = (Dense(self.filters, dtype=self.dtype) for _ in range(2))
        self.top_convolution = conv(self.filters)
        self.posteriors = [conv(2 * self.latent) for _ in levels]
        self.merges, self.merged_blocks = self._merges(gated)
        self.second_merges, self.second_merged_blocks = self._merges(gated)
        self.from_latent = [conv(self.filters) for _ in levels]
        self.doubling = [conv(self.filters) for _ in levels]
        self.down_blocks = [[gated() for _ in range(self.blocks)] for _ in levels]
        self.out_blocks = [gated() for _ in range(self.blocks)]
        self.out = conv(1)
        self.head_pixels = Dense(self.latent, dtype=self.dtype)
        self.head_hidden = Dense(self.latent, dtype=self.dtype)
        self.head_classes = Dense(self.classes, dtype=self.dtype)

    def __call__(self, x, noise, train=False):
        """noise: a tuple with a standard normal draw of the shape of every latent, `latent_shapes`."""
        maps = self.encoded(x, train)
        means, log_variances = ([None] * self.levels for _ in range(2))
        priors = [None] * (self.levels - 1)
        below = None
        for level in reversed(range(self.levels)):
            if below is None:
                found = self._coarsest(maps[level])
            else:
                priors[level] = self._normal(below)
                merged = self._merged(self.merges, self.merged_blocks, level, maps[level], below, train)
                found = self._normal(self.posteriors[level](merged))
            means[level], log_variances[level] = found
            drawn = means[level] + deviation(log_variances[level]) * noise[level]
            drawn = self.from_latent[level](drawn.astype(self.dtype))
            if below is not None:
                drawn = self._merged(self.second_merges, self.second_merged_blocks, level, below, drawn, train)
            below = _blocks(self.down_blocks[level], self.doubling[level](spread_out(drawn)), train)
        reconstruction = self.out(_blocks(self.out_blocks, below, train)).astype(jnp.float32)
        prior_means, prior_log_variances = zip(*priors, strict=True) if priors else ((), ())
        found = (tuple(means), tuple(log_variances), prior_means, prior_log_variances)
        return Latents(reconstruction, *found, self.classified(means[-1]))

    def encoded(self, x, train=False, dense=False):
        """The maps of every level (b, [z,] y, x, filters) in the window, the finest first.

        dense: every map at every offset instead of at every other voxel: x may be larger than the window, and what
        comes out has the 2 ** axes offsets of a level in front of its batch axis, those of the coarser levels first.
        """
        x = self.stem_block(nn.elu(blurred(self.stem(x.astype(self.dtype)))), train)
        maps = []
        for halving, blocks in zip(self.halving, self.up_blocks, strict=True):
            x = blurred(halving(x))
            x = _blocks(blocks, every_offset(x) if dense else every_other(x), train)
            maps.append(x)
        return maps if dense else [inside(x, [side >> i for side in self.window]) for i, x in enumerate(maps, start=1)]

    def coarsest(self, top):
        """The mean of the coarsest latent, float32, of the coarsest map (b, [z,] y, x, filters) of a window."""
        return self._coarsest(top)[0]

    def classified(self, mean):
        """Logits float32 (b, classes) of the mean of the coarsest latent."""
        found = nn.relu(self.head_pixels(mean.astype(self.dtype)))
        found = nn.relu(self.head_hidden(found.reshape(len(found), -1)))
        return self.head_classes(found).astype(jnp.float32)

    def read(self, top):
        """Logits float32 (b, classes) of the coarsest map of a window: what a prediction needs beside `encoded`."""
        return self.classified(self.coarsest(top))

    def latent_shapes(self):
        """The spatial shape and channels of every latent, the finest first."""
        return [(*(side >> level for side in self.window), self.latent) for level in range(1, self.levels + 1)]

    def _coarsest(self, top):
        """The coarsest latent knows what class the network takes the window for: its channels are scaled by that."""
        guess = nn.relu(self.guess(top))
        likely = nn.softmax(self.guessed_class(guess.reshape(len(guess), -1)).astype(jnp.float32))
        factor, added = (
            layer(likely.astype(self.dtype)).reshape(len(top), *(1,) * len(self.window), -1)
            for layer in (self.class_factor, self.class_sum)
        )
        return self._normal(self.posteriors[-1](nn.relu(self.top_convolution(factor * top + added))))

    def _normal(self, x):
        """(mean, log variance) of the two halves of the channels."""
        mean, log_variance = jnp.split(jnp.clip(x.astype(jnp.float32), -MOST, MOST), 2, -1)
        return mean, log_variance

    def _merges(self, gated):
        """Of all levels but the coarsest."""
        merged = range(self.levels - 1)
        return [Dense(self.filters, dtype=self.dtype) for _ in merged], [gated() for _ in merged]

    def _merged(self, layers, blocks, level, one, other, train):
        return blocks[level](layers[level](jnp.concatenate([one, other], -1)), train)

    def _check(self):
        if self.filters != 2 * self.latent:
            raise BadInput(
                f"model.filters must be twice model.latent, since what comes down is the mean and the log variance of "
                f"the next prior; found {self.filters} and {self.latent}"
            )
        if self.levels < 1 or self.blocks < 1 or self.latent < self.classes:
            raise BadInput(
                f"the network needs a level, a block and a latent channel for every class at least; found "
                f"{self.levels} levels, {self.blocks} blocks, {self.latent} latent channels for {self.classes} classes"
            )
        if any(side < 1 or side % 2**self.levels for side in self.window):
            raise BadInput(
                f"window must be multiples of {2**self.levels} for {self.levels} levels, found {self.window}"
            )


class Residual(nn.Module):
    """The input and: twice normalisation, ELU, convolution of 3; gated: then times a learned share of itself."""

    filters: int
    axes: int
    gated: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train):
        y = x
        for i in range(2):
            axis = axis_of_devices() if train else None
            norm = nn.BatchNorm(not train, momentum=MOMENTUM, dtype=self.dtype, axis_name=axis, name=f"norm{i}")
            y = Conv(self.filters, (3,) * self.axes, dtype=self.dtype, name=f"conv{i}")(nn.elu(norm(y)))
        if self.gated:
            value, gate = jnp.split(Dense(2 * self.filters, dtype=self.dtype, name="gate")(y), 2, -1)
            y = nn.elu(value) * nn.sigmoid(gate)
        return x + y


def _blocks(blocks, x, train):
    for block in blocks:
        x = block(x, train)
    return x


def deviation(log_variance):
    """Standard deviation: exponential below a log variance of 0, and straight above, where an exponential explodes."""
    return jnp.where(log_variance < 0, jnp.exp(0.5 * jnp.minimum(log_variance, 0)), 1 + jnp.maximum(log_variance, 0))


def blurred(x):
    """(b, …, c) -> the same, binomially blurred along every spatial axis, 0 beyond the border. Sums of slices: a
    convolution of every channel by itself takes many times as long on CPUs.
    """
    for axis in range(1, x.ndim - 1):
        size = x.shape[axis]
        padded = jnp.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)])
        before, here, after = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3))
        x = 0.25 * (before + after) + 0.5 * here
    return x


def every_other(x):
    """(b, …, c) -> every other voxel along every spatial axis, the first one included."""
    for axis in range(1, x.ndim - 1):
        x = jax.lax.slice_in_dim(x, 0, None, 2, axis)
    return x


def every_offset(x):
    """(b, …, c) -> (2 ** axes · b, …, c): `every_other` voxel from each of the offsets, these along the batch axis; the
    first spatial axis counts slowest, and the batch fastest.
    """
    b, *spatial, channels = x.shape
    axes = len(spatial)
    x = x.reshape(b, *(n for side in spatial for n in (side // 2, 2)), channels)
    offsets, places = range(2, 2 * axes + 1, 2), range(1, 2 * axes, 2)
    x = jnp.transpose(x, (*offsets, 0, *places, 2 * axes + 1))
    return x.reshape(-1, *(side // 2 for side in spatial), channels)


def inside(x, sides):
    """(b, …, c) -> its middle of so many voxels along every spatial axis."""
    for axis, side in enumerate(sides, start=1):
        x = jax.lax.slice_in_dim(x, (x.shape[axis] - side) // 2, (x.shape[axis] + side) // 2, axis=axis)
    return x


def spread_out(x):
    """(b, …, c) -> twice as large along every spatial axis, with 0 between. A convolution of 3 of that is a transposed
    one of the same kernel, in a form whose gradient is fast on CPUs.
    """
    for axis in range(1, x.ndim - 1):
        doubled = jnp.stack([x, jnp.zeros_like(x)], axis + 1)
        x = doubled.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def with_middle_hidden(x, side, ring=0):
    """Crops (b, [z,] y, x, 1) whose middle, a box of `side` voxels, shows nothing: 0, or with a `ring` the mean of so
    many voxels around the box, of each crop by itself.
    """
    hidden = middle(x.shape[1:-1], side)[..., None]
    if not ring:
        return jnp.where(hidden, 0.0, x)
    around = middle(x.shape[1:-1], side + 2 * ring)[..., None] & ~hidden
    axes = tuple(range(1, x.ndim))
    return jnp.where(hidden, jnp.where(around, x, 0.0).sum(axes, keepdims=True) / around.sum(), x)


def middle(window, side):
    """Bool of shape `window`: the box of `side` voxels a side around its middle, the voxel window // 2, that a crop is
    the crop of; where it is even there is one more before it.
    """
    inside = jnp.ones(window, bool)
    for axis, size in enumerate(window):
        place = jnp.arange(size) - (size // 2 - side // 2)
        found = (place >= 0) & (place < side)
        inside &= found.reshape([-1 if a == axis else 1 for a in range(len(window))])
    return inside
