"""Volumes whose files say that they lie elsewhere, or the other way round: told, as voxels are matched as stored."""

import dataclasses

import numpy as np
import pytest

from maeref_jax.volumes.formats.stored import Placement
from maeref_jax.volumes.inputs import doubts_about_place
from maeref_jax.volumes.resolution import at_voxel_size
from maeref_jax.volumes.view import array_volume

SHAPE, SIZE = (6, 40, 40), (40.0, 10.0, 10.0)
STRAIGHT = {"X": (0.01, 0.0, 0.0), "Y": (0.0, 0.01, 0.0), "Z": (0.0, 0.0, 0.04)}  # µm
ORIGIN = (1.0, 2.0, 3.0)


def lying(columns=STRAIGHT, origin=ORIGIN, unit="micron", shape=SHAPE):
    volume = array_volume(np.zeros(shape, np.uint8), "other", SIZE)
    return dataclasses.replace(volume, placement=Placement(columns, origin, unit))


def test_the_same_place_in_other_voxels_or_units_is_no_doubt():
    millimetres = {axis: tuple(1e-3 * length for length in column) for axis, column in STRAIGHT.items()}
    others = [
        lying(),
        at_voxel_size(lying(), (80, 30, 25), "mean"),
        at_voxel_size(lying(), (40, 5, 4), "nearest"),
        lying(millimetres, (1e-3, 2e-3, 3e-3), "mm"),
        lying(origin=(1.009, 2.0, 3.039)),
        lying(origin=(9.0, 9.0, 9.0), unit="unknown"),
        lying({"X": (1.0, 0.0, 0.0), "Y": (0.0, 1.0, 0.0), "Z": (0.0, 0.0, 1.0)}, unit="unknown"),
        array_volume(np.zeros(SHAPE, np.uint8), "no place", SIZE),
    ]
    assert doubts_about_place([lying(), *others]) == []
    assert doubts_about_place(others[-1:]) == doubts_about_place([]) == []


@pytest.mark.parametrize(
    "other",
    [
        lying(origin=(1.011, 2.0, 3.0)),
        lying(origin=(1.0, 2.0, 3.041)),
        lying(STRAIGHT | {"X": (-0.01, 0.0, 0.0)}, (1.39, 2.0, 3.0)),  # mirrored, within the same walls
        lying(STRAIGHT | {"X": STRAIGHT["Y"], "Y": STRAIGHT["X"]}),  # of the same corners
        lying(origin=(1e-3, 2e-3, 3e-3), unit="mm"),
        at_voxel_size(lying(origin=(1.3, 2.0, 3.0)), (40, 40, 40), "mean"),
        lying(STRAIGHT | {"X": (-10.0, 0.0, 0.0)}, (9.0, 9.0, 9.0), "unknown"),  # directions need no unit
    ],
)
def test_another_place_or_turn_is_told(other):
    (told,) = doubts_about_place([lying(), other])
    assert "other lies elsewhere in the world than other, or is turned" in told and "as they are stored" in told
