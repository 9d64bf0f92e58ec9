"""Counts over slabs add up to the counts of the whole, and the shares are right."""

import jax
import numpy as np
import pytest

from maeref_jax.metrics import scores, validity

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(-1, 4, (4, 12, 12)).astype(np.int16)
HIDDEN = RNG.random(TRUTH.shape) < 0.3
INITIAL = np.where(RNG.random(TRUTH.shape) < 0.7, np.maximum(TRUTH, 0), 0).astype(np.int16)
REFINED = np.where(HIDDEN, np.maximum(TRUTH, 0), INITIAL)


def counted(part, low_signal=HIDDEN, repaired=None):
    crops = validity.crops(TRUTH[part], size=6, min_foreground=0.0)
    return scores.count(
        truth=TRUTH[part],
        initial=INITIAL[part],
        repaired={"refined": REFINED[part]} if repaired is None else repaired,
        hidden=HIDDEN[part],
        low_signal=None if low_signal is None else low_signal[part],
        classes=4,
        crops=crops,
        meaning=validity.MITOCHONDRIA,
    )


def test_slabs_add_up_to_the_whole():
    whole = counted(slice(None))
    parts = scores.add(counted(slice(0, 1)), counted(slice(1, 4)))
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    assert len(whole.validity["truth"]) == 4 * 4


def test_a_perfect_repair_leaves_only_the_errors_outside():
    found = counted(slice(None))
    inside = scores.dice_with_mean(found.confusions["hidden"]["refined"])
    assert inside == {"mean": 1.0, "1": 1.0, "2": 1.0, "3": 1.0}
    wrong = (INITIAL != TRUTH) & (TRUTH != -1)
    assert found.repairs["refined"]["wrong_to_right"] == (wrong & HIDDEN).sum()
    assert scores.share_of_errors_hidden(found) == pytest.approx((wrong & HIDDEN).sum() / wrong.sum())
    assert scores.share_hidden(found) == pytest.approx(HIDDEN[TRUTH != -1].mean())
    assert found.changed_outside == {"refined": 0}


def test_a_change_outside_the_hidden_voxels_is_noticed():
    cheating = REFINED.copy()
    cheating[np.nonzero(~HIDDEN)] = 3
    found = counted(slice(None), repaired={"cheat": cheating})
    assert found.changed_outside["cheat"] == ((INITIAL != 3) & ~HIDDEN).sum()


def test_without_low_signal_mask_that_region_is_absent_and_other_regions_do_not_add():
    found = counted(slice(None), low_signal=None)
    assert set(found.confusions) == {"hidden", "all"}
    with pytest.raises(ValueError, match="same maps and regions"):
        scores.add(found, counted(slice(None)))
