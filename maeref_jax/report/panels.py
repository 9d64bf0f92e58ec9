"""One slice to look at: image, entropy, labels before and after, and, where the truth is known, what changed."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from maeref_jax.report.canvas import (
    HIDDEN_COLOUR,
    UNKNOWN_COLOUR,
    Key,
    Panel,
    class_keys,
    colour_labels,
    compose,
    enlarged,
    grey,
    grey_image,
    outlined,
    png_of,
    scale_for,
)

# Safe for colour-blind readers and unlike any class: what a refinement did, judged by the truth.
CHANGE_COLOURS = {
    "repaired": (0, 170, 255),
    "made wrong": (230, 60, 0),
    "still wrong": (255, 190, 150),
    "right and kept": (225, 225, 225),
}
# Foreground against the truth.
AGREEMENT_COLOURS = {
    "true positive": (240, 240, 240),
    "false negative": (0, 170, 255),
    "false positive": (230, 60, 0),
    "true negative": (0, 0, 0),
}
HIDDEN_KEY = Key("hidden: filled in by the refiner", HIDDEN_COLOUR, "line")
# What is shown where the doubt is no ensemble's, as of methods_section.DOUBTS.
DOUBTS = {
    "given": "Entropy as given: bright = uncertain",
    "nothing": "No entropy was given",
    "painted": "Painted mask: bright = to be refined",
    "given and painted": "Entropy as given, and what was painted: bright = uncertain, or to be refined",
}
_OVERLAY = 0.55  # how much of the label colour is mixed into the image


class Slice(NamedTuple):
    """One slice to look at, arrays (y, x): image in any unit or None, entropy 0 … 1, hidden bool, labels integers.
    refined, truth: None where there is none.
    """

    image: np.ndarray | None
    entropy: np.ndarray
    hidden: np.ndarray
    initial: np.ndarray
    refined: np.ndarray | None
    truth: np.ndarray | None


def show_changes(truth, initial, refined):
    """What the refinement did, in CHANGE_COLOURS; arrays (y, x) as in Slice. Returns uint8 (y, x, 3)."""
    was_right, is_right = initial == truth, refined == truth
    picture = np.empty((*truth.shape, 3), np.uint8)
    picture[:] = CHANGE_COLOURS["right and kept"]
    picture[~was_right & ~is_right] = CHANGE_COLOURS["still wrong"]
    picture[~was_right & is_right] = CHANGE_COLOURS["repaired"]
    picture[was_right & ~is_right] = CHANGE_COLOURS["made wrong"]
    picture[truth == -1] = UNKNOWN_COLOUR
    return picture


def show_agreement(truth, labels):
    """Foreground (classes above 0) found, missed and invented, in AGREEMENT_COLOURS; integers (y, x), truth -1 unknown.
    Returns uint8 (y, x, 3).
    """
    wanted, found = truth > 0, labels > 0
    picture = np.empty((*truth.shape, 3), np.uint8)
    kinds = (wanted & found, wanted & ~found, ~wanted & found, ~wanted & ~found)
    for where, colour in zip(kinds, AGREEMENT_COLOURS.values(), strict=True):
        picture[where] = colour
    picture[truth == -1] = UNKNOWN_COLOUR
    return picture


def busiest_window(weight, size):
    """The window, at most `size` in y and x, around the place where most of `weight` (y, x) is; a pair of slices."""
    density = ndimage.gaussian_filter(weight.astype(np.float64), size / 4, mode="constant")
    centre = np.unravel_index(np.argmax(density), density.shape)
    sides = [min(size, extent) for extent in weight.shape]
    starts = [
        min(max(int(at) - side // 2, 0), extent - side)
        for at, side, extent in zip(centre, sides, weight.shape, strict=True)
    ]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))


def panels(shown, names, colours, voxel_size_nm=None, doubt="mean"):
    """The panels of one slice, hidden tokens outlined: image, entropy, truth; before, after, what changed. Without a
    truth only image, entropy; before, after; without `refined` only the one map of labels; without an image none of it.

    shown: Slice. names, colours: of the classes. voxel_size_nm: (z, y, x) for the scale bar, None for no bar. doubt:
    one of DOUBTS, where the entropy comes from, or a kind of an ensemble's.
    Returns PNG bytes, about 1350 pixels wide, without a truth 700.
    """
    width = shown.initial.shape[1]
    columns = 2 if shown.truth is None else 3
    by = scale_for(width, columns, most=460 if columns == 3 else 320)
    nm = None if voxel_size_nm is None else voxel_size_nm[2] / by

    def panel(title, picture, outline=True, nm=None):
        large = enlarged(picture, by)
        return Panel(title, outlined(large, shown.hidden, by) if outline else large, by, nm_per_pixel=nm)

    first = [] if shown.image is None else [panel("Image", grey_image(shown.image), False, nm)]
    bar = nm if shown.image is None else None
    first.append(panel(DOUBTS.get(doubt, "Entropy: bright = the networks disagree"), grey(shown.entropy), nm=bar))
    before = "Labels" if shown.refined is None else "Before: initial labels"
    second = [panel(before, colour_labels(shown.initial, colours))]
    keys = [*class_keys(names, colours), HIDDEN_KEY._replace(name="hidden") if shown.refined is None else HIDDEN_KEY]
    if shown.refined is not None:
        second.append(panel("After: refined labels", colour_labels(shown.refined, colours)))
    if shown.truth is not None:
        first.append(panel("Truth", colour_labels(shown.truth, colours), False))
    if shown.truth is not None and shown.refined is not None:
        changed = show_changes(shown.truth, shown.initial, shown.refined)
        second.append(panel("What the refinement changed", changed))
        keys += [Key(name, colour) for name, colour in CHANGE_COLOURS.items()]
    return compose([first, second], keys)


def overlays(shown, colours, width=640):
    """(before, after): the labels over the image where there is one, hidden tokens outlined; PNG bytes of one size, to
    be laid over each other. shown: a Slice with `refined`; width: pixels, about.
    """
    by = max(1, round(width / shown.initial.shape[1]))
    found = []
    for labels in (shown.initial, shown.refined):
        picture = colour_labels(labels, colours)
        if shown.image is not None:
            # Background shows the image as it is.
            mixed = np.uint8(_OVERLAY * picture + (1 - _OVERLAY) * grey_image(shown.image))
            picture = np.where((labels == 0)[..., None], grey_image(shown.image), mixed)
        found.append(png_of(outlined(enlarged(picture, by), shown.hidden, by)))
    return tuple(found)
