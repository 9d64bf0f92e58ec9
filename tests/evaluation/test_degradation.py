"""degradation.py: what is faded is found again by whatever rises there, and a mitochondrion counts once."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.evaluation import degradation

PHANTOMS = ((3,), (12, 96, 96), (20.0, 10.0, 10.0))


@pytest.fixture(scope="module")
def found():
    return degradation.windows(*PHANTOMS, (1, 64, 64), 100)


def test_every_mitochondrion_gives_one_window_around_a_point_of_it(found):
    assert 1 <= len(found) <= 100
    for window in found:
        assert window.image.shape == window.foreground.shape == (1, 64, 64)
        assert window.foreground[window.centre]
    assert len(degradation.windows(*PHANTOMS, (1, 64, 64), 1)) == 1
    one, shape = {"seeds": (200,), "mitochondria": 1}, PHANTOMS[1]
    degradation.check(one, shape, (1, 64, 64))
    with pytest.raises(BadInput, match="larger than the phantoms"):
        degradation.check(one, shape, (1, 128, 64))
    for nothing in ({"seeds": ()}, {"mitochondria": 0}):
        with pytest.raises(BadInput, match="expected seeds of phantoms and the number of mitochondria to fade"):
            degradation.check(one | nothing, shape, (1, 64, 64))


def test_fading_goes_towards_the_background_and_less_so_by_the_papers_text(found):
    rng = np.random.default_rng
    script, text = (
        degradation.VARIANTS[f"{name}, to background"] for name in ("script (square root)", "text (linear)")
    )
    (image, region), (other, smaller) = (degradation.degraded(found[0], way, rng(0)) for way in (script, text))
    assert region.any() and (smaller <= region).all() and smaller.sum() < region.sum()
    at = found[0].centre
    wanted = 0.2 * found[0].image[at] + 0.8 * found[0].background
    assert image[at] == other[at] == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_array_equal(
        image[~region & (found[0].image == image)], found[0].image[~region & (found[0].image == image)]
    )


def test_an_entropy_that_rises_where_the_signal_is_lost_is_seen_and_a_constant_one_is_not(found):
    clean = np.stack([window.image for window in found])

    def detector(images):
        return np.clip(np.abs(images - clean) / 50, 0, 1).astype(np.float32)

    for values in degradation.measure(found, detector).values():
        assert values.shape == (len(found), 4)
        assert (values[:, 0] == 0).all() and (values[:, 1] > 0.05).all()
        np.testing.assert_allclose(np.nanmean(values[:, 2]), 0.5)
        assert np.nanmean(values[:, 3]) > 0.95
    nothing = degradation.measure(found, lambda images: np.full(images.shape, 0.3, np.float32))
    text = degradation.table(nothing)
    assert all("+0.000 [+0.000, +0.000]" in row and "0.500 → 0.500" in row for row in text.rows)
    assert f"{len(found)} mitochondria" in text.header
