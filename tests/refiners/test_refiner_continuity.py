"""Morphology along z as a refiner: what it tells the pipeline of itself."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.masking import continuity as rules
from maeref_jax.refiners import continuity

SETTINGS = {
    "morphology": {"order": "free", "distances": (1, 2)},
    "use": {"everywhere": True},
    "token": 4,
    "classes": {"names": ("background", "cell", "nucleus", "ambiguous"), "ambiguous": 3},
}


def test_it_streams_what_the_rules_say_of_its_real_classes():
    labels = np.random.default_rng(0).integers(0, 4, (9, 6, 6)).astype(np.int16).repeat(9, 1).repeat(9, 2)
    _, stream = continuity.refiner(SETTINGS).slices((5, 40, 40))
    found = list(stream(labels.__getitem__, 9, (2,), 3))
    expected = rules.continued(labels, [2], 3, rules.rules_of((5, 40, 40)))
    np.testing.assert_array_equal(found, expected[3:])
    assert (expected[labels == 3] != 3).all()


def test_it_says_how_far_it_hears_along_z():
    assert continuity.refiner(SETTINGS).slices((5, 5, 5))[0] == 6 + 10
    assert continuity.refiner(SETTINGS).slices((25, 5, 5))[0] == 6 + 2
    original = SETTINGS | {"morphology": {"order": "original"}}
    assert continuity.refiner(original).slices((5, 5, 5))[0] == continuity.ALL


def test_wrong_lengths_are_found_before_anything_is_read():
    with pytest.raises(BadInput, match="reach_nm must be a number from 0 on, found -1"):
        continuity.refiner(SETTINGS | {"morphology": {"reach_nm": -1}})
