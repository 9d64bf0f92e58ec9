"""NIfTI, MRC, NRRD, PNG, Imaris and CZI: voxels, axes and sizes as their own libraries write them, and back."""

import gzip
import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.stored import Placement
from maeref_jax.volumes.volume import array_volume, open_probabilities, open_volume
from maeref_jax.volumes.windows import Box, whole
from maeref_jax.volumes.writing import WRITERS, write_volume

STACK = np.random.default_rng(0).integers(0, 200, (5, 12, 17)).astype(np.uint8)
SIZE = (40.0, 4.6, 4.0)
INNER = Box((1, 2, 3), (4, 9, 16))


def read(volume):
    return volume.read(whole(volume.shape))


def check(volume, array=STACK, size=SIZE):
    assert (volume.shape, volume.voxel_size_nm) == (array.shape, size)
    np.testing.assert_array_equal(volume.read(INNER), array[INNER.slices])
    np.testing.assert_array_equal(read(volume), array)


def nifti(path, array, *, affine=None, unit="micron", kind="Nifti1Image"):
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([0.004, 0.0046, 0.04, 1.0]) if affine is None else affine
    image = getattr(nibabel, kind)(array.T, affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
def test_nifti(tmp_path, name, kind):
    volume = open_volume(nifti(tmp_path / name, STACK, kind=kind))
    check(volume)
    assert volume.note == "" and volume.source == tmp_path / name
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-200])
    with pytest.raises(BadInput, match=r"truncated|cannot be unpacked"):
        read(open_volume(tmp_path / name))


def test_nifti_units_axes_and_values(tmp_path):
    volume = open_volume(nifti(tmp_path / "a.nii", STACK, unit="mm"))
    assert volume.voxel_size_nm == (4e4, 4600.0, 4000.0)
    unknown = nifti(tmp_path / "b.nii", STACK, unit="unknown")
    assert open_volume(unknown).voxel_size_nm is None and "cannot be used" in open_volume(unknown).note
    small = nifti(tmp_path / "small.nii", STACK, affine=np.diag([4.6e-6, 4.6e-6, 4.5e-5, 1]), unit="unknown")
    assert "(x 4.6e-06 unknown, y 4.6e-06 unknown, z 4.5e-05 unknown)" in open_volume(small).note
    given = open_volume(unknown, voxel_size_nm=SIZE)
    assert given.voxel_size_nm == SIZE and "cannot be used" not in given.note
    classes = np.random.default_rng(0).dirichlet(np.ones(3), STACK.shape).astype(np.float32)
    path = nifti(tmp_path / "p.nii.gz", np.moveaxis(classes, -1, 0))
    with pytest.raises(BadInput, match="--axes XYZC"):
        open_probabilities(path)
    with pytest.raises(BadInput, match="time series"):
        open_volume(path)
    volume = open_probabilities(path, axes="XYZC", voxel_size_nm=(30, 5, 5))
    assert volume.voxel_size_nm == (30, 5, 5)
    np.testing.assert_array_equal(read(volume), np.moveaxis(classes, -1, 0))
    nibabel = pytest.importorskip("nibabel")
    scaled = nibabel.Nifti1Image(STACK.T.astype(np.float64) * 0.5 + 3, np.eye(4))
    scaled.header.set_data_dtype(np.uint8)
    nibabel.save(scaled, tmp_path / "s.nii")
    volume = open_volume(tmp_path / "s.nii")
    assert volume.dtype == np.float64 and "scaled" in volume.note
    np.testing.assert_allclose(read(volume), STACK * 0.5 + 3, atol=0.3)
    plane = nifti(tmp_path / "plane.nii", STACK[0])
    with pytest.raises(BadInput, match="--axes XY to treat it"):
        open_volume(plane)
    np.testing.assert_array_equal(read(open_volume(plane, axes="XY")), STACK[:1])


TURNED = np.array([[0, -0.004, 0, 7.0], [-0.0046, 0, 0, -3.0], [0, 0, 0.04, 1.0], [0, 0, 0, 1]])


@pytest.mark.parametrize("unit", ["micron", "unknown"])
def test_what_is_written_lies_where_the_input_lay(tmp_path, unit):
    nibabel = pytest.importorskip("nibabel")
    path = nifti(tmp_path / "a.nii.gz", STACK, affine=TURNED, unit=unit)
    volume = open_volume(path, voxel_size_nm=None if unit == "micron" else SIZE)
    assert "flips or turns" in volume.note
    np.testing.assert_array_equal(read(volume), STACK)
    write_volume(tmp_path / "b.nii.gz", volume, volume.voxel_size_nm, volume.placement)
    written = nibabel.load(tmp_path / "b.nii.gz")
    np.testing.assert_allclose(written.affine, TURNED, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, STACK)
    assert written.header.get_xyzt_units()[0] == unit
    part = open_volume(f"{path}[1:5:2]")
    write_volume(tmp_path / "c.nii", part, part.voxel_size_nm, part.placement)
    cut = nibabel.load(tmp_path / "c.nii").affine
    np.testing.assert_allclose(cut @ (0, 0, 1, 1), TURNED @ (0, 0, 3, 1), rtol=1e-5)


@pytest.mark.parametrize("suffix", [*WRITERS, ".npy", ".ome.tif", ".tif", ".h5", ".ome.zarr"])
@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("dtype", ["uint8", "bool", "float32"])
def test_what_is_written_is_read_again(tmp_path, suffix, size, dtype):
    array = (STACK > 99) if dtype == "bool" else STACK.astype(dtype)
    path = tmp_path / f"a{suffix}"
    for _ in range(2):  # what is there is replaced
        write_volume(path, array_volume(array, "a", size), size)
    volume = open_volume(path, axes="ZYX" if suffix == ".npy" else None)
    expected = None if suffix == ".npy" or size is None else pytest.approx(size)
    assert volume.voxel_size_nm == expected and volume.note == ""
    np.testing.assert_array_equal(read(volume), array * np.uint8(255) if "tif" in suffix and dtype == "bool" else array)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_libraries_read_what_is_written(tmp_path):
    mrcfile, nrrd, nibabel = map(pytest.importorskip, ("mrcfile", "nrrd", "nibabel"))
    for suffix in (".mrc", ".nrrd", ".nii"):
        write_volume(tmp_path / f"a{suffix}", array_volume(STACK, "a", SIZE), SIZE)
    with mrcfile.open(tmp_path / "a.mrc") as content:
        np.testing.assert_array_equal(content.data, STACK)
        assert content.voxel_size.z == pytest.approx(400) and content.voxel_size.x == pytest.approx(40)
        assert content.is_volume()
    data, header = nrrd.read(str(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(data.T, STACK)
    np.testing.assert_allclose(header["spacings"], SIZE[::-1])
    image = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_allclose(image.header.get_zooms(), np.array(SIZE[::-1]) / 1e3, rtol=1e-6)
    np.testing.assert_allclose(image.affine, np.diag([0.004, 0.0046, 0.04, 1]), rtol=1e-6)


def test_mrc(tmp_path):
    mrcfile = pytest.importorskip("mrcfile")
    signed = (STACK.astype(np.int16) - 100).astype(np.int8)
    for dtype, array in ((np.int8, signed), (np.int16, STACK), (np.uint16, STACK), (np.float32, STACK)):
        path = tmp_path / "a.rec"
        with mrcfile.new(path, array.astype(dtype), overwrite=True) as content:
            content.voxel_size = (40, 46, 400)
        volume = open_volume(path)
        assert volume.dtype == dtype
        check(volume, array.astype(dtype))
    (tmp_path / "a.map.gz").write_bytes(gzip.compress(path.read_bytes()))
    check(open_volume(tmp_path / "a.map.gz"))
    with mrcfile.open(path, "r+") as content:
        content.header.mapc, content.header.maps = 3, 1
    np.testing.assert_array_equal(read(open_volume(path)), STACK.transpose(2, 1, 0))
    with mrcfile.open(path, "r+") as content:
        content.header.mapc, content.header.maps = 7, 7
    with pytest.raises(BadInput, match="does not say what its axes are"):
        open_volume(path)
    np.testing.assert_array_equal(read(open_volume(path, axes="ZYX")), STACK)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadInput, match="truncated"):
        open_volume(path, axes="ZYX")
    with mrcfile.new(tmp_path / "imod.st", signed) as content:
        stamp = np.array([1146047817, 0], np.int32).tobytes()
    raw = bytearray((tmp_path / "imod.st").read_bytes())
    raw[152:160] = stamp
    (tmp_path / "imod.st").write_bytes(raw)
    volume = open_volume(tmp_path / "imod.st")
    assert volume.dtype == np.uint8 and "IMOD" in volume.note
    np.testing.assert_array_equal(read(volume), signed.view(np.uint8))


@pytest.mark.parametrize(
    ("line", "message"), [("encoding: ascii", "encoding ascii"), ("data file: LIST", "in several")]
)
def test_a_nrrd_that_is_refused_is_not_called_damaged(tmp_path, line, message):
    head = ["NRRD0004", "type: uint8", "dimension: 3", "sizes: 2 2 2", "encoding: raw", line]
    head = [one for one in head if one == line or one.split(":")[0] != line.split(":")[0]]
    (tmp_path / "a.nrrd").write_text("\n".join(head) + "\n\n")
    with pytest.raises(BadInput, match=rf"^\S+ has .*{message}"):
        open_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr"])
def test_nrrd(tmp_path, encoding, name):
    nrrd = pytest.importorskip("nrrd")
    path = tmp_path / name
    space = {"space": "right-anterior-superior", "space directions": np.diag([4, 4.6, 40]), "encoding": encoding}
    nrrd.write(str(path), STACK.T, space | {"space units": ["nm"] * 3})
    check(open_volume(path))
    nrrd.write(str(path), STACK.T, {"spacings": [0.004, 0.0046, 0.04], "units": ["um"] * 3, "encoding": encoding})
    with pytest.raises(BadInput, match="does not say what its axes are"):
        open_volume(path)
    check(open_volume(path, axes="XYZ", voxel_size_nm=SIZE))
    nrrd.write(str(path), STACK.T, space)
    assert open_volume(path).voxel_size_nm is None and "cannot be used (x 4" in open_volume(path).note
    flipped = space | {"space directions": np.diag([4, -4.6, 40]), "space units": ["nm", "nm", "nm"]}
    nrrd.write(str(path), STACK.T, flipped)
    check(open_volume(path))
    assert "flip or turn" in open_volume(path).note
    layers = {"kinds": ["list", "domain", "domain", "domain"], "encoding": encoding}
    nrrd.write(str(path), np.stack([STACK.T, 255 - STACK.T]), layers)
    np.testing.assert_array_equal(read(open_volume(path, channel=1)), 255 - STACK)
    data = path if name == "a.nrrd" else next(file for file in tmp_path.iterdir() if file != path)
    data.write_bytes(data.read_bytes()[:-99])
    with pytest.raises(BadInput, match=r"truncated|cannot be unpacked"):
        read(open_volume(path, channel=1))


def test_png_planes_keep_their_values(tmp_path):
    for name, plane in (("a", STACK[0]), ("b", STACK[0].astype(np.uint16) * 300), ("c", STACK[0] > 99)):
        Image.fromarray(plane).save(tmp_path / f"{name}.png")
        volume = open_volume(tmp_path / f"{name}.png", axes="YX")
        assert volume.dtype == plane.dtype
        np.testing.assert_array_equal(read(volume), plane[None])
    with pytest.raises(BadInput, match=r"is a plane.*--axes YX"):
        open_volume(tmp_path / "a.png")
    palette = Image.fromarray(STACK[0] % 4)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "p.png", bits=2)
    volume = open_volume(tmp_path / "p.png", axes="YX")
    assert "palette" in volume.note
    np.testing.assert_array_equal(read(volume), STACK[:1] % 4)
    Image.fromarray(np.stack([STACK[0]] * 3, -1)).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read(open_volume(tmp_path / "rgb.png", axes="YXC", channel=2)), STACK[:1])
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-60])
    with pytest.raises(BadInput, match="no readable PNG"):
        open_volume(tmp_path / "a.png", axes="YX")


def test_a_folder_of_png_slices_and_its_gaps(tmp_path):
    def folder(name, numbers):
        (tmp_path / name).mkdir()
        for number, plane in zip(numbers, STACK, strict=True):
            Image.fromarray(plane).save(tmp_path / name / f"cell_z{number:03d}.png")
        return tmp_path / name

    check(open_volume(folder("all", range(8, 13)), voxel_size_nm=SIZE))
    by_tens = open_volume(folder("tens", range(0, 50, 10)))
    assert "steps of 10" in by_tens.note
    np.testing.assert_array_equal(read(by_tens), STACK)
    with pytest.raises(BadInput, match="numbered 1 to 8, but 004, 005, 007 missing: for a slice that is lost copy"):
        open_volume(folder("gap", (1, 2, 3, 6, 8)))
    with pytest.raises(BadInput, match="numbered 0 to 50, but 030 missing"):
        open_volume(folder("tens_gap", (0, 10, 20, 40, 50)))
    with pytest.raises(BadInput, match="but their steps differ"):
        open_volume(folder("odd", (0, 10, 20, 30, 33)))
    mixed = folder("mixed", range(5))
    Image.fromarray(STACK[0]).save(mixed / "cell_z005.tif")
    with pytest.raises(BadInput, match="several names"):
        open_volume(mixed)


def imaris(path, **image):
    h5py = pytest.importorskip("h5py")

    def letters(text):
        return np.array([letter.encode() for letter in text], "S1")

    with h5py.File(path, "w") as file:
        for channel, array in enumerate((STACK, 255 - STACK)):
            padded = np.pad(array, ((0, 3), (0, 4), (0, 15)))  # whole chunks
            file[f"DataSet/ResolutionLevel 0/TimePoint 0/Channel {channel}/Data"] = padded
            file[f"DataSet/ResolutionLevel 1/TimePoint 0/Channel {channel}/Data"] = padded[:, ::2, ::2]
            file.create_group(f"DataSetInfo/Channel {channel}").attrs["Name"] = letters(("raw", "mito")[channel])
        said = {"X": "17", "Y": "12", "Z": "5", "Unit": "um", "ExtMin0": "1", "ExtMin1": "0", "ExtMin2": "0"}
        said |= {"ExtMax0": "1.068", "ExtMax1": "0.0552", "ExtMax2": "0.2"} | image
        attributes = file.create_group("DataSetInfo/Image").attrs
        for key, value in said.items():
            attributes[key] = letters(value)
    return path


def test_imaris(tmp_path):
    path = imaris(tmp_path / "a.ims")
    check(open_volume(path, channel="raw"))
    check(open_volume(path, channel=1), 255 - STACK)
    with pytest.raises(BadInput, match="called raw, mito"):
        open_volume(path)
    assert open_volume(imaris(tmp_path / "b.ims", Unit="fathom"), channel=0).voxel_size_nm is None
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(BadInput, match="cannot be read as HDF5"):
        open_volume(path)


def test_czi(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    pytest.importorskip("bioio_czi")
    path = str(tmp_path / "a.czi")
    with czi.create_czi(path) as document:
        for channel, array in enumerate((STACK, 255 - STACK)):
            for z in range(5):
                document.write(array[z][..., None], plane={"Z": z, "C": channel, "T": 0})
        document.write_metadata("a", scale_x=4e-9, scale_y=4.6e-9, scale_z=4e-8)
    check(open_volume(path, channel=0))
    check(open_volume(path, channel=1), 255 - STACK)
    (tmp_path / "b.czi").write_bytes(b"no CZI")
    with pytest.raises(BadInput, match="cannot be read by bioio-czi"):
        open_volume(tmp_path / "b.czi")


@pytest.mark.parametrize(
    ("name", "package", "advice"),
    [
        ("a.nii.gz", "nibabel", "pip install nibabel"),
        ("a.rec", "mrcfile", "pip install mrcfile"),
        ("a.nrrd", "nrrd", "pip install pynrrd"),
        ("a.ims", "h5py", "pip install h5py"),
        ("a.lif", "bioio", "pip install bioio bioio-lif"),
        ("a.nd2", "bioio_nd2", "pip install bioio bioio-nd2"),
    ],
)
def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch, name, package, advice):
    if package == "bioio_nd2" and importlib.util.find_spec("bioio") is None:
        pytest.skip("bioio is missing itself")
    (tmp_path / name).write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput, match=advice):
        open_volume(tmp_path / name)
    if name in ("a.nii.gz",):
        with pytest.raises(BadInput, match=advice):
            write_volume(tmp_path / "b.nii.gz", array_volume(STACK, "a"), None)


def test_a_placement_belongs_to_the_axes_that_are_asked_for(tmp_path):
    volume = open_volume(nifti(tmp_path / "a.nii", STACK), axes="ZYX")
    assert volume.placement == Placement(
        {"X": pytest.approx((0, 0, 0.04)), "Y": pytest.approx((0, 0.0046, 0)), "Z": pytest.approx((0.004, 0, 0))},
        (0, 0, 0),
        "micron",
    )
