"""Label maps made worse at random, for what learns to undo it (Larrazabal et al. 2019): pure functions of a key, for
one map at a time (vmap them over a batch).

A map is int (y, x), -1 unknown. Two sorts of damage, each drawn anew for every map:
  blobs   contiguous, smooth places in which the foreground is removed (class 0), a class is added, or the classes are
          swapped for one another
  noise   scattered pixels get any class, then pixels along borders take over the label of a neighbour, again and again:
          random dilation and erosion, holes and specks that grow and shrink
Unknown pixels stay unknown. No label ever turns into one that is not 0 … classes-1.
"""

import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput

KINDS = ("removed", "added", "swapped")
BENDING = 0.2  # share of a blob's radius by which its border leaves the circle
NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def check(settings):
    """Raises BadInput for settings of the group `denoising` that mean nothing."""
    low, high = settings["blob_radius_px"]
    if not 0 < low <= high:
        raise BadInput(f"denoising.blob_radius_px must be two radii, lowest first, found {(low, high)}")
    for name in ("blobs", "rounds"):
        if settings[name] < 0:
            raise BadInput(f"denoising.{name} must be at least 0, found {settings[name]}")
    for name in ("clean", "border_noise", "speckles"):
        if not 0 <= settings[name] <= 1:
            raise BadInput(f"denoising.{name} is a share or a probability, 0 to 1, found {settings[name]}")


def deteriorated(key, labels, classes, settings):
    """One label map (y, x), made worse. settings: the group `denoising` of configs/autoencoder.py."""
    whether, blob_key, noise_key = jax.random.split(key, 3)
    worse = with_blobs(blob_key, labels, classes, settings)
    worse = with_noise(noise_key, worse, classes, settings)
    clean = jax.random.uniform(whether) < settings["clean"]
    return jnp.where(clean | (labels < 0), labels, worse)


def with_blobs(key, labels, classes, settings):
    """0 … `blobs` blobs of each of KINDS. Their borders are bent discs': the radius changes with the direction."""
    foreground = max(classes - 1, 1)  # classes other than 0
    low, high = settings["blob_radius_px"]
    y, x = jnp.meshgrid(*(jnp.arange(size, dtype=jnp.float32) for size in labels.shape), indexing="ij")
    # All numbers in one draw: the compiler is slow with many small ones.
    drawn = jax.random.uniform(key, (settings["blobs"] + 1, len(KINDS), 10))
    counts = _whole(drawn[-1, :, 0], settings["blobs"] + 1)

    def one(labels, number):
        kind = number % len(KINDS)
        u = drawn[number // len(KINDS), kind]
        y_off, x_off = y - u[0] * labels.shape[0], x - u[1] * labels.shape[1]
        angle = jnp.arctan2(y_off, x_off)
        bent = sum((2 * u[3 + i] - 1) * jnp.sin((i + 1) * angle + 2 * jnp.pi * u[6 + i]) for i in range(3))
        inside = jnp.hypot(y_off, x_off) < (low + u[2] * (high - low)) * (1 + BENDING * bent)
        step = _whole(u[9], foreground)
        added = jnp.full_like(labels, 0) + jnp.minimum(1 + step, classes - 1)
        # Swapped: every foreground class becomes another one, so many ids further, around; a single one stays.
        swapped = 1 + (labels + _whole(u[9], foreground - 1)) % foreground
        changed = jnp.stack([jnp.zeros_like(labels), added, jnp.where(labels > 0, swapped, labels)])[kind]
        return jnp.where(inside & (number // len(KINDS) < counts[kind]), changed, labels), None

    return jax.lax.scan(one, labels, jnp.arange(settings["blobs"] * len(KINDS)))[0]


def with_noise(key, labels, classes, settings):
    """Up to a share `speckles` of the pixels get any class; then, `rounds` times, a pixel takes over the label of a
    random neighbour with a probability of up to `border_noise`, which only borders notice.
    """
    pixel_key, strength_key = jax.random.split(key)
    drawn = jax.random.uniform(pixel_key, (settings["rounds"] + 1, *labels.shape))
    strength = jax.random.uniform(strength_key, (2,))
    # A number below a probability is uniform below it, too: it says what happens as well as that something does.
    share, u = settings["speckles"] * strength[0], drawn[0]
    labels = jnp.where((u < share) & (labels >= 0), _whole(u / jnp.maximum(share, 1e-9), classes), labels)
    probability = settings["border_noise"] * strength[1]

    def one(labels, u):
        padded, (height, width) = jnp.pad(labels, 1, mode="edge"), labels.shape
        shifted = jnp.stack([padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in NEIGHBOURS])
        chosen = _whole(u / jnp.maximum(probability, 1e-9), len(NEIGHBOURS))
        neighbour = jnp.take_along_axis(shifted, chosen[None], 0)[0]
        return jnp.where((u < probability) & (neighbour >= 0) & (labels >= 0), neighbour, labels), None

    return jax.lax.scan(one, labels, drawn[1:])[0]


def _whole(u, count):
    """0 … count-1, evenly, for u in [0, 1)."""
    return jnp.clip(jnp.floor(u * count), 0, max(count - 1, 0)).astype(jnp.int32)
