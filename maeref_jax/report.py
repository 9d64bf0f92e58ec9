"""Pictures and tables that a person looks at: label maps, before/after panels, text tables, one HTML page.

Nothing here computes a score. The page is self-contained: its pictures are inside it, it loads nothing.
"""

import base64
import html
import io
import math
import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import ndimage

UNKNOWN_COLOUR = (90, 40, 90)
HIDDEN_COLOUR = (255, 0, 170)
# Safe for colour-blind readers and unlike any class: what a refinement did, judged by the truth.
CHANGE_COLOURS = {
    "repaired": (0, 170, 255),
    "made wrong": (230, 60, 0),
    "still wrong": (255, 190, 150),
    "right and kept": (225, 225, 225),
}
METRIC_NAMES = ("end points", "cycles", "boundary to area", "cristae boundary", "inner on background")
_FRACTIONS = ("boundary_to_area", "cristae_boundary", "inner_background")
_PANEL_WIDTH = 460  # pixels, about


class Slice(NamedTuple):
    """One slice to look at, arrays (y, x): image in any unit or None, entropy 0 … 1, hidden bool, labels integers."""

    image: np.ndarray | None
    entropy: np.ndarray
    hidden: np.ndarray
    initial: np.ndarray
    refined: np.ndarray
    truth: np.ndarray


class Table(NamedTuple):
    """A table for text and for HTML.

    title: one line. header: column names, the first column holds row names. rows: strings, as many as in
    the header. strong: names of rows to emphasise. note: how to read it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: tuple[str, ...] = ()
    note: str = ""


class Picture(NamedTuple):
    """PNG bytes and the caption a reader needs."""

    png: bytes
    caption: str


def colour_labels(labels, colours):
    """Labels as a picture.

    labels: integers of any shape, -1 unknown. colours: (classes, 3), 0 … 255.
    Returns uint8 (…, 3); unknown is dark violet, a colour no class should have.
    """
    table = np.array([*colours, UNKNOWN_COLOUR], np.uint8)
    return table[np.where(labels < 0, len(colours), labels)]


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


def panels(shown, names, colours, voxel_size_nm=None):
    """Six panels of one slice: image, entropy, truth; before, after, what changed. Hidden tokens outlined.

    shown: Slice. names, colours: of the classes. voxel_size_nm: (z, y, x) for the scale bar, None for no bar.
    Returns PNG bytes, about 1400 pixels wide.
    """
    height, width = shown.truth.shape
    enlarge = max(2, round(_PANEL_WIDTH / width))
    image = np.zeros((height, width)) if shown.image is None else shown.image
    low, high = np.percentile(image, (0.5, 99.5))
    # title: (uint8 picture (y, x, 3), whether hidden tokens are outlined in it)
    pictures = {
        "Image": (_grey((image - low) / max(high - low, 1e-6)), False),
        "Entropy: bright = the networks disagree": (_grey(shown.entropy), True),
        "Truth": (colour_labels(shown.truth, colours), False),
        "Before: initial labels": (colour_labels(shown.initial, colours), True),
        "After: refined labels": (colour_labels(shown.refined, colours), True),
        "What the refinement changed": (show_changes(shown.truth, shown.initial, shown.refined), True),
    }
    page = _Grid(width * enlarge, height * enlarge)
    for position, (title, (picture, outlined)) in enumerate(pictures.items()):
        axes = page.add(position, "No image given" if title == "Image" and shown.image is None else title)
        large = picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
        axes.imshow(_outlined(large, shown.hidden, enlarge) if outlined else large, interpolation="nearest")
        if title == "Image" and voxel_size_nm is not None:
            _scale_bar(axes, large.shape, voxel_size_nm[2] / enlarge)
    squares = [_square(name, colour) for name, colour in zip(names, colours, strict=True)]
    outline = Line2D([], [], color=np.array(HIDDEN_COLOUR) / 255, label="hidden: filled in by the refiner")
    changes = [_square(name, colour) for name, colour in CHANGE_COLOURS.items()]
    page.figure.legend(handles=[*squares, outline, *changes], loc="lower center", ncols=5, frameon=False, fontsize=12)
    buffer = io.BytesIO()
    page.figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def text_table(table):
    """The table as aligned plain text."""
    lines = [table.header, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    text = [table.title, rule, _text_line(table.header, widths), rule]
    text += [_text_line(row, widths) for row in table.rows]
    return "\n".join([*text, rule, *textwrap.wrap(table.note, max(len(rule), 100))])


def html_page(*, title, lead, pictures, tables, classes, facts):
    """The whole report as one HTML document.

    title: str. lead: paragraphs, the result in words first. pictures: list of Picture. tables: list of Table.
    classes: {"names", "colours"}. facts: {section: {key: value}}, settings and versions, shown folded.
    """
    swatches = zip(classes["names"], classes["colours"], strict=True)
    legend = "".join(_swatch(name, colour) for name, colour in swatches)
    legend += _swatch("hidden tokens (outline)", HIDDEN_COLOUR)
    body = [f"<h1>{html.escape(title)}</h1>"]
    body += [f"<p class=lead>{html.escape(paragraph)}</p>" for paragraph in lead]
    if pictures:
        body += [f"<h2>Before and after</h2><p class=legend>{legend}</p>", *map(_html_picture, pictures)]
    body += ["<h2>Numbers</h2>", *map(_html_table, tables), "<h2>Settings and versions</h2>"]
    for section, values in facts.items():
        lines = "".join(
            f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(str(value))}</td></tr>"
            for key, value in values.items()
        )
        body.append(f"<details><summary>{html.escape(section)}</summary><table class=facts>{lines}</table></details>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def number(value, digits=3):
    """A float for a table; an undefined one (NaN) is a dash."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def validity_cells(summary):
    """The five validity metrics as '3.55 ± 0.30', fractions in per cent, a dash where undefined.

    summary: {metric: {"mean", "se"}} in the order of METRIC_NAMES, as `validity.summary` makes it.
    """
    return tuple(
        _mean_and_error(value, *((100, " %") if name in _FRACTIONS else (1, ""))) for name, value in summary.items()
    )


def _mean_and_error(value, scale, unit):
    if math.isnan(value["mean"]):
        return "-"
    return f"{number(value['mean'] * scale, 2)} ± {number(value['se'] * scale, 2)}{unit}"


class _Grid:
    """Two rows of three panels placed to the pixel: nothing is resampled, thin outlines stay whole."""

    gap, title, legend, dpi = 14, 30, 80, 100

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.extent = (3 * width + 4 * self.gap, 2 * (height + self.title) + self.legend)
        self.figure = Figure(figsize=tuple(pixels / self.dpi for pixels in self.extent), dpi=self.dpi)
        FigureCanvasAgg(self.figure)

    def add(self, position, title):
        row, column = divmod(position, 3)
        left = self.gap + column * (self.width + self.gap)
        bottom = self.legend + (1 - row) * (self.height + self.title)
        box = (left, bottom, self.width, self.height)
        axes = self.figure.add_axes([pixels / self.extent[i % 2] for i, pixels in enumerate(box)])
        axes.set_title(title, fontsize=13, loc="left", pad=5)
        axes.set_axis_off()
        return axes


def _grey(values):
    return np.repeat(np.uint8(np.clip(values, 0, 1) * 255)[..., None], 3, axis=-1)


def _outlined(picture, hidden, enlarge):
    """An enlarged picture with the border of the hidden tokens drawn inside them, two pixels wide."""
    hidden = hidden.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    picture[hidden & ~ndimage.binary_erosion(hidden, iterations=2, border_value=1)] = HIDDEN_COLOUR
    return picture


def _scale_bar(axes, shape, pixel_nm):
    """A bar of a round length, near a fifth of the width."""
    height, width = shape[:2]
    round_lengths = [step * 10**power for power in range(7) for step in (1, 2, 5)]
    length = max((length for length in round_lengths if length <= width * pixel_nm / 5), default=1)
    end, level = 0.95 * width, 0.94 * height
    start = end - length / pixel_nm
    axes.plot([start, end], [level, level], color="white", linewidth=4, solid_capstyle="butt")
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    axes.text((start + end) / 2, level - 8, text, color="white", ha="center", va="bottom", fontsize=12)


def _square(name, colour):
    return Line2D(
        [], [], linestyle="none", marker="s", markersize=11, markeredgecolor="#555", label=name,
        markerfacecolor=np.array(colour) / 255,
    )  # fmt: skip


def _text_line(cells, widths):
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def _swatch(name, colour):
    return f'<span><i style="background:rgb{tuple(int(part) for part in colour)}"></i>{html.escape(name)}</span>'


def _html_picture(picture):
    data = base64.b64encode(picture.png).decode("ascii")
    caption = html.escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _html_table(table):
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    rows = []
    for first, *others in table.rows:
        kind = "strong" if first.strip() in table.strong else "" if any(others) else "group"
        cells = f"<th>{html.escape(first)}</th>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in others)
        rows.append(f'<tr class="{kind}">{cells}</tr>')
    note = f"<p class=note>{html.escape(table.note)}</p>" if table.note else ""
    return (
        f"<section><h3>{html.escape(table.title)}</h3><div class=wide><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}</section>"
    )


_STYLE = """
body { margin: 0; background: #f4f4f2; color: #1c1c1c;
  font: 16px/1.55 system-ui, "Segoe UI", Helvetica, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 2rem 2.5rem 4rem; background: #fff; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { margin: 2.5rem 0 .8rem; font-size: 1.35rem; }
h3 { margin: 1.8rem 0 .5rem; font-size: 1.05rem; }
.lead { max-width: 75ch; margin: .5rem 0; } .lead:first-of-type { font-size: 1.15rem; }
.legend span { display: inline-block; margin-right: 1.4rem; white-space: nowrap; }
.legend i { display: inline-block; width: .95em; height: .95em; margin-right: .45em; border: 1px solid #555;
  vertical-align: -.12em; }
figure { margin: 1rem 0 2.2rem; } img { display: block; width: 100%; height: auto; }
figcaption, .note { color: #444; font-size: .93rem; max-width: 85ch; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .8rem; text-align: right; border-bottom: 1px solid #e3e3df; white-space: nowrap; }
th:first-child { text-align: left; font-weight: inherit; } thead th { border-bottom: 2px solid #888; }
thead th, thead th:first-child { font-weight: 600; } .strong { background: #eef6ee; font-weight: 600; }
.group th { padding-top: .9rem; color: #555; font-style: italic; }
details { margin: .4rem 0; } summary { cursor: pointer; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
@media (max-width: 700px) { main { padding: 1.2rem; } h1 { font-size: 1.5rem; }
  th, td { padding: .3rem .5rem; } }
"""
