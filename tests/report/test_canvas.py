"""Drawing: the right colours at the right pixels, and the same bytes for the same arrays."""

import io

import matplotlib.image
import numpy as np
import pytest

from maeref_jax.report import canvas

COLOURS = ((0, 0, 0), (40, 90, 255), (40, 200, 80), (250, 220, 60))
RED = (235, 20, 20)


def pixels_of(png):
    return np.uint8(matplotlib.image.imread(io.BytesIO(png))[..., :3] * 255 + 0.5)


def is_colour(picture, colour):
    return (picture == np.array(colour)).all(-1)


def test_labels_get_their_class_colours_and_unknown_its_own():
    picture = canvas.colour_labels(np.array([[0, 1], [3, -1]], np.int16), COLOURS)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[0, 0, 0], [40, 90, 255]], [[250, 220, 60], list(canvas.UNKNOWN_COLOUR)]]


def test_edges_are_marked_on_both_sides_of_the_border_and_nowhere_else():
    labels = np.zeros((4, 5), int)
    labels[1:3, 2:4] = 1
    picture = canvas.edges_marked(np.zeros((24, 30, 3), np.uint8), labels == 1, labels == 0, 6, RED, 2)
    expected = np.zeros((24, 30), bool)
    expected[5:7, 12:24] = expected[17:19, 12:24] = True
    expected[6:18, 11:13] = expected[6:18, 23:25] = True
    np.testing.assert_array_equal(is_colour(picture, RED), expected)


def test_edges_at_the_border_of_the_picture_stay_in_it():
    first = np.eye(3, dtype=bool)
    picture = canvas.edges_marked(np.zeros((3, 3, 3), np.uint8), first, ~first, 1, RED, 5)
    assert is_colour(picture, RED).any()


def test_an_outline_lies_inside_its_mask():
    mask = np.zeros((10, 10), bool)
    mask[2:8, 3:9] = True
    found = is_colour(canvas.outlined(np.zeros((40, 40, 3), np.uint8), mask, 4), canvas.HIDDEN_COLOUR)
    assert found[8:10, 12:36].all() and found[8:32, 12:14].all() and not found[12:28, 16:32].any()
    assert not found[~canvas.enlarged(mask, 4)].any()


@pytest.mark.parametrize("enlarge", [1, 3])
def test_a_page_shows_panels_to_the_pixel_and_points_where_they_are(enlarge):
    rng = np.random.default_rng(0)
    picture = canvas.enlarged(canvas.colour_labels(rng.integers(0, 4, (60, 90)), COLOURS), enlarge)
    plain = canvas.Panel("Title", picture, enlarge, "note")
    marked = plain._replace(drawn=(canvas.Points(np.array([[50, 20]]), RED, 8),))
    page = pixels_of(canvas.compose([[plain, marked]], [canvas.Key("red", RED, "point")]))
    height, width = picture.shape[:2]
    at = [
        (y, x)
        for y in range(15, 45)
        for x in range(10, 20)
        if (page[y : y + height, x : x + width] == picture).all(-1).mean() > 0.999
    ]
    assert len(at) == 1, "the panel was resampled"
    top, left = at[0]
    second = page[top : top + height, left + width + 14 : left + 2 * width + 14]
    assert is_colour(second, RED)[50 * enlarge + enlarge // 2, 20 * enlarge + enlarge // 2]
    assert (second == picture).all(-1).mean() > 0.9


def test_a_scale_bar_has_the_length_it_says():
    panel = canvas.Panel("", np.full((100, 400, 3), 90, np.uint8), nm_per_pixel=2.0)  # 800 nm: 200 nm are 100 pixels
    white = is_colour(pixels_of(canvas.compose([[panel]])), (255, 255, 255))
    inside = white[:, 14:414]
    bars = [row.sum() for row in inside if 0 < row.sum() < 400]
    assert max(bars) in (100, 101)


def test_long_titles_are_broken_and_the_legend_fits():
    panel = canvas.Panel("word " * 40, np.zeros((50, 200, 3), np.uint8))
    keys = [canvas.Key(f"a rather long name of class {i}", RED) for i in range(7)]
    one, many = (pixels_of(canvas.compose([[panel]], keys[:count])) for count in (1, 7))
    assert many.shape[1] == one.shape[1] == 228 and many.shape[0] > one.shape[0] + 100
    assert is_colour(many, RED).sum() == pytest.approx(7 * is_colour(one, RED).sum(), rel=0.02)


def test_grey_values_may_be_those_of_another_image():
    image = np.linspace(0, 1, 100).reshape(10, 10)
    assert canvas.grey_image(image).max() == 255 and canvas.grey_image(image / 2, image).max() < 130
    assert (canvas.grey_image(np.zeros((3, 3))) == 0).all()
