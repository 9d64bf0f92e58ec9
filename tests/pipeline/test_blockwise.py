"""blockwise.py with a network whose work depends on the window: the same bits whatever the block."""

import jax
import numpy as np
import pytest
from small_settings import MASKED, batch_of

from maeref_jax.commands.command_line import load_config
from maeref_jax.pipeline import blockwise
from maeref_jax.refiners import mae
from maeref_jax.segmenters import ensemble
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import blocks, whole

SHAPE = (3, 45, 58)  # no multiple of anything
GIVEN = {**MASKED, "window": (24, 24), "stride": (12, 12), "keep_within": 1.5}


@pytest.fixture(scope="module")
def model():
    method = mae.method(GIVEN)
    params, state = jax.jit(method.init)(jax.random.key(1), batch_of(4, 3, GIVEN["window"], 9))
    params = jax.tree.map(lambda leaf: 3 * leaf, params)  # decided, so that labels differ from place to place
    return mae.refiner(GIVEN), (params, state)


@pytest.fixture(scope="module")
def volumes():
    """Foreground and doubt that grow to the right: windows of every length."""
    rng = np.random.default_rng(0)
    rows, columns = (-(-n // 4) for n in SHAPE[1:])

    def tokens(shares):
        drawn = rng.random((SHAPE[0], rows, columns)) < shares
        return drawn.repeat(4, 1).repeat(4, 2)[:, : SHAPE[1], : SHAPE[2]]

    labels = np.where(tokens(np.linspace(0, 0.8, columns)), rng.integers(1, 3, SHAPE), 0).astype(np.int16)
    hidden = tokens(np.linspace(0.05, 0.9, columns))
    arrays = {"labels": labels, "entropy": np.zeros(SHAPE, np.float32), "hidden": hidden}
    return {name: array_volume(array, name) for name, array in arrays.items()}


def refined(model, volumes, block, batch=16, backwards=False, rounds=0):
    """Labels and certainty, block by block; and the lengths of every call."""
    apply, variables = model
    labels, sure = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.uint8)
    boxes = blocks(SHAPE, block)
    for box in boxes[::-1] if backwards else boxes:
        found = blockwise.refine_block(apply, variables, jax.random.key(0), volumes, box, batch, None, rounds)
        labels[box.slices], sure[box.slices] = found[:2]
    return labels, sure


@pytest.mark.parametrize(("batch", "rounds"), [(3, 0), (16, 1)])
def test_labels_do_not_depend_on_the_block_where_lengths_differ(model, volumes, batch, rounds, monkeypatch):
    calls, real = [], blockwise._refined

    def counted(*arguments):
        calls.append((arguments[-1], len(arguments[3]["labels"])))
        return real(*arguments)

    counted.lower = real.lower
    monkeypatch.setattr(blockwise, "_refined", counted)
    at_once = refined(model, volumes, SHAPE, batch, rounds=rounds)
    assert len({lengths for lengths, _ in calls}) > 2 and len({size for _, size in calls}) == 1
    for block, backwards in (((1, 20, 24), False), ((2, 12, 60), True)):
        for one, other in zip(refined(model, volumes, block, batch, backwards, rounds), at_once, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len({size for _, size in calls}) == 1, "one program for each of the lengths"


def test_lengths_change_nothing_but_the_last_digits(model, volumes):
    apply, variables = model
    labels, sure = refined(model, volumes, SHAPE)
    padded, padded_sure = refined((apply._replace(lengths=None), variables), volumes, SHAPE)
    assert np.abs(sure.astype(int) - padded_sure).max() <= 1
    assert (labels != padded).mean() < 1e-3 and (labels != volumes["labels"].read(whole(SHAPE))).any()


def test_what_the_ensemble_says_does_not_depend_on_the_block():
    """To the bit, or a token at the threshold would tip over: a window's place in a batch does not matter."""
    settings = load_config("ensemble:smoke").to_dict()
    example = {"image": np.zeros((2, settings["members"], *settings["window"]), np.float32)}
    example["shared"] = {"intensity_range": np.array([0, 255], np.float32)}
    variables = jax.jit(ensemble.method(settings).init)(jax.random.key(0), example)
    apply = ensemble.segmenter(settings)
    image = array_volume(np.random.default_rng(0).normal(128, 40, SHAPE).astype(np.float32), "image")

    def entropy(block):
        found = np.zeros(SHAPE, np.float32)
        for box in blocks(SHAPE, block):
            means, _ = blockwise.segment_block(apply, variables, None, image, box, 2)
            found[box.slices] = blockwise.decide(means, -1)[1]
        return found

    at_once = entropy(SHAPE)
    for block in ((1, 20, 24), (2, 44, 12)):
        np.testing.assert_array_equal(entropy(block), at_once)


def test_caution_leaves_hidden_labels_where_no_other_is_much_likelier(model, volumes):
    apply, variables = model
    initial, hidden = (volumes[name].read(whole(SHAPE)) for name in ("labels", "hidden"))
    plain, cautious = (refined((apply._replace(caution=caution), variables), volumes, SHAPE) for caution in (1.0, 2.0))
    kept = (cautious[0] == initial) & (plain[0] != initial)
    assert kept[hidden].mean() > 0.01 and (cautious[0] != initial).any() and not kept[~hidden].any()
    np.testing.assert_array_equal(cautious[0][~kept], plain[0][~kept])
    assert (cautious[1][kept] <= plain[1][kept]).all(), "as sure as it is of the label that stays"
    np.testing.assert_array_equal(cautious[1][~kept], plain[1][~kept])
