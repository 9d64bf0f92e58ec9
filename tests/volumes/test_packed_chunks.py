"""Chunks of precomputed volumes that their writer packed: CloudVolume's .gz and .br, and mixtures; no silent zeros."""

import gzip
import sys
import types

import numpy as np
import pytest
import tensorstore

from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import create_volume, open_volume
from maeref_jax.volumes.windows import Box, whole

STACK = np.random.default_rng(0).integers(1, 200, (5, 12, 17)).astype(np.uint8)


def made(path):
    """A volume of several chunks, and their files."""
    volume = create_volume(path, STACK.shape, "uint8", voxel_size_nm=(40.0, 4.0, 4.0), chunk=(2, 5, 6))
    volume.write(whole(STACK.shape), STACK)
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != "info")


def pack(file, suffix=".gz", compress=gzip.compress):
    file.with_name(file.name + suffix).write_bytes(compress(file.read_bytes()))
    file.unlink()


def check(path):
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.read(whole(STACK.shape)), STACK)
    np.testing.assert_array_equal(volume.read(Box((1, 2, 3), (4, 9, 16))), STACK[1:4, 2:9, 3:16])
    return volume


@pytest.mark.parametrize("every", [1, 2, 3])
def test_packed_chunks_are_read(tmp_path, every):
    for file in made(tmp_path / "a.precomputed")[::every]:
        pack(file)
    assert check(tmp_path / "a.precomputed").note == ""


def test_a_data_set_that_begins_elsewhere(tmp_path):
    path = tmp_path / "seg"
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": str(path)},
        "multiscale_metadata": {"type": "segmentation", "data_type": "uint32", "num_channels": 1},
        "scale_metadata": {
            "size": STACK.shape[::-1], "resolution": [4, 4, 40], "encoding": "compressed_segmentation",
            "compressed_segmentation_block_size": [8, 8, 8], "chunk_size": [8, 8, 4], "voxel_offset": [10, 20, 30],
        },
    }  # fmt: skip
    store = tensorstore.open(spec, create=True).result()
    store[..., 0].write(STACK.T.astype(np.uint32)).result()
    for file in [file for file in path.rglob("*") if file.is_file() and file.name != "info"]:
        pack(file)
    assert "(30, 20, 10)" in check(path).note


def test_missing_and_damaged_chunks_are_told(tmp_path):
    files = made(tmp_path / "a.precomputed")
    files[0].unlink()
    volume = open_volume(tmp_path / "a.precomputed")
    assert f"1 of {len(files)} chunks are not on disk" in volume.note
    for file in files[1:]:
        pack(file)
    assert f"1 of {len(files)} chunks are not on disk" in open_volume(tmp_path / "a.precomputed").note
    damaged = files[1].with_name(files[1].name + ".gz")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(BadInput, match=r"\.gz cannot be unpacked"):
        open_volume(tmp_path / "a.precomputed").read(whole(STACK.shape))


def test_brotli_needs_its_package(tmp_path, monkeypatch):
    for file in made(tmp_path / "a.precomputed"):
        pack(file, ".br")
    monkeypatch.setitem(sys.modules, "brotli", None)
    with pytest.raises(BadInput, match="pip install brotli"):
        open_volume(tmp_path / "a.precomputed")
    stand_in = types.SimpleNamespace(decompress=gzip.decompress, error=OSError)
    monkeypatch.setitem(sys.modules, "brotli", stand_in)
    check(tmp_path / "a.precomputed")


def test_behind_a_url_they_are_refused(tmp_path, server):
    files = made(tmp_path / "a.precomputed")
    assert open_volume(f"{server}/a.precomputed").shape == STACK.shape
    for file in files:
        pack(file)
    with pytest.raises(BadInput, match=r"chunks packed as .*\.gz or \.br.*copy it"):
        open_volume(f"{server}/a.precomputed")
