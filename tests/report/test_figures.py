"""The paper's figures draw what they say, where it is."""

import numpy as np
import pytest
from test_canvas import COLOURS, is_colour, pixels_of
from test_panels import NAMES, a_slice

from maeref_jax.metrics import validity
from maeref_jax.report import canvas, figures
from maeref_jax.report.panels import Slice

SIZE = (20.0, 10.0, 10.0)


def mitochondrion(side=64):
    """Labels with a shell of intermembrane space around the matrix and two cristae, flawless."""
    labels = np.zeros((side, side), np.int16)
    labels[8:-8, 8:-8] = 1
    labels[14:-14, 14:-14] = 3
    labels[20:-20, 20:24] = labels[20:-20, 36:40] = 2
    return labels


def damaged():
    """A breach of 6 voxels: background reaches matrix; and a hole of 3 x 4 voxels in the matrix."""
    labels = mitochondrion()
    labels[30:36, 8:14] = 0
    labels[44:47, 28:32] = 1
    return labels


def panel_of(png, index, count, side):
    """The pixels of one of `count` panels in the first row, without title and legend."""
    page = pixels_of(png)
    by = canvas.scale_for(side, count)
    rows = np.flatnonzero((page != 255).any(-1).sum(1) > 0.5 * count * side * by)
    left = 14 + index * (side * by + 14)
    return page[rows[0] : rows[0] + side * by, left : left + side * by], by


def test_valid_masks_have_no_marks_and_damage_is_marked_where_it_is():
    png = figures.validity_figure({"valid": mitochondrion(), "damaged": damaged()}, NAMES, COLOURS, voxel_size_nm=SIZE)
    assert (
        figures.validity_figure({"valid": mitochondrion(), "damaged": damaged()}, NAMES, COLOURS, voxel_size_nm=SIZE)
        == png
    )
    flawless, by = panel_of(png, 0, 2, 64)
    assert not is_colour(flawless, figures.BREACH_COLOUR).any() and not is_colour(flawless, figures.HOLE_COLOUR).any()
    broken, _ = panel_of(png, 1, 2, 64)
    rows, columns = np.nonzero(is_colour(broken, figures.BREACH_COLOUR))
    assert rows.min() // by in (29, 30) and rows.max() // by in (35, 36)
    assert set(columns // by) == {13, 14}
    rows, columns = np.nonzero(is_colour(broken, figures.HOLE_COLOUR))
    assert (rows.min() // by, rows.max() // by, columns.min() // by, columns.max() // by) == (44, 46, 28, 31)


def test_class_ids_are_arguments():
    labels = mitochondrion()
    swapped = np.array([3, 2, 1, 0])[labels]
    other = validity.Classes(background=3, intermembrane=2, cristae=1, matrix=0)
    one, two = figures.interfaces(labels), figures.interfaces(swapped, other)
    for name in figures.EDGE_COLOURS:
        for a, b in zip(one[name], two[name], strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_skeletons_points_are_those_that_are_counted():
    mask = np.zeros((40, 40), bool)
    mask[19:22, 5:35] = mask[5:20, 19:22] = True  # a T
    ends, branches, lines = figures.skeleton_of(mask)
    counted = validity.skeleton_counts(mask)
    assert len(ends) == counted["end_points"] == 3 and len(branches) == 1
    assert np.abs(branches[0] - (20, 20)).max() <= 2
    assert (np.abs(lines[:, 0] - lines[:, 1]).max(1) == 1).all()
    thin, _ = validity.thinned(mask)
    assert thin[tuple(branches.T)].all() and thin[tuple(ends.T)].all(), "points lie on the skeleton"
    assert mask[tuple(lines.reshape(-1, 2).T)].all()
    nothing = figures.skeleton_of(np.zeros((5, 5), bool))
    assert [len(found) for found in nothing] == [0, 0, 0]


def test_skeletons_are_drawn_on_the_inner_mask():
    labels = np.zeros((40, 40), int)
    labels[19:22, 5:35] = labels[5:20, 19:22] = 3
    labels[25:30, 5:35] = 1
    png = figures.skeleton_figure({"before": labels, "after": labels * 0}, voxel_size_nm=None)
    page = pixels_of(png)
    by = canvas.scale_for(40, 2)
    page = page[:, : 14 + 40 * by]
    rows, _ = np.nonzero(is_colour(page, figures.MASK_COLOUR))
    top = rows.min() - 5 * by  # the mask begins at row 5
    panel = page[top : top + 40 * by, 14:]
    ends, branches, _ = figures.skeleton_of(labels == 3)
    for points, colour in ((ends, figures.END_COLOUR), (branches, figures.BRANCH_COLOUR)):
        for y, x in (points + 0.5) * by:
            assert is_colour(panel, colour)[int(y), int(x)]
    assert is_colour(panel, figures.LINE_COLOUR)[20 * by : 22 * by, 10 * by : 12 * by].any()
    shell = canvas.enlarged(labels == 1, by)
    assert (panel[shell] == 255).all(), "only inner is drawn"


def test_the_pipeline_shows_image_members_and_what_was_hidden():
    one = a_slice(64, 64)
    members = np.stack([np.full(one.truth.shape, i % 4) for i in range(8)])
    arguments = (one.image, members, one.initial, one.entropy, one.hidden, one.refined, NAMES, COLOURS)
    png = figures.pipeline_figure(*arguments, SIZE)
    page = pixels_of(png)
    by = canvas.scale_for(64, 4)
    blank = is_colour(page, figures.BLANK_COLOUR).sum()
    hidden = one.hidden.sum() * by**2
    outline = 2 * 2 * (8 + 16) * by
    assert hidden - outline <= blank <= hidden + 200, "blank tokens, the square of the legend aside"
    small = canvas.scale_for(64, 7)
    assert is_colour(page, COLOURS[1]).sum() >= 2 * (64 * small) ** 2, "members 2 and 6"
    fewer = pixels_of(figures.pipeline_figure(one.image, members[:2], *arguments[2:], SIZE))
    assert fewer.shape[1] > 1000


def test_degradation_outlines_the_region_and_says_its_mean(monkeypatch):
    region = np.zeros((64, 64), bool)
    region[10:30, 20:40] = True
    image = np.random.default_rng(0).random((64, 64)) * 100
    case = figures.Faded(image, np.where(region, 50, image), region * 0.125, region * 0.75, region)
    said, real = [], figures.compose
    monkeypatch.setattr(figures, "compose", lambda rows, legend: (said.extend(rows), real(rows, legend))[1])
    png = figures.degradation_figure({"square root": case, "noise": case}, SIZE)
    assert [panel.note for panel in said[0]][2:] == ["mean in the outline: 0.125", "mean in the outline: 0.750"]
    assert len(said) == 2 and said[1][0].title == "noise: image before"
    for panel in said[0]:
        found = is_colour(panel.picture, canvas.HIDDEN_COLOUR)
        assert found.any() and not found[~canvas.enlarged(region, panel.enlarge)].any()
    assert pixels_of(png).shape[1] > 1000
    nowhere = case._replace(region=np.zeros((64, 64), bool))
    figures.degradation_figure({"nothing": nowhere})
    assert said[-1][3].note.endswith("nan")


def test_boundaries_are_in_the_colours_of_their_interfaces(monkeypatch):
    said, real = [], figures.compose
    monkeypatch.setattr(figures, "compose", lambda rows, legend: (said.extend(rows[0]), real(rows, legend))[1])
    labels = damaged()
    labels[20:24, 14:20] = 2  # a crista that reaches the intermembrane space
    figures.boundary_figure({"one": labels}, NAMES, COLOURS, voxel_size_nm=SIZE)
    (panel,) = said
    by = panel.enlarge
    for name, (first, second) in figures.interfaces(labels).items():
        found = is_colour(panel.picture, figures.EDGE_COLOURS[name])
        assert found.any(), name
        near = canvas.edges_marked(np.zeros_like(panel.picture), first, second, by, (1, 1, 1))[..., 0] == 1
        assert not found[~near].any(), name
    counted = validity.metrics(validity.counts(labels))
    assert f"{counted['cristae_boundary']:.1%}" in panel.note and f"{counted['inner_background']:.1%}" in panel.note
    figures.boundary_figure({"empty": labels * 0}, NAMES, COLOURS)
    assert "undefined" in said[-1].note


@pytest.mark.parametrize("missing", [(), ("truth",), ("image", "truth")])
def test_windows_have_a_column_for_what_there_is(missing, monkeypatch):
    said, real = [], figures.compose
    monkeypatch.setattr(figures, "compose", lambda rows, legend: (said.extend(rows), real(rows, legend))[1])
    one = a_slice(64, 64)._replace(**dict.fromkeys(missing))
    png = figures.windows_figure({"first": one, "second": one}, NAMES, COLOURS, SIZE)
    assert [len(row) for row in said] == [5 - len(missing)] * 2 and pixels_of(png).shape[1] > 900
    initial, covered, filled = (panel.picture for panel in said[0][:3])
    inner = canvas.enlarged(one.hidden, said[0][0].enlarge) & ~is_colour(covered, canvas.HIDDEN_COLOUR)
    assert (covered[inner] == figures.BLANK_COLOUR).all() and (initial[~inner] == covered[~inner]).all()
    assert (filled != initial).any()


def test_a_window_without_an_image_leaves_its_place_empty():
    one = a_slice(64, 64)
    assert isinstance(one, Slice)
    figures.windows_figure({"first": one, "second": one._replace(image=None)}, NAMES, COLOURS)
