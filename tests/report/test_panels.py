"""One slice to look at: every class colour, outlines, changes judged by the truth, with and without one."""

import numpy as np
import pytest
from test_canvas import COLOURS, is_colour, pixels_of

from maeref_jax.report import canvas, panels

NAMES = ("background", "intermembrane", "cristae", "matrix")


def a_slice(height=48, width=64):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (height, width))
    hidden = np.zeros(truth.shape, bool)
    hidden[8:16, 8:24] = True
    initial = np.where(hidden, 0, truth)
    return panels.Slice(rng.random(truth.shape), hidden * 0.9, hidden, initial, truth.copy(), truth)


def test_changes_are_judged_by_the_truth():
    truth, initial, refined = np.array([[1, 1, 1, 1, -1]]), np.array([[0, 1, 0, 1, 0]]), np.array([[1, 0, 2, 1, 1]])
    kinds = ("repaired", "made wrong", "still wrong", "right and kept")
    expected = [panels.CHANGE_COLOURS[kind] for kind in kinds] + [canvas.UNKNOWN_COLOUR]
    assert panels.show_changes(truth, initial, refined)[0].tolist() == [list(colour) for colour in expected]


@pytest.mark.parametrize("place", [(5, 5), (40, 90), (63, 99)])
def test_busiest_window_surrounds_the_place_and_stays_inside(place):
    weight = np.zeros((64, 100), bool)
    weight[place] = True
    rows, columns = panels.busiest_window(weight, 32)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (32, 32)
    assert weight[rows, columns].any()
    assert weight[rows, columns].shape == (32, 32)
    assert panels.busiest_window(weight[:20, :20], 32) == (slice(0, 20), slice(0, 20))


def test_panels_show_every_class_colour_and_the_outline():
    png = panels.panels(a_slice(), NAMES, COLOURS, (20.0, 10.0, 10.0))
    pixels = pixels_of(png)
    assert 1200 < pixels.shape[1] < 1700
    found = {tuple(colour) for colour in pixels.reshape(-1, 3)[::3].tolist()}
    for colour in (*COLOURS, canvas.HIDDEN_COLOUR, panels.CHANGE_COLOURS["repaired"]):
        assert colour in found
    assert panels.panels(a_slice(), NAMES, COLOURS, (20.0, 10.0, 10.0)) == png, "same input, same bytes"


@pytest.mark.parametrize("image", [np.zeros((48, 64)), None])
def test_panels_work_without_voxel_size_on_a_flat_image_and_without_one(image):
    assert panels.panels(a_slice()._replace(image=image), NAMES, COLOURS).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("doubt", "said"),
    [
        ("mean", "Entropy: bright = the networks disagree"),
        ("given", "Entropy as given: bright = uncertain"),
        ("painted", "Painted mask: bright = to be refined"),
    ],
)
def test_a_panel_says_what_it_shows_and_what_was_not_given_has_none(monkeypatch, doubt, said):
    drawn, real = [], panels.compose
    monkeypatch.setattr(panels, "compose", lambda rows, keys: (drawn.append(rows), real(rows, keys))[1])
    for image in (np.zeros((48, 64)), None):
        panels.panels(a_slice()._replace(image=image, truth=None), NAMES, COLOURS, (20.0, 10.0, 10.0), doubt)
    titles = [[panel.title for panel in rows[0]] for rows in drawn]
    assert titles == [["Image", said], [said]]
    assert [[panel.nm_per_pixel is not None for panel in rows[0]] for rows in drawn] == [[True, False], [True]]


def test_without_a_truth_nothing_is_called_right_or_wrong():
    unknown = a_slice()._replace(truth=None)
    pixels = pixels_of(panels.panels(unknown, NAMES, COLOURS))
    for name in ("repaired", "made wrong", "still wrong"):
        colour = panels.CHANGE_COLOURS[name]
        assert not is_colour(pixels, colour).any()
    only = pixels_of(panels.panels(unknown._replace(refined=None), NAMES, COLOURS))
    assert is_colour(only, COLOURS[1]).sum() < 0.7 * is_colour(pixels, COLOURS[1]).sum()


def test_overlays_have_one_size_and_differ_only_where_labels_do():
    shown = a_slice()
    before, after = (pixels_of(png) for png in panels.overlays(shown, COLOURS))
    assert before.shape == after.shape == (480, 640, 3)
    differ = (before != after).any(-1)
    changed = canvas.enlarged(shown.initial != shown.refined, 10)
    assert differ.any() and not differ[~changed].any()
    assert is_colour(before, canvas.HIDDEN_COLOUR).any()
    flat, _ = (pixels_of(png) for png in panels.overlays(shown._replace(image=None), COLOURS))
    assert is_colour(flat, COLOURS[2])[canvas.enlarged(shown.initial == 2, 10)].all()
