"""Files that say more than they hold or become more than they may: one line, and nothing done."""

import gzip
import json
import lzma
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorstore
import tifffile
from PIL import Image

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.trust import Trust
from maeref_jax.volumes.volume import array_volume, create_volume, open_volume
from maeref_jax.volumes.windows import Box, whole
from maeref_jax.volumes.writing import write_volume

STACK = np.random.default_rng(0).integers(0, 100, (3, 6, 5)).astype(np.uint8)
SIZE = (40.0, 4.0, 4.0)
FEW = Trust(unpacked_gb=0.001, piece_gb=0.001)  # a megabyte of either
EMPTY = np.zeros((8, 1000, 1000), np.uint8)


def read(path, trust=Trust(), axes="ZYX"):
    volume = open_volume(path, axes=axes, trust=trust)
    return volume.read(whole(volume.shape))


# What becomes more than it may.


def one_chunk(path, driver, **metadata):
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(EMPTY).result()


def packed_slices(path):
    path.mkdir()
    for z in range(2):
        Image.fromarray(np.zeros((1500, 1500), np.uint8)).save(path / f"{z}.png")


BOMBS = {
    "a.npz": lambda path: np.savez_compressed(path, a=EMPTY),
    "a.nii.gz": lambda path: write_volume(path, array_volume(EMPTY, "a"), SIZE),
    "a.nrrd": lambda path: write_volume(path, array_volume(EMPTY, "a"), SIZE),
    "a.tif": lambda path: tifffile.imwrite(
        path, np.zeros((2, 1500, 1500), np.uint8), compression="zlib", photometric="minisblack", metadata=None
    ),
    "folder": packed_slices,
    "a.h5": lambda path: create_volume(path, EMPTY.shape, "uint8", chunk=EMPTY.shape).write(whole(EMPTY.shape), EMPTY),
    "a.zarr": lambda path: one_chunk(
        path, "zarr", shape=EMPTY.shape, chunks=EMPTY.shape, dtype="|u1", compressor={"id": "zlib", "level": 1}
    ),
    "a.n5": lambda path: one_chunk(
        path, "n5", dimensions=EMPTY.shape, blockSize=EMPTY.shape, dataType="uint8", compression={"type": "gzip"}
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_becomes_more_than_it_may_is_refused_by_a_flag_that_allows_it(tmp_path, monkeypatch, name):
    BOMBS[name](tmp_path / name)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: pytest.fail("unpacked"))
    with pytest.raises(BadInput, match=r"allow it with --(unpacked|piece)_gb [\d.]+ \(it is 0.001\)"):
        read(tmp_path / name, FEW)
    monkeypatch.undo()
    assert not read(tmp_path / name).any(), "within the usual limits it is read"


def test_what_is_packed_no_tighter_than_images_are_needs_no_limit(tmp_path):
    noise = np.random.default_rng(0).integers(0, 16, (3, 300, 300)).astype(np.uint8)
    np.savez_compressed(tmp_path / "a.npz", noise)
    tifffile.imwrite(tmp_path / "a.tif", noise, compression="zlib", photometric="minisblack", metadata=None)
    for name in ("a.npz", "a.tif"):
        np.testing.assert_array_equal(read(tmp_path / name, Trust(unpacked_gb=1e-9, piece_gb=1e-9)), noise)


def test_a_chunk_or_strip_that_holds_more_than_it_says_is_found_before_it_is_unpacked(tmp_path):
    h5py = pytest.importorskip("h5py")
    bomb = zlib.compress(bytes(12_000_000), 9)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (4, 8, 8), "u1", chunks=(4, 8, 8), compression="gzip")
        dataset.id.write_direct_chunk((0, 0, 0), bomb)
    for name, number, strip in (("a.tif", 8, bomb), ("b.tif", 34925, lzma.compress(bytes(12_000_000)))):
        tifffile.imwrite(tmp_path / name, STACK[0], compression="zlib", photometric="minisblack", metadata=None)
        with tifffile.TiffFile(tmp_path / name, mode="r+b") as tif:
            tags = tif.pages[0].tags
            tags["Compression"].overwrite(number)
            tags["StripOffsets"].overwrite(tif.filehandle.size)
            tags["StripByteCounts"].overwrite(len(strip))
        with (tmp_path / name).open("ab") as file:
            file.write(strip)
    for name, axes in (("a.h5", "ZYX"), ("a.tif", "YX"), ("b.tif", "YX")):
        with pytest.raises(BadInput, match=r"becomes more than 0.001 GB.*--piece_gb"):
            read(tmp_path / name, FEW, axes)


@pytest.mark.parametrize("driver", ["zarr", "zarr3", "n5"])
def test_a_blosc_chunk_that_says_more_than_the_array_is_not_made_room_for(tmp_path, driver):
    blosc = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}
    grid = {"name": "regular", "configuration": {"chunk_shape": [2, 4, 4]}}
    metadata = {
        "zarr": {"shape": STACK.shape, "chunks": [2, 4, 4], "dtype": "|u1", "compressor": blosc},
        "zarr3": {"shape": STACK.shape, "data_type": "uint8", "chunk_grid": grid, "codecs": [{"name": "blosc"}]},
        "n5": {
            "dimensions": STACK.shape, "blockSize": [2, 4, 4], "dataType": "uint8",
            "compression": {key: value for key, value in blosc.items() if key != "id"} | {"type": "blosc"},
        },
    }[driver]  # fmt: skip
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{tmp_path}/a/"}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(STACK).result()
    np.testing.assert_array_equal(read(tmp_path / "a"), STACK)
    chunk = next(path for path in (tmp_path / "a").rglob("*1*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    at = 16 if driver == "n5" else 0
    content[at + 4 : at + 8] = (2**31 - 17).to_bytes(4, "little")
    chunk.write_bytes(content)
    with pytest.raises(BadInput, match=r"becomes 2147483631 bytes, a chunk is 32"):
        read(tmp_path / "a")


def test_there_has_to_be_a_folder_with_room_for_what_is_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", a=STACK)
    volume = open_volume(tmp_path / "a.npz", axes="ZYX")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(BadInput, match=r"set TMPDIR to a folder with more"):
        volume.read(whole(STACK.shape))
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(BadInput, match=r"no folder for temporary files: set TMPDIR"):
        volume.read(whole(STACK.shape))


# What says more than it holds.


def tiny_tiff(path, compression):
    """One page of 200,000 x 200,000 in less than 200 bytes."""
    entries = [(256, 4, 200_000), (257, 4, 200_000), (258, 3, 8), (259, 3, compression), (262, 3, 1)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, 200_000), (279, 4, 10)]
    head = b"II*\0" + struct.pack("<I", 18) + bytes(10)
    path.write_bytes(
        head
        + struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
        + bytes(4)
    )


def short_nifti(path, shape=(30000, 30000, 30000), packed=True):
    write_volume(path.with_name("b.nii"), array_volume(STACK, "b"), SIZE)
    content = bytearray(path.with_name("b.nii").read_bytes())
    content[42:48] = struct.pack("<3h", *shape)
    path.write_bytes(gzip.compress(content) if packed else content)


def short_npy(path):
    np.save(path, STACK)
    path.write_bytes(path.read_bytes().replace(b"(3, 6, 5)", b"(3, 9, 5)"))


def wrong_npz(path):
    np.savez_compressed(path, a=STACK)
    short_npy(path.with_name("b.npy"))
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path.with_name("b.npy"), "a.npy")


def overflowing(path):
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**32}, {2**32}, 1), }}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode() + bytes(90))


def short_nrrd(path, sizes="50 60 30", encoding="raw", more=""):
    head = ["NRRD0004", "type: uint8", "dimension: 3", f"sizes: {sizes}", f"encoding: {encoding}", more]
    path.write_bytes("\n".join([*filter(None, head), "", ""]).encode() + gzip.compress(STACK.tobytes()))


SHORT = {
    "tiff": ("a.tif", lambda path: tiny_tiff(path, 1), "image data end at byte 40000000008"),
    "tiff, deflate": ("a.tif", lambda path: tiny_tiff(path, 8), "40000000000 bytes"),
    "tiff, unknown packing": ("a.tif", lambda path: tiny_tiff(path, 50000), "40 GB of memory.*--piece_gb 42"),
    "nifti": ("a.nii", lambda path: short_nifti(path, packed=False), "ends at byte 27000000000352"),
    "nifti.gz": ("a.nii.gz", short_nifti, "27000000000352 bytes are packed"),
    "npy": ("a.npy", short_npy, "ends at byte 263"),
    "npy, more than 64 bits": ("a.npy", overflowing, f"ends at byte {2**64 + 128}"),
    "npz": ("a.npz", wrong_npz, "is 263 bytes, but 218 are packed"),
    "nrrd": ("a.nrrd", short_nrrd, "ends at byte 90"),
    "nrrd, gzip": ("a.nrrd", lambda path: short_nrrd(path, "50000 60000 30000", "gzip"), "90000000000000 bytes"),
    "nrrd, before its begin": ("a.nrrd", lambda path: short_nrrd(path, more="byte skip: -99999"), "not possible"),
    "nrrd, endless lines": ("a.nrrd", lambda path: short_nrrd(path, more="line skip: 99999999999999"), "to be skipped"),
}


@pytest.mark.parametrize("case", SHORT)
def test_what_says_more_than_it_holds_is_refused_with_both_numbers(tmp_path, case):
    name, make, said = SHORT[case]
    make(tmp_path / name)
    with pytest.raises(BadInput, match=said) as told:
        open_volume(tmp_path / name, axes="ZYX")
    assert name in str(told.value) and "\n" not in str(told.value)


def test_a_png_of_a_few_bytes(tmp_path):
    Image.fromarray(STACK[0]).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">2I", 200_000, 200_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadInput, match="40000000000 bytes are packed"):
        open_volume(tmp_path / "a.png", axes="YX")


def test_numbers_without_end_in_names_and_metadata_take_no_time(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("a_1.png", "a_2.png", f"a_{10**15}.png"):
        Image.fromarray(STACK[0]).save(tmp_path / "folder" / name)
    with pytest.raises(BadInput, match=r"3, 4, 5, 6, 7, 8 and 999999999999991 more missing"):
        open_volume(tmp_path / "folder")
    volume = create_volume(tmp_path / "a.precomputed", STACK.shape, "uint8", voxel_size_nm=SIZE, chunk=(2, 5, 6))
    volume.write(whole(STACK.shape), STACK)
    info = json.loads((tmp_path / "a.precomputed" / "info").read_text())
    info["scales"][0]["size"] = [10**9, 10**9, 10**9]
    (tmp_path / "a.precomputed" / "info").write_text(json.dumps(info))
    assert "chunks are not on disk" in open_volume(tmp_path / "a.precomputed").note


@pytest.mark.parametrize("suffix", [".npy", ".nii", ".mrc", ".nrrd", ".tif"])
def test_a_file_that_is_cut_off_while_it_is_read_is_one_line(tmp_path, suffix):
    path, stack = tmp_path / f"a{suffix}", np.ones((8, 100, 100), np.uint16)
    if suffix == ".npy":
        np.save(path, stack)
    elif suffix == ".nrrd":
        short_nrrd(path, "100 100 8", more="byte skip: -1")
        path.write_bytes(path.read_bytes() + stack.tobytes())
    else:
        write_volume(path, array_volume(stack, "a"), SIZE)
    volume = open_volume(path, axes=None if suffix in (".tif", ".mrc") else "XYZ" if suffix != ".npy" else "ZYX")
    os.truncate(path, path.stat().st_size - stack.nbytes // 2)
    with pytest.raises(BadInput, match=r"cut off while it was read"):
        volume.read(whole(volume.shape))


# Everything else that can be wrong.


def test_damage_of_every_kind_is_a_volume_or_one_line():
    """300 mutations of every kind of file, in a process that may not take a GB more; `make fuzz` does ten thousand."""
    command = [sys.executable, "-W", "ignore", Path(__file__).with_name("fuzz.py"), "--count", "300", "--together"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_boxes_are_read_and_written_as_numpy_does(tmp_path):
    rng, shape = np.random.default_rng(0), (3, 7, 9, 5)
    wanted = rng.integers(0, 1000, shape).astype(">i4")
    np.save(tmp_path / "c.npy", wanted)
    np.save(tmp_path / "f.npy", np.asfortranarray(wanted))
    made = create_volume(tmp_path / "w.npy", shape[1:], "float32", classes=3)
    for _ in range(30):
        ends = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape[1:]]
        box = Box(*(tuple(int(end[i]) for end in ends) for i in (0, 1)))
        for name in ("c.npy", "f.npy"):
            found = open_volume(tmp_path / name, axes="CZYX", channel=1).read(box)
            np.testing.assert_array_equal(found, wanted[(1, *box.slices)])
        made.write(box, wanted[(slice(None), *box.slices)].astype(np.float32))
        np.testing.assert_array_equal(made.read(box), wanted[(slice(None), *box.slices)])
    assert np.load(tmp_path / "w.npy").shape == shape
