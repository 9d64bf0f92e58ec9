"""Convolutions in the form that is fastest where they run."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

# Planes of up to so many pixels, layers of at least so many channels: beyond, the compiler's own gradient is faster
# (benchmarks/convolution_layers.py).
MOST_PIXELS, LEAST_CHANNELS = 64 * 64, 8


def _convolution(x, kernel, strides, padding, **more):
    """jax.lax.conv_general_dilated as flax calls it; on CPUs with another gradient for convolutions of 3 x 3, and those
    of 3 x 3 x 3 by planes.
    """
    dilations = (*more["lhs_dilation"], *more["rhs_dilation"])
    common = jax.default_backend() == "cpu" and padding == "SAME" and {*strides, *dilations} == {1}
    if common and x.ndim == 4 and kernel.shape[:3] == (3, 3, x.shape[-1]) and _suited(x):
        return _of_plane(x, kernel)
    if common and x.ndim == 5 and kernel.shape[:4] == (3, 3, 3, x.shape[-1]):
        return _of_volume(x, kernel)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **more)


def _suited(x):
    return x.shape[1] * x.shape[2] <= MOST_PIXELS and x.shape[-1] >= LEAST_CHANNELS


def _of_volume(x, kernel):
    """x (b, z, y, x, c) with a kernel of 3 x 3 x 3: every plane once with the three planes of the kernel, each of which
    is a third of the channels that come out, and these are added up along z. The compiler's own three-dimensional
    convolution takes five to fifty times as long, its gradient ten to twenty times (8 to 32 voxels a side, 6 to 24
    channels, one core).
    """
    b, depth, *plane, channels = x.shape
    planes, kernels = x.reshape(b * depth, *plane, channels), jnp.concatenate([*kernel], -1)
    flat = _of_plane(planes, kernels) if _suited(planes) else _plain(planes, kernels)
    below, here, above = jnp.split(flat.reshape(b, depth, *plane, -1), 3, -1)
    pads = [(0, 0)] * 3
    below = jnp.pad(below[:, :-1], [(0, 0), (1, 0), *pads])
    above = jnp.pad(above[:, 1:], [(0, 0), (0, 1), *pads])
    return below + here + above


# nn.Conv; on CPUs the gradient of a kernel is the sum of nine matrix products, which takes half to four fifths of
# the time of the compiler's own (benchmarks/layer_forms.py).
Conv = partial(nn.Conv, conv_general_dilated=_convolution)


def _plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


_of_plane = jax.custom_vjp(_plain)


def _forward(x, kernel):
    return _plain(x, kernel), (x, kernel)


def _backward(kept, gradient):
    x, kernel = kept
    (of_x,) = jax.linear_transpose(lambda x: _plain(x, kernel), x)(gradient)
    _, height, width, channels = x.shape
    # Large matrices are slow to transpose inside of a product; x is, once.
    x = jax.lax.optimization_barrier(x.reshape(-1, channels).T)
    around = jnp.pad(gradient, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [around[:, 2 - i : 2 - i + height, 2 - j : 2 - j + width] for i in range(3) for j in range(3)]
    of_kernel = jnp.stack([x @ shift.reshape(-1, shift.shape[-1]) for shift in shifts])
    return of_x, of_kernel.reshape(kernel.shape)


_of_plane.defvjp(_forward, _backward)
