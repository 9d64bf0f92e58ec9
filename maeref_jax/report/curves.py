"""Curves of one quantity against another, in colours that colour-blind readers can tell apart; PNG bytes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maeref_jax.report.canvas import png_of_figure

# After Okabe and Ito; what comes beyond them is dashed.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
REFERENCES = (("#1c1c1c", (0, (1, 1.5))), ("#8a8a8a", (0, (6, 3))))  # colour and dashes of what is only to compare with


class Axis(NamedTuple):
    """What is drawn along an axis, from 0 to `end`."""

    name: str
    end: float


def curves_figure(
    x: Sequence[float], curves: Mapping[str, Sequence[float]], along: Axis, up: Axis, references: Sequence[str] = ()
) -> bytes:
    """curves: {name: values at x}, drawn in this order; references: names of those that are only to compare with, at
    most two.
    """
    figure = Figure(figsize=(8.4, 5.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes, own = figure.add_subplot(1, 1, 1), [name for name in curves if name not in references]
    for name, values in curves.items():
        if name in references:
            (colour, dashes), width = REFERENCES[list(references).index(name)], 1.6
        else:
            number = own.index(name)
            colour, dashes, width = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--", 2.2
        axes.plot(x, values, color=colour, linestyle=dashes, linewidth=width, label=name)
    axes.set(xlabel=along.name, ylabel=up.name, xlim=(0, along.end), ylim=(0, up.end))
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return png_of_figure(figure)
