"""samples/subsets.py: which volumes every member learns from."""

import pytest

from maeref_jax.errors import BadInput
from maeref_jax.samples.subsets import member_volumes

VOLUMES = "abcdefgh"


def chosen(volumes=VOLUMES, **changed):
    settings = {"subsets": "ring", "members": 3, "volumes_per_member": 4, "member_lists": (), "seed": 0, **changed}
    return ["".join(own) for own in member_volumes(volumes, settings)]


def test_neighbours_on_a_ring_begin_one_further_for_every_member():
    assert chosen(members=9)[:2] == ["abcd", "bcde"] and chosen(members=9)[7] == "habc"


def test_folds_are_disjoint_and_together_everything():
    folds = chosen(subsets="folds")
    assert sorted("".join(folds)) == list(VOLUMES) and {len(fold) for fold in folds} == {2, 3}
    for fold, rest in zip(folds, chosen(subsets="all_but_fold"), strict=True):
        assert sorted(fold + rest) == list(VOLUMES)


def test_bootstrap_draws_with_replacement_from_the_seed_and_not_from_the_number_of_members():
    first = chosen(subsets="bootstrap", volumes_per_member=8)
    assert len(set(first)) == 3 and any(len(set(own)) < 8 for own in first) and {len(own) for own in first} == {8}
    assert chosen(subsets="bootstrap", volumes_per_member=8, members=5)[:3] == first
    assert chosen(subsets="bootstrap", volumes_per_member=8, seed=1) != first


def test_lists_are_taken_as_given():
    assert chosen(subsets="lists", member_lists=((0, 1), (7,), (2, 2))) == ["ab", "h", "cc"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"subsets": "rings"}, "subsets must be one of"),
        ({"volumes_per_member": 9}, "volumes_per_member must be between 1 and the 8"),
        ({"subsets": "bootstrap", "volumes_per_member": 0}, "volumes_per_member"),
        ({"subsets": "folds", "members": 9}, "do not make 9 folds"),
        ({"subsets": "all_but_fold", "members": 1}, "at least 2 members"),
        ({"subsets": "lists"}, "member_lists must be 3 tuples"),
        ({"subsets": "lists", "member_lists": ((0,), (1,), ())}, "member_lists must be 3 tuples"),
        ({"subsets": "lists", "member_lists": ((0,), (1,), (8,))}, r"volumes \[8\]"),
        ({"member_lists": ((0,), (1,), (2,))}, "set subsets to lists"),
    ],
)
def test_what_cannot_be_done_is_refused(changed, expected):
    with pytest.raises(BadInput, match=expected):
        chosen(**changed)
