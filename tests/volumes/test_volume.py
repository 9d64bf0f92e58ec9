"""Formats: what is written comes back, what a file says is kept, and what it does not say is asked for."""

import importlib.util
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tiff import inner_box, volumes_of, write_plain

from maeref_jax.commands.requests import expand
from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import (
    FILES,
    MAKERS,
    array_volume,
    create_volume,
    labels_from_disk,
    labels_to_disk,
    open_probabilities,
    open_volume,
    overlapping,
    resolved,
    share_slices,
    split_range,
    write_tiff,
)
from maeref_jax.volumes.windows import Box, blocks, whole
from maeref_jax.volumes.writing import WRITERS, WRITTEN, write_volume

DATA = Path(os.environ.get("MAEREF_DATA", Path(__file__).parents[3] / "shared" / "data"))
STACK = np.random.default_rng(0).integers(0, 200, (5, 12, 17)).astype(np.uint8)


def read(volume):
    return volume.read(whole(volume.shape))


@settings(max_examples=25, deadline=None)
@given(volumes_of(np.uint8), st.data(), st.tuples(*[st.integers(1, 6)] * 3))
def test_zarr_round_trip_block_by_block(array, data, chunk):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zarr"
        for box in blocks(array.shape, chunk):  # opened anew for every block, as after a kill
            made = create_volume(path, array.shape, "uint8", voxel_size_nm=(30.0, 5.0, 4.0), chunk=chunk)
            made.write(box, array[box.slices])
        volume = open_volume(path)
        assert (volume.shape, volume.dtype, volume.voxel_size_nm) == (array.shape, np.uint8, (30.0, 5.0, 4.0))
        box = inner_box(data, array.shape)
        np.testing.assert_array_equal(volume.read(box), array[box.slices])


def test_channels_are_chosen(tmp_path):
    two = np.stack([STACK, 255 - STACK], 1)
    tifffile.imwrite(tmp_path / "two.tif", two, imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(BadInput, match=r"has 2 channels.*--channel 0 to 1"):
        open_volume(tmp_path / "two.tif")
    np.testing.assert_array_equal(read(open_volume(tmp_path / "two.tif", channel=1)), 255 - STACK)
    with pytest.raises(BadInput, match="channels 0 to 1"):
        open_volume(tmp_path / "two.tif", channel=2)
    path = write_plain(tmp_path / "plain.tif", STACK)
    with pytest.raises(BadInput, match="no channel axis"):
        open_volume(path, axes="ZYX", channel=0)
    colours = np.stack([STACK[0]] * 3, -1)
    tifffile.imwrite(tmp_path / "rgb.tif", colours, photometric="rgb")
    for axes in (None, "ZYX"):
        with pytest.raises(BadInput, match=r"plane|colours"):
            open_volume(tmp_path / "rgb.tif", axes=axes)
    np.testing.assert_array_equal(read(open_volume(tmp_path / "rgb.tif", axes="YXC", channel=2)), STACK[:1])
    tifffile.imwrite(tmp_path / "time.tif", two, imagej=True, metadata={"axes": "ZTYX"[1] + "ZYX"})
    with pytest.raises(BadInput, match="time series"):
        open_volume(tmp_path / "time.tif")
    for bad in ("ZZY", "ZYQ", "ZX"):
        with pytest.raises(BadInput, match="--axes"):
            open_volume(path, axes=bad)


def test_z_ranges(tmp_path):
    path = tmp_path / "stack.tif"
    write_tiff(path, STACK, None)
    volume = open_volume(f"{path}[1:4]")
    assert volume.path.endswith("stack.tif[1:4]")
    np.testing.assert_array_equal(read(volume), STACK[1:4])
    np.testing.assert_array_equal(volume.read(Box((1, 0, 0), (2, 12, 17))), STACK[2:3])
    for bad in ("[3:3]", "[0:6]", "[4:2]"):
        with pytest.raises(BadInput, match="is not a range of its 5 slices"):
            open_volume(f"{path}{bad}")
    every_second = open_volume(f"{path}[0:5:2]")
    assert every_second.path.endswith("stack.tif[0:5:2]")
    np.testing.assert_array_equal(read(every_second), STACK[0:5:2])
    np.testing.assert_array_equal(every_second.read(Box((1, 2, 0), (3, 12, 17))), STACK[2:5:2, 2:])
    write_tiff(tmp_path / "sized.tif", STACK, (10.0, 5.0, 5.0))
    np.testing.assert_allclose(open_volume(f"{tmp_path}/sized.tif[0:5:2]").voxel_size_nm, (20.0, 5.0, 5.0), rtol=1e-5)
    odd = tmp_path / "odd[0:1].tif"
    write_tiff(odd, STACK, None)
    assert open_volume(odd).shape == STACK.shape
    named = tmp_path / "a[0:2]"
    named.mkdir()
    assert split_range(named) == (named, None), "what exists wins over a range"
    for ending, wanted in (("[::2]", STACK[::2]), ("[3:]", STACK[3:]), ("[:2]", STACK[:2]), ("[1::3]", STACK[1::3])):
        np.testing.assert_array_equal(read(open_volume(f"{path}{ending}")), wanted)
        assert split_range(resolved(f"{path}{ending}")) == split_range(f"{path}{ending}")
    with pytest.raises(BadInput, match="is not a range of its 5 slices"):
        open_volume(f"{path}[5:]")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("none.tif", lambda p: None, "no such file"),
        ("text.tif", lambda p: p.write_text("no tiff"), "no readable TIFF"),
        ("a.xyz", lambda p: p.write_text("x"), "no known format"),
        ("a.npy.gz", lambda p: p.write_text("x"), "unpack it first"),
        ("a.png", lambda p: p.write_text("x"), "no readable PNG"),
        ("folder", lambda p: p.mkdir(), "is a folder but none of"),
        ("complex.tif", lambda p: write_plain(p, STACK.astype(np.complex64), metadata={"axes": "ZYX"}), "complex64"),
    ],
)
def test_unusable_paths(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(BadInput, match=message):
        open_volume(tmp_path / name)


def test_zarr_of_others(tmp_path):
    for driver, dimension in (("zarr", {}), ("zarr3", {"dimension_names": ["x", "y", "z"]})):
        path = tmp_path / f"{driver}.zarr"
        metadata = {"shape": STACK.shape, **dimension}
        metadata |= {"dtype": "|u1"} if driver == "zarr" else {"data_type": "uint8"}
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}, "metadata": metadata}
        tensorstore.open(spec, create=True).result().write(STACK).result()
    with pytest.raises(BadInput, match="--axes ZYX"):
        open_volume(tmp_path / "zarr.zarr")
    np.testing.assert_array_equal(read(open_volume(tmp_path / "zarr.zarr", axes="ZYX")), STACK)
    np.testing.assert_array_equal(read(open_volume(tmp_path / "zarr3.zarr")), STACK.transpose())
    (tmp_path / "group.zarr").mkdir()
    (tmp_path / "group.zarr" / ".zgroup").write_text("{}")
    (tmp_path / "zarr.zarr").rename(tmp_path / "group.zarr" / "raw")
    with pytest.raises(BadInput, match=r"is a Zarr group.*group.zarr/raw"):
        open_volume(tmp_path / "group.zarr")
    (tmp_path / "zarr3.zarr" / "zarr.json").write_text("{")
    with pytest.raises(BadInput, match="is damaged, no JSON"):
        open_volume(tmp_path / "zarr3.zarr")
    empty = {"shape": [0, 3, 3], "dtype": "|u1"}
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(tmp_path / "e.zarr")}, "metadata": empty}
    tensorstore.open(spec, create=True).result()
    with pytest.raises(BadInput, match=r"is empty: shape \(0, 3, 3\)"):
        open_volume(tmp_path / "e.zarr", axes="ZYX")


def test_a_zstd_compressor_that_states_its_checksums_is_read(tmp_path):
    """As zarr-python 3 writes Zarr v2; the data say themselves whether they carry checksums."""
    path = tmp_path / "a.zarr"
    metadata = {"shape": STACK.shape, "dtype": "|u1", "chunks": [2, 8, 8], "compressor": {"id": "zstd", "level": 3}}
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(STACK).result()
    written = json.loads((path / ".zarray").read_text())
    written["compressor"]["checksum"] = True
    (path / ".zarray").write_text(json.dumps(written))
    np.testing.assert_array_equal(read(open_volume(path, axes="ZYX")), STACK)
    written["compressor"] = {"id": "quantum"}
    (path / ".zarray").write_text(json.dumps(written))
    with pytest.raises(BadInput, match="quantum"):
        open_volume(path, axes="ZYX")


def test_nan_is_named_by_its_voxel(tmp_path):
    bad = STACK.astype(np.float32)
    bad[2, 3, 4] = np.inf
    write_plain(tmp_path / "bad.tif", bad, metadata={"axes": "ZYX"})
    volume = open_volume(f"{tmp_path}/bad.tif")
    volume.read(Box((0, 0, 0), (2, 12, 17)))
    with pytest.raises(BadInput, match=r"bad.tif holds inf at voxel \(z, y, x\) = \(2, 3, 4\)"):
        volume.read(Box((1, 2, 0), (4, 12, 17)))
    with pytest.raises(ValueError, match="not inside"):
        volume.read(Box((0, 0, 0), (6, 12, 17)))


def test_probabilities(tmp_path):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), STACK.shape).astype(np.float32)
    leading = np.moveaxis(probabilities, -1, 0)
    write_plain(tmp_path / "p.tif", leading)
    with pytest.raises(BadInput, match="--axes CZYX"):
        open_probabilities(tmp_path / "p.tif")
    for axes in ("CZYX", "ZYX"):
        volume = open_probabilities(tmp_path / "p.tif", axes=axes)
        assert (volume.classes, volume.shape) == (4, STACK.shape)
        np.testing.assert_array_equal(volume.read(Box((1, 0, 2), (3, 5, 9))), leading[:, 1:3, :5, 2:9])
    tifffile.imwrite(tmp_path / "q.tif", np.moveaxis(leading, 0, 1), imagej=True, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(read(open_probabilities(tmp_path / "q.tif")), leading)
    quantised = np.round(leading * 255).astype(np.uint8)
    volume = open_probabilities(write_plain(tmp_path / "r.tif", quantised), axes="CZYX")
    np.testing.assert_allclose(read(volume), leading, atol=0.5 / 255 + 1e-6)
    assert "/ 255" in volume.note
    with pytest.raises(BadInput, match="with a class axis C"):
        tifffile.imwrite(tmp_path / "s.tif", leading[0], imagej=True, metadata={"axes": "ZYX"})
        open_probabilities(tmp_path / "s.tif")


def test_labels_on_disk_and_in_memory():
    labels = np.array([-1, 0, 3, 254], np.int16)
    np.testing.assert_array_equal(labels_to_disk(labels), [255, 0, 3, 254])
    np.testing.assert_array_equal(labels_from_disk(labels_to_disk(labels)), labels)
    np.testing.assert_array_equal(labels_from_disk(np.array([2.0, 255.0])), [2, -1])


def test_array_volumes():
    with pytest.raises(BadInput, match="without empty axes"):
        array_volume(np.zeros((3, 0, 4)), "empty")
    with pytest.raises(BadInput, match="expected"):
        array_volume(np.zeros((3, 4)), "plane")
    first, second = (array_volume(STACK + n, "a").identity() for n in (0, 1))
    assert first != second


def test_identity_of_files_changes_with_them(tmp_path):
    write_tiff(tmp_path / "a.tif", STACK, None)
    first = open_volume(tmp_path / "a.tif").identity()
    assert first == open_volume(tmp_path / "a.tif").identity()
    assert first != open_volume(f"{tmp_path / 'a.tif'}[0:2]").identity()
    os.utime(tmp_path / "a.tif", ns=(1, 1))
    assert first != open_volume(tmp_path / "a.tif").identity()


def test_real_stack():
    path = DATA / "mef_cristae" / "NI_m2_label.tif"
    if not path.is_file():
        pytest.skip(f"no {path}: set MAEREF_DATA to the folder with the real data")
    volume = open_volume(path, axes="ZYX", voxel_size_nm=(5, 5, 5))
    assert volume.shape == (66, 203, 109) and volume.dtype == np.uint8
    np.testing.assert_array_equal(
        volume.read(Box((10, 20, 30), (13, 200, 100))), tifffile.imread(path)[10:13, 20:200, 30:100]
    )


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("a.tif", "a.tif", True),
        ("a.tif", "./folder/../a.tif", True),
        ("a.tif", "{here}/a.tif", True),
        ("a.tif", "link.tif", True),
        ("a.tif", "b.tif", False),
        ("a.tif[0:4]", "{here}/a.tif", True),
        ("a.tif[0:4]", "{here}/a.tif[3:5]", True),
        ("a.tif[0:4]", "a.tif[4:5]", False),
        ("a.tif[0:4]", "b.tif[0:4]", False),
        ("a.tif[0:10:5]", "a.tif[1:5]", False),
        ("a.tif[0:10:5]", "a.tif[3:6]", True),
        ("a.tif[::2]", "a.tif[1::2]", False),
        ("a.tif[::2]", "a.tif[7:]", True),
        ("a.tif[5:]", "a.tif[:5]", False),
        ("a.tif[1::6]", "a.tif[3::4]", True),
        ("phantom_1", "phantom_1", True),
        ("phantom_1", "phantom_10", False),
    ],
)
def test_slices_of_the_same_file_are_recognised_however_the_path_is_typed(tmp_path, monkeypatch, one, other, shared):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("a.tif", "b.tif"):
        write_tiff(name, STACK, None)
    Path("link.tif").symlink_to("a.tif")
    one, other = (path.format(here=tmp_path) for path in (one, other))
    assert share_slices(one, other) == share_slices(other, one) == shared
    assert overlapping(("c", other, one)) == ({(1, 2)} if shared else set())


MADE = {"voxel_size_nm": (30.0, 4.6, 4.6)}


def test_the_table_of_formats_says_what_the_code_does(tmp_path, root):
    """Every suffix has its row in docs/formats.md, and what the row promises is tried."""
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in (root / "docs" / "formats.md").read_text().splitlines()
        if line.startswith("| ") and "`." in line
    ]
    named = [(re.findall(r"`(\.[\w.]+)`", row[1]), row) for row in rows]
    found = {suffix for suffixes, _ in named for suffix in suffixes}
    assert found == {*FILES, *MAKERS, *WRITERS, ".ome.tif", ".ome.tiff"}
    packages = {"`h5py`": "h5py", "`nibabel`": "nibabel", "`mrcfile`": "mrcfile", "`pynrrd`": "nrrd"}
    for suffixes, row in named:
        written = set(suffixes) & {"box by box": {*MAKERS}, "whole": {*WRITTEN} - {*MAKERS}, "no": set()}[row[3]]
        assert row[2] == "yes" and bool(written) == (row[3] != "no")
        if row[8] in packages and importlib.util.find_spec(packages[row[8]]) is None:
            continue
        for suffix in sorted(written):
            path = tmp_path / f"{row[0].split()[0]}{suffix}"
            write_volume(path, array_volume(STACK, "a"), MADE["voxel_size_nm"])
            volume = open_volume(path, axes="ZYX" if row[5] == "`--axes`" else None)
            size = None if row[6] == "`--voxel_size_nm`" else pytest.approx(MADE["voxel_size_nm"])
            assert volume.voxel_size_nm == size
            np.testing.assert_array_equal(volume.read(Box((1, 2, 3), (4, 9, 16))), STACK[1:4, 2:9, 3:16])


@pytest.mark.parametrize("ending", ["[0:10:0]", "[::]", "[-3:-1]", "[0:10:3:1]", "[0:4:-1]"])
@pytest.mark.parametrize("name", ["stack.tif", "st*.tif", "https://nowhere.example/a.zarr"])
def test_what_looks_like_a_range_and_is_none_is_told_so(tmp_path, name, ending):
    path = name if "//" in name else str(tmp_path / name)
    for refused in (lambda: expand((path + ending,)), lambda: open_volume(path + ending)):
        with pytest.raises(BadInput, match=r"ends in no range of slices, expected \[START:STOP\] or"):
            refused()
