"""Ways to use whatever fills hidden tokens: over the symmetries of the square, in rounds, as samples.

A `fill` is a function: labels int (b, y, x), hidden bool (b, y, x), constant inside a token -> class probabilities
float32 (b, y, x, c). It may want other planes (b, y, x) after those two, such as the image: they stay as they are. What
is made here of a fill is one again. None of it looks at a label that the fill does not look at, so hidden stays hidden
(design law 3); and a window's result does not depend on its place in a batch.
"""

import jax
import jax.numpy as jnp

from maeref_jax.masking.symmetries import orientations, turned, turned_back
from maeref_jax.masking.tokens import token_mean, token_spread


def filled(fill, labels, hidden, key, token, planes=(), *, symmetries, rounds, samples):
    """Class probabilities (b, y, x, c) by a fill, used as the settings say.

    token: side in pixels; planes: what the fill wants beside labels and hidden; symmetries: average over those of the
    square; rounds: fill the most certain tokens first, in so many rounds; samples: the share of so many sampled
    fillings that agree on a class, 0 for none.
    """
    fill = over_symmetries(fill, planes) if symmetries else _given(fill, planes)
    if samples:
        return over_samples(fill, labels, hidden, key, token, rounds, samples)
    return in_rounds(fill, labels, hidden, token, rounds) if rounds > 1 else fill(labels, hidden)


def _given(fill, planes):
    return lambda labels, hidden: fill(labels, hidden, *planes)


def over_symmetries(fill, planes=()):
    """A fill that averages the probabilities over the eight orientations of a square window, four of another one.
    planes: what the fill wants beside labels and hidden, in the window's own orientation.
    """

    def averaged(labels, hidden):
        given = (labels, hidden, *planes)
        found = [turned_back(fill(*(turned(plane, s) for plane in given)), s) for s in orientations(labels.shape)]
        return sum(found) / len(found)

    return averaged


def in_rounds(fill, labels, hidden, token, rounds, key=None):
    """Fills the hidden tokens in `rounds` rounds of equal size (to one token), the most certain ones first: their
    likeliest labels are context for the rounds after. Tokens as certain as each other go by index.

    A token's probabilities are those of the round that filled it. With a key its labels are drawn from them, pixel by
    pixel, and the result is one-hot. Certainty is the mean over a token's pixels of the highest probability.
    """
    total = (token_mean(hidden.astype(jnp.float32), token) > 0).sum((1, 2))

    def one_round(carry, number):
        labels, hidden, result = carry
        found = fill(labels, hidden)
        certain = token_mean(found.max(-1), token)
        if key is not None:
            # The same numbers for every window: where it lies in the batch must not matter.
            noise = jax.random.gumbel(jax.random.fold_in(key, number), found.shape[1:])
            found = jax.nn.one_hot(jnp.argmax(jnp.log(found) + noise, -1), found.shape[-1])
        waiting = token_mean(hidden.astype(jnp.float32), token) > 0
        filled_before = total - waiting.sum((1, 2))
        now = -(-total * (number + 1) // rounds) - filled_before
        order = jnp.argsort(jnp.where(waiting, -certain, jnp.inf).reshape(len(total), -1), -1, stable=True)
        first = jnp.argsort(order, -1).reshape(waiting.shape) < now[:, None, None]
        accepted = token_spread(first & waiting, token)
        result = jnp.where((accepted | (~hidden & (number == 0)))[..., None], found, result)
        labels = jnp.where(accepted, found.argmax(-1).astype(labels.dtype), labels)
        return (labels, hidden & ~accepted, result), None

    nothing = jnp.zeros_like(jax.eval_shape(fill, labels, hidden))
    (_, _, result), _ = jax.lax.scan(one_round, (labels, hidden, nothing), jnp.arange(rounds))
    return result


def over_samples(fill, labels, hidden, key, token, rounds, samples):
    """The share of `samples` sampled fillings that agree on each class, float32 (b, y, x, c).

    Every sampled filling goes in rounds, what it has drawn being context for what it draws next: with many rounds the
    tokens of one filling fit together, which marginal probabilities do not say. Pixels of one round are independent.
    """

    def one(number):
        return in_rounds(fill, labels, hidden, token, rounds, jax.random.fold_in(key, number))

    return jax.lax.map(one, jnp.arange(samples)).mean(0)
