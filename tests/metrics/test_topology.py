"""Pieces, holes and cristae on masks small enough to count by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.metrics import topology
from maeref_jax.volumes.dataset import mapped_labels
from maeref_jax.volumes.volume import open_volume

RING = np.zeros((7, 7), bool)
RING[1:6, 1:6] = True
RING[3, 3] = False


@pytest.mark.parametrize(
    ("name", "mask", "expected"),
    [
        ("empty", np.zeros((5, 5), bool), (0, 0, 0)),
        ("one pixel", np.eye(1, 25, 12, dtype=bool).reshape(5, 5), (1, 0, 1)),
        ("one pixel in the corner", np.eye(1, 25, 0, dtype=bool).reshape(5, 5), (1, 0, 1)),
        ("full", np.ones((5, 5), bool), (1, 0, 1)),
        ("diagonal", np.eye(5, dtype=bool), (1, 0, 1)),
        ("ring", RING, (1, 1, 0)),
        ("a ring cut by the border is no hole", RING[:4], (1, 0, 1)),
        ("a diagonal ring encloses a hole", np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool), (1, 1, 0)),
    ],
)
def test_pieces_and_holes_in_a_plane(name, mask, expected):
    assert tuple(topology.shape_counts(mask).values()) == expected, name


def test_pieces_cavities_and_tunnels_in_a_box():
    cube = np.zeros((7, 7, 7), bool)
    cube[1:6, 1:6, 1:6] = True
    assert topology.shape_counts(cube) == {"components": 1, "holes": 0, "euler_number": 1, "tunnels": 0}
    hollow = cube.copy()
    hollow[3, 3, 3] = False
    assert topology.shape_counts(hollow) == {"components": 1, "holes": 1, "euler_number": 2, "tunnels": 0}
    torus = cube.copy()
    torus[:, 3, 3] = False
    assert topology.shape_counts(torus) == {"components": 1, "holes": 0, "euler_number": 0, "tunnels": 1}
    assert topology.shape_counts(np.zeros((3, 3, 3), bool))["tunnels"] == 0
    assert topology.shape_counts(np.ones((2, 3, 3), bool))["euler_number"] == 1


def test_a_hole_that_nobody_knows_is_none():
    known = np.ones(RING.shape, bool)
    known[3, 3] = False
    assert topology.shape_counts(RING, known)["holes"] == 0
    known[3, 3], known[0, 0] = True, False
    assert topology.shape_counts(RING, known)["holes"] == 1


@given(st.integers(0, 2**32 - 1))
def test_the_euler_number_is_pieces_minus_holes_in_any_plane(seed):
    mask = np.random.default_rng(seed).random((12, 13)) < 0.5
    found = topology.shape_counts(mask)
    assert found["euler_number"] == found["components"] - found["holes"]


def plane(*pieces):
    """Matrix with cristae (y0, y1, x0, x1), inside an intermembrane frame of one pixel inside background."""
    labels = np.zeros((14, 16), np.int16)
    labels[1:13, 1:15], labels[2:12, 2:14] = 1, 3
    for y0, y1, x0, x1 in pieces:
        labels[y0:y1, x0:x1] = 2
    return labels


def test_a_crista_with_less_than_half_of_its_boundary_on_matrix_is_detached():
    inside = topology.cristae_counts(plane((4, 6, 5, 8)))
    assert inside == {"cristae": 1, "cristae_detached": 0}
    # 1 x 3 in the frame between matrix and background: 3 of its 8 edges on matrix.
    assert topology.cristae_counts(plane((1, 2, 6, 9)))["cristae_detached"] == 1
    # Two pixels deep: upper row on intermembrane (3), sides 4, lower 3: 7 of 10 on matrix, attached.
    assert topology.cristae_counts(plane((2, 4, 6, 9)))["cristae_detached"] == 0
    # A single pixel with exactly half of its boundary on matrix is not detached: less than half is.
    one = np.array([[0, 3, 0], [3, 2, 0], [0, 0, 0]], np.int16)
    assert topology.cristae_counts(one) == {"cristae": 1, "cristae_detached": 0}
    one[0, 1] = 0
    assert topology.cristae_counts(one)["cristae_detached"] == 1


def test_empty_border_touching_and_unknown():
    assert topology.cristae_counts(plane()) == {"cristae": 0, "cristae_detached": 0}
    assert topology.cristae_counts(np.full((4, 4), 2)) == {"cristae": 1, "cristae_detached": 0}
    corner = np.array([[2, 3], [3, 3]], np.int16)
    assert topology.cristae_counts(corner)["cristae_detached"] == 0, "the border of the crop is no boundary"
    unknown = np.array([[-1, 3, -1], [-1, 2, -1], [-1, -1, -1]], np.int16)
    assert topology.cristae_counts(unknown)["cristae_detached"] == 0, "its whole known boundary is on matrix"


def test_faces_weigh_what_they_measure():
    # On matrix to the left and right; on background above and below.
    one = np.array([[0, 0, 0], [3, 2, 3], [0, 0, 0]], np.int16)
    assert topology.cristae_counts(one)["cristae_detached"] == 0
    # Flat pixels: faces between columns measure 1 nm, those between rows 10 nm.
    assert topology.cristae_counts(one, voxel_size_nm=(1.0, 10.0))["cristae_detached"] == 1
    with pytest.raises(BadInput, match="2 axes"):
        topology.cristae_counts(one, voxel_size_nm=(1.0, 1.0, 1.0))


def test_reaching_the_inner_membrane_is_asked_in_a_box_only():
    box = np.stack([plane()] * 5)
    box[2, 4:6, 5:8] = 2  # free in the matrix
    box[2:4, 2:4, 10:12] = 2  # from the intermembrane space inwards
    box[4, 8:10, 5:8] = 2  # free, but on the last slice
    found = topology.cristae_counts(box)
    assert found == {"cristae": 3, "cristae_detached": 0, "cristae_reaching": 1, "cristae_cut": 1}
    box[0, 2:5, 3:5] = 2  # on the first slice, and reaches
    assert topology.cristae_counts(box) == {**found, "cristae": 4, "cristae_reaching": 2}
    assert "cristae_reaching" not in topology.cristae_counts(box[2])


def test_true_cristae_are_attached_and_reach_the_membrane_in_three_dimensions(real_data):
    """Why detached cristae count against a mask, and pieces that end in the matrix of a plane do not."""
    volume = open_volume(real_data / "mef_cristae" / "NI_m1_label.tif", axes="ZYX")
    scheme = {"label_map": ((0, 0), (1, 3), (2, 2), (3, 1)), "shell_class": 1, "shell_vx": 6.0}
    labels = mapped_labels(volume, scheme, 4)
    solid = topology.cristae_counts(labels)
    planes = [topology.cristae_counts(labels[z : z + 1]) for z in range(0, len(labels), 4)]
    pieces, detached, reaching = (
        sum(plane[name] for plane in planes) for name in ("cristae", "cristae_detached", "cristae_reaching")
    )
    assert pieces > 50 and detached == solid["cristae_detached"] == 0
    assert solid["cristae_reaching"] > 0.8 * (solid["cristae"] - solid["cristae_cut"]) and reaching < 0.7 * pieces


def test_all_counts_of_one_crop_and_class_ids_are_arguments():
    from maeref_jax.metrics.validity import Classes

    labels = plane((4, 6, 5, 8), (8, 9, 5, 8))
    labels[6, 11] = 1  # a hole in the inner part
    found = topology.counts(labels)
    assert found == {
        "inner_components": 1,
        "inner_holes": 1,
        "inner_euler_number": 0,
        "cristae": 2,
        "cristae_detached": 0,
    }
    assert topology.counts(np.array([3, 2, 1, 0])[labels], Classes(3, 2, 1, 0)) == found
