"""symmetries.py: eight different orientations, and the way back."""

import numpy as np
import pytest

from maeref_jax.masking import symmetries


@pytest.mark.parametrize("symmetry", range(8))
def test_turning_back_undoes_turning(symmetry):
    plane = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    np.testing.assert_array_equal(symmetries.turned_back(symmetries.turned(plane, symmetry), symmetry), plane)


def test_the_eight_orientations_are_different():
    assert len({np.asarray(symmetries.turned(np.arange(9).reshape(1, 3, 3), s)).tobytes() for s in range(8)}) == 8


def test_only_a_square_is_transposed():
    assert symmetries.orientations((2, 4, 4)) == list(range(8)) and symmetries.orientations((2, 4, 6)) == [0, 2, 4, 6]
