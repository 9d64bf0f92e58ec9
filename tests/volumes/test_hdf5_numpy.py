"""HDF5, .npy and .npz: what is written comes back, and what these files do not say is asked for."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import create_volume, open_probabilities, open_volume
from maeref_jax.volumes.windows import Box, blocks, whole

STACK = np.random.default_rng(0).integers(0, 200, (5, 12, 17)).astype(np.uint8)
SIZE = (40.0, 4.0, 4.0)


def read(volume):
    return volume.read(whole(volume.shape))


def save(path, name, array, **attributes):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "a") as file:
        dataset = file.create_dataset(name, data=array)
        dataset.attrs.update(attributes)
    return path


def tags(axes):
    return json.dumps({"axes": [{"key": axis, "typeFlags": 2, "resolution": 0, "description": ""} for axis in axes]})


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["a.h5", "a.hdf5:/volumes/raw", "a.npy"]),
    st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from([None, 3]),
)
def test_round_trip_box_by_box(name, dtype, shape, classes):
    if ".h" in name:
        pytest.importorskip("h5py")
    array = np.random.default_rng(0).integers(0, 99, (classes or 1, *shape)).astype(dtype)
    size = None if name == "a.npy" else (0.1, 4.6, 1234.5)
    made = {"voxel_size_nm": size, "classes": classes, "chunk": (2, 2, 2)}
    with tempfile.TemporaryDirectory() as folder:
        for box in blocks(shape, (3, 4, 5)):  # opened anew for every box
            volume = create_volume(f"{folder}/{name}", shape, dtype, **made)
            volume.write(box, array[(..., *box.slices)][0 if classes is None else slice(None)])
        axes = ("ZYX" if classes is None else "CZYX") if name == "a.npy" else None
        for channel in range(classes or 1):
            volume = open_volume(f"{folder}/{name}", axes=axes, channel=None if classes is None else channel)
            assert (volume.shape, volume.dtype, volume.voxel_size_nm) == (shape, dtype, size)
            np.testing.assert_array_equal(read(volume), array[channel])
        for other in ({"shape": (*shape[:2], 10)}, {"dtype": "float64"}):
            with pytest.raises(BadInput, match=r"is there.*expected"):
                create_volume(f"{folder}/{name}", **({"shape": shape, "dtype": dtype} | other | made))


def test_cremi(tmp_path):
    path = save(tmp_path / "sample.h5", "volumes/raw", STACK, resolution=SIZE)
    save(path, "volumes/labels/neuron_ids", STACK.astype(np.uint64), resolution=SIZE)
    for inner in (f"{path}:/volumes/raw", f"{path}:volumes/raw", f"{path}/volumes/raw"):
        volume = open_volume(inner)
        assert (volume.voxel_size_nm, volume.dtype, volume.source) == (SIZE, np.uint8, path)
        assert volume.path == f"{path}:/volumes/raw"
        np.testing.assert_array_equal(volume.read(Box((1, 2, 3), (4, 9, 16))), STACK[1:4, 2:9, 3:16])
    np.testing.assert_array_equal(read(open_volume(f"{path}:/volumes/raw[1:3]")), STACK[1:3])
    raw, labels = (open_volume(f"{path}:/volumes/{name}").identity() for name in ("raw", "labels/neuron_ids"))
    assert raw["path"] != labels["path"] and raw["bytes"] > 0
    with pytest.raises(BadInput, match=r"holds 2 datasets \(/volumes/labels/neuron_ids, /volumes/raw\).*choose one"):
        open_volume(path)
    with pytest.raises(BadInput, match=r"no dataset 'volumes/mito'.*it holds /volumes/labels/neuron_ids"):
        open_volume(f"{path}:/volumes/mito")
    with pytest.raises(BadInput, match="no dataset 'volumes'"):
        open_volume(f"{path}:/volumes")


def test_ilastik(tmp_path):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), STACK.shape).astype(np.float32)
    path = save(tmp_path / "a.ilastik.h5", "exported_data", probabilities, axistags=tags("zyxc"))
    volume = open_probabilities(path)
    assert (volume.classes, volume.shape, volume.voxel_size_nm) == (3, STACK.shape, None)
    np.testing.assert_array_equal(read(volume), np.moveaxis(probabilities, -1, 0))
    path = save(tmp_path / "t.h5", "exported_data", STACK.T[None, ..., None], axistags=tags("txyzc"))
    np.testing.assert_array_equal(read(open_volume(path)), STACK)
    path = save(tmp_path / "bad.h5", "exported_data", STACK, axistags=tags("zyxc"))
    with pytest.raises(BadInput, match=r"\(5, 12, 17\) does not say.*z,y,x,c: 4 names for 3 axes.*--axes ZYX"):
        open_volume(path)


def test_other_attributes(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = save(tmp_path / "a.h5", "raw", STACK, element_size_um=(0.03, 0.0046, 0.0046))
    assert open_volume(path).voxel_size_nm == (30, 4.6, 4.6)
    path = save(tmp_path / "plain.h5", "raw", STACK.astype(">u2"))
    with pytest.raises(BadInput, match=r"plain.h5:/raw of shape \(5, 12, 17\) does not say.*--axes ZYX"):
        open_volume(path)
    volume = open_volume(path, axes="ZYX")
    assert volume.dtype == np.uint16 and volume.dtype.isnative
    np.testing.assert_array_equal(read(volume), STACK)
    with h5py.File(path, "a") as file:
        for dimension, name in zip(file["raw"].dims, "xzy", strict=True):
            dimension.label = name
    np.testing.assert_array_equal(read(open_volume(path)), STACK.transpose(1, 2, 0))
    path = save(tmp_path / "four.h5", "raw", STACK[None], resolution=SIZE)
    with pytest.raises(BadInput, match="--axes CZYX"):
        open_volume(path)


def test_hdf5_that_cannot_be_read(tmp_path, monkeypatch):
    path = save(tmp_path / "a.h5", "raw", STACK)
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:1500])
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("cut.h5", "text.h5"):
        with pytest.raises(BadInput, match="is it truncated or damaged"):
            open_volume(tmp_path / name)
    with pytest.raises(BadInput, match="no such file"):
        open_volume(tmp_path / "none.h5:/raw")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BadInput, match="pip install h5py"):
        open_volume(path)


def test_an_hdf5_file_that_another_program_has_open_is_called_that(tmp_path):
    pytest.importorskip("h5py")
    path = save(tmp_path / "a.h5", "raw", STACK, resolution=SIZE)
    script = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(BadInput, match=r"is open for writing in another program.*close it there, or read a copy"):
            open_volume(path)
        holder.stdin.close()
    assert open_volume(path).shape == STACK.shape


def test_a_folder_may_be_called_like_an_hdf5_file(tmp_path):
    pytest.importorskip("h5py")
    folder = tmp_path / "run.h5" / "more.hdf5"
    folder.mkdir(parents=True)
    path = save(folder / "cell.h5", "raw", STACK, resolution=SIZE)
    np.testing.assert_array_equal(read(open_volume(path)), STACK)
    save(path, "volumes/x.h5/raw", 255 - STACK, resolution=SIZE)
    for inner in (f"{path}:/raw", f"{path}:raw", f"{path}/raw"):
        np.testing.assert_array_equal(read(open_volume(inner)), STACK)
        np.testing.assert_array_equal(read(open_volume(f"{inner}[1:3]")), STACK[1:3])
    np.testing.assert_array_equal(read(open_volume(f"{path}/volumes/x.h5/raw")), 255 - STACK)
    np.savez(folder / "p.npz", raw=STACK, other=STACK)
    np.testing.assert_array_equal(read(open_volume(f"{folder}/p.npz:/raw", axes="ZYX")), STACK)
    with pytest.raises(BadInput, match=r"run\.h5/more\.hdf5/none\.h5"):
        open_volume(f"{folder}/none.h5:/raw")


def test_damage_inside_hdf5_is_an_error(tmp_path):
    pytest.importorskip("h5py")
    noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64)).astype(np.uint8)
    create_volume(tmp_path / "a.h5", noise.shape, "uint8").write(whole(noise.shape), noise)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[-5000] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(BadInput, match="damaged"):
        read(open_volume(tmp_path / "a.h5"))


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(STACK.astype(">f4")))
    with pytest.raises(BadInput, match=r"\(5, 12, 17\) does not say what its axes are"):
        open_volume(tmp_path / "a.npy")
    volume = open_volume(tmp_path / "a.npy", axes="ZYX")
    assert volume.dtype == np.float32 and volume.dtype.isnative
    np.testing.assert_array_equal(volume.read(Box((1, 2, 3), (4, 9, 16))), STACK[1:4, 2:9, 3:16])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-9])
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "empty.npy").touch()
    for name in ("cut.npy", "objects.npy", "empty.npy"):
        with pytest.raises(BadInput, match=rf"{name} (is no readable .npy|.* is truncated)"):
            open_volume(tmp_path / name, axes="ZYX")


@pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("key", ["probabilities", "softmax"])
def test_nnunet_probabilities(tmp_path, save_npz, key):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), STACK.shape).astype(np.float16)
    probabilities = np.moveaxis(probabilities, -1, 0)
    save_npz(tmp_path / "cell.npz", **{key: probabilities})
    volume = open_probabilities(tmp_path / "cell.npz")
    assert (volume.classes, volume.shape, volume.dtype) == (3, STACK.shape, np.float32)
    np.testing.assert_array_equal(volume.read(Box((1, 2, 3), (4, 9, 16))), probabilities[:, 1:4, 2:9, 3:16])
    np.testing.assert_array_equal(read(open_volume(tmp_path / "cell.npz", channel=1)), probabilities[1])


def test_npz_with_several_arrays_and_with_damage(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, raw=STACK, labels=STACK // 99)
    with pytest.raises(BadInput, match=r"^\S+ holds the arrays raw, labels; choose one, e\.g\. .*a\.npz:/raw"):
        open_volume(path, axes="ZYX")
    np.testing.assert_array_equal(read(open_volume(f"{path}:/labels", axes="ZYX")), STACK // 99)
    np.savez_compressed(tmp_path / "fortran.npz", raw=np.asfortranarray(STACK.astype(">i4")))
    volume = open_volume(tmp_path / "fortran.npz", axes="ZYX")
    assert volume.dtype == np.int32 and volume.dtype.isnative
    np.testing.assert_array_equal(read(volume), STACK)
    with pytest.raises(BadInput, match="no array 'mito', it holds raw, labels"):
        open_volume(f"{path}:/mito")
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadInput, match="no readable"):
        open_volume(tmp_path / "cut.npz")
    np.savez_compressed(path, raw=np.random.default_rng(0).random((8, 64, 64)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    volume = open_volume(path, axes="ZYX")
    with pytest.raises(BadInput, match="is it damaged"):
        read(volume)


def test_the_temporary_copy_is_gone_with_the_volume(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    np.savez_compressed(tmp_path / "a.npz", probabilities=STACK[None].astype(np.float32))
    read(open_probabilities(tmp_path / "a.npz"))
    assert not list(Path(tmp_path / "scratch").iterdir())
