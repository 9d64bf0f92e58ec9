"""Training crops varied on the device: pure functions of a key, for one crop at a time (vmap them over a batch).

A crop is an image float32 ([z,] y, x), intensities about 0 … 1, with labels int ([z,] y, x), -1 unknown. Only what
`settings` ask for is computed. Lengths are in voxels of the finest axis: along a coarser one they are shorter, by the
ratio of the voxel sizes, so that an anisotropic stack is bent as the tissue would be.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from maeref_jax.errors import BadInput

LENGTH_TOLERANCE = 0.01  # voxel sizes that differ by less are the same


def augmented(key, image, labels, settings, voxel_size_nm):
    """One crop varied at random. settings: the `augmentation` group of configs/ensemble.py, every strength 0 (or
    False) changing nothing; voxel_size_nm: z, y, x. The events come in the order in which they happen to tissue,
    microscope and detector: position, bending, blur, intensity, loss of signal, noise.
    """
    lengths = tuple(voxel_size_nm)[-image.ndim :]
    ratios = tuple(length / min(lengths) for length in lengths)
    keys = jax.random.split(key, 6)
    if settings["symmetries"]:
        choices = symmetries(image.shape, lengths)
        which = jax.random.randint(keys[0], (), 0, len(choices))
        image, labels = (oriented(array, which, choices) for array in (image, labels))
    if settings["elastic_vx"] or settings["piecewise_vx"]:
        image, labels = warped(image, labels, displacement(keys[1], image.shape, ratios, settings))
    if settings["blur_vx"]:
        image = blurred(image, settings["blur_vx"] * jax.random.uniform(keys[2]), ratios, settings["blur_vx"])
    image = _intensities(keys[3], image, settings)
    if settings["low_signal"]:
        image = low_signal(keys[4], image, labels, ratios, settings)
    if settings["noise"]:
        spread, white = jax.random.normal(keys[5]), jax.random.normal(jax.random.fold_in(keys[5], 1), image.shape)
        image = image + settings["noise"] * jnp.abs(spread) * white
    return image, labels


def check(settings):
    """Raises BadInput for strengths and lengths that mean nothing."""
    low, high = settings["low_signal_radius_vx"]
    if not 0 < low <= high:
        raise BadInput(f"augmentation.low_signal_radius_vx must be two radii, lowest first, found {(low, high)}")
    for name, found in settings.items():
        if name not in ("symmetries", "low_signal_radius_vx") and found < 0:
            raise BadInput(f"augmentation.{name} must not be negative, found {found}")
    for name in ("elastic", "piecewise"):
        if settings[f"{name}_vx"] and settings[f"{name}_spacing_vx"] < 2 * settings[f"{name}_vx"]:
            raise BadInput(
                f"augmentation.{name}_spacing_vx ({settings[f'{name}_spacing_vx']}) must be at least twice "
                f"{name}_vx ({settings[f'{name}_vx']}), or the tissue would fold over"
            )


def symmetries(shape, lengths):
    """The symmetries of a box as (order of the axes, whether to reverse each): 8 of a square, 48 of a cube, 16 of a
    stack whose z is of another size or voxel length. The first one changes nothing.
    """

    def alike(a, b):
        return shape[a] == shape[b] and math.isclose(lengths[a], lengths[b], rel_tol=LENGTH_TOLERANCE)

    axes = range(len(shape))
    orders = [o for o in itertools.permutations(axes) if all(alike(a, b) for a, b in zip(axes, o, strict=True))]
    return [(order, flips) for flips in itertools.product((False, True), repeat=len(shape)) for order in orders]


def oriented(array, which, choices):
    """`array` in the symmetry number `which` (may be traced) of `choices`."""
    orders = list(dict.fromkeys(order for order, _ in choices))
    order_of = jnp.array([orders.index(order) for order, _ in choices])[which]
    flipped = jnp.array([flips for _, flips in choices])[which]
    turned = array
    for i, order in enumerate(orders[1:], 1):
        turned = jnp.where(order_of == i, jnp.transpose(array, order), turned)
    for axis in range(array.ndim):
        turned = jnp.where(flipped[axis], jnp.flip(turned, axis), turned)
    return turned


def displacement(key, shape, ratios, settings):
    """How far every voxel is moved, float32 (dims, [z,] y, x) in voxels of its axis: an elastic field (smooth) plus a
    piecewise affine one (affine inside every simplex of a coarse grid). `*_vx` is about the standard deviation of the
    nodes, `*_spacing_vx` their distance.
    """
    keys = jax.random.split(key)
    field = jnp.zeros((len(shape), *shape))
    if settings["elastic_vx"]:
        nodes = _nodes(keys[0], shape, ratios, settings["elastic_spacing_vx"])
        field += settings["elastic_vx"] * jax.image.resize(nodes, field.shape, "cubic")
    if settings["piecewise_vx"]:
        nodes = _nodes(keys[1], shape, ratios, settings["piecewise_spacing_vx"])
        field += settings["piecewise_vx"] * piecewise_affine(nodes, shape)
    return field / jnp.asarray(ratios).reshape(-1, *(1,) * len(shape))


def piecewise_affine(nodes, shape):
    """Values (…, *grid) at the nodes of a coarse grid, at least 2 along every axis -> (…, *shape): the grid spans the
    box, every cell is cut into simplices (triangles, tetrahedra), and the values are affine inside each.
    """
    grid = nodes.shape[-len(shape) :]
    axes = [jnp.linspace(0, count - 1, size) for count, size in zip(grid, shape, strict=True)]
    place = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)
    corner = jnp.minimum(jnp.floor(place).astype(jnp.int32), jnp.asarray(grid) - 2)
    inside = place - corner
    # From the near corner of a cell one walks along the axes, the largest share first (Kuhn's triangulation).
    order = jnp.argsort(-inside, axis=-1)
    shares = jnp.take_along_axis(inside, order, -1)
    lead = (slice(None),) * (nodes.ndim - len(shape))
    before = nodes[(*lead, *jnp.moveaxis(corner, -1, 0))]
    found = before
    for step in range(len(shape)):
        corner = corner + jax.nn.one_hot(order[..., step], len(shape), dtype=jnp.int32)
        after = nodes[(*lead, *jnp.moveaxis(corner, -1, 0))]
        found = found + shares[..., step] * (after - before)
        before = after
    return found


def warped(image, labels, moved):
    """Image (linear, mirrored outside) and labels (nearest, unknown outside) read at the voxel plus `moved`."""
    places = jnp.meshgrid(*(jnp.arange(size, dtype=jnp.float32) for size in image.shape), indexing="ij")
    places = [place + move for place, move in zip(places, moved, strict=True)]
    image = map_coordinates(image, places, order=1, mode="reflect")
    return image, map_coordinates(labels, places, order=0, mode="constant", cval=-1).astype(labels.dtype)


def blurred(image, sigma, ratios, largest):
    """Convolved with a Gaussian of `sigma` voxels of the finest axis (may be traced, at most `largest`)."""
    for axis, ratio in enumerate(ratios):
        reach = math.ceil(3 * largest / ratio)
        offsets = jnp.arange(-reach, reach + 1)
        weight = jnp.exp(-0.5 * (offsets * ratio / jnp.maximum(sigma, 1e-3)) ** 2)
        weight = weight / weight.sum()
        padded = jnp.pad(image, [(reach, reach) if i == axis else (0, 0) for i in range(image.ndim)], mode="symmetric")
        image = sum(
            weight[i] * jax.lax.slice_in_dim(padded, i, i + image.shape[axis], axis=axis) for i in range(2 * reach + 1)
        )
    return image


def low_signal(key, image, labels, ratios, settings):
    """0 … `low_signal` ellipsoids in which the signal is lost towards the level of class 0 (of the crop, where it has
    none) and noise: all of it in the centre, none at the surface. Labels stay: what is there has not changed.
    """
    background = labels == 0
    level = jnp.where(background.any(), (image * background).sum() / jnp.maximum(background.sum(), 1), image.mean())
    places = jnp.meshgrid(*(jnp.arange(size, dtype=jnp.float32) for size in image.shape), indexing="ij")
    count = jax.random.randint(key, (), 0, settings["low_signal"] + 1)
    for i in range(settings["low_signal"]):
        at, size, grain = jax.random.split(jax.random.fold_in(key, i + 1), 3)
        low, high = settings["low_signal_radius_vx"]
        radius = jax.random.uniform(size, minval=low, maxval=high)
        centre = jax.random.uniform(at, (image.ndim,)) * jnp.asarray(image.shape)
        squared = sum(((p - c) * ratio / radius) ** 2 for p, c, ratio in zip(places, centre, ratios, strict=True))
        weight = jnp.sqrt(jnp.maximum(0.0, 1 - jnp.sqrt(squared))) * (i < count)
        target = level + settings["low_signal_noise"] * jax.random.normal(grain, image.shape)
        image = image + weight * (target - image)
    return image


def _intensities(key, image, settings):
    """Contrast around the mean, brightness and gamma: each a normal draw times its strength."""
    contrast, brightness, gamma = (
        settings[name] * jax.random.normal(jax.random.fold_in(key, i)) if settings[name] else None
        for i, name in enumerate(("contrast", "brightness", "gamma"))
    )
    if contrast is not None:
        image = (image - image.mean()) * (1 + contrast) + image.mean()
    if brightness is not None:
        image = image + brightness
    if gamma is not None:
        # The small floor keeps the power's slope finite; below 0 there is nothing to curve.
        image = jnp.where(image > 0, jnp.maximum(image, 1e-6) ** jnp.exp(gamma), image)
    return image


def _nodes(key, shape, ratios, spacing):
    """Normal draws (dims, *grid) at nodes `spacing` voxels of the finest axis apart, at least 2 along every axis."""
    grid = [max(2, math.ceil(size * ratio / spacing) + 1) for size, ratio in zip(shape, ratios, strict=True)]
    return jax.random.normal(key, (len(shape), *grid))
