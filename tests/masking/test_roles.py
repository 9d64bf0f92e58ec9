"""roles.py: which tokens take part."""

import numpy as np

from maeref_jax.masking.roles import gathered, in_place, most_counts, reach, roles
from maeref_jax.masking.tokens import split_tokens

TOKENS = 4 * 6


def test_what_lies_outside_the_volume_takes_no_part():
    labels = np.random.default_rng(3).integers(0, 3, (1, 16, 24))
    labels[:, :, 16:] = -1
    tokens = np.asarray(split_tokens(labels, 4))
    found = roles(tokens, np.zeros((1, TOKENS), bool), (4, 6), 10.0)
    outside = (tokens == -1).all(-1)
    assert outside.sum() == 8 and not np.asarray(found.kept)[outside].any()
    assert not np.asarray(found.decoded)[outside].any()
    assert np.asarray(found.kept)[~outside].all()


def test_far_tokens_take_no_part_but_hidden_ones_are_always_decoded():
    tokens = np.zeros((1, TOKENS, 16), int)
    tokens[0, 0] = 1
    hidden = np.zeros((1, TOKENS), bool)
    hidden[0, -1] = True
    found = roles(tokens, hidden, (4, 6), 1.0)
    assert np.flatnonzero(found.kept[0]).tolist() == [0, 1, 6]
    assert np.flatnonzero(found.decoded[0]).tolist() == [0, 1, 6, TOKENS - 1]


def test_distance_is_measured_from_visible_foreground_only():
    tokens = np.zeros((1, TOKENS, 16), int)
    tokens[0, [0, TOKENS - 1]] = 1
    hidden = np.zeros((1, TOKENS), bool)
    hidden[0, -1] = True
    blanked = np.where(hidden[..., None], -1, tokens)
    np.testing.assert_array_equal(roles(tokens, hidden, (4, 6), 1.0).kept, roles(blanked, hidden, (4, 6), 1.0).kept)


def test_physical_distance_is_the_same_rule_in_nanometres():
    assert reach({"keep_within": 2.0, "keep_within_nm": 0.0}) == (2.0, (1.0, 1.0))
    physical = {"keep_within_nm": 90.0, "token": 4, "voxel_size_nm": (50.0, 10.0, 5.0)}
    assert reach(physical) == (90.0, (40.0, 20.0))
    tokens, hidden = np.zeros((1, TOKENS, 16), int), np.zeros((1, TOKENS), bool)
    tokens[0, 0] = 1
    kept = roles(tokens, hidden, (4, 6), 90.0, (40.0, 20.0)).kept[0]
    assert np.asarray(kept).reshape(4, 6)[:, 0].tolist() == [True, True, True, False]
    assert np.asarray(kept).reshape(4, 6)[0].tolist() == [True] * 5 + [False]


def test_kept_tokens_are_gathered_in_order_and_every_token_is_decoded_in_its_place():
    tokens, hidden = np.zeros((1, TOKENS, 16), int), np.zeros((1, TOKENS), bool)
    tokens[0, 1], hidden[0, 0] = 1, True
    _, grid, kept, valid, decoded, decoded_valid = gathered(
        tokens, (4, 6), roles(tokens, hidden, (4, 6), 1.0), (5, TOKENS)
    )
    assert grid == (4, 6) and kept[0, :3].tolist() == [1, 2, 7] and valid[0].tolist() == [True] * 3 + [False] * 2
    assert decoded[0].tolist() == list(range(TOKENS)) and np.flatnonzero(decoded_valid[0]).tolist() == [0, 1, 2, 7]


def test_decoded_tokens_alone_come_back_to_their_places():
    tokens, hidden = np.zeros((2, TOKENS, 16), int), np.zeros((2, TOKENS), bool)
    tokens[0, 1], hidden[0, 0], hidden[1, -1] = 1, True, True
    part = roles(tokens, hidden, (4, 6), 1.0)
    *_, decoded, valid = gathered(tokens, (4, 6), part, (5, 7))
    assert decoded.shape == (2, 7) and np.asarray(valid).sum(1).tolist() == [4, 1]
    found = np.asarray(in_place(decoded[..., None, None] + 100.0, part))[..., 0, 0]
    np.testing.assert_array_equal(found, np.where(part.decoded, np.arange(TOKENS) + 100.0, 0.0))


def test_counts_are_those_of_the_roles_and_no_filling_of_hidden_tokens_needs_more():
    rng = np.random.default_rng(0)
    tokens, hidden = np.where(rng.random((30, TOKENS, 1)) < 0.1, 1, 0), rng.random((30, TOKENS)) < 0.2
    found = roles(tokens, hidden, (4, 6), 1.0)
    counts = np.stack([np.asarray(found.kept).sum(1), np.asarray(found.decoded).sum(1)], 1)
    np.testing.assert_array_equal(most_counts(tokens, hidden, (4, 6), False, 1.0), counts)
    most = np.asarray(most_counts(tokens, hidden, (4, 6), True, 1.0))
    assert (most[:, 0] > counts[:, 0]).any()
    for _ in range(20):
        filled = np.where(hidden[..., None], rng.integers(0, 3, tokens.shape), tokens)
        left = hidden & (rng.random(hidden.shape) < 0.5)
        later = roles(filled, left, (4, 6), 1.0)
        assert (np.asarray(later.kept).sum(1) <= most[:, 0]).all()
        assert (np.asarray(later.decoded).sum(1) <= most[:, 1]).all()
