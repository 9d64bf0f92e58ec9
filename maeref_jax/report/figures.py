"""The paper's figures, drawn of any data: functions of arrays (y, x) that return PNG bytes.

Labels are integers, -1 unknown; image in any unit; entropy 0 … 1; hidden, region bool. names, colours: of the classes.
classes: validity.Classes, where a picture needs to know what a class means. voxel_size_nm: (z, y, x) for a scale bar,
None for none. "Inner" is cristae and matrix.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from maeref_jax.metrics import topology, validity
from maeref_jax.report.canvas import (
    HIDDEN_COLOUR,
    Key,
    Lines,
    Panel,
    Points,
    class_keys,
    colour_labels,
    compose,
    edges_marked,
    enlarged,
    grey,
    grey_image,
    lighter,
    outlined,
    scale_for,
)
from maeref_jax.report.panels import HIDDEN_KEY, Slice

BREACH_COLOUR = (235, 20, 20)
HOLE_COLOUR = (0, 240, 255)
BLANK_COLOUR = (235, 235, 235)
END_COLOUR = (213, 60, 40)
BRANCH_COLOUR = (0, 114, 178)
LINE_COLOUR = (30, 30, 30)
MASK_COLOUR = (214, 214, 208)
# The interfaces of the two boundary ratios; not the colours of classes, and apart for colour-blind readers.
EDGE_COLOURS = {
    "cristae | intermembrane": (225, 85, 0),
    "matrix | intermembrane": (0, 90, 200),
    "inner | background": (255, 0, 170),
    "intermembrane | background": (40, 40, 40),
}
_MOST_MEMBERS = 6


class Faded(NamedTuple):
    """One window of a degradation experiment, arrays (y, x): image and entropy before and after, region: where the
    signal was taken away.
    """

    image_before: np.ndarray
    image_after: np.ndarray
    entropy_before: np.ndarray
    entropy_after: np.ndarray
    region: np.ndarray


def validity_figure(
    maps: Mapping[str, np.ndarray], names, colours, classes=validity.MITOCHONDRIA, voxel_size_nm=None
) -> bytes:
    """Figure 1: label maps of one window side by side, what cannot be marked in them, and counted below.

    maps: {title: labels}, such as valid, invalid, repaired. Marked are edges between inner and background, and, filled,
    holes of inner (topology.hole_mask).
    """
    by, nm = _scale(next(iter(maps.values())), len(maps), voxel_size_nm)
    row = []
    for title, labels in maps.items():
        inner, background, holes = _meaning(labels, classes)
        picture = enlarged(colour_labels(labels, colours), by)
        edges_marked(picture, inner, background, by, BREACH_COLOUR, 4)
        picture[enlarged(holes, by)] = HOLE_COLOUR
        breaches, number = validity.edge_count(inner, background), ndimage.label(holes)[1]
        note = f"{_many(breaches, 'edge')} of inner on background, {_many(number, 'hole')}"
        row.append(Panel(title, picture, by, note, None if row else nm))
    keys = [Key("inner on background", BREACH_COLOUR, "line"), Key("hole in the inner part", HOLE_COLOUR)]
    return compose([row], [*class_keys(names, colours), *keys])


def skeleton_figure(maps: Mapping[str, np.ndarray], classes=validity.MITOCHONDRIA, voxel_size_nm=None) -> bytes:
    """Figure 2: the skeleton (Lee's thinning) of the inner part drawn on it, with its end points and branch points.

    maps: {title: labels}, such as before and after. End points have one neighbour; touching points of three or more
    are one branch point.
    """
    by, nm = _scale(next(iter(maps.values())), len(maps), voxel_size_nm)
    row = []
    for title, labels in maps.items():
        inner = _meaning(labels, classes)[0]
        ends, branches, lines = skeleton_of(inner)
        found = validity.skeleton_counts(inner)
        picture = np.full((*labels.shape, 3), 255, np.uint8)
        picture[inner] = MASK_COLOUR
        counted = f"{_many(len(ends), 'end')}, {_many(len(branches), 'branch point')}"
        counted += f", {_many(found['cycles'], 'cycle')}"
        drawn = (Lines(lines, LINE_COLOUR, 2.2), Points(branches, BRANCH_COLOUR, 7), Points(ends, END_COLOUR, 7))
        panel = Panel(f"{title}: {counted}", enlarged(picture, by), by, "", None if row else nm, drawn)
        row.append(panel)
    keys = [Key("end point", END_COLOUR, "point"), Key("branch point", BRANCH_COLOUR, "point")]
    keys += [Key("skeleton", LINE_COLOUR, "line"), Key("inner: cristae and matrix", MASK_COLOUR)]
    return compose([row], keys)


def skeleton_of(mask):
    """The skeleton of a mask (y, x) to be drawn: end points (n, 2), branch points (m, 2), y and x; lines (k, 2, 2)
    between neighbours.
    """
    thin, neighbours = validity.thinned(mask) if mask.any() else (mask, mask.astype(int))
    pieces, number = ndimage.label(neighbours >= 3, np.ones((3, 3), int))
    touching = [np.argwhere(pieces == i) for i in range(1, number + 1)]
    # Of those that touch the middle one, so that it lies on the skeleton.
    branches = [points[np.argmin(((points - points.mean(0)) ** 2).sum(1))] for points in touching]
    padded, lines, points = np.pad(thin, 1), [], np.argwhere(thin)
    for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
        there = points + step
        joined = padded[there[:, 0] + 1, there[:, 1] + 1]
        if all(step):  # a diagonal is no line where a corner leads the same way
            corners = padded[points[:, 0] + 1 + step[0], points[:, 1] + 1] | padded[points[:, 0] + 1, there[:, 1] + 1]
            joined &= ~corners
        lines.append(np.stack([points[joined], there[joined]], 1))
    return np.argwhere(neighbours == 1), np.reshape(branches, (-1, 2)).astype(int), np.concatenate(lines)


def pipeline_figure(image, members, labels, entropy, hidden, refined, names, colours, voxel_size_nm=None) -> bytes:
    """Figure 3: one window on its way through the method. members: labels (k, y, x), of which at most six are drawn;
    labels: of their mean; refined: after filling in.
    """
    members = members[:_MOST_MEMBERS]
    small, _ = _scale(image, len(members) + 1, None)
    by, nm = _scale(image, 4, voxel_size_nm)
    small_nm = None if nm is None else nm * by / small

    def classes(title, found, by):
        return Panel(title, enlarged(colour_labels(found, colours), by), by)

    first = [Panel("1  Image", enlarged(grey_image(image), small), small, nm_per_pixel=small_nm)]
    first += [classes(f"2  Member {i}", found, small) for i, found in enumerate(members, 1)]
    covered = colour_labels(labels, colours)
    covered[hidden] = BLANK_COLOUR
    share = f"{hidden.mean():.1%} of this window"
    filled = outlined(enlarged(colour_labels(refined, colours), by), hidden, by)
    second = [
        classes("3  Labels of the mean", labels, by),
        Panel("4  Entropy", enlarged(grey(entropy), by), by, "bright: the members disagree"),
        Panel("5  Hidden tokens", outlined(enlarged(covered, by), hidden, by), by, share),
        Panel("6  Refined", filled, by, f"{np.mean(refined != labels):.1%} relabelled"),
    ]
    keys = [*class_keys(names, colours), Key("hidden, to be filled in", BLANK_COLOUR), HIDDEN_KEY]
    return compose([first, second], keys)


def degradation_figure(cases: Mapping[str, Faded], voxel_size_nm=None) -> bytes:
    """Figure 4: rows of image and entropy before and after the signal was taken away in the outlined region, with the
    mean entropy in it. cases: {name of the degradation: Faded}. Grey values are comparable within a row.
    """
    by, nm = _scale(next(iter(cases.values())).region, 4, voxel_size_nm)
    rows = []
    for name, case in cases.items():
        images = (grey_image(image, case.image_before) for image in (case.image_before, case.image_after))
        pictures = [*images, grey(case.entropy_before), grey(case.entropy_after)]
        means = [entropy[case.region].mean() if case.region.any() else np.nan for entropy in case[2:4]]
        titles = (f"{name}: image before", "Image after", "Entropy before", "Entropy after")
        notes = ("", "", *(f"mean in the outline: {mean:.3f}" for mean in means))
        drawn = [outlined(enlarged(picture, by), case.region, by) for picture in pictures]
        rows.append(
            [
                Panel(title, picture, by, note, nm if i == 0 else None)
                for i, (title, picture, note) in enumerate(zip(titles, drawn, notes, strict=True))
            ]
        )
    return compose(rows, [Key("where the signal was taken away", HIDDEN_COLOUR, "line")])


def boundary_figure(
    maps: Mapping[str, np.ndarray], names, colours, classes=validity.MITOCHONDRIA, voxel_size_nm=None
) -> bytes:
    """Figure 5: the edges that the two boundary ratios are made of, in EDGE_COLOURS, and the ratios below.

    maps: {title: labels}, one or several.
    """
    by, nm = _scale(next(iter(maps.values())), len(maps), voxel_size_nm)
    row = []
    for title, labels in maps.items():
        counted, ratios = validity.counts(labels, classes), validity.metrics(validity.counts(labels, classes))
        picture = lighter(enlarged(colour_labels(labels, colours), by))
        for name, (first, second) in interfaces(labels, classes).items():
            edges_marked(picture, first, second, by, EDGE_COLOURS[name])
        note = (
            f"cristae boundary: {counted['cristae_intermembrane_edges']} of {counted['inner_intermembrane_edges']} "
            f"edges, {_percent(ratios['cristae_boundary'])}; inner on background: {counted['inner_background_edges']} "
            f"of {counted['foreground_background_edges']}, {_percent(ratios['inner_background'])}"
        )
        row.append(Panel(title, picture, by, note, None if row else nm))
    edges = [Key(name, colour, "line") for name, colour in EDGE_COLOURS.items()]
    faint = class_keys(names, lighter(np.array(colours)).tolist())
    return compose([row], [*edges, *faint])


def interfaces(labels, classes=validity.MITOCHONDRIA):
    """{name in EDGE_COLOURS: (bool, bool)}: the two sides of each interface of the boundary ratios."""
    inner, background, _ = _meaning(labels, classes)
    intermembrane = labels == classes.intermembrane
    sides = (
        (labels == classes.cristae, intermembrane),
        (labels == classes.matrix, intermembrane),
        (inner, background),
        (intermembrane, background),
    )
    return dict(zip(EDGE_COLOURS, sides, strict=True))


def windows_figure(windows: Mapping[str, Slice], names, colours, voxel_size_nm=None) -> bytes:
    """Figure 6: a row for every window: initial labels, hidden tokens blank, what was filled in, image, truth.

    windows: {name: Slice}; a column is left out where no window has an image, or a truth.
    """
    every = list(windows.values())
    wanted = [("image", "Image"), ("truth", "Truth")]
    wanted = [(role, title) for role, title in wanted if any(getattr(one, role) is not None for one in every)]
    by, nm = _scale(every[0].initial, 3 + len(wanted), voxel_size_nm)
    rows = []
    for name, one in windows.items():
        initial, filled = (colour_labels(labels, colours) for labels in (one.initial, one.refined))
        covered = initial.copy()
        covered[one.hidden] = BLANK_COLOUR
        pictures = {f"{name}: initial": initial, "Hidden tokens": covered, "Reconstruction": filled}
        row = [Panel(title, outlined(enlarged(picture, by), one.hidden, by), by) for title, picture in pictures.items()]
        for role, title in wanted:
            found, empty = getattr(one, role), np.full((*one.initial.shape, 3), 255, np.uint8)
            show = grey_image if role == "image" else lambda labels: colour_labels(labels, colours)
            picture = empty if found is None else show(found)
            row.append(Panel(title if found is not None else f"No {role}", enlarged(picture, by), by))
        row[0] = row[0]._replace(nm_per_pixel=nm)
        rows.append(row)
    return compose(rows, [*class_keys(names, colours), Key("hidden, to be filled in", BLANK_COLOUR), HIDDEN_KEY])


def _scale(array, columns, voxel_size_nm) -> tuple[int, float | None]:
    """By how much to enlarge for so many columns, and what a pixel measures then."""
    by = scale_for(array.shape[-1], columns)
    return by, None if voxel_size_nm is None else voxel_size_nm[-1] / by


def _meaning(labels, classes):
    """Bool (y, x) each: inner, background, holes of inner."""
    inner = np.isin(labels, (classes.cristae, classes.matrix))
    return inner, labels == classes.background, topology.hole_mask(inner, labels != -1)


def _many(number, name):
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _percent(value):
    return "undefined" if np.isnan(value) else f"{value:.1%}"
