"""Artefacts of microscopes: each does what its name says, to the image alone, and the same seed does the same."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.artefacts import ARTEFACTS, BLEACHED, add_artefact
from maeref_jax.phantoms.imaging import ImagingSettings
from maeref_jax.phantoms.phantom import PhantomSettings, phantom

SIZE_NM = (20.0, 10.0, 10.0)


def checkerboard(shape=(12, 120, 120)):
    return np.indices(shape).sum(0).astype(np.float32) % 2 * 100 + 50


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_an_artefact_changes_the_image_alike_for_one_seed_and_never_below_zero(kind):
    first, again, other = (add_artefact(kind, checkerboard(), seed, SIZE_NM) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32 and first.min() >= 0 and (first != checkerboard()).any()
    assert (first != other).any() == (kind in ("stripes", "defocus")), "the others draw nothing"


def test_none_leaves_it_alone_and_another_name_is_refused():
    np.testing.assert_array_equal(add_artefact("", checkerboard(), 0, SIZE_NM), checkerboard())
    with pytest.raises(BadInput, match="no artefact 'fog'; expected one of blur"):
        add_artefact("fog", checkerboard(), 0, SIZE_NM)


def test_each_does_what_it_is_called():
    flat, sharp = np.full((6, 40, 40), 100, np.float32), checkerboard()
    assert add_artefact("blur", sharp, 0, SIZE_NM).std() < 0.1 * sharp.std()
    faded = add_artefact("bleaching", flat, 0, SIZE_NM)
    assert faded[-1].mean() == pytest.approx(100 * BLEACHED) and (np.diff(faded.mean((1, 2))) < 0).all()
    striped = add_artefact("stripes", flat, 0, SIZE_NM)
    assert (striped.std(1) < 1e-3).all() and striped.std(2).min() > 1, "columns are alike from top to bottom"
    contrast = np.abs(np.diff(add_artefact("defocus", checkerboard((12, 200, 200)), 0, SIZE_NM), axis=2))
    assert contrast.max() == 100 and contrast.min() < 80, "in places"


def test_a_phantom_with_an_artefact_has_the_same_anatomy():
    usual = PhantomSettings()
    plain = phantom(3, (6, 48, 48), SIZE_NM)
    blurred = phantom(3, (6, 48, 48), SIZE_NM, usual._replace(imaging=ImagingSettings(artefact="blur")))
    np.testing.assert_array_equal(plain.labels, blurred.labels)
    np.testing.assert_array_equal(plain.low_signal, blurred.low_signal)
    assert (plain.image != blurred.image).any()
