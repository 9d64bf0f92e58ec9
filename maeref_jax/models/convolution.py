"""Convolutions in the form that is fastest where they run.

On CPUs the gradient of a kernel is a sum of matrix products, which take a quarter to four fifths of the time of the
compiler's own (benchmarks/convolution_layers.py).
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

# With fewer channels the compiler's own gradient is faster.
LEAST_CHANNELS = 8
# So many pixels, of all planes together, go into one product for every place of the kernel; more of them would not stay
# in the cache, and are taken strip by strip, of about so many pixels each.
MOST_PIXELS, OF_STRIP = 2 * 64 * 64, 1024


def _convolution(x, kernel, strides, padding, **more):
    """jax.lax.conv_general_dilated as flax calls it; on CPUs with another gradient for convolutions of 3 x 3, and those
    of 3 x 3 x 3 by planes.
    """
    dilations = (*more["lhs_dilation"], *more["rhs_dilation"])
    common = jax.default_backend() == "cpu" and padding == "SAME" and {*strides, *dilations} == {1}
    if common and x.ndim == 4 and kernel.shape[:3] == (3, 3, x.shape[-1]):
        return of_planes(x, kernel)
    if common and x.ndim == 5 and kernel.shape[:4] == (3, 3, 3, x.shape[-1]):
        return _of_volume(x, kernel)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **more)


def of_planes(x, kernel):
    """The convolution of (b, y, x, channels) with a kernel of 3 x 3, in its form for CPUs."""
    return (_of_plane if x.shape[-1] >= LEAST_CHANNELS else _plain)(x, kernel)


def _of_volume(x, kernel):
    """x (b, z, y, x, c) with a kernel of 3 x 3 x 3: every plane once with the three planes of the kernel, each of which
    is a third of the channels that come out, and these are added up along z. The compiler's own three-dimensional
    convolution takes five to fifty times as long, its gradient ten to twenty times (8 to 32 voxels a side, 6 to 24
    channels, one core).
    """
    b, depth, *plane, channels = x.shape
    planes, kernels = x.reshape(b * depth, *plane, channels), jnp.concatenate([*kernel], -1)
    below, here, above = jnp.split(of_planes(planes, kernels).reshape(b, depth, *plane, -1), 3, -1)
    pads = [(0, 0)] * 3
    below = jnp.pad(below[:, :-1], [(0, 0), (1, 0), *pads])
    above = jnp.pad(above[:, 1:], [(0, 0), (0, 1), *pads])
    return below + here + above


Conv = partial(nn.Conv, conv_general_dilated=_convolution)


def _plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


_of_plane = jax.custom_vjp(_plain)


def _forward(x, kernel):
    return _plain(x, kernel), (x, kernel)


def _backward(kept, gradient):
    x, kernel = kept
    (of_x,) = jax.linear_transpose(lambda x: _plain(x, kernel), x)(gradient)
    of_kernel = _at_once if math.prod(x.shape[:3]) <= MOST_PIXELS else _by_strips
    return of_x, of_kernel(x, gradient).reshape(kernel.shape)


_of_plane.defvjp(_forward, _backward)


def _at_once(x, gradient):
    """The kernel's gradient (9, channels in, channels out): a product for each of its places."""
    _, height, width, channels = x.shape
    # Large matrices are slow to transpose inside of a product; x is, once.
    x = jax.lax.optimization_barrier(x.reshape(-1, channels).T)
    around = jnp.pad(gradient, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.stack([x @ place.reshape(-1, place.shape[-1]) for place in _places(around, height, width)])


def _by_strips(x, gradient):
    """The same by strips of rows, one after the other, all places of the kernel in one product: all of a strip stays in
    the cache.
    """
    b, height, width, channels = x.shape
    strips = math.ceil(height * width / OF_STRIP)
    rows = math.ceil(height / strips)
    strips = math.ceil(height / rows)
    beyond = rows * strips - height  # rows of zeros, which add nothing
    x = jnp.pad(x, ((0, 0), (0, beyond), (0, 0), (0, 0)))
    around = jnp.pad(gradient, ((0, 0), (1, 1 + beyond), (1, 1), (0, 0)))

    def add(total, strip):
        start = strip // strips, strip % strips * rows, 0, 0
        inside = jax.lax.dynamic_slice(x, start, (1, rows, width, channels)).reshape(-1, channels)
        wider = jax.lax.dynamic_slice(around, start, (1, rows + 2, width + 2, around.shape[-1]))
        places = [place.reshape(rows * width, -1) for place in _places(wider, rows, width)]
        return total + jnp.matmul(inside.T, jnp.concatenate(places, -1), preferred_element_type=total.dtype), None

    nothing = jnp.zeros((channels, 9 * gradient.shape[-1]), jnp.promote_types(x.dtype, jnp.float32))
    total, _ = jax.lax.scan(add, nothing, jnp.arange(b * strips))
    return jnp.swapaxes(total.reshape(channels, 9, -1), 0, 1).astype(x.dtype)


def _places(around, height, width):
    """What of a gradient with a border of one pixel meets the input (b, height, width, …) in each place of a kernel."""
    return [around[:, 2 - i : 2 - i + height, 2 - j : 2 - j + width] for i in range(3) for j in range(3)]
