"""refiners/morphology.py: majorities, from the border of a hole inwards."""

import jax
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.refiners import morphology

SETTINGS = {
    "token": 4, "window": (16, 24), "stride": (8, 8), "radius_px": 2.0,
    "classes": {"names": ("background", "shell", "inside", "ambiguous"), "ambiguous": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def refine():
    apply = jax.jit(morphology.refiner(SETTINGS).refine)
    return lambda labels, hidden: np.asarray(apply({}, {}, {"labels": labels, "hidden": hidden}, jax.random.key(0)))


def test_the_disc_and_its_votes_are_counted_by_hand():
    kernel = morphology.disc(2.0)
    assert kernel.shape == (5, 5) and kernel.sum() == 13 and morphology.disc(1.9).sum() == 9
    labels = np.random.default_rng(0).integers(-1, 3, (2, 6, 7))
    found = np.asarray(morphology.votes(labels, 3, kernel))
    for _ in range(20):
        b, y, x, c = (np.random.default_rng(_).integers(0, n) for n in (2, 6, 7, 3))
        near = np.hypot(*np.ogrid[-y : 6 - y, -x : 7 - x]) <= 2.0
        assert found[b, y, x, c] == ((labels[b] == c) & near).sum()


def test_a_hole_between_two_classes_is_closed_from_its_border(refine):
    labels = np.zeros((1, 16, 24), np.int16)
    labels[:, :, :11] = 2
    hidden = np.zeros(labels.shape, bool)
    hidden[:, 4:12, 4:20] = True
    found = refine(labels, hidden)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)
    filled = found.argmax(-1)[0, 4:12]
    assert (filled[:, :8] == 2).all() and (filled[:, 14:] == 0).all(), "far from the border of the classes it is theirs"
    assert set(np.unique(filled)) == {0, 2}


def test_hidden_labels_do_not_matter_nor_the_other_windows_and_nothing_visible_says_nothing(refine):
    labels = np.random.default_rng(2).integers(0, 3, (2, 16, 24)).astype(np.int16)
    hidden = np.zeros(labels.shape, bool)
    hidden[0, 4:12, 4:12] = hidden[1] = True
    one = refine(labels, hidden)
    np.testing.assert_array_equal(refine(np.where(hidden, 2 - labels, labels), hidden), one)
    np.testing.assert_allclose(one[1], 1 / 3, rtol=1e-6)
    swapped = refine(labels[::-1], hidden[::-1])
    np.testing.assert_array_equal(swapped[1], one[0])
    assert not morphology.refiner(SETTINGS).sees_hidden


def test_ambiguous_and_unknown_labels_have_no_vote(refine):
    labels = np.full((1, 16, 24), 1, np.int16)
    labels[:, :, ::2] = 3
    labels[:, ::2] = -1
    hidden = np.zeros(labels.shape, bool)
    hidden[:, 4:8, 4:8] = True
    np.testing.assert_allclose(refine(labels, hidden)[0, 4:8, 4:8, 1], 1)


def test_a_disc_of_one_pixel_is_refused():
    with pytest.raises(BadInput, match="radius_px"):
        morphology.refiner(SETTINGS | {"radius_px": 0.5})
