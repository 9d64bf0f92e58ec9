"""What replacing a label wins, and when one is replaced."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from maeref_jax.uncertainty.gain import doubted, replaced


def drawn(seed, shape=(2, 5, 6), classes=3):
    rng = np.random.default_rng(seed)
    likely = rng.dirichlet((0.5,) * classes, shape).astype(np.float32)
    return likely, rng.integers(-1, classes + 1, shape).astype(np.int16)  # unknown, and an id that is no class


def test_what_is_won_is_the_difference_to_the_likeliest_class():
    likely = np.array([[[[0.2, 0.7, 0.1], [0.2, 0.7, 0.1]]]], np.float32)
    wrong, gain = doubted(likely, np.array([[[0, 1]]], np.int16))
    assert wrong.tolist() == [[[204, 77]]] and gain.tolist() == [[[127, 0]]]
    wrong, gain = doubted(likely[..., :1, :], np.array([[[-1]]], np.int16))
    assert wrong.item() == 255 and gain.item() == 178, "an unknown label is wrong"


@given(st.integers(0, 2**32 - 1))
def test_without_caution_it_is_the_likeliest_whatever_is_there(seed):
    likely, initial = drawn(seed)
    np.testing.assert_array_equal(replaced(likely, initial, 1.0), likely.argmax(-1))


@given(st.integers(0, 2**32 - 1), st.floats(1, 20))
def test_a_known_label_goes_only_where_another_one_is_so_many_times_as_likely(seed, caution):
    likely, initial = drawn(seed)
    found = replaced(likely, initial, caution)
    there, new = (
        np.take_along_axis(likely, labels.clip(0, 2)[..., None].astype(int), -1)[..., 0] for labels in (initial, found)
    )
    changed, known = found != initial, (initial >= 0) & (initial < 3)
    assert (new >= np.float32(caution) * there)[changed & known].all()
    assert (likely.max(-1) < np.float32(caution) * there)[~changed & (found != likely.argmax(-1))].all()
    np.testing.assert_array_equal(found[~known], likely.argmax(-1)[~known])
