"""A network that says the class of the middle of a window, asked for the voxels of a larger image."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

AT_ONCE = 64  # windows a call where every one is computed by itself


def around(x, window, more=0):
    """(b, [z,] y, x, c) mirrored at its borders, so that the window of its voxel p begins at p: half a window in front,
    the other half and `more` behind.
    """
    pads = [(side // 2, side - side // 2 + more) for side in window]
    return jnp.pad(x, [(0, 0), *pads, (0, 0)], mode="reflect")


def one_by_one(logits, x, window, stride):
    """Probabilities (b, [z,] y, x, classes) of an image (b, [z,] y, x, 1): every `stride`-th voxel along every axis is
    asked by itself, and what lies between is interpolated, linearly. logits: windows (n, …, 1) -> (n, classes).
    """
    b, *spatial = x.shape[:-1]
    counts = [-(-(size - 1) // step) + 1 for size, step in zip(spatial, stride, strict=True)]
    padded = around(x, window, max(stride) - 1)
    starts = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(counts, stride, strict=True)), indexing="ij"), -1)
    starts = starts.reshape(-1, len(window))
    chunk = max(AT_ONCE // b, 1)
    groups = np.concatenate([starts, np.repeat(starts[:1], -len(starts) % chunk, 0)]).reshape(-1, chunk, len(window))

    def asked(starts):
        def cut(start):
            return jax.lax.dynamic_slice(padded, (0, *start, 0), (b, *window, x.shape[-1]))

        windows = jax.vmap(cut)(starts)
        found = logits(windows.reshape(-1, *windows.shape[2:]))
        return jax.nn.softmax(found).reshape(chunk, b, -1)

    found = jax.lax.map(asked, jnp.asarray(groups))
    found = found.reshape(-1, b, found.shape[-1])[: len(starts)].swapaxes(0, 1).reshape(b, *counts, -1)
    for axis, (size, step) in enumerate(zip(spatial, stride, strict=True), start=1):
        found = jnp.moveaxis(jnp.tensordot(interpolation(size, step), found, (1, axis)), 0, axis)
    return found


def interpolation(size, stride):
    """float32 (size, n): how much every n-th number, of places 0, stride, 2 stride …, counts at each place."""
    place, count = np.arange(size), -(-(size - 1) // stride) + 1
    left, share = place // stride, (place % stride) / stride
    weights = np.zeros((size, count + 1), np.float32)
    weights[place, left], weights[place, left + 1] = 1 - share, share
    return jnp.asarray(weights[:, :count])


def dense(encoded, read, x, window, levels, margin=0):
    """Probabilities (b, [z,] y, x, classes) of an image (b, [z,] y, x, 1) whose sides are multiples of 2 ** levels: the
    convolutions run once over all of it, at every offset where windows would halve it, and only what comes after the
    coarsest map, cut into windows, is computed for each voxel.

    Not what `one_by_one` gives: beyond the border of a window alone, or of its margin, there is nothing, and here there
    is the image. encoded: image -> its coarsest map at every offset, as HierarchicalVAE.encoded has it; read: coarsest
    maps of windows -> logits; margin: how far around windows convolutions look, a multiple of 2 ** levels.
    """
    axes, step, b = len(window), 2**levels, len(x)
    counts = [size // step for size in x.shape[1:-1]]
    grid = [side // step for side in window]
    maps = encoded(around(x, [side + 2 * margin for side in window]))
    maps = maps.reshape(-1, b, *maps.shape[1:])
    maps = maps[(slice(None), slice(None), *[slice(margin // step, None)] * axes)]

    def of_offset(maps):
        parts = [
            maps[(slice(None), *(slice(o, o + n) for o, n in zip(offset, counts, strict=True)))]
            for offset in itertools.product(*map(range, grid))
        ]
        windows = jnp.stack(parts, axis=axes + 1).reshape(-1, *grid, maps.shape[-1])
        return jax.nn.softmax(read(windows)).reshape(b, *counts, -1)

    found = jax.lax.map(of_offset, maps)
    # Offsets lie in front, coarse before fine, and in each the axes in order; a voxel is its place, then these.
    found = found.reshape(*(2,) * (axes * levels), *found.shape[1:])
    first = axes * levels
    order = [[first + 1 + axis, *range(axis, first, axes)] for axis in range(axes)]
    found = jnp.transpose(found, (first, *itertools.chain(*order), found.ndim - 1))
    return found.reshape(b, *(math.prod((n, step)) for n in counts), -1)
