"""Pictures and tables: the right colours in the right places, nothing loaded from elsewhere."""

import io
import re

import matplotlib.image
import numpy as np
import pytest

from maeref_jax import report

NAMES = ("background", "intermembrane", "cristae", "matrix")
COLOURS = ((0, 0, 0), (40, 90, 255), (40, 200, 80), (250, 220, 60))


def a_slice(height=48, width=64):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (height, width))
    hidden = np.zeros(truth.shape, bool)
    hidden[8:16, 8:24] = True
    initial = np.where(hidden, 0, truth)
    return report.Slice(rng.random(truth.shape), hidden * 0.9, hidden, initial, truth.copy(), truth)


def test_labels_get_their_class_colours_and_unknown_its_own():
    picture = report.colour_labels(np.array([[0, 1], [3, -1]], np.int16), COLOURS)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[0, 0, 0], [40, 90, 255]], [[250, 220, 60], list(report.UNKNOWN_COLOUR)]]


def test_changes_are_judged_by_the_truth():
    truth, initial, refined = np.array([[1, 1, 1, 1, -1]]), np.array([[0, 1, 0, 1, 0]]), np.array([[1, 0, 2, 1, 1]])
    kinds = ("repaired", "made wrong", "still wrong", "right and kept")
    expected = [report.CHANGE_COLOURS[kind] for kind in kinds] + [report.UNKNOWN_COLOUR]
    assert report.show_changes(truth, initial, refined)[0].tolist() == [list(colour) for colour in expected]


@pytest.mark.parametrize("place", [(5, 5), (40, 90), (63, 99)])
def test_busiest_window_surrounds_the_place_and_stays_inside(place):
    weight = np.zeros((64, 100), bool)
    weight[place] = True
    rows, columns = report.busiest_window(weight, 32)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (32, 32)
    assert weight[rows, columns].any()
    assert weight[rows, columns].shape == (32, 32)
    assert report.busiest_window(weight[:20, :20], 32) == (slice(0, 20), slice(0, 20))


def test_panels_show_every_class_colour_and_the_outline():
    png = report.panels(a_slice(), NAMES, COLOURS, (20.0, 10.0, 10.0))
    pixels = np.uint8(matplotlib.image.imread(io.BytesIO(png))[..., :3] * 255 + 0.5)
    assert 1200 < pixels.shape[1] < 1700
    found = {tuple(colour) for colour in pixels.reshape(-1, 3)[::3].tolist()}
    for colour in (*COLOURS, report.HIDDEN_COLOUR, report.CHANGE_COLOURS["repaired"]):
        assert colour in found
    assert report.panels(a_slice(), NAMES, COLOURS, (20.0, 10.0, 10.0)) == png, "same input, same bytes"


@pytest.mark.parametrize("image", [np.zeros((48, 64)), None])
def test_panels_work_without_voxel_size_on_a_flat_image_and_without_one(image):
    assert report.panels(a_slice()._replace(image=image), NAMES, COLOURS).startswith(b"\x89PNG")


TABLE = report.Table(
    "Dice <of> all",
    ("region", "mean"),
    (("inside", ""), ("  initial", "0.5"), ("  refined", "0.75")),
    ("refined",),
    "A note.",
)


def test_text_table_is_aligned():
    lines = report.text_table(TABLE).splitlines()
    assert lines[0] == "Dice <of> all"
    assert lines[2].endswith("mean")
    assert lines[5].index("0.5") + 3 == lines[6].index("0.75") + 4 == len(lines[2])
    assert lines[-1] == "A note."


def test_page_is_self_contained_and_escapes_what_it_is_given():
    page = report.html_page(
        title="A <title>",
        lead=["First & foremost"],
        pictures=[report.Picture(b"\x89PNG", 'slice "3"')],
        tables=[TABLE],
        classes={"names": NAMES, "colours": COLOURS},
        facts={"Versions": {"jax": "1.2.3"}},
    )
    assert re.findall(r'(?:src|href)="([^"]{0,22})', page) == ["data:image/png;base64,"]
    assert "http" not in page
    for text in ("A &lt;title&gt;", "First &amp; foremost", "Dice &lt;of&gt; all", "1.2.3", "rgb(40, 200, 80)"):
        assert text in page
    assert 'class="strong"><th>  refined' in page
    assert "<title>A &lt;title&gt;" in page


def test_undefined_numbers_are_a_dash():
    assert report.number(float("nan")) == "-"
    assert report.number(0.12345) == "0.123"
    summary = {
        "end_points": {"mean": 3.55, "se": 0.3},
        "boundary_to_area": {"mean": 0.1214, "se": 0.0094},
        "inner_background": {"mean": float("nan"), "se": float("nan")},
        "cycles": {"mean": 1.0, "se": float("nan")},
    }
    assert report.validity_cells(summary) == ("3.55 ± 0.30", "12.14 ± 0.94 %", "-", "1.00 ± -")
