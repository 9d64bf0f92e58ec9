"""TIFF in its many shapes: folders of slices, OME-TIFF, BigTIFF, channel names; only the pages of a box are read."""

import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import open_volume, write_tiff
from maeref_jax.volumes.windows import Box, whole

STACK = np.random.default_rng(0).integers(0, 200, (5, 12, 17)).astype(np.uint8)


def read(volume):
    return volume.read(whole(volume.shape))


def save(folder, names, planes=STACK, **options):
    folder.mkdir()
    for name, plane in zip(names, planes, strict=True):
        tifffile.imwrite(folder / name, plane, **options)
    return folder


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["uint8", "uint16", "uint32", "int32", "float32", "float64"]),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.sampled_from([0.5, 4.6, 30.0, 1234.5])] * 3),
)
def test_ome_tiff_round_trip(dtype, shape, size):
    array = np.random.default_rng(0).integers(0, 99, shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        write_tiff(f"{folder}/a.ome.tif", array, size)
        volume = open_volume(f"{folder}/a.ome.tif")
        assert (volume.shape, volume.dtype, volume.voxel_size_nm) == (shape, dtype, size)
        np.testing.assert_array_equal(read(volume), array)
        assert [path.name for path in Path(folder).iterdir()] == ["a.ome.tif"]


def test_what_a_tiff_cannot_hold(tmp_path):
    for name, array, colours, message in (
        ("a.ome.tif", STACK.astype(np.complex64), None, "OME-TIFF holds uint8"),
        ("a.ome.tif", STACK, [[0, 0, 0]], "no label colours"),
        ("a.tif", np.broadcast_to(np.float32(0), (40, 8000, 8000)), None, r"too large for ImageJ.*\.ome\.tif"),
    ):
        with pytest.raises(BadInput, match=message):
            write_tiff(tmp_path / name, array, None, colours)
    assert not list(tmp_path.iterdir())


def test_what_is_large_is_written_as_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr("maeref_jax.volumes.volume.LARGEST_BYTES", STACK.size - 1)
    write_tiff(tmp_path / "a.ome.tif", STACK, (30, 5, 5))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert tif.is_bigtiff
    np.testing.assert_array_equal(read(open_volume(tmp_path / "a.ome.tif")), STACK)


def test_a_large_bigtiff_is_read_page_by_page(tmp_path):
    shape = (50, 10_000, 10_000)
    with tifffile.TiffWriter(tmp_path / "big.tif", bigtiff=True) as file:
        file.write(shape=shape, dtype=np.uint8, metadata={"axes": "ZYX"}, photometric="minisblack")  # a sparse file
    mapped = tifffile.memmap(tmp_path / "big.tif", mode="r+")
    mapped[49, 9_000, 9_000:9_003] = 1, 2, 3
    mapped.flush()
    del mapped
    assert (tmp_path / "big.tif").stat().st_size > 5e9
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    volume = open_volume(tmp_path / "big.tif")
    np.testing.assert_array_equal(volume.read(Box((49, 9000, 8999), (50, 9001, 9004))), [[[0, 1, 2, 3, 0]]])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kB"


PLANES = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="17" SizeY="12" SizeZ="2" SizeC="1"
SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>"""
PLANE = '<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>'


def test_an_ome_tiff_of_several_files_is_refused(tmp_path):
    planes = "".join(PLANE.format(z=z) for z in range(2))
    for z in range(2):
        xml = PLANES.format(own=z, planes=planes)
        tifffile.imwrite(tmp_path / f"{z}.ome.tif", STACK[z], description=xml, metadata=None)
    for _ in ("whole", "the other one is gone"):
        with pytest.raises(BadInput, match=r"one of several files that make up an OME-TIFF of shape \(2, 12, 17\)"):
            open_volume(tmp_path / "0.ome.tif")
        (tmp_path / "1.ome.tif").unlink(missing_ok=True)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_folder_of_slices(tmp_path, compression):
    names = [f"cell2_z{number}_raw.tif" for number in (8, 9, 10, 11, 12)]  # no leading zeros: 10 comes after 9
    folder = save(tmp_path / "slices", names, compression=compression)
    (folder / "notes.txt").write_text("other files do not matter")
    volume = open_volume(folder, voxel_size_nm=(30, 5, 5))
    assert (volume.shape, volume.dtype, volume.voxel_size_nm) == (STACK.shape, np.uint8, (30, 5, 5))
    np.testing.assert_array_equal(read(volume), STACK)
    np.testing.assert_array_equal(volume.read(Box((1, 2, 3), (4, 9, 16))), STACK[1:4, 2:9, 3:16])
    np.testing.assert_array_equal(read(open_volume(f"{folder}[2:4]")), STACK[2:4])
    first = volume.identity()
    (folder / names[3]).touch()
    assert open_volume(folder, voxel_size_nm=(30, 5, 5)).identity() != first


def test_a_folder_that_is_no_one_series_is_refused(tmp_path):
    for n, (names, message) in enumerate(
        (
            (["a1.tif", "a2.tif", "a3.tif", "a5.tif", "a6.tif"], "5 slices numbered 1 to 6, but 4 is missing"),
            (["a1.tif", "a01.tif", "a2.tif", "a3.tif", "a4.tif"], "slice 1 twice"),
            (["a1.tif", "b2.tif", "a3.tif", "a4.tif", "a5.tif"], r"several names \(a#.tif and b#.tif\)"),
            (["a1_1.tif", "a1_2.tif", "a2_1.tif", "a2_2.tif", "a3_1.tif"], "more than one number"),
        )
    ):
        with pytest.raises(BadInput, match=message):
            open_volume(save(tmp_path / str(n), names))
    names = [f"{n}.tif" for n in range(5)]
    for name, planes, message in (
        ("shape", [*STACK[:4], STACK[4, :, 1:]], r"4.tif has 1 page.*\(12, 16\), but .*0.tif has .*\(12, 17\)"),
        ("dtype", [*STACK[:4], STACK[4].astype(np.uint16)], "4.tif has 1 page.*uint16.*but .*0.tif has .*uint8"),
        ("stacks", [STACK] * 5, r"0.tif has shape \(5, 12, 17\).*expected one plane per file"),
    ):
        with pytest.raises(BadInput, match=message):
            open_volume(save(tmp_path / name, names, planes))
    folder = save(tmp_path / "cut", names)
    (folder / "3.tif").write_bytes((folder / "3.tif").read_bytes()[:-50])
    with pytest.raises(BadInput, match=r"3.tif is truncated"):
        open_volume(folder)
    colours = save(tmp_path / "rgb", names, [np.stack([plane] * 3, -1) for plane in STACK], photometric="rgb")
    with pytest.raises(BadInput, match=r"3 channels \(axes ZYXS"):
        open_volume(colours)
    np.testing.assert_array_equal(read(open_volume(colours, channel=1)), STACK)


def test_channels_by_name(tmp_path):
    two = np.stack([STACK, 255 - STACK], 1)
    metadata = {"axes": "ZCYX", "Channel": {"Name": ["raw", "mito"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", two, photometric="minisblack", metadata=metadata)
    labels = {"axes": "ZCYX", "Labels": ["raw", "mito"] * 5}
    tifffile.imwrite(tmp_path / "b.tif", two, imagej=True, metadata=labels)
    for name in ("a.ome.tif", "b.tif"):
        np.testing.assert_array_equal(read(open_volume(tmp_path / name, channel="mito")), 255 - STACK)
        with pytest.raises(BadInput, match="called raw, mito"):
            open_volume(tmp_path / name)
        with pytest.raises(BadInput, match=r"no channel of that name.*called raw, mito"):
            open_volume(tmp_path / name, channel="er")
    planes = {"axes": "ZCYX", "Labels": [f"plane {n}" for n in range(10)]}
    tifffile.imwrite(tmp_path / "c.tif", two, imagej=True, metadata=planes)
    with pytest.raises(BadInput, match="they have no names"):
        open_volume(tmp_path / "c.tif", channel="plane 1")
