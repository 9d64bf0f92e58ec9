"""Training crops varied on the device: pure functions of a key, for one crop at a time (vmap them over a batch).

A crop is an image float32 ([z,] y, x), intensities about 0 … 1, with labels int ([z,] y, x), -1 unknown. Only what
`settings` ask for is computed. Lengths are in voxels of the finest axis: along a coarser one they are shorter, by the
ratio of the voxel sizes, so that an anisotropic stack is bent as the tissue would be. Elastic and piecewise affine
bending and rotation are one displacement field, by which image and labels are read once.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from maeref_jax.errors import BadInput

LENGTH_TOLERANCE = 0.01  # voxel sizes that differ by less are the same
MOVES = ("elastic_vx", "piecewise_share", "rotation_degrees")  # strengths of what displaces voxels


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
    if any(settings[name] for name in MOVES):
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
    if settings["elastic_vx"] and settings["elastic_spacing_vx"] < 2 * settings["elastic_vx"]:
        raise BadInput(
            f"augmentation.elastic_spacing_vx ({settings['elastic_spacing_vx']}) must be at least twice elastic_vx "
            f"({settings['elastic_vx']}), or the tissue would fold over"
        )
    share, grid = settings["piecewise_share"], settings["piecewise_grid"]
    if grid < 2 or 2 * share * (grid - 1) > 1:
        raise BadInput(
            f"augmentation.piecewise_grid is {grid}, expected 2 nodes a side or more, and these at least twice "
            f"piecewise_share ({share}) of the side apart, or the tissue would fold over"
        )
    if settings["rotation_degrees"] > 180:
        raise BadInput(f"augmentation.rotation_degrees is at most 180, found {settings['rotation_degrees']}")


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
    """How far every voxel is moved, float32 (dims, [z,] y, x) in voxels of its axis: the sum of what MOVES ask for.

    elastic     smooth; elastic_vx is about the standard deviation of its nodes, elastic_spacing_vx their distance
    piecewise   affine inside every simplex of a grid that spans the crop, piecewise_grid nodes a side; the standard
                deviation of their displacement is a share of the side, drawn anew from 0 to piecewise_share
    rotation    about the middle of the plane, by an angle drawn from either side of 0
    """
    keys, sides = jax.random.split(key, 4), (-1, *(1,) * len(shape))
    field = jnp.zeros((len(shape), *shape))
    if settings["elastic_vx"]:
        nodes = _nodes(keys[0], shape, ratios, settings["elastic_spacing_vx"])
        elastic = settings["elastic_vx"] * jax.image.resize(nodes, field.shape, "cubic")
        field += elastic / jnp.asarray(ratios).reshape(sides)
    if settings["piecewise_share"]:
        nodes = jax.random.normal(keys[1], (len(shape), *(settings["piecewise_grid"],) * len(shape)))
        share = settings["piecewise_share"] * jax.random.uniform(keys[2])
        field += share * jnp.asarray(shape).reshape(sides) * piecewise_affine(nodes, shape)
    if settings["rotation_degrees"]:
        largest = math.radians(settings["rotation_degrees"])
        angle = jax.random.uniform(keys[3], minval=-largest, maxval=largest)
        field = field.at[-2:].add(rotation(angle, shape, ratios))
    return field


def rotation(angle, shape, ratios):
    """How far a rotation about the middle of the plane moves the voxels of a box, float32 (2, [z,] y, x): rows and
    columns, in voxels. angle: in radians; ratios: voxel lengths over the finest one.
    """
    middle = [(size - 1) / 2 for size in shape[-2:]]
    y, x = ((jnp.arange(size) - at) * ratio for size, at, ratio in zip(shape[-2:], middle, ratios[-2:], strict=True))
    y, x = jnp.meshgrid(y, x, indexing="ij")
    turned = jnp.cos(angle) * y - jnp.sin(angle) * x, jnp.sin(angle) * y + jnp.cos(angle) * x
    moved = jnp.stack([(turned[0] - y) / ratios[-2], (turned[1] - x) / ratios[-1]])
    return jnp.broadcast_to(moved.reshape(2, *(1,) * (len(shape) - 2), *shape[-2:]), (2, *shape))


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
