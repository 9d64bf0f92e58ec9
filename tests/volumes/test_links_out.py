"""Files that lead to other files: refused by name, and followed when asked."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.ome_zarr import create_ome_zarr
from maeref_jax.volumes.formats.trust import Trust
from maeref_jax.volumes.volume import create_volume, open_volume
from maeref_jax.volumes.windows import whole

STACK = np.random.default_rng(0).integers(0, 100, (3, 6, 5)).astype(np.uint8)
SIZE = (40.0, 4.0, 4.0)


def read(path, trust=Trust(), axes="ZYX"):
    volume = open_volume(path, axes=axes, trust=trust)
    return volume.read(whole(volume.shape))


def external_link(folder, h5py):
    with h5py.File(folder / "a.h5", "w") as file:
        file["group/raw"] = h5py.ExternalLink("../other.h5", "/data")
        file["raw"] = h5py.SoftLink("/group/raw")
    return "a.h5:/raw", "other.h5"


def external_storage(folder, h5py):
    (folder.parent / "other.raw").write_bytes(STACK.tobytes())
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("raw", STACK.shape, "u1", external=[(str(folder.parent / "other.raw"), 0, STACK.size)])
    return "a.h5:/raw", "other.raw"


def virtual(folder, h5py):
    layout = h5py.VirtualLayout(STACK.shape, "u1")
    layout[:] = h5py.VirtualSource("../other.h5", "data", STACK.shape)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    return "a.h5:/raw", "other.h5"


def level_outside(folder, _):
    create_ome_zarr(folder / "a.ome.zarr", STACK.shape, "uint8")
    meta = folder / "a.ome.zarr" / "zarr.json"
    meta.write_text(meta.read_text().replace('"path": "0"', '"path": "../../other.zarr"'))
    return "a.ome.zarr", "../../other.zarr"


def level_from_the_root(folder, _):
    create_ome_zarr(folder / "a.ome.zarr", STACK.shape, "uint8")
    meta = folder / "a.ome.zarr" / "zarr.json"
    meta.write_text(meta.read_text().replace('"path": "0"', f'"path": "{folder.parent}/other.zarr"'))
    return "a.ome.zarr", "other.zarr"


def linked_chunk(folder, _):
    create_volume(folder / "a.zarr", STACK.shape, "uint8").write(whole(STACK.shape), STACK)
    chunk = next(path for path in (folder / "a.zarr" / "c").rglob("*") if path.is_file())
    chunk.rename(folder.parent / "elsewhere")
    chunk.symlink_to(folder.parent / "elsewhere")
    return "a.zarr", "elsewhere"


def scale_outside(folder, _):
    volume = create_volume(folder / "a.precomputed", STACK.shape, "uint8", voxel_size_nm=SIZE)
    volume.write(whole(STACK.shape), STACK)
    info = json.loads((folder / "a.precomputed" / "info").read_text())
    (folder / "a.precomputed" / info["scales"][0]["key"]).rename(folder.parent / "elsewhere")
    (folder / "a.precomputed" / info["scales"][0]["key"]).symlink_to(folder.parent / "elsewhere")
    return "a.precomputed", "elsewhere"


def detached_data(folder, _):
    (folder.parent / "other.raw").write_bytes(STACK.tobytes())
    head = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 5 6 3\nencoding: raw\nkinds: domain domain domain\n"
    (folder / "a.nhdr").write_text(f"{head}data file: ../other.raw\n\n")
    return "a.nhdr", "../other.raw"


def linked_slice(folder, _):
    (folder / "slices").mkdir()
    for z, plane in enumerate(STACK):
        Image.fromarray(plane).save(folder / "slices" / f"{z}.png")
    (folder / "slices" / "1.png").rename(folder.parent / "elsewhere.png")
    (folder / "slices" / "1.png").symlink_to("../../elsewhere.png")
    return "slices", "elsewhere.png"


def page_elsewhere(folder, _):
    for z, name in enumerate(("a.ome.tif", "../other.ome.tif")):
        pixels = "".join(
            f'<TiffData FirstZ="{i}" IFD="0"><UUID FileName="{file}">urn:uuid:{i}</UUID></TiffData>'
            for i, file in enumerate(("a.ome.tif", "../other.ome.tif"))
        )
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{z}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
            'SizeX="5" SizeY="6" SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0:0"/>'
            f"{pixels}</Pixels></Image></OME>"
        )
        tifffile.imwrite(folder / name, STACK[z], description=xml.encode(), metadata=None, photometric="minisblack")
    return "a.ome.tif", "../other.ome.tif"


LINKS = (
    external_link, external_storage, virtual, level_outside, level_from_the_root, linked_chunk, scale_outside,
    detached_data, linked_slice, page_elsewhere,
)  # fmt: skip


@pytest.mark.parametrize("make", LINKS, ids=lambda make: make.__name__)
def test_a_link_out_of_a_container_is_refused_by_name_and_followed_when_asked(tmp_path, make):
    h5py = pytest.importorskip("h5py")
    folder = tmp_path / "inside"
    folder.mkdir()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = STACK
    create_volume(tmp_path / "other.zarr", STACK.shape, "uint8").write(whole(STACK.shape), STACK)
    name, target = make(folder, h5py)
    axes = {"a.nhdr": "XYZ", "a.precomputed": "XYZC"}.get(name, "ZYX")
    with pytest.raises(BadInput, match=r"leads out of itself.*--follow_links") as told:
        open_volume(folder / name, axes=axes)
    assert target in str(told.value) and "\n" not in str(told.value)
    found = read(folder / name, Trust(follow_links=True), axes)
    np.testing.assert_array_equal(found, STACK[: len(found)])


def test_what_an_hdf5_file_is_put_together_of_has_to_be_there(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "inside").mkdir()
    name, _ = virtual(tmp_path / "inside", h5py)
    with pytest.raises(BadInput, match=r"other.h5 and others, which is missing"):
        read(tmp_path / "inside" / name, Trust(follow_links=True))
    layout = h5py.VirtualLayout(STACK.shape, "u1")
    layout[:] = h5py.VirtualSource(".", "data", STACK.shape)
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    with pytest.raises(BadInput, match=r"put together of data and others, which is missing"):
        read(tmp_path / "own.h5:/raw")
    with h5py.File(tmp_path / "own.h5", "r+") as file:
        file["data"] = STACK
        file["circle"] = h5py.SoftLink("/circle")
    np.testing.assert_array_equal(read(tmp_path / "own.h5:/raw"), STACK)
    with pytest.raises(BadInput, match=r"go in a circle"):
        read(tmp_path / "own.h5:/circle")
    with h5py.File(tmp_path / "short.h5", "w") as file:
        (tmp_path / "short.raw").write_bytes(bytes(10))
        file.create_dataset("raw", STACK.shape, "u1", external=[(str(tmp_path / "short.raw"), 0, STACK.size)])
    with pytest.raises(BadInput, match=r"not there, or too short"):
        read(tmp_path / "short.h5:/raw", Trust(follow_links=True))


def test_links_that_stay_inside_and_a_container_that_is_a_link_are_as_they_were(tmp_path):
    h5py = pytest.importorskip("h5py")
    create_volume(tmp_path / "real.zarr", STACK.shape, "uint8").write(whole(STACK.shape), STACK)
    chunk = next(path for path in (tmp_path / "real.zarr" / "c").rglob("*") if path.is_file())
    chunk.rename(tmp_path / "real.zarr" / "moved")
    chunk.symlink_to(tmp_path / "real.zarr" / "moved")
    (tmp_path / "a.zarr").symlink_to(tmp_path / "real.zarr")
    with h5py.File(tmp_path / "real.h5", "w") as file:
        file["data"], file["raw"] = STACK, h5py.SoftLink("/data")
    (tmp_path / "a.h5").symlink_to(tmp_path / "real.h5")
    for name in ("a.zarr", "a.h5:/raw"):
        np.testing.assert_array_equal(read(tmp_path / name), STACK)
