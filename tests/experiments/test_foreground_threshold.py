"""foreground_threshold.py: the best candidate by Dice over all pixels; nothing is divided by where nothing is."""

import numpy as np
import pytest

from maeref_jax.experiments.foreground_threshold import CANDIDATES, chosen

BINARY = {"names": ("background", "inside"), "ambiguous": -1}


def batch(seed, threshold=0.3, foreground=True):
    """Probabilities of which those above the threshold are right; two members, whose mean is what counts."""
    share = np.random.default_rng(seed).uniform(size=(2, 8, 8)).astype(np.float32)
    truth = (share > threshold if foreground else np.zeros(share.shape)).astype(np.int16)
    truth[0, 0] = -1
    return np.stack([np.stack([1 - share, share], -1)] * 2), truth


@pytest.mark.parametrize("threshold", [0.2, 0.3, 0.65])
def test_the_threshold_that_makes_the_labels_right_is_found(threshold):
    found = chosen([batch(seed, threshold) for seed in range(3)], BINARY)
    assert found["threshold"] == threshold and found["dice"][f"{threshold:g}"] == 1.0
    assert set(found["dice"]) == {f"{t:g}" for t in CANDIDATES}


def test_slices_without_foreground_count_as_pixels_and_alone_decide_for_what_invents_least():
    alone, with_empty = chosen([batch(0)], BINARY), chosen([batch(0), batch(1, foreground=False)], BINARY)
    assert all(0 < with_empty["dice"][name] < value for name, value in alone["dice"].items() if name != "0.95")
    members, truth = batch(2, foreground=False)
    assert chosen([(members, truth)], BINARY)["threshold"] == 0.5, "Dice is 0 for all of them"
    nothing = chosen([(np.stack([np.ones_like(truth), 0 * truth], -1)[None].astype(np.float32), truth)], BINARY)
    assert nothing["threshold"] == 0.5 and set(nothing["dice"].values()) == {None}


def test_ambiguous_is_neither_truth_nor_result():
    scheme = {"names": ("background", "inside", "ambiguous"), "ambiguous": 2}
    members, truth = batch(0)
    truth[1] = 2
    three = np.concatenate([0.4 * members, np.full_like(members[..., :1], 0.6)], -1)
    assert chosen([(three, truth)], scheme)["dice"]["0.3"] == 1.0
