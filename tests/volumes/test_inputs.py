"""volumes/inputs.py: what is said of files that do not belong together."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.volumes.inputs import check_same_grid
from maeref_jax.volumes.view import array_volume


@pytest.mark.parametrize(
    ("shape", "size", "hint"),
    [
        ((2, 11, 11), (8.0, 8.0, 8.0), "; their voxels are of different size: --at_voxel_size_nm 8,4,4 reads both"),
        ((2, 22, 21), (8.0, 4.0, 4.0), ""),  # no other size helps who cut off a row
        ((2, 11, 16), (8.0, 8.0, 8.0), ""),
        ((2, 11, 11), None, ""),
    ],
)
def test_two_shapes_are_refused_and_a_way_out_is_named_where_there_is_one(shape, size, hint):
    image = array_volume(np.zeros((2, 22, 22), np.uint8), "image", (8.0, 4.0, 4.0))
    with pytest.raises(BadInput) as refused:
        check_same_grid(image, array_volume(np.zeros(shape, np.uint8), "labels", size))
    assert "labels has shape" in str(refused.value) and "both must show the same voxels" in str(refused.value)
    assert hint in str(refused.value) and bool(hint) == ("at_voxel_size_nm" in str(refused.value))
