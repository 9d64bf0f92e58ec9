"""Where foreground begins: networks that learn from few labels call too little or too much of it, by a factor of the
odds. A threshold on its probability, chosen where the truth is known, sets that right.
"""

import jax.numpy as jnp

EVEN = 0.5  # the threshold that changes nothing


def shifted(probabilities, threshold):
    """Class probabilities float32 (..., c), summing to 1, in which a class other than 0 (background) is as likely as
    background where it had the share `threshold` of what both have together. Among foreground classes nothing changes.
    threshold: a float in (0, 1); EVEN returns them as they are.
    """
    if threshold == EVEN:
        return probabilities
    heavier = probabilities * jnp.where(jnp.arange(probabilities.shape[-1]) > 0, (1 - threshold) / threshold, 1.0)
    return heavier / heavier.sum(-1, keepdims=True)


def is_chosen(found):
    """Whether what was read from a foreground.json is a threshold."""
    value = found.get("threshold") if isinstance(found, dict) else None
    return isinstance(value, int | float) and 0 < value < 1
