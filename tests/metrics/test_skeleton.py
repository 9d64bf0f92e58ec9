"""Skeletons of shapes whose length, branches and loops are known."""

import numpy as np
import pytest

from maeref_jax.metrics.skeleton import measure, positions_nm, pruned, radii_nm, skeleton_of, swc_lines

SIZE = (30.0, 5.0, 4.0)


def tube():
    mask = np.zeros((7, 9, 60), bool)
    mask[2:5, 3:6, 5:55] = True
    return mask


def found(mask, size=SIZE):
    skeleton = skeleton_of(mask)
    skeleton, radii = pruned(skeleton, radii_nm(skeleton, mask, size), size)
    return measure(skeleton, positions_nm(skeleton, radii, size))


def test_a_straight_tube():
    assert found(tube()) == {"length_nm": pytest.approx(47 * 4, abs=12), "branches": 1, "end_points": 2, "cycles": 0}
    along_z = found(tube().transpose(2, 1, 0))
    assert along_z["length_nm"] == pytest.approx(47 * 30, abs=90), "lengths are in nm of their own axis"
    assert measure(skeleton_of(tube()), None)["length_nm"] is None


def test_a_line_of_every_direction_has_its_exact_length():
    for step in ((0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 0, -1)):
        mask = np.zeros((12, 12, 12), bool)
        for i in range(9):
            mask[tuple(1 + i * s if s >= 0 else 10 - i for s in step)] = True
        assert found(mask)["length_nm"] == pytest.approx(8 * np.linalg.norm(np.multiply(step, SIZE)))


@pytest.mark.parametrize("size", [(8.0, 8.0, 8.0), (30.0, 5.0, 5.0), (45.0, 4.6, 4.6)])
@pytest.mark.parametrize("slope", [0.2, 0.5, 1.0])
def test_an_oblique_tube_is_not_as_long_as_its_staircase(size, slope):
    """A tube of 60 nm radius through x and z, `slope` nm up for each along."""
    end = np.array([1.0, 0.0, 1.0]) * (slope * 1200, 0, 1200)
    shape = tuple(int(n) for n in np.ceil((end + 200) / size))
    grid = (np.indices(shape).T * size - 100).T
    along = np.clip(np.tensordot(end, grid, 1) / end.dot(end), 0, 1)
    got = found(np.linalg.norm(grid - end[:, None, None, None] * along, axis=0) < 60, size)
    assert got["length_nm"] == pytest.approx(np.linalg.norm(end), rel=0.06)
    assert (got["branches"], got["end_points"], got["cycles"]) == (1, 2, 0)


def test_a_corner_is_no_junction():
    mask = np.zeros((1, 9, 9), bool)
    mask[0, 1, 1:8] = mask[0, 1:8, 7] = True
    got = found(mask)
    assert (got["branches"], got["end_points"], got["cycles"]) == (1, 2, 0)


def test_a_ring_a_cross_and_an_enclosed_hole():
    ring = np.zeros((1, 15, 15), bool)
    ring[0, 2:13, 2:13] = True
    ring[0, 6:9, 6:9] = False
    got = found(np.repeat(ring, 3, 0))
    assert (got["cycles"], got["end_points"]) == (1, 0)
    cross = np.zeros((3, 41, 41), bool)
    cross[:, 19:22, 2:39] = cross[:, 2:39, 19:22] = True
    got = found(cross)
    assert (got["branches"], got["end_points"], got["cycles"]) == (4, 4, 0)
    lines = np.zeros((1, 21, 21), bool)
    lines[0, 10, :] = lines[0, :, 10] = True
    skeleton = skeleton_of(lines)
    steps = measure(skeleton, skeleton.points * np.array(SIZE))
    assert steps["length_nm"] == 20 * 4 + 20 * 5 and steps["branches"] == 4, "no shortcut around a junction"
    hollow = tube()
    hollow[3, 4, 20:40] = False
    assert found(hollow) == found(tube())


def test_loops_through_many_slices_are_counted_once():
    ladder = np.zeros((60, 1, 21), bool)
    ladder[:, 0, 0] = ladder[:, 0, 20] = True
    ladder[::10] = True
    for turned in (ladder, ladder.transpose(2, 0, 1), ladder.transpose(1, 2, 0)):
        assert skeleton_of(turned).cycles == 5


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
def test_the_smallest_objects(shape):
    got = found(np.ones(shape, bool))
    assert got["cycles"] == 0 and got["length_nm"] <= 62
    assert measure(skeleton_of(np.zeros(shape, bool)), np.zeros((0, 3))) == {
        "length_nm": 0.0,
        "branches": 0,
        "end_points": 0,
        "cycles": 0,
    }


def test_radius_is_the_distance_to_the_nearest_voxel_outside():
    mask = tube()
    skeleton = skeleton_of(mask)
    middle = skeleton.points[:, 2] == 30
    assert radii_nm(skeleton, mask, (10.0, 10.0, 10.0))[middle] == pytest.approx([20.0])
    assert radii_nm(skeleton, mask, SIZE)[middle] == pytest.approx([10.0]), "the nearest face is that in y"


def test_what_an_object_encloses_makes_it_no_thinner():
    solid, hollow = tube(), tube()
    hollow[3, 4, 20:40] = False
    skeleton = skeleton_of(hollow)
    np.testing.assert_array_equal(radii_nm(skeleton, hollow, SIZE), radii_nm(skeleton, solid, SIZE))


def test_swc_is_a_forest_in_nm_with_parents_before_children():
    mask = np.zeros((3, 30, 60), bool)
    mask[:, 2:5, 2:40] = True
    mask[:, 10:21, 10:21] = True  # a second piece, with a loop
    mask[:, 14:17, 14:17] = False
    skeleton = skeleton_of(mask)
    assert skeleton.cycles == 1
    radii = radii_nm(skeleton, mask, SIZE)
    position = positions_nm(skeleton, radii, SIZE)
    lines = [line.split() for line in swc_lines(skeleton, position, radii)]
    assert [int(line[0]) for line in lines] == list(range(1, len(skeleton.points) + 1))
    assert all(int(line[6]) < int(line[0]) for line in lines) and sum(line[6] == "-1" for line in lines) == 2
    assert (np.abs(position - skeleton.points * np.array(SIZE)) < 2 * np.array(SIZE)).all()
    z, y, x = position.T
    expected = sorted(zip(x.round(1), y.round(1), z.round(1), strict=True))
    np.testing.assert_allclose(sorted(tuple(map(float, line[2:5])) for line in lines), expected)
    by_number = {int(line[0]): np.array(line[2:5], float) for line in lines}
    steps = [np.abs(by_number[int(c[0])] - by_number[int(c[6])]) for c in lines if c[6] != "-1"]
    assert (np.array(steps) <= np.array([8, 10, 30.05])).all(), "a parent that is no neighbour"
