"""curves.py: every curve is drawn, each in a look of its own."""

import io

import numpy as np
from PIL import Image

from maeref_jax.report.curves import COLOURS, REFERENCES, Axis, curves_figure

X = np.linspace(0, 50, 11)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def holds(picture, colour):
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return (np.abs(picture - wanted).sum(-1) < 12).sum()


def test_curves_and_what_they_are_compared_with_are_drawn_and_the_bytes_are_the_same():
    curves = {"one": X, "other": 2 * X, "ceiling": np.minimum(8 * X, 100), "chance": X / 2}
    axes = Axis("hidden", 50), Axis("errors", 100)
    png = curves_figure(X, curves, *axes, ("ceiling", "chance"))
    assert png == curves_figure(X, curves, *axes, ("ceiling", "chance"))
    picture = pixels(png)
    for colour in (*COLOURS[:2], *(colour for colour, _ in REFERENCES)):
        assert holds(picture, colour) > 100, colour
    assert not holds(picture, COLOURS[2])
    fewer = pixels(curves_figure(X, {"one": X}, *axes))
    assert holds(fewer, COLOURS[0]) and not holds(fewer, COLOURS[1])
