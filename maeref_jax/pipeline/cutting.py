"""Windows are cut from what a block reads of a volume, and what a network says of them is blended into one array."""

from collections.abc import Callable, Sequence

import numpy as np

from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.windows import Box, blending_weight, whole

# What lies beyond the far faces of a volume, for np.pad.
PADDING = {
    "labels": {"mode": "constant", "constant_values": -1},
    "entropy": {"mode": "constant", "constant_values": 0},
    "hidden": {"mode": "constant", "constant_values": False},
    "image": {"mode": "symmetric"},
    "probabilities": {"mode": "constant", "constant_values": 0},
    "stored_probabilities": {"mode": "constant", "constant_values": 0},
}


def read_padded(volume: Volume, frame: Box, **padding) -> np.ndarray:
    """`frame` of the volume, padded where it reaches beyond the far faces; classes, if there are any, come last."""
    inside = frame.intersect(whole(volume.shape))
    missing = [(0, end - stop) for end, stop in zip(frame.stop, inside.stop, strict=True)]
    if volume.classes is None:
        return np.pad(volume.read(inside), missing, **padding)
    return np.pad(np.moveaxis(volume.read(inside), 0, -1), [*missing, (0, 0)], **padding)


def read_around(volume: Volume, frame: Box, context: int, name: str) -> np.ndarray:
    """`frame` and so many slices more before and behind it: the first and last slice of the volume repeated beyond its
    ends, padded in the plane as what is called `name`.
    """
    grown = frame.grow((context, 0, 0))
    inside = grown.intersect(whole(volume.shape))
    ends = (inside.start[0] - grown.start[0], grown.stop[0] - inside.stop[0])
    found = read_padded(volume, Box(inside.start, (inside.stop[0], *frame.stop[1:])), **PADDING[name])
    return np.pad(found, [ends, *[(0, 0)] * (found.ndim - 1)], mode="edge")


def complete_tokens(hidden: np.ndarray, frame: Box, shape, in_tokens) -> np.ndarray:
    """Hidden bool of `frame`: a token cut by the border of the volume goes on behind it, as far as whole tokens do."""
    inside = frame.intersect(whole(shape)).shape
    completed = frame.intersect(whole(in_tokens)).shape
    cut = hidden[tuple(slice(n) for n in inside)]
    cut = np.pad(cut, [(0, b - a) for a, b in zip(inside, completed, strict=True)], mode="edge")
    return np.pad(cut, [(0, b - a) for a, b in zip(completed, hidden.shape, strict=True)])


def stack(around: np.ndarray, group: Sequence[Box], frame: Box, dims: int) -> np.ndarray:
    """(b, [z,] y, x): the windows of the group, cut from the array of `frame`."""
    stacked = np.stack([around[window.within(frame).slices] for window in group])
    return stacked if dims == 3 else stacked[:, 0]


def blend(
    together: Sequence[Sequence[Box]],
    box: Box,
    probabilities: Callable[[list[list[Box]]], Sequence[np.ndarray]],
    batch: int,
    at_once: int,
) -> np.ndarray:
    """Window-weighted mean float32 (z, y, x, c) in `box`, 0 where no window lies. together: lists of windows that may
    share a call of the network; probabilities: what it says of so many windows, for several of such lists at once.
    """
    weight = blending_weight(together[0][0].shape)
    total, weights, factors = None, np.zeros(box.shape, np.float32), None
    for windows in together:
        # The last batch is filled up: one shape for the compiler.
        groups = [windows[start : start + batch] for start in range(0, len(windows), batch)]
        filled = [[*group, *[group[0]] * (batch - len(group))] for group in groups]
        for start in range(0, len(groups), at_once):
            several = slice(start, start + at_once)
            for group, found in zip(groups[several], probabilities(filled[several]), strict=True):
                if total is None:
                    total = np.zeros((*box.shape, found.shape[-1]), np.float32)
                    # For every class: numpy is several times slower where the few classes share one number.
                    factors = np.repeat(weight[..., None], found.shape[-1], -1)
                for window, values in zip(group, found, strict=False):
                    common = window.intersect(box)
                    here, there = common.within(box).slices, common.within(window).slices
                    total[here] += factors[there] * values[there]
                    weights[here] += weight[there]
    np.maximum(weights, np.float32(1e-30), out=weights)
    total /= weights[..., None]  # in place: these are the largest arrays of a block
    return total
