"""volumes/voxel_size.py: what is a voxel size, and what is refused wherever one is typed."""

import pytest

from maeref_jax.errors import BadInput
from maeref_jax.volumes.voxel_size import checked_size


@pytest.mark.parametrize("said", ["45,4.6,4.6", "45;4.6;4.6", " 45, 4.6 ,4.6", (45, 4.6, 4.6)])
def test_a_voxel_size_in_any_spelling(said):
    assert checked_size(said, "--voxel_size_nm") == (45.0, 4.6, 4.6)


@pytest.mark.parametrize(
    "said", ["", "5", "1,2", "1,2,3,4", "a,b,c", "0,1,1", "-1,1,1", "nan,1,1", "inf,1,1", 5, (1, None, 1)]
)
def test_anything_else_is_refused_by_the_name_of_the_flag(said):
    with pytest.raises(BadInput, match="--voxel_size_nm expects three positive numbers z,y,x, found"):
        checked_size(said, "--voxel_size_nm")


def test_lengths_that_are_no_nanometres_are_refused():
    with pytest.raises(BadInput, match="smaller than an atom; are these metres, or µm"):
        checked_size((45e-9, 4.6e-9, 4.6e-9), "--voxel_size_nm")
    assert checked_size((0.1, 0.1, 0.1), "--voxel_size_nm") == (0.1, 0.1, 0.1)
