"""What a segmenter is judged on while it trains: whole slices of the validation volumes, wherever its foreground lies.

In use, windows of a fixed lattice overlap and are blended, each counting most at its centre. Here the same windows are
predicted, and every voxel is judged in the one whose centre is nearest: once, with all the context that it has in use.
Of a 3-D network a slice is a layer of windows: a whole cross-section, as thick as these windows are apart.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.samples.sampling import OUTSIDE, padded
from maeref_jax.volumes.windows import Box, shares, whole

MOST_WINDOWS = 2048  # that are judged at an evaluation: where whole slices have more, so many drawn at random


@dataclass(frozen=True)
class WholeSlices(Sequence):
    """Batches of so many windows, cut when they are asked for; every one is of the same shape. name: for people.

    A batch: image float32, labels int16, -1 unknown or judged in another window, (b, [z,] y, x) each; index int32 (b,);
    shared, as given. windows: (number of the volume, Box of the window, Box of its share).
    """

    volumes: list
    windows: list[tuple[int, Box, Box]]
    batch: int
    size: tuple[int, ...]
    shared: dict
    name: str

    def __len__(self):
        return -(-len(self.windows) // self.batch)

    def __getitem__(self, number):
        if not 0 <= number < len(self):
            raise IndexError(number)
        chosen = self.windows[number * self.batch :][: self.batch]
        images, labels = (np.stack(found) for found in zip(*map(self._cut, chosen), strict=True))
        # The last batch is filled up with what does not count.
        missing = [(0, self.batch - len(chosen))] + [(0, 0)] * (images.ndim - 1)
        return {
            "image": np.pad(images, missing, mode="wrap"),
            "labels": np.pad(labels, missing, constant_values=-1),
            "index": np.arange(number * self.batch, (number + 1) * self.batch, dtype=np.int32),
            "shared": self.shared,
        }

    def _cut(self, window):
        number, box, share = window
        volume = self.volumes[number]
        inside = box.intersect(whole(volume.labels.shape))
        labels = np.full(box.shape, OUTSIDE["labels"], np.int16)
        labels[share.within(box).slices] = volume.labels[share.slices]
        image = padded(volume.image[inside.slices], box.shape).astype(np.float32)
        return image.reshape(self.size), labels.reshape(self.size)


def whole_slices(volumes, seed, slices, window, stride, batch, shared):
    """The WholeSlices of some slices of TrainingVolumes, drawn from a seed, as many of every volume as can be.

    slices: how many at most, but all where clicks are all that is known; window, stride: of the network, two or three
    numbers; batch: windows in a batch; shared: what the batches share. Slices without a known label are passed over;
    raises BadInput where all are.
    """
    rng, lead = np.random.default_rng(seed), (1,) * (3 - len(window))
    window, stride = lead + tuple(window), lead + tuple(stride)
    found = [_known_layers(volume.labels, window[0], stride[0]) for volume in volumes]
    if not any(found):
        names = ", ".join(volume.name for volume in volumes)
        raise BadInput(
            f"no voxel of the validation volumes {names} has a known label; give them labels to be judged by"
        )
    # The first slice of every volume, then the second of every volume, and so on.
    order = [(rank, number, i) for number, own in enumerate(found) for rank, i in enumerate(rng.permutation(len(own)))]
    clicked = all(volume.scattered for volume in volumes)
    chosen = [(number, found[number][i]) for _, number, i in sorted(order)[: None if clicked else slices]]
    most, windows, parts = max(MOST_WINDOWS // len(chosen), 1), [], False
    for number, deep in chosen:
        layer = _windows(volumes[number].labels, deep, window, stride)
        parts = parts or len(layer) > most
        drawn = rng.permutation(len(layer))[:most]
        windows += [(number, *layer[i]) for i in sorted(drawn)]
    # A person is shown the first ones: those with the most foreground.
    windows.sort(key=lambda one: -np.count_nonzero(volumes[one[0]].labels[one[2].slices] > 0))
    name = f"{len(chosen)} of {len(order)} " if len(chosen) < len(order) else f"{len(chosen)} "
    name += f"{'clicked' if clicked else 'whole'} {'slice' if lead else 'slab'}" + "s" * (len(order) > 1)
    name += f", {len(windows)} windows of them" if parts else ""
    return WholeSlices(list(volumes), windows, batch, window[len(lead) :], shared, name)


def _known_layers(labels, window, stride):
    """(start, start and stop of its share) of those layers of windows along z that have a known label."""
    return [layer for layer in shares(len(labels), window, stride) if (labels[layer[1] : layer[2]] >= 0).any()]


def _windows(labels, deep, window, stride):
    """The windows of a layer, as (Box, Box of its share), but those whose share has no known label."""
    plane = (shares(*axis) for axis in zip(labels.shape[1:], window[1:], stride[1:], strict=True))
    found = []
    for at in itertools.product([deep], *plane):
        starts, *share = zip(*at, strict=True)
        share = Box(*share)
        if (labels[share.slices] >= 0).any():
            found.append((Box(starts, tuple(a + n for a, n in zip(starts, window, strict=True))), share))
    return found
