"""metrics/places.py against every token sorted and every pair of voxels compared; what must hold for any score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.metrics import places
from maeref_jax.metrics.calibration import DoubtCounts, auroc, average_precision

SHARES = (0.01, 0.05, 0.1, 0.2, 0.33, 0.5, 0.9, 1.0)


def drawn(seed, shape=(3, 10, 14), kind="uint8", levels=256, known=0.8):
    """(score, predicted, truth, inside): errors are likelier where the score is high."""
    rng = np.random.default_rng(seed)
    score = rng.integers(0, levels, shape) * (255 // (levels - 1))
    truth = np.where(rng.random(shape) < known, rng.integers(0, 3, shape), -1)
    wrong = rng.random(shape) < score / 400
    predicted = np.where(wrong, (truth + 1) % 3, np.maximum(truth, 0))
    score = score.astype(np.uint8) if kind == "uint8" else (score / 255).astype(np.float32)
    return score, predicted, truth, rng.random(shape) < 0.4


cases = st.builds(
    drawn,
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 3), st.integers(1, 11), st.integers(1, 11)),
    st.sampled_from(("uint8", "float32")),
    st.sampled_from((2, 6, 256)),
    st.sampled_from((0.3, 1.0)),
)


def sorted_tokens(score, predicted, truth, token):
    """[(mean score, voxels, errors)] of every token with a known voxel, the highest first."""
    found = []
    for z in range(len(truth)):
        for y in range(0, truth.shape[1], token):
            for x in range(0, truth.shape[2], token):
                here = (z, slice(y, y + token), slice(x, x + token))
                known = truth[here] >= 0
                if known.any():
                    mean = score[here][known].astype(float).mean()
                    found.append((mean, known.sum(), (known & (predicted[here] != truth[here])).sum()))
    return sorted(found, key=lambda one: -one[0])


def test_errors_are_caught_in_the_order_of_the_tokens_means():
    score, predicted, truth, inside = drawn(0)
    found = sorted_tokens(score, predicted, truth, 4)
    assert len({one[0] for one in found}) == len(found), "no two are alike here"
    _, voxels, errors = (np.array(part) for part in zip(*found, strict=True))
    counts = places.count(score, predicted, truth, 4, inside).tokens
    caught = places.errors_caught(counts, voxels.cumsum() / voxels.sum())
    np.testing.assert_allclose(caught, errors.cumsum() / errors.sum())
    halfway = places.errors_caught(counts, 0.5 * voxels[0] / voxels.sum())
    assert halfway == pytest.approx(0.5 * errors[0] / errors.sum()), "half a token catches half of its errors"


def test_voxels_are_compared_in_pairs_on_either_side_of_the_mask():
    score, predicted, truth, inside = drawn(1, kind="float32")
    found = places.count(score, predicted, truth, 4, inside)
    for name, part in {"everywhere": truth > -9, "inside": inside, "outside": ~inside}.items():
        counts, known = getattr(found, name), part & (truth >= 0)
        wrong, right = (score[known & one] for one in (predicted != truth, predicted == truth))
        pairs = (np.sign(wrong[:, None].astype(float) - right[None]) + 1) / 2
        assert auroc(counts) == pytest.approx(pairs.mean()), name
        # The precision at every error: of all voxels with at least its score.
        precision = [(wrong >= at).sum() / ((wrong >= at).sum() + (right >= at).sum()) for at in wrong]
        assert average_precision(counts) == pytest.approx(np.mean(precision)), name
        assert places.share_of(counts) == (known.sum(), (known & (predicted != truth)).sum())


@given(cases, st.sampled_from((1, 3, 4)))
@settings(max_examples=40, deadline=None)
def test_nobody_beats_who_knows_the_truth(given_, token):
    score, predicted, truth, inside = given_
    found = places.count(score, predicted, truth, token, inside)
    perfect = places.perfect(predicted, truth)
    best = places.count(perfect, predicted, truth, token, inside)
    caught, ceiling = (places.errors_caught(one.tokens, SHARES) for one in (found, best))
    if not found.everywhere.wrong.sum():
        assert np.isnan(caught).all() and np.isnan(average_precision(found.everywhere))
        return
    assert (caught <= ceiling + 1e-9).all() and (np.diff(ceiling) >= -1e-12).all() and ceiling[-1] == 1
    by_share = sorted_tokens(perfect, predicted, truth, token)
    _, voxels, errors = (np.array(part) for part in zip(*by_share, strict=True))
    np.testing.assert_allclose(
        places.errors_caught(best.tokens, voxels.cumsum() / voxels.sum()), errors.cumsum() / errors.sum()
    )
    assert average_precision(best.everywhere) == 1
    # So does any score that puts the same tokens first.
    again = places.count(perfect / np.float32(300), predicted, truth, token, inside)
    np.testing.assert_allclose(places.errors_caught(again.tokens, SHARES), ceiling)
    # Of one voxel a token, that is what every error is worth.
    if token == 1:
        share = found.everywhere.wrong.sum() / places.share_of(found.everywhere)[0]
        assert places.errors_caught(best.tokens, share) == pytest.approx(1)


@given(cases, st.integers(0, 255))
@settings(max_examples=30, deadline=None)
def test_one_score_for_all_is_chance(given_, value):
    score, predicted, truth, inside = given_
    found = places.count(
        np.full_like(score, value if score.dtype == np.uint8 else value / 255), predicted, truth, 4, inside
    )
    voxels, wrong = places.share_of(found.everywhere)
    if wrong:
        np.testing.assert_allclose(places.errors_caught(found.tokens, SHARES), SHARES)
        assert average_precision(found.everywhere) == pytest.approx(wrong / voxels)
    if 0 < wrong < voxels:
        assert auroc(found.everywhere) == 0.5


@given(cases, st.sampled_from((2, 4)), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_counts_add_up_over_blocks(given_, token, at):
    z, y, x = at, at * token, (at + 1) * token
    boxes = [
        (a, b, c)
        for a in (slice(z), slice(z, None)) for b in (slice(y), slice(y, None)) for c in (slice(x), slice(x, None))
    ]  # fmt: skip
    whole, total = places.count(*given_[:3], token, given_[3]), None
    for box in boxes:
        one = places.count(*(array[box] for array in given_[:3]), token, given_[3][box])
        total = one if total is None else places.add(total, one)
    np.testing.assert_array_equal(whole, total)
    np.testing.assert_array_equal(np.add(whole.inside, whole.outside), whole.everywhere)
    for role in ("right", "wrong"):
        assert getattr(whole.tokens, role).sum() == getattr(whole.everywhere, role).sum()


def test_what_is_unknown_takes_no_part():
    score, predicted, truth, inside = drawn(2)
    other = np.where(truth < 0, 255 - score, score), np.where(truth < 0, 7, predicted), truth, inside
    np.testing.assert_array_equal(
        places.count(*(score, predicted, truth), 4, inside), places.count(*other[:3], 4, inside)
    )
    nothing = places.count(score, predicted, np.full_like(truth, -1), 4, inside)
    assert not np.any(nothing) and np.isnan(places.errors_caught(nothing.tokens, SHARES)).all()
    assert np.isnan(average_precision(DoubtCounts(np.ones(3, int), np.zeros(3, int))))


def test_stored_scores_and_their_floats_are_the_same():
    score, *others, inside = drawn(3)
    found = places.count(score, *others, 4, inside)
    np.testing.assert_array_equal(places.count(score / np.float32(255), *others, 4, inside), found)


@pytest.mark.parametrize("bad", [np.array([1.5]), np.array([-0.1]), np.array([np.nan]), np.array([3])])
def test_what_is_no_score_is_refused(bad):
    with pytest.raises(BadInput, match="expected a score of uint8, or of floats from 0 to 1"):
        places.levels_of(bad)


def test_arrays_of_other_shapes_are_refused():
    score, predicted, truth, inside = drawn(4)
    with pytest.raises(BadInput, match=r"expected a score \(z, y, x\) of shape \(3, 10, 14\)"):
        places.count(score[:, 1:], predicted, truth, 4, inside)
    with pytest.raises(BadInput, match="expected a mask"):
        places.count(score, predicted, truth, 4, inside[0])
