"""N5 and precomputed: x y z on disk, z y x here; voxel sizes by each writer's own convention."""

import json
import tempfile

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import create_volume, open_probabilities, open_volume
from maeref_jax.volumes.windows import Box, blocks, whole

STACK = np.random.default_rng(0).integers(1, 200, (5, 12, 17)).astype(np.uint8)
SIZE = (40.0, 4.0, 4.5)


def read(volume):
    return volume.read(whole(volume.shape))


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["a.n5", "a.precomputed"]),
    st.sampled_from(["uint8", "uint16", "float32"]),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.sampled_from([None, 3]),
)
def test_round_trip_box_by_box(name, dtype, shape, chunk, classes):
    array = np.random.default_rng(0).integers(0, 99, (classes or 1, *shape)).astype(dtype)
    made = {"voxel_size_nm": (0.1, 4.6, 1234.5), "classes": classes, "chunk": chunk}
    with tempfile.TemporaryDirectory() as folder:
        for box in blocks(shape, (3, 4, 5)):  # opened anew for every box
            volume = create_volume(f"{folder}/{name}", shape, dtype, **made)
            assert (volume.shape, volume.classes, volume.dtype) == (shape, classes, dtype)
            volume.write(box, array[(..., *box.slices)][0 if classes is None else slice(None)])
        for channel in range(classes or 1):
            volume = open_volume(f"{folder}/{name}", channel=None if classes is None else channel)
            assert (volume.shape, volume.dtype, volume.voxel_size_nm) == (shape, dtype, made["voxel_size_nm"])
            np.testing.assert_array_equal(read(volume), array[channel])
        if dtype == "float32" and classes:
            np.testing.assert_array_equal(read(open_probabilities(f"{folder}/{name}")), array)
        for other in ({"shape": (*shape[:2], 10)}, {"dtype": "float64"}):
            with pytest.raises(BadInput, match="cannot create the array"):
                create_volume(f"{folder}/{name}", **({"shape": shape, "dtype": dtype} | other | made))


def n5(path, array, **attributes):
    """As another program writes it: dimensions in N5's order."""
    metadata = {"dimensions": array.T.shape, "dataType": array.dtype.name, "blockSize": [4] * array.ndim}
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(path)}}
    metadata["compression"] = {"type": "gzip"}
    tensorstore.open(spec | {"metadata": metadata}, create=True).result().write(array.T).result()
    file = path / "attributes.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | attributes))
    return path


COSEM = {"axes": ["z", "y", "x"], "scale": [0.04, 4, 4.5], "units": ["um", "nm", "nm"], "translate": [0, 0, 0]}


@pytest.mark.parametrize(
    "attributes",
    [
        {"axes": ["x", "y", "z"], "resolution": [4.5, 4, 40], "units": ["nm"] * 3},
        {"axes": ["x", "y", "z"], "pixelResolution": {"dimensions": [0.0045, 0.004, 0.04], "unit": "um"}},
        {"pixelResolution": {"dimensions": [4.5, 4, 40], "unit": "nm"}},
        {"transform": COSEM},
        {"transform": {name: list(reversed(values)) for name, values in COSEM.items()} | {"ordering": "F"}},
        {"transform": COSEM, "pixelResolution": {"dimensions": [4.5, 4, 40], "unit": "nm"}},
    ],
)
def test_n5_of_others(tmp_path, attributes):
    volume = open_volume(n5(tmp_path / "a", STACK, **attributes))
    assert (volume.shape, volume.voxel_size_nm) == (STACK.shape, SIZE)
    np.testing.assert_array_equal(volume.read(Box((1, 2, 3), (4, 9, 16))), STACK[1:4, 2:9, 3:16])


def test_n5_that_does_not_say_or_does_not_fit(tmp_path):
    path = n5(tmp_path / "a.n5" / "raw", STACK)
    with pytest.raises(BadInput, match=r"\(17, 12, 5\) does not say what its axes are.*mostly XYZ"):
        open_volume(path)
    np.testing.assert_array_equal(read(open_volume(path, axes="XYZ")), STACK)
    (tmp_path / "a.n5" / "attributes.json").write_text('{"n5": "2.5.0"}')
    with pytest.raises(BadInput, match=r"is an N5 group.*give one of: .*a\.n5/raw"):
        open_volume(tmp_path / "a.n5")
    with pytest.raises(BadInput, match=r"x,y: 2 names for 3 axes"):
        open_volume(n5(tmp_path / "b", STACK, axes=["x", "y"]))
    unit = {"dimensions": [4, 4, 40], "unit": "parsec"}
    assert open_volume(n5(tmp_path / "c", STACK, pixelResolution=unit)).voxel_size_nm is None
    (path / "0" / "0" / "0").unlink()
    assert "not on disk" in open_volume(path, axes="XYZ").note


def test_scales_and_offset_of_precomputed(tmp_path):
    path = tmp_path / "seg"
    for scale, array in ((1, STACK), (2, STACK[:, ::2, ::2])):
        spec = {
            "driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": str(path)},
            "multiscale_metadata": {"type": "segmentation", "data_type": "uint8", "num_channels": 1},
            "scale_metadata": {
                "size": array.shape[::-1], "resolution": [4.5 * scale, 4 * scale, 40], "encoding": "raw",
                "chunk_size": [4, 4, 4], "voxel_offset": [10, 20, 30],
            },
        }  # fmt: skip
        tensorstore.open(spec, create=True).result()[..., 0].write(array.T).result()
    volume = open_volume(path)
    assert (volume.shape, volume.voxel_size_nm) == (STACK.shape, SIZE)
    assert "(30, 20, 10)" in volume.note
    np.testing.assert_array_equal(volume.read(Box((1, 2, 3), (4, 9, 16))), STACK[1:4, 2:9, 3:16])
    key = json.loads((path / "info").read_text())["scales"][1]["key"]
    coarse = open_volume(path / key)
    assert coarse.voxel_size_nm == (40, 8, 9)
    np.testing.assert_array_equal(read(coarse), STACK[:, ::2, ::2])
    with pytest.raises(BadInput, match="states its voxel size"):
        create_volume(tmp_path / "b.precomputed", STACK.shape, "uint8")
    (path / "info").write_text("{")
    with pytest.raises(BadInput, match="is damaged, no JSON"):
        open_volume(path)


@pytest.mark.parametrize("name", ["a.n5", "a.precomputed"])
def test_urls_are_read_like_folders(tmp_path, server, name):
    create_volume(tmp_path / name, STACK.shape, "uint8", voxel_size_nm=SIZE).write(whole(STACK.shape), STACK)
    volume = open_volume(f"{server}/{name}")
    assert volume.voxel_size_nm == SIZE
    np.testing.assert_array_equal(read(volume), STACK)
