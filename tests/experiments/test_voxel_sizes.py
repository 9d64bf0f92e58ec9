"""The voxel size that a model remembers: that of the files, and never one that nobody has said."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.experiments import voxel_sizes
from maeref_jax.volumes.volume import write_tiff

SIZE = (45.0, 4.6, 4.6)
NAMED = {"data.train.labels", "data.validation.labels"}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """settings(size of the file that is learned from, of the one for validation, …) of a config with both."""
    monkeypatch.chdir(tmp_path)

    def write(*sizes, **more):
        for name, size in zip(("a", "b"), sizes, strict=True):
            write_tiff(f"{name}.tif", np.zeros((2, 8, 8), np.uint8), size)
        files = {"train": {"images": (), "labels": ("a.tif",)}, "validation": {"images": (), "labels": ("b.tif",)}}
        return {"voxel_size_nm": (20.0, 10.0, 10.0), "data": {**files, "axes": "ZYX", **more}}

    return write


def settled(settings, given):
    said = []
    return voxel_sizes.settled(settings, given, said.append)["voxel_size_nm"], said


def test_it_is_what_the_files_say_and_that_is_said(settings):
    size, said = settled(settings(SIZE, SIZE), NAMED)
    np.testing.assert_allclose(size, SIZE)
    assert said == ["voxel_size_nm 45, 4.6, 4.6, as a.tif says"]
    assert settled(settings(None, SIZE), NAMED)[1] == ["voxel_size_nm 45, 4.6, 4.6, as b.tif says"]


def test_what_nobody_says_is_asked_for(settings):
    with pytest.raises(BadInput, match=r"a\.tif, b\.tif: no voxel size is said, .* give --voxel_size_nm Z,Y,X"):
        settled(settings(None, None), NAMED)
    assert settled(settings(None, None), {*NAMED, "voxel_size_nm"}) == ((20, 10, 10), [])


def test_files_of_other_sizes_are_refused_unless_they_are_read_at_one(settings):
    other = (90.0, 4.6, 4.6)
    with pytest.raises(BadInput, match=r"b\.tif has voxels of 90 x 4\.6 x 4\.6 nm .* but a\.tif of 45"):
        settled(settings(SIZE, other), NAMED)
    assert settled(settings(SIZE, other, at_voxel_size_nm=(20, 10, 10)), NAMED) == ((20, 10, 10), [])
    np.testing.assert_allclose(settled(settings(SIZE, (46.0, 4.6, 4.6)), NAMED)[0], SIZE)


def test_what_was_set_and_what_an_ensemble_has_stays_and_other_labels_are_warned_of(settings):
    for given, more in (({"voxel_size_nm"}, {}), ((), {"ensemble": "runs/mine"})):
        size, said = settled(settings(SIZE, (20.0, 10.0, 10.0), **more), {*NAMED, *given})
        assert size == (20, 10, 10) and len(said) == 1
        assert said[0].startswith(
            "warning: a.tif has voxels of 45 x 4.6 x 4.6 nm (z y x), but the model will remember 20"
        )


def test_the_files_of_a_config_are_what_the_config_says(settings):
    assert settled(settings(SIZE, SIZE), {"steps"}) == ((20, 10, 10), [])
