"""volumes/inputs.py: what is said of files that do not belong together."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.volumes.inputs import check_same_grid, doubt_about_entropy
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


@pytest.mark.parametrize(
    ("highest", "dtype", "classes", "told"),
    [
        (0.6931, np.float32, 2, "the logarithm of 2; if it is in nats, divide it by that"),
        (0.6931, np.float32, 3, ""),
        (0.72, np.float32, 2, ""),
        (100, np.uint8, 2, "per cent, divide them by 100"),
        (101, np.uint8, 2, ""),
        (1, np.uint8, 2, "is it a mask? give it as --hidden"),
        (0, np.float32, 2, "is 0 everywhere: it hides nothing"),
    ],
)
def test_entropy_that_is_probably_on_another_scale_is_doubted(highest, dtype, classes, told):
    entropy = np.zeros((2, 8, 8), dtype)
    entropy[1, 3, 3] = highest
    found = doubt_about_entropy(array_volume(entropy, "entropy"), classes)
    assert (told in found and "entropy" in found) if told else found == ""
