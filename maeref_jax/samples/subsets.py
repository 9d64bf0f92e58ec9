"""Which annotated volumes every member of an ensemble learns from. They differ, so that members disagree in doubt."""

import numpy as np

from maeref_jax.errors import BadInput

SUBSETS = ("ring", "folds", "all_but_fold", "bootstrap", "lists")


def member_volumes(volumes, settings):
    """The list of volumes of every member. settings: the config of configs/ensemble.py; `subsets` is one of

    ring          `volumes_per_member` neighbours on the ring of all volumes, member i starting with volume i; 0: all
                  but one, at most four, so that some members have not seen a volume where there are two or more
    folds         disjoint: of k members, member i has the volumes i, i + k, …
    all_but_fold  all volumes but those: cross-validation, every volume is unknown to one member
    bootstrap     `volumes_per_member` draws with replacement, from the seed
    lists         as `member_lists` says: for every member the numbers of its volumes

    Raises BadInput where that cannot be done.
    """
    kind, members = settings["subsets"], settings["members"]
    if kind not in SUBSETS:
        raise BadInput(f"subsets must be one of {', '.join(SUBSETS)}, found {kind!r}")
    if settings["member_lists"] and kind != "lists":
        raise BadInput(f"member_lists is given but subsets is {kind!r}; set subsets to lists, or empty member_lists")
    chosen = _NUMBERS[kind](len(volumes), members, settings)
    return [[volumes[i] for i in numbers] for numbers in chosen]


def _ring(count, members, settings):
    own = settings["volumes_per_member"] or min(4, max(1, count - 1))
    if not 1 <= own <= count:
        raise BadInput(f"volumes_per_member must be between 1 and the {count} training volumes, or 0, is {own}")
    return [[(i + j) % count for j in range(own)] for i in range(members)]


def _folds(count, members, settings):
    if count < members:
        raise BadInput(f"{count} training volumes do not make {members} folds; set fewer members, or another subsets")
    return [list(range(i, count, members)) for i in range(members)]


def _all_but_fold(count, members, settings):
    if members < 2:
        raise BadInput("subsets = all_but_fold needs at least 2 members: a single one would learn from nothing")
    return [[i for i in range(count) if i not in fold] for fold in _folds(count, members, settings)]


def _bootstrap(count, members, settings):
    own = settings["volumes_per_member"]
    if own < 1:
        raise BadInput(f"volumes_per_member must be at least 1, found {own}")
    rngs = [np.random.default_rng((settings["seed"], member)) for member in range(members)]
    return [sorted(rng.integers(count, size=own).tolist()) for rng in rngs]


def _lists(count, members, settings):
    lists = settings["member_lists"]
    if len(lists) != members or any(not isinstance(numbers, tuple | list) or not numbers for numbers in lists):
        raise BadInput(
            f"member_lists must be {members} tuples, one per member, of numbers of volumes, like ((0,1),(1,2),…); "
            f"found {lists}"
        )
    wrong = [i for numbers in lists for i in numbers if not isinstance(i, int) or not 0 <= i < count]
    if wrong:
        raise BadInput(f"member_lists names volumes {wrong}, but there are only 0 … {count - 1}")
    return [list(numbers) for numbers in lists]


_NUMBERS = {
    "ring": _ring, "folds": _folds, "all_but_fold": _all_but_fold, "bootstrap": _bootstrap, "lists": _lists,
}  # fmt: skip
