"""What made a result, compared with what would make it now: differences in words that a user understands."""

import os

import numpy as np

from maeref_jax.results.made_by import differences_of
from maeref_jax.volumes.volume import open_volume


def test_a_file_that_was_written_anew_is_named_with_both_times(tmp_path):
    path = tmp_path / "a.npy"

    def made(array, seconds):
        np.save(path, array)
        os.utime(path, ns=(seconds * 10**9, seconds * 10**9 + 5_000_000))
        return {"inputs": {"image": open_volume(path, axes="ZYX").identity()}}

    first, second = made(np.zeros((1, 2, 3)), 10**9), made(np.ones((1, 2, 3)), 10**9 + 61)
    assert list(differences_of(first, first)) == []
    assert list(differences_of(first, second)) == [
        f"inputs.image, the file {path}, was written anew, last changed 2001-09-09 01:46:40.005 UTC then, "
        "2001-09-09 01:47:41.005 UTC now"
    ]
    (line,) = differences_of(first, made(np.ones((1, 2, 1000)), 10**9))
    assert line == f"inputs.image, the file {path}, had 176 bytes and has 16,128"
    assert list(differences_of({"image": first["inputs"]["image"] | {"modified_ns": 10**30}}, first["inputs"]))


def test_what_an_earlier_version_did_not_note_is_not_compared():
    earlier, now = {"path": "a.tif"}, {"path": "a.tif", "voxel_size_nm": [30.0, 5.0, 5.0]}
    assert list(differences_of({"inputs": {"image": earlier}}, {"inputs": {"image": now}})) == []
    assert list(differences_of(now, now | {"voxel_size_nm": None})) == [
        "voxel_size_nm was [30.0, 5.0, 5.0] and is now null"
    ]
    assert list(differences_of({}, {"agree_within_nm": 0.0})) == []
    assert list(differences_of({}, {"agree_within_nm": 40.0})) == ["agree_within_nm was null and is now 40.0"]
