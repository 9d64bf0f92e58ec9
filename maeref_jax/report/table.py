"""Tables for people: as aligned text and as HTML, and how numbers are written in them."""

import html
import math
import textwrap
from typing import NamedTuple

METRIC_NAMES = ("end points", "cycles", "boundary to area", "cristae boundary", "inner on background")
_FRACTIONS = ("boundary_to_area", "cristae_boundary", "inner_background")
_LONG = 40  # characters of a cell that is broken into lines


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


def text_table(table):
    """The table as aligned plain text."""
    lines = [table.header, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    text = [table.title, rule, _text_line(table.header, widths), rule]
    text += [_text_line(row, widths) for row in table.rows]
    return "\n".join([*text, rule, *textwrap.wrap(table.note, max(len(rule), 100))])


def html_table(table):
    """The table as a piece of HTML for `page.html_page`, escaped; where it is wider than the screen it scrolls."""
    head = "".join(f"<th scope=col>{html.escape(cell)}</th>" for cell in table.header)
    rows = []
    for first, *others in table.rows:
        kind = "strong" if first.strip() in table.strong else "" if any(others) else "group"
        cells = f"<th scope=row>{html.escape(first)}</th>" + "".join(map(_html_cell, others))
        rows.append(f'<tr class="{kind}">{cells}</tr>')
    note = f"<p class=note>{html.escape(table.note)}</p>" if table.note else ""
    title = html.escape(table.title)
    # A box that scrolls has to be reachable by keyboard.
    return (
        f'<section><h3>{title}</h3><div class=wide tabindex=0 role=region aria-label="{title}"><table><thead><tr>{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{note}</section>"
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


def _text_line(cells, widths):
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def _html_cell(cell):
    return f"<td{' class=long' if len(cell) > _LONG else ''}>{html.escape(cell)}</td>"
