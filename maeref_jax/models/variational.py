"""What a hierarchical variational autoencoder with a few labels is trained by. Pure functions, all in float32; a label
outside 0 … classes-1 is unknown, and where nothing is known a term is 0 and so is its gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np

from maeref_jax.models.hierarchical_vae import deviation, middle

NEAR = 1e-6  # no two latents are nearer than its root: the gradient of a distance of 0 is none


def divergence(mean, log_variance, prior_mean, prior_deviation):
    """Kullback-Leibler divergence of normal distributions from their priors, (b,): the mean over all elements of
    (b, …); log variances mean what hierarchical_vae.deviation makes of them.
    """
    own = deviation(log_variance)
    squares = (own**2 + (mean - prior_mean) ** 2) / prior_deviation**2
    found = jnp.log(prior_deviation) - jnp.log(own) + 0.5 * (squares - 1)
    return found.reshape(len(mean), -1).mean(1)


def component_means(classes, channels, height):
    """float32 (classes, channels): the mixture has a component of deviation 1 for every class, whose mean is `height`
    in a block of channels of its own and 0 in the others; channels that are left over belong to none.
    """
    own = channels // classes
    blocks = np.repeat(np.eye(classes, dtype=np.float32), own, axis=1)
    return jnp.asarray(height * np.pad(blocks, ((0, 0), (0, channels - classes * own))))


def latent_divergences(latents, labels, height):
    """([(sum, count)] over samples of every level, the finest first): lower levels against what came down to them, the
    coarsest against the component of its label, where that is known. latents: Latents; labels int (b,).
    """
    found = []
    priors = zip(latents.prior_means, latents.prior_log_variances, strict=True)
    for mean, log_variance, prior in zip(latents.means, latents.log_variances, priors, strict=False):
        one = divergence(mean, log_variance, prior[0], deviation(prior[1]))
        found.append((one.sum(), jnp.float32(len(one))))
    classes, top = latents.logits.shape[-1], latents.means[-1]
    known = is_known(labels, classes)
    components = component_means(classes, top.shape[-1], height)[jnp.where(known, labels, 0)]
    components = components.reshape(len(top), *(1,) * (top.ndim - 2), -1)
    one = divergence(top, latents.log_variances[-1], components, jnp.ones(()))
    return [*found, (jnp.where(known, one, 0.0).sum(), known.sum().astype(jnp.float32))]


def inpainting(reconstruction, x, side):
    """(sum, count) over samples of half the squared error, meaned over the hidden box in the middle."""
    inside = middle(x.shape[1:-1], side)[..., None]
    axes = tuple(range(1, x.ndim))
    one = jnp.where(inside, 0.5 * (reconstruction - x) ** 2, 0.0).sum(axes) / inside.sum()
    return one.sum(), jnp.float32(len(one))


def cross_entropy(logits, labels):
    """(sum, count) over samples with a known label. logits (b, c), labels int (b,)."""
    known = is_known(labels, logits.shape[-1])
    target = jnp.where(known, labels, 0)
    likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], -1)[:, 0]
    return -jnp.where(known, likelihood, 0.0).sum(), known.sum().astype(jnp.float32)


def contrastive(means, labels, classes, margin):
    """Samples of one class near each other, of two classes `margin` apart: the sum over levels, the coarsest counting 1
    and every finer one half as much. means: a list with (b, …) of every level, the finest first.
    """
    levels = range(len(means))
    found = [0.5 ** (len(means) - 1 - level) * contrast(means[level], labels, classes, margin) for level in levels]
    return sum(found)


def contrast(means, labels, classes, margin):
    """The same of one level: half the mean distance of pairs of one class, and half the mean over pairs of classes of
    what `pushed` says of their samples, weighted by a softmax of that itself, so that the classes that lie nearest
    count most. 0 where no two samples have a label; the parts that have no pair are left out.
    """
    distance, known = distances(means.reshape(len(means), -1)), is_known(labels, classes)
    own = jax.nn.one_hot(jnp.where(known, labels, classes), classes)
    pairs = jnp.triu(jnp.ones_like(distance), 1)
    same = pairs * (own @ own.T)
    together = (same * distance).sum() / jnp.maximum(same.sum(), 1)

    def of_classes(values):  # (a, b): the sum over pairs of a sample of a and one of b, a < b
        found = own.T @ values @ own
        return jnp.triu(found + found.T, 1)

    count = of_classes(pairs)
    apart = of_classes(pairs * pushed(distance, margin)) / jnp.maximum(count, 1)
    # A softmax over the pairs of classes that are there: the largest of them is 1, so that the sum is not 0.
    share = jnp.where(count > 0, jnp.exp(apart - jax.lax.stop_gradient(apart.max())), 0.0)
    share /= jnp.maximum(share.sum(), 1e-30)
    return 0.5 * together + 0.5 * (share * apart).sum()


def pushed(distance, margin):
    """What two samples of different classes cost at a distance: nothing from the margin on."""
    return jnp.where(distance < margin, 1 / (distance + NEAR) + (margin - distance) ** 2, 0.0)


def distances(x):
    """Euclidean distances (b, b) of the rows of x (b, d), in float32 and of differences: a product of matrices would
    lose those that are small. One row after the other, and again in the backward pass: memory of b · d numbers.
    """
    x = x.astype(jnp.float32)
    row = jax.checkpoint(lambda one: jnp.sqrt(((x - one) ** 2).sum(-1) + NEAR))
    return jax.lax.map(row, x)


def is_known(labels, classes):
    """Bool: which labels are classes."""
    return (labels >= 0) & (labels < classes)
