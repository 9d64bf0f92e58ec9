"""Whatever metadata say or lack, the outcome is a volume that can be read, or one BadInput; and flags win over them.

Every format with metadata is written well, then one of its optional entries is replaced by something odd.
"""

import copy
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.ome_zarr import create_ome_zarr
from maeref_jax.volumes.volume import array_volume, create_volume, open_volume
from maeref_jax.volumes.windows import whole
from maeref_jax.volumes.writing import write_volume

STACK = np.random.default_rng(0).integers(0, 100, (3, 6, 5)).astype(np.uint8)
SIZE, GIVEN = (40.0, 4.0, 4.0), (30.0, 7.0, 5.0)
EXAMPLES = 25

numbers = st.sampled_from([0, -1, 1, 3, 10**9, 10**30, -(10**30), 1e308, 1e-320, float("nan"), float("inf"), 2.5])
words = st.sampled_from(["", " ", "x", "zyx", "ZYX", "0,01", "nm", "µm", "parsec", "1e999", "[1,2", "\x00", "a" * 5000])
odd = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from([*"xyz", "name", "type"]), inner),
    max_leaves=6,
)


def check(path, axes, flags_win=True):
    """`axes`: how the array is stored; without flags it is read or refused, with flags read as they say."""
    try:
        volume = open_volume(path)
        assert volume.voxel_size_nm is None or all(0 < length < 1e10 for length in volume.voxel_size_nm)
        assert volume.read(whole(volume.shape)).shape == volume.shape
    except BadInput as error:
        assert str(error) and "\n" not in str(error)[:-1]
    try:
        volume = open_volume(path, axes=axes, voxel_size_nm=GIVEN)
    except BadInput:
        assert not flags_win, "what the user says wins"
        return
    if not flags_win:
        return
    assert (volume.shape, volume.voxel_size_nm) == (STACK.shape, GIVEN)
    np.testing.assert_array_equal(volume.read(whole(volume.shape)), STACK)


def places(tree, path=()):
    """Paths to all entries of a JSON tree."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def replaced(tree, path, value, drop):
    """A copy of the tree with one entry replaced, or dropped."""
    tree = copy.deepcopy(tree)
    group = tree
    for key in path[:-1]:
        group = group[key]
    if drop:
        del group[path[-1]]
    else:
        group[path[-1]] = value
    return tree


quickly = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quickly
@given(st.sampled_from(["0.4", "0.5"]), st.data(), odd, st.booleans())
def test_ome_zarr(version, data, value, drop):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ome.zarr"
        stored = create_ome_zarr(path, STACK.shape, "uint8", voxel_size_nm=SIZE, version=version)
        stored.write((slice(None),) * 3, STACK)
        file = path / ("zarr.json" if version == "0.5" else ".zattrs")
        good = json.loads(file.read_text())
        group = good["attributes"]["ome"] if version == "0.5" else good
        group["omero"] = {"channels": [{"label": "raw", "color": "FFFFFF"}]}
        where = data.draw(st.sampled_from(sorted(places(good), key=str)))
        file.write_text(json.dumps(replaced(good, where, value, drop)))
        # Without a list of datasets nobody knows which array is meant: its own path still opens.
        check(path, "ZYX", flags_win=False)
        check(path / "0", "ZYX")


@quickly
@given(st.data(), odd)
def test_zarr_arrays(data, value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zarr"
        create_volume(path, STACK.shape, "uint8", voxel_size_nm=SIZE).write(whole(STACK.shape), STACK)
        file = path / "zarr.json"
        good = json.loads(file.read_text())
        good["attributes"] |= {"_ARRAY_DIMENSIONS": ["z", "y", "x"], "axes": ["z", "y", "x"]}
        optional = [p for p in places(good) if p[0] in ("attributes", "dimension_names")]
        file.write_text(json.dumps(replaced(good, data.draw(st.sampled_from(optional)), value, False)))
        check(path, "ZYX")


@quickly
@given(st.data(), odd)
def test_n5(data, value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.n5"
        create_volume(path, STACK.shape, "uint8", voxel_size_nm=SIZE).write(whole(STACK.shape), STACK)
        file = path / "attributes.json"
        good = json.loads(file.read_text())
        good["transform"] = {"axes": list("zyx"), "scale": [4, 4, 4], "units": ["nm"] * 3, "ordering": "C"}
        if data.draw(st.booleans()):
            del good["axes"], good["resolution"], good["units"]
        needed = ("dimensions", "blockSize", "dataType", "compression")
        optional = [p for p in places(good) if p[0] not in needed]
        file.write_text(json.dumps(replaced(good, data.draw(st.sampled_from(optional)), value, False)))
        check(path, "XYZ")


@quickly
@given(st.data(), odd)
def test_precomputed(data, value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.precomputed"
        create_volume(path, STACK.shape, "uint8", voxel_size_nm=SIZE).write(whole(STACK.shape), STACK)
        file = path / "info"
        good = json.loads(file.read_text())
        good |= {"mesh": "mesh", "segment_properties": "p"}
        where = data.draw(st.sampled_from(sorted(places(good), key=str)))
        file.write_text(json.dumps(replaced(good, where, value, False)))
        optional = where[0] in ("mesh", "segment_properties") or (len(where) > 2 and where[2] == "resolution")
        check(path, "XYZC", flags_win=optional)


ATTRIBUTE = st.sampled_from(["axistags", "resolution", "element_size_um"])


@quickly
@given(ATTRIBUTE, odd)
def test_hdf5(key, value):
    h5py = pytest.importorskip("h5py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        create_volume(path, STACK.shape, "uint8", voxel_size_nm=SIZE).write(whole(STACK.shape), STACK)
        with h5py.File(path, "r+") as file:
            try:
                file["data"].attrs[key] = value if isinstance(value, int | float | str) else json.dumps(value)
            except (ValueError, TypeError, OSError, OverflowError):
                file["data"].attrs[key] = h5py.Empty("f")
            if isinstance(value, list) and key != "axistags":
                flat = [entry if isinstance(entry, float) else 1.0 for entry in value]
                file["data"].attrs[key] = np.array(flat)
        check(path, "ZYX")


OME = """<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Image ID="Image:0" Name="{Name}"><Pixels ID="Pixels:0" DimensionOrder="{DimensionOrder}" Type="uint8" SizeX="{SizeX}"
SizeY="{SizeY}" SizeZ="{SizeZ}" SizeC="{SizeC}" SizeT="{SizeT}" PhysicalSizeX="{PhysicalSizeX}"
PhysicalSizeY="4" PhysicalSizeZ="{PhysicalSizeZ}" PhysicalSizeXUnit="{PhysicalSizeXUnit}"><Channel ID="Channel:0:0"
SamplesPerPixel="{SamplesPerPixel}"/><TiffData {TiffData}/></Pixels></Image></OME>"""
GOOD = {
    "Name": "a", "DimensionOrder": "XYZCT", "SizeX": 5, "SizeY": 6, "SizeZ": 3, "SizeC": 1, "SizeT": 1,
    "PhysicalSizeX": "0.004", "PhysicalSizeZ": "0.04", "PhysicalSizeXUnit": "nm", "SamplesPerPixel": 1, "TiffData": "",
}  # fmt: skip
XML = words.map(lambda word: word.replace("\x00", "&#0;")) | numbers.map(str) | st.sampled_from(["&", "<", '"', "3"])


@quickly
@given(st.sampled_from(sorted(GOOD)), XML, st.booleans())
def test_ome_tiff(key, value, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ome.tif"
        xml = OME.format(**GOOD | {key: value})
        xml = xml[: len(xml) // 2] if cut else xml
        tifffile.imwrite(path, STACK, description=xml.encode(), metadata=None, photometric="minisblack")
        check(path, "ZYX")


IMAGEJ = {
    "images": "3", "slices": "3", "channels": "1", "hyperstack": "true", "spacing": "40", "unit": "nm", "frames": "1"
}  # fmt: skip


@quickly
@given(st.sampled_from(sorted(IMAGEJ)), (words | numbers.map(str)).filter(lambda word: "\x00" not in word))
def test_imagej(key, value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        lines = "\n".join(f"{name}={said}" for name, said in (IMAGEJ | {key: value}).items())
        text = f"ImageJ=1.11a\n{lines}\n".encode("ascii", "replace")
        tifffile.imwrite(path, STACK, description=text, metadata=None, photometric="minisblack", resolution=(0.2, 0.2))
        check(path, "ZYX")


@quickly
@given((words | numbers.map(str)).map(lambda word: word.replace("\x00", " ")) | odd.map(json.dumps))
def test_shape_of_plain_tiff(value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        text = f'{{"shape": {value}}}'.encode("ascii", "replace")
        tifffile.imwrite(path, STACK, description=text, metadata=None, photometric="minisblack")
        check(path, "ZYX")


NIFTI = {
    "pixdim": 76, "xyzt_units": 123, "qform_code": 252, "sform_code": 254, "quatern_b": 256, "srow_x": 280,
    "srow_y": 296, "cal_max": 124, "descrip": 148,
}  # fmt: skip


@quickly
@given(st.sampled_from([".nii", ".nii.gz"]), st.sampled_from(sorted(NIFTI)), st.binary(min_size=1, max_size=4))
def test_nifti(suffix, field, value):
    pytest.importorskip("nibabel")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write_volume(path, array_volume(STACK, "a"), SIZE)
        packed = suffix.endswith("gz")
        raw = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
        raw[NIFTI[field] : NIFTI[field] + len(value)] = value
        path.write_bytes(gzip.compress(raw) if packed else raw)
        check(path, "XYZ")


MRC = ["cella", "mx", "my", "mz", "mapc", "mapr", "maps", "ispg", "dmin", "nlabl", "map", "machst", "nxstart"]


@quickly
@given(st.sampled_from(MRC), st.integers(0, 255), st.integers(0, 11))
def test_mrc(field, byte, at):
    mrcfile = pytest.importorskip("mrcfile")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mrc"
        write_volume(path, array_volume(STACK.view(np.int8), "a"), SIZE)
        with mrcfile.open(path, header_only=True) as content:
            offset, size = content.header.dtype.fields[field][1], content.header.dtype[field].itemsize
        raw = bytearray(path.read_bytes())
        raw[offset + at % size] = byte
        path.write_bytes(raw)
        check(path, "ZYX", flags_win=field not in ("machst", "ispg"))  # byte order and shape are no option


NRRD = ["space", "space dimension", "space directions", "space origin", "space units", "spacings", "units", "labels",
        "kinds", "centers", "thicknesses", "content", "min", "max", "measurement frame", "sample units"]  # fmt: skip


@quickly
@given(st.sampled_from(NRRD), (words | odd.map(json.dumps)).map(lambda word: word.replace("\x00", " ")))
def test_nrrd(field, value):
    pytest.importorskip("nrrd")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nrrd"
        head = ["NRRD0004", "type: uint8", "dimension: 3", "sizes: 5 6 3", "endian: little", "encoding: raw"]
        head += ["kinds: domain domain domain", f"{field}: {value}"]
        path.write_bytes("\n".join([*head, "", ""]).encode("utf-8") + STACK.tobytes())
        check(path, "XYZ")


IMARIS = ["X", "Y", "Z", "Unit", "ExtMin0", "ExtMax0", "ExtMax2"]


@quickly
@given(st.sampled_from(IMARIS), words | numbers.map(str))
def test_imaris(key, value):
    h5py = pytest.importorskip("h5py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ims"
        with h5py.File(path, "w") as file:
            file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"] = STACK
            image = {"X": "5", "Y": "6", "Z": "3", "Unit": "um", "ExtMin0": "0", "ExtMax0": "1", key: value}
            for name, said in image.items():
                letters = [letter.encode("utf-8", "replace")[:1] for letter in said] or [b" "]
                file.require_group("DataSetInfo/Image").attrs[name] = np.array(letters, "S1")
        check(path, "TCZYX", flags_win=key not in "XYZ")  # how much of the stored blocks is the image
