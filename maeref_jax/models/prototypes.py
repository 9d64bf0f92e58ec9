"""Labels for voxels that have none, by which class's mean latent is nearest. Pure functions, in float32."""

import jax
import jax.numpy as jnp

from maeref_jax.models.variational import is_known


def prototypes(latents, labels, classes, sum_over_devices=lambda tree: tree):
    """(means float32 (c, d), present bool (c,)): the mean latent of every class, and which classes have any. latents
    (b, d); labels int (b,), outside 0 … classes-1 unknown; sum_over_devices: of samples that several devices share.
    """
    known = is_known(labels, classes)
    own = jax.nn.one_hot(jnp.where(known, labels, classes), classes)
    sums, counts = sum_over_devices((own.T @ latents.astype(jnp.float32), own.sum(0)))
    return sums / jnp.maximum(counts, 1)[:, None], counts > 0


def nearest_class(latents, means, present, temperature):
    """(labels int32 (n,), confidence float32 (n,)): the class of the nearest prototype, and the softmax over classes of
    minus the squared distance over the temperature. A class without a prototype is never nearest; where no class has
    one, the confidence is 0.
    """
    squares = ((latents.astype(jnp.float32)[:, None] - means) ** 2).sum(-1)
    score = jnp.where(present, -squares / temperature, -jnp.inf)
    likely = jax.nn.softmax(jnp.where(present.any(), score, 0.0), axis=-1)
    return score.argmax(-1).astype(jnp.int32), jnp.where(present.any(), likely.max(-1), 0.0)


def above(confidence, threshold):
    """Which labels are admitted: those of a confidence above the threshold, as published first. Another rule is another
    function of these two.
    """
    return confidence > threshold
