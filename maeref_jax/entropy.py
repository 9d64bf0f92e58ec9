"""How undecided an ensemble is: entropy of the mean probability, normalised to [0, 1].

Six hard votes over five classes can only give 0, 0.28, 0.395, ...; the entropy of the mean probability is continuous.
A threshold therefore belongs to one kind of entropy, one number of classes and one number of members.
"""

import jax.numpy as jnp
from jax.scipy.special import entr


def mean_probability(probabilities):
    """Member probabilities (k, ..., c) -> their mean (..., c)."""
    return probabilities.mean(0)


def normalised_entropy(probabilities):
    """Class probabilities (..., c) -> entropy / ln c, float32 (...) in [0, 1] (paper section 3.2).

    0 where one class has all the probability, 1 where all classes share it equally.
    """
    classes = probabilities.shape[-1]
    return jnp.clip(entr(probabilities).sum(-1) / jnp.log(classes), 0.0, 1.0)
