"""Drawing to the pixel: label maps in colour, outlines, edges between voxels, and panels put together into one PNG.

Voxels are enlarged by whole numbers and nothing is resampled, so thin outlines stay whole; the same arrays give the
same bytes.
"""

import io
import textwrap
from typing import NamedTuple

import matplotlib.image
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from scipy import ndimage

from maeref_jax.results.maps import HIDDEN_COLOUR

UNKNOWN_COLOUR = (90, 40, 90)
WIDTH = 1300  # pixels of a page, about: text is readable where it is shown at 1000
_DPI = 100
_GAP, _LINE, _TITLE, _NOTE = 14, 19, 11, 10  # pixels, pixels, points, points
_REPRODUCIBLE = {"metadata": {"Software": None}}  # no version in the file: same input, same bytes


class Points(NamedTuple):
    """Discs: at, float (n, 2), y and x in voxels, 0 the middle of the first one; colour, 0 … 255; size in points."""

    at: np.ndarray
    colour: tuple[int, int, int]
    size: float = 6.0


class Lines(NamedTuple):
    """Straight lines: ends, float (n, 2, 2), of each both ends as in Points; colour; width in points."""

    ends: np.ndarray
    colour: tuple[int, int, int]
    width: float = 2.0


class Panel(NamedTuple):
    """One picture of a page: title above and note below it; picture: uint8 (y, x, 3), enlarged already, by `enlarge`;
    nm_per_pixel: of the picture, for a scale bar, None for none; drawn: Points and Lines over it.
    """

    title: str
    picture: np.ndarray
    enlarge: int = 1
    note: str = ""
    nm_per_pixel: float | None = None
    drawn: tuple[Points | Lines, ...] = ()


class Key(NamedTuple):
    """An entry of the legend. kind: "area", "line" or "point"."""

    name: str
    colour: tuple[int, int, int]
    kind: str = "area"


def colour_labels(labels, colours):
    """Labels as a picture.

    labels: integers of any shape, -1 unknown. colours: (classes, 3), 0 … 255.
    Returns uint8 (…, 3); unknown is dark violet, a colour no class should have.
    """
    table = np.array([*colours, UNKNOWN_COLOUR], np.uint8)
    return table[np.where(labels < 0, len(colours), labels)]


def grey(values):
    """Values in [0, 1], (y, x) -> uint8 (y, x, 3)."""
    return np.repeat(np.uint8(np.clip(values, 0, 1) * 255)[..., None], 3, axis=-1)


def grey_image(image, like=None):
    """An image in any unit as grey, its darkest and brightest half per cent saturated; those of `like`, if given."""
    low, high = np.percentile(image if like is None else like, (0.5, 99.5))
    return grey((image - low) / max(high - low, 1e-6))


def lighter(picture, share=0.8):
    """The picture mixed with so much white, so that what is drawn over it stands out."""
    return np.uint8(picture * (1 - share) + 255 * share)


def enlarged(picture, by):
    """Every voxel of (y, x, …) as by x by pixels."""
    return picture.repeat(by, axis=0).repeat(by, axis=1)


def scale_for(width, columns, page=WIDTH, most=560):
    """By how much voxels are enlarged so that `columns` pictures of that width fill a page, none wider than `most`."""
    return max(1, round(min((page - (columns + 1) * _GAP) / columns, most) / width))


def outlined(picture, mask, by, colour=HIDDEN_COLOUR):
    """An enlarged picture with the border of the mask (y, x) drawn inside it, two pixels wide. In place; returns it."""
    mask = enlarged(mask, by)
    picture[mask & ~ndimage.binary_erosion(mask, iterations=2, border_value=1)] = colour
    return picture


def edges_marked(picture, first, second, by, colour, width=3):
    """An enlarged picture with a line along every edge between a voxel of `first` and one of `second`, bool (y, x). In
    place; returns it.
    """
    height, breadth = picture.shape[:2]
    for axis, size in ((0, height), (1, breadth)):
        low, high = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        pairs = (first[low] & second[high]) | (second[low] & first[high])
        pairs = pairs.repeat(by, axis=1 - axis)
        for offset in range(-(width // 2), width - width // 2):
            rows = np.flatnonzero(pairs.any(1 - axis))
            at = np.clip((rows + 1) * by + offset, 0, size - 1)
            if axis == 0:
                line, where = picture[at], pairs[rows]
                line[where] = colour
                picture[at] = line
            else:
                line, where = picture[:, at], pairs[:, rows]
                line[where] = colour
                picture[:, at] = line
    return picture


def png_of(picture):
    """A picture uint8 (y, x, 3) as PNG bytes."""
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, picture, format="png", **_REPRODUCIBLE)
    return buffer.getvalue()


def compose(rows, legend=()):
    """Rows of Panels over one legend of Keys; PNG bytes. Text grows with pages that are wider than WIDTH."""
    width = max(sum(panel.picture.shape[1] + _GAP for panel in row) for row in rows) + _GAP
    scale = max(1.0, width / WIDTH)
    titles, notes = ([_lines(row, name, scale) for row in rows] for name in ("title", "note"))
    line = _LINE * scale
    heights = [max(panel.picture.shape[0] for panel in row) for row in rows]
    total = sum(heights) + sum((above + below) * line + _GAP for above, below in zip(titles, notes, strict=True))
    columns = _legend_columns(legend, width / scale)
    total = round(total + -(-len(legend) // columns) * 1.35 * line + _GAP)
    figure = Figure(figsize=(width / _DPI, total / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    top = _GAP / 2
    for row, above, below, height in zip(rows, titles, notes, heights, strict=True):
        left, top = _GAP, top + above * line
        for panel in row:
            _place(figure, panel, left, top, (width, total), scale)
            left += panel.picture.shape[1] + _GAP
        top += height + below * line + _GAP
    if legend:
        handles = [_handle(key) for key in legend]
        options = {"frameon": False, "fontsize": _TITLE * scale, "borderpad": 0, "borderaxespad": 0.3}
        figure.legend(handles=handles, loc="lower left", ncols=columns, bbox_to_anchor=(_GAP / width, 0), **options)
    return png_of_figure(figure)


def png_of_figure(figure):
    """A matplotlib Figure with a canvas as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **_REPRODUCIBLE)
    return buffer.getvalue()


def class_keys(names, colours):
    """The Keys of classes."""
    return [Key(name, tuple(colour)) for name, colour in zip(names, colours, strict=True)]


def _place(figure, panel, left, top, page, scale):
    height, width = panel.picture.shape[:2]
    corner = (left / page[0], 1 - (top + height) / page[1])
    axes = figure.add_axes([*corner, width / page[0], height / page[1]])
    axes.imshow(panel.picture, interpolation="nearest")
    axes.set_axis_off()
    text = {"ha": "left", "linespacing": 1.15, "color": "#1c1c1c"}
    title, note = (_wrapped(panel, name, scale) for name in ("title", "note"))
    above, below = 1 - (top - 4 * scale) / page[1], corner[1] - 4 * scale / page[1]
    figure.text(corner[0], above, title, va="bottom", fontsize=_TITLE * scale, **text)
    figure.text(corner[0], below, note, va="top", fontsize=_NOTE * scale, **text)
    for drawn in panel.drawn:
        colour = np.array(drawn.colour) / 255
        if isinstance(drawn, Points):
            y, x = _pixels(drawn.at, panel.enlarge).reshape(-1, 2).T
            size = drawn.size * scale
            axes.plot(x, y, "o", color=colour, markersize=size, markeredgecolor="white", markeredgewidth=size / 8)
        else:
            ends = _pixels(drawn.ends, panel.enlarge).reshape(-1, 2, 2)[..., ::-1]
            axes.add_collection(LineCollection(ends, colors=[colour], linewidths=drawn.width * scale, capstyle="round"))
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    if panel.nm_per_pixel is not None:
        _scale_bar(axes, (height, width), panel.nm_per_pixel, scale)


def _pixels(at, enlarge):
    return (np.asarray(at, float) + 0.5) * enlarge - 0.5


def _scale_bar(axes, shape, pixel_nm, scale):
    """A bar of a round length, near a fifth of the width; white with a dark rim, to be seen on anything."""
    height, width = shape
    round_lengths = [step * 10**power for power in range(7) for step in (1, 2, 5)]
    length = max((length for length in round_lengths if length <= width * pixel_nm / 4), default=1)
    end, level = 0.95 * width, height - 10 * scale
    start = end - length / pixel_nm
    rim = {"path_effects": [withStroke(linewidth=3 * scale, foreground="black")], "color": "white"}
    axes.plot([start - 1, end + 1], [level, level], color="black", linewidth=6 * scale, solid_capstyle="butt")
    axes.plot([start, end], [level, level], color="white", linewidth=4 * scale, solid_capstyle="butt")
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    middle = min((start + end) / 2, width - (4.5 * len(text) + 4) * scale)  # the text stays inside
    axes.text(middle, level - 5 * scale, text, ha="center", va="bottom", fontsize=_TITLE * scale, **rim)


def _wrapped(panel, name, scale):
    letter = {"title": 8.0, "note": 7.3}[name] * scale  # pixels
    return "\n".join(textwrap.wrap(getattr(panel, name), max(10, int(panel.picture.shape[1] / letter))))


def _lines(row, name, scale):
    found = [_wrapped(panel, name, scale) for panel in row]
    return max((text.count("\n") + 1 if text else 0) for text in found)


def _legend_columns(legend, width):
    """The most columns that fit; matplotlib fills one column after the other, the first ones get one more."""
    sizes = [8.5 * len(key.name) + 70 for key in legend]
    for columns in range(len(legend), 1, -1):
        longest = [max(part) for part in np.array_split(sizes, columns)]
        if sum(longest) < width - 2 * _GAP:
            return columns
    return 1


def _handle(key):
    colour = np.array(key.colour) / 255
    if key.kind == "line":
        return Line2D([], [], color=colour, linewidth=3, label=key.name)
    look = {"area": {"marker": "s", "markeredgecolor": "#555"}, "point": {"marker": "o", "markeredgecolor": "white"}}
    return Line2D([], [], linestyle="none", markersize=11, label=key.name, markerfacecolor=colour, **look[key.kind])
