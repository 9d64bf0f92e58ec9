import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.masking.tokens import join_tokens, split_tokens, token_mean, token_spread

sides = st.integers(1, 5)


@settings(max_examples=10)
@given(rows=sides, columns=sides, token=st.integers(1, 4), b=st.integers(1, 3))
def test_joining_undoes_splitting(rows, columns, token, b):
    planes = np.arange(b * rows * token * columns * token).reshape(b, rows * token, columns * token)
    tokens = split_tokens(planes, token)
    assert tokens.shape == (b, rows * columns, token * token)
    np.testing.assert_array_equal(join_tokens(tokens, (rows, columns), token), planes)


def test_tokens_are_numbered_row_by_row_and_so_are_their_pixels():
    plane = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(split_tokens(plane, 2)[1], [2, 3, 6, 7])
    np.testing.assert_array_equal(split_tokens(plane, 2)[2], [8, 9, 12, 13])


@settings(max_examples=10)
@given(rows=sides, columns=sides, token=st.integers(1, 4))
def test_the_mean_of_a_spread_token_is_the_token(rows, columns, token):
    tokens = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    np.testing.assert_allclose(token_mean(token_spread(tokens, token), token), tokens, rtol=1e-6)


def test_a_plane_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="5 x 8"):
        split_tokens(np.zeros((5, 8)), 4)
