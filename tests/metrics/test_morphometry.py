"""Morphometry on drawings whose measures are known."""

import numpy as np
import pytest

from maeref_jax.metrics.morphometry import add, means, morphometry


def stripes(width: int, gap: int, count: int = 6, length: int = 80) -> np.ndarray:
    plane = np.full((length, count * (width + gap) + gap), 3)
    for index in range(count):
        start = gap + index * (width + gap)
        plane[8:-8, start : start + width] = 2
    return np.pad(plane, 4, constant_values=1)[None]


@pytest.mark.parametrize("width, gap", [(4, 6), (5, 5), (7, 9), (3, 6)])
def test_parallel_stripes_give_their_thickness_and_spacing(width, gap):
    found = means(morphometry(stripes(width, gap), 10.0))
    assert found["lamella_thickness_nm"] == pytest.approx(10 * width, rel=0.05)
    assert found["lamella_spacing_nm"] == pytest.approx(10 * (width + gap), rel=0.05)


def test_lengths_are_in_nanometres_and_shares_are_not():
    labels = stripes(4, 6)
    fine, coarse = means(morphometry(labels, 5.0)), means(morphometry(labels, 10.0))
    assert coarse["lamella_thickness_nm"] == pytest.approx(2 * fine["lamella_thickness_nm"])
    assert coarse["lamella_spacing_nm"] == pytest.approx(2 * fine["lamella_spacing_nm"])
    assert coarse["cristae_share"] == fine["cristae_share"]


def test_pixels_need_not_be_square():
    """The same stripes, in each direction, in pixels twice as long as they are wide, or as wide as they are long."""
    fine = stripes(8, 12)
    wanted = means(morphometry(fine, 5.0))
    for labels, sides in ((fine[:, ::2], (10.0, 5.0)), (fine[:, :, ::2], (5.0, 10.0))):
        for turned, size in ((labels, sides), (labels.swapaxes(1, 2), sides[::-1])):
            found = means(morphometry(turned, size))
            assert found["lamella_thickness_nm"] == pytest.approx(wanted["lamella_thickness_nm"], rel=0.1)
            assert found["lamella_spacing_nm"] == pytest.approx(wanted["lamella_spacing_nm"], rel=0.05)
            assert found["cristae_correlation_80nm"] == pytest.approx(wanted["cristae_correlation_80nm"], rel=0.05)


def test_shares_are_pixel_counts():
    labels = np.zeros((1, 10, 10), int)
    labels[0, :4] = 1
    labels[0, 4:6] = 3
    labels[0, 6] = 2
    labels[0, 7] = -1
    found = means(morphometry(labels, 10.0))
    assert found["cristae_share"] == pytest.approx(1 / 3)
    assert found["intermembrane_share"] == pytest.approx(4 / 7)


def test_two_point_correlation_equals_the_count_of_pairs():
    rng = np.random.default_rng(0)
    plane = rng.choice([0, 1, 2, 3], size=(17, 22))
    found = morphometry(plane[None], 10.0)
    cristae, inner = plane == 2, plane >= 2
    both = possible = 0
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            if abs(np.hypot(dy, dx) * 10 - 20) > 5:
                continue
            for y in range(17):
                for x in range(22):
                    if 0 <= y + dy < 17 and 0 <= x + dx < 22:
                        both += cristae[y, x] and cristae[y + dy, x + dx]
                        possible += inner[y, x] and inner[y + dy, x + dx]
    assert found["cristae_correlation_20nm"] == (both, possible)


def test_correlation_of_even_and_odd_crops_agrees_with_the_share_of_a_random_texture():
    rng = np.random.default_rng(1)
    for size in (60, 61):
        found = means(morphometry(rng.choice([2, 3], p=[0.3, 0.7], size=(1, size, size)), 10.0))
        assert found["cristae_correlation_80nm"] == pytest.approx(0.09, abs=0.01)


def test_volumes_add_up():
    first, second = stripes(4, 6), stripes(7, 9)
    joined = add(morphometry(first, 10.0), morphometry(second, 10.0))
    total, count = joined["lamella_thickness_nm"]
    parts = [morphometry(volume, 10.0)["lamella_thickness_nm"] for volume in (first, second)]
    assert (total, count) == pytest.approx(tuple(np.sum(parts, axis=0)))


@pytest.mark.parametrize("label", [0, 1, 2, 3, -1])
def test_uniform_planes_are_measured_without_trouble(label):
    found = means(morphometry(np.full((2, 12, 15), label), 10.0))
    assert np.isnan(found["lamella_thickness_nm"]) and np.isnan(found["lamella_spacing_nm"])
    assert found["cristae_share"] == {2: 1.0, 3: 0.0}.get(label, pytest.approx(np.nan, nan_ok=True))


def test_a_single_pixel_of_cristae_has_a_thickness_and_no_spacing():
    labels = np.full((1, 12, 12), 3)
    labels[0, 5, 5] = 2
    found = means(morphometry(labels, 10.0))
    assert found["lamella_thickness_nm"] == pytest.approx(10.0)
    assert np.isnan(found["lamella_spacing_nm"])
