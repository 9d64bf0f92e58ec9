"""How undecided an ensemble is, in [0, 1]: three kinds, each from sums over members that never hold all of them.

    mean                 entropy of the mean probability (paper section 3.2), divided by ln c: continuous
    votes                entropy of the shares of hard votes (the original's code), divided by ln c: six members and
                         five classes can only give 0, 0.28, 0.395, …
    mutual_information   entropy of the mean minus the mean entropy of the members, divided by ln c: what members
                         disagree about; what each of them is undecided about does not count

A threshold therefore belongs to one kind, one number of classes and one number of members.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import entr

KINDS = ("mean", "votes", "mutual_information")


def mean_probability(probabilities):
    """Member probabilities (k, ..., c) -> their mean (..., c)."""
    return _mean(probabilities)


def vote_shares(probabilities):
    """Member probabilities (k, ..., c) -> the share of members whose likeliest class it is, float32 (..., c). All c
    classes are counted; its argmax is the majority vote. A member's ties, and those of the vote, go to the lower class.
    """
    return jax.nn.one_hot(probabilities.argmax(-1), probabilities.shape[-1]).mean(0)


def normalised_entropy(probabilities):
    """Class probabilities (..., c) -> entropy / ln c, float32 (...) in [0, 1] (paper section 3.2).

    0 where one class has all the probability, 1 where all classes share it equally.
    """
    classes = probabilities.shape[-1]
    return jnp.clip(entr(probabilities).sum(-1) / jnp.log(classes), 0.0, 1.0)


def member_means(probabilities, kind):
    """What `kind` needs of the members, averaged over them: (k, ..., c) -> (..., n), the mean probability first.

    A weighted mean of these over windows is one of the whole volume: members need not be kept.
    """
    mean = mean_probability(probabilities)
    if kind == "votes":
        return jnp.concatenate([mean, vote_shares(probabilities)], -1)
    if kind == "mutual_information":
        return jnp.concatenate([mean, _mean(normalised_entropy(probabilities))[..., None]], -1)
    return mean


def _mean(members):
    """Over the first axis, in one order: a compiler adds up in another one where it has more threads, and with many
    members the last bit would depend on how many processes share the machine.
    """
    return sum(members[i] for i in range(members.shape[0])) / members.shape[0]


def class_count(channels, kind):
    """The number of classes c behind the n channels that `member_means` makes."""
    return {"mean": channels, "votes": channels // 2, "mutual_information": channels - 1}[kind]


def entropy_of_means(means, kind):
    """What `member_means` made (..., n) -> entropy of that kind, float32 (...) in [0, 1]."""
    classes = class_count(means.shape[-1], kind)
    if kind == "votes":
        return normalised_entropy(means[..., classes:])
    if kind == "mutual_information":
        return jnp.clip(normalised_entropy(means[..., :classes]) - means[..., -1], 0.0, 1.0)
    return normalised_entropy(means)
