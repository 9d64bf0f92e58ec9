"""Hidden tokens by whole numbers: to the letter of the rule, and the same whatever the box."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.masking import exact
from maeref_jax.pipeline.blockwise import hide

FIFTHS = {0.2: 51, 0.4: 102, 0.6: 153, 0.8: 204}  # thresholds that are so many 255ths


def balanced(rng, level, shape, token):
    """uint8 (z, y, x) whose tokens have that mean exactly, but for one pixel of some that is one more or less."""
    values = np.full(shape, level, np.int64)
    for y in range(0, shape[1], token):
        for x in range(0, shape[2], token):
            for plane in values[:, y : y + token, x : x + token]:
                count = plane.size // 2
                change = rng.integers(-40, 41, count)
                flat = np.concatenate([change, -change, np.zeros(plane.size - 2 * count, np.int64)])
                flat[rng.integers(len(flat))] += rng.choice([0, 0, 1, -1])
                plane += rng.permutation(flat).reshape(plane.shape)
    return values.astype(np.uint8)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(FIFTHS)),
    st.tuples(st.integers(1, 3), st.integers(1, 21), st.integers(1, 21)),
    st.integers(1, 9),
)
def test_a_token_is_hidden_where_its_mean_is_above_the_threshold_to_the_letter(seed, threshold, shape, token):
    values = balanced(np.random.default_rng(seed), FIFTHS[threshold], shape, token)
    found = exact.above(values.astype(np.float32) / 255, token, threshold)
    sums, pixels = (exact.sum_in_tokens(given, token) for given in (values, np.ones(shape, bool)))
    np.testing.assert_array_equal(found, sums > FIFTHS[threshold] * pixels)


@given(st.integers(0, 1000), st.integers(1, 5))
def test_thresholds_of_three_decimals_are_to_the_letter(thousandths, token):
    """A token of which so many in a thousand are certain doubt, and one that is all of that value."""
    share = np.zeros((1, 40, 25), np.float32)
    share.reshape(-1)[:thousandths] = 1
    assert not exact.above(share, 40, thousandths / 1000).any()
    assert exact.above(share, 40, (thousandths - 1) / 1000).all()
    same = np.full((1, token, token), thousandths / 1000, np.float32)
    assert not exact.above(same, token, thousandths / 1000).any()


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(FIFTHS)),
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 9),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.booleans(),
)
def test_hidden_tokens_are_the_same_in_any_box(seed, threshold, shape, token, start, as_bytes):
    rng = np.random.default_rng(seed)
    entropy = balanced(rng, FIFTHS[threshold], shape, token).astype(np.float32) / 255
    if not as_bytes:  # floats that an order of summation would tip over
        entropy += rng.choice(np.array([0, 1e-7, -1e-7, 3e-8], np.float32), shape)
    whole = hide(entropy, entropy[::-1], token, threshold, threshold)
    y, x = (min(n * token, size - 1) // token * token for n, size in zip(start, shape[1:], strict=True))
    bottom, right = (y + token * rng.integers(1, 9), x + token * rng.integers(1, 9))
    box = (slice(None), slice(y, bottom), slice(x, right))
    np.testing.assert_array_equal(hide(entropy[box], entropy[::-1][box], token, threshold, threshold), whole[box])
