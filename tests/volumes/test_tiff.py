"""TIFF in its many shapes: folders of slices, OME-TIFF, BigTIFF, channel names; only the pages of a box are read."""

import importlib.util
import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import create_volume, open_volume, write_tiff
from maeref_jax.volumes.windows import Box, whole

STACK = np.random.default_rng(0).integers(0, 200, (5, 12, 17)).astype(np.uint8)


def volumes_of(dtype):
    shape = st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12))
    elements = {"allow_nan": False, "allow_infinity": False} if dtype == np.float32 else {}
    return shape.flatmap(lambda s: arrays.arrays(dtype, s, elements=arrays.from_dtype(np.dtype(dtype), **elements)))


def inner_box(data, shape):
    start = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    return Box(start, tuple(data.draw(st.integers(a + 1, size)) for a, size in zip(start, shape, strict=True)))


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
    monkeypatch.setattr("maeref_jax.volumes.writing.LARGEST_BYTES", STACK.size - 1)
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


def test_an_ome_tiff_of_several_files_is_one_volume_as_long_as_all_are_there(tmp_path):
    planes = "".join(PLANE.format(z=z) for z in range(2))
    for z in range(2):
        xml = PLANES.format(own=z, planes=planes)
        tifffile.imwrite(tmp_path / f"{z}.ome.tif", STACK[z], description=xml, metadata=None)
    for z in range(2):
        volume = open_volume(tmp_path / f"{z}.ome.tif")
        np.testing.assert_array_equal(read(volume), STACK[:2])
        np.testing.assert_array_equal(volume.read(Box((1, 2, 3), (2, 9, 16))), STACK[1:2, 2:9, 3:16])
        assert "2 files make up" in volume.note
    whole_file = (tmp_path / "1.ome.tif").read_bytes()
    (tmp_path / "1.ome.tif").write_bytes(whole_file[:-300])
    with pytest.raises(BadInput, match=r"1\.ome\.tif .*(truncated|cannot be read)"):
        open_volume(tmp_path / "0.ome.tif")
    (tmp_path / "1.ome.tif").unlink()
    with pytest.raises(BadInput, match=r"make up an OME-TIFF of shape \(2, 12, 17\), and 1\.ome\.tif cannot be read"):
        open_volume(tmp_path / "0.ome.tif")


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
            (["a1.tif", "a2.tif", "a3.tif", "a5.tif", "a6.tif"], "5 slices numbered 1 to 6, but 4 missing"),
            (["a1.tif", "a01.tif", "a2.tif", "a3.tif", "a4.tif"], "slice 1 twice"),
            (["a1.tif", "b2.tif", "a3.tif", "a4.tif", "a5.tif"], r"several names \(a#.tif and b#.tif\)"),
            (["a1_1.tif", "a1_2.tif", "a2_1.tif", "a2_2.tif", "a3_1.tif"], "more than one number"),
        )
    ):
        with pytest.raises(BadInput, match=message):
            open_volume(save(tmp_path / str(n), names))
    names = [f"{n}.tif" for n in range(5)]
    for name, planes, message in (
        ("shape", [*STACK[:4], STACK[4, :, 1:]], r"4.tif is uint8 \(12, 16\), but .*0.tif is uint8 \(12, 17\)"),
        ("dtype", [*STACK[:4], STACK[4].astype(np.uint16)], "4.tif is uint16.*but .*0.tif is uint8"),
        ("stacks", [STACK] * 5, r"0.tif has shape \(5, 12, 17\).*expected one plane per file"),
    ):
        with pytest.raises(BadInput, match=message):
            open_volume(save(tmp_path / name, names, planes))
    folder = save(tmp_path / "cut", names)
    (folder / "3.tif").write_bytes((folder / "3.tif").read_bytes()[:-50])
    with pytest.raises(BadInput, match=r"3.tif .*is truncated"):
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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_round_trip(dtype):
    @settings(max_examples=25, deadline=None)
    @given(volumes_of(dtype), st.data(), st.tuples(*[st.sampled_from([0.5, 4.6, 5.0, 30.0, 1234.5])] * 3))
    def check(array, data, size):
        with tempfile.TemporaryDirectory() as folder:
            write_tiff(Path(folder) / "stack.tif", array, size)
            volume = open_volume(Path(folder) / "stack.tif")
            assert (volume.shape, volume.dtype) == (array.shape, array.dtype)
            np.testing.assert_allclose(volume.voxel_size_nm, size, rtol=1e-6)
            box = inner_box(data, array.shape)
            np.testing.assert_array_equal(volume.read(box), array[box.slices])
            assert os.listdir(folder) == ["stack.tif"]

    check()


def write_plain(path, array, **options):
    tifffile.imwrite(path, array, **({"photometric": "minisblack"} | options))
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_plain_stack_says_no_axes_and_is_asked_for_them(tmp_path, compression):
    path = write_plain(tmp_path / "plain.tif", STACK, compression=compression)
    with pytest.raises(BadInput, match=r"\(5, 12, 17\) does not say what its axes are.*--axes ZYX"):
        open_volume(path)
    volume = open_volume(path, axes="zyx", voxel_size_nm=(30, 5, 5))
    assert volume.voxel_size_nm == (30, 5, 5)
    np.testing.assert_array_equal(read(volume), STACK)
    np.testing.assert_array_equal(volume.read(Box((1, 2, 3), (4, 9, 16))), STACK[1:4, 2:9, 3:16])
    np.testing.assert_array_equal(read(open_volume(path, axes="XZY")), STACK.transpose(1, 2, 0))


def test_three_slices_taken_for_colours_by_their_writer(tmp_path):
    tifffile.imwrite(tmp_path / "three.tif", STACK[:3], photometric="rgb", planarconfig="separate")
    with pytest.raises(BadInput, match="does not say what its axes are"):
        open_volume(tmp_path / "three.tif")
    np.testing.assert_array_equal(read(open_volume(tmp_path / "three.tif", axes="ZYX")), STACK[:3])


def test_pages_written_one_by_one(tmp_path):
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for plane in STACK:
            file.write(plane, contiguous=False, metadata=None, compression="zlib")
    volume = open_volume(tmp_path / "pages.tif", axes="ZYX")
    np.testing.assert_array_equal(volume.read(Box((2, 0, 5), (4, 12, 9))), STACK[2:4, :, 5:9])


def test_imagej_and_ome_say_what_they_are(tmp_path):
    tifffile.imwrite(
        tmp_path / "imagej.tif",
        STACK.astype(np.uint16),
        imagej=True,
        resolution=(1 / 0.005, 1 / 0.0046),
        metadata={"axes": "ZYX", "spacing": 0.03, "unit": "um"},
    )
    volume = open_volume(tmp_path / "imagej.tif")
    assert volume.voxel_size_nm == pytest.approx((30, 4.6, 5))
    np.testing.assert_array_equal(read(volume), STACK)
    sizes = {"PhysicalSizeX": 5.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.0046, "PhysicalSizeZ": 0.03}
    write_plain(tmp_path / "a.ome.tif", STACK.astype(">f4"), metadata={"axes": "ZYX", **sizes})
    volume = open_volume(tmp_path / "a.ome.tif")
    assert volume.voxel_size_nm == pytest.approx((30, 4.6, 5))
    np.testing.assert_array_equal(read(volume), STACK)
    tifffile.imwrite(tmp_path / "pixels.tif", STACK, imagej=True, metadata={"axes": "ZYX", "unit": "pixel"})
    assert open_volume(tmp_path / "pixels.tif").voxel_size_nm is None


def test_planes_need_a_word(tmp_path):
    path = write_plain(tmp_path / "plane.tif", STACK[0])
    with pytest.raises(BadInput, match=r"is a plane of shape \(12, 17\).*--axes YX"):
        open_volume(path)
    np.testing.assert_array_equal(read(open_volume(path, axes="YX")), STACK[:1])
    with pytest.raises(BadInput, match=r"names 3 axes.*has 2"):
        open_volume(path, axes="ZYX")
    with pytest.raises(BadInput, match="does not say"):
        open_volume(write_plain(tmp_path / "one.tif", STACK[:1]))


@pytest.mark.parametrize("share", [0.0, 0.002, 0.3, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("kind", ["imagej", "zlib", "plain", "ome"])
def test_truncated_tiffs_are_refused(tmp_path, kind, share):
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    noise = np.random.default_rng(0).integers(0, 255, (12, 60, 80)).astype(np.uint8)
    options = {"imagej": True} if kind == "imagej" else {"compression": "zlib" if kind == "zlib" else None}
    write_plain(path, noise, metadata={"axes": "ZYX"}, **options)
    assert open_volume(path).shape == noise.shape
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    if kind == "imagej" and share == 0.999:  # only the list of pages is cut, behind the voxels
        np.testing.assert_array_equal(read(open_volume(path)), noise)
        return
    with pytest.raises(BadInput, match="truncated"):
        open_volume(path, axes="ZYX")


def test_damage_inside_is_an_error_and_not_wrong_voxels(tmp_path):
    path = write_plain(tmp_path / "a.tif", STACK, compression="zlib", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[3].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * 20)
    with pytest.raises(BadInput, match="page 3 cannot be decoded"):
        read(open_volume(path))
    array = create_volume(tmp_path / "a.zarr", STACK.shape, "uint8", chunk=(2, 12, 17))
    array.write(whole(STACK.shape), STACK)
    chunk = tmp_path / "a.zarr" / "c" / "1" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(BadInput, match="is a chunk damaged"):
        read(open_volume(tmp_path / "a.zarr"))


# The file is no real LZW: with imagecodecs installed the message is that of damage.
MISSING_LZW = r"cannot be decoded" if importlib.util.find_spec("imagecodecs") else r"LZW.*pip install imagecodecs"


def test_missing_codec_is_named(tmp_path):
    path = write_plain(tmp_path / "lzw.tif", STACK, compression="zlib", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path, mode="r+") as tif:
        for page in tif.pages:
            page.tags["Compression"].overwrite(5)
    with pytest.raises(BadInput, match=MISSING_LZW):
        open_volume(path)


def test_label_colours_and_kinds_for_fiji(tmp_path):
    labels = np.array([[[0, 1, 2], [3, -1, 0]]], np.int16)
    colours = [[0, 0, 0], [40, 90, 255], [40, 200, 80], [250, 220, 60]]
    write_tiff(tmp_path / "labels.tif", labels, (30.0, 5.0, 5.0), colours)
    with tifffile.TiffFile(tmp_path / "labels.tif") as tif:
        assert tif.is_imagej and tif.imagej_metadata["unit"] == "nm" and tif.imagej_metadata["spacing"] == 30
        table = tif.pages[0].colormap // 257
        np.testing.assert_array_equal(table[:, [0, 1, 2, 3, 255]].T, [*colours, [255, 255, 255]])
        np.testing.assert_array_equal(tif.asarray(), [[0, 1, 2], [3, 255, 0]])
    write_tiff(tmp_path / "mask.tif", labels == 1, None)
    np.testing.assert_array_equal(read(open_volume(tmp_path / "mask.tif")), np.where(labels == 1, 255, 0))
    for wrong in (labels.astype(np.int64), labels + np.int16(300)):
        with pytest.raises(BadInput, match=r"ImageJ holds|expected -1"):
            write_tiff(tmp_path / "wrong.tif", wrong, None)
    assert not list(tmp_path.glob("*wrong*")) and not list(tmp_path.glob(".*"))


def test_a_page_that_an_installed_codec_cannot_decode_is_named(tmp_path, monkeypatch):
    class CodecError(RuntimeError):
        """As those of imagecodecs."""

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, compression="zlib", photometric="minisblack")
    volume, decode = open_volume(path, axes="ZYX"), tifffile.TiffPage.asarray

    def damaged(page):
        if page.index == 3:
            raise CodecError("corrupt")
        return decode(page)

    monkeypatch.setattr(tifffile.TiffPage, "asarray", damaged)
    monkeypatch.setattr(tifffile.TiffFrame, "asarray", damaged)
    np.testing.assert_array_equal(volume.read(Box((0, 0, 0), (3, 12, 17))), STACK[:3])
    with pytest.raises(BadInput, match=r"a\.tif: page 3 cannot be decoded \(corrupt\)"):
        volume.read(whole(volume.shape))
