"""A good file of every kind that is read, and how it is read."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorstore
import tifffile
from PIL import Image

from maeref_jax.original.torch_files import read_checkpoint
from maeref_jax.volumes.formats.ome_zarr import create_ome_zarr
from maeref_jax.volumes.json_files import read_object
from maeref_jax.volumes.volume import array_volume, create_volume, open_probabilities, open_volume
from maeref_jax.volumes.windows import Box, whole
from maeref_jax.volumes.writing import write_volume

sys.path.insert(0, str(Path(__file__).parent.parent / "original"))
from test_torch_files import number, write_state_dict

STACK = np.random.default_rng(0).integers(0, 100, (3, 6, 5)).astype(np.uint8)
SIZE = (40.0, 4.0, 4.0)


class Kind(NamedTuple):
    """make: writes a good one into a folder; read: opens what lies in the folder and reads it."""

    make: Callable[[Path], object]
    read: Callable[[Path, object], object]


def read_all(volume):
    """All voxels of a small volume, first and last ones of a large one."""
    if np.prod(volume.shape, dtype=float) <= 1e5:
        volume.read(whole(volume.shape))
        return
    size = tuple(min(n, 20) for n in volume.shape)
    volume.read(Box((0, 0, 0), size))
    volume.read(Box(tuple(n - s for n, s in zip(volume.shape, size, strict=True)), volume.shape))


def volume(name, make, axes, opener=open_volume):
    """A Kind that is opened as it is, or with its axes."""

    def read(folder, chance):
        if chance.random() < 0.5:
            read_all(opener(folder / name))
        else:
            read_all(opener(folder / name, axes=axes, voxel_size_nm=SIZE))

    return Kind(lambda folder: make(folder / name), read)


def written(path):
    create_volume(path, STACK.shape, "uint8", voxel_size_nm=SIZE, chunk=(2, 4, 4)).write(whole(STACK.shape), STACK)


def exported(path):
    write_volume(path, array_volume(STACK.astype(np.uint16), "a"), SIZE)


def tiff(**options):
    return lambda path: tifffile.imwrite(path, STACK, photometric="minisblack", **options)


def blosc(driver, **metadata):
    def make(path):
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata}
        tensorstore.open(spec, create=True).result().write(STACK).result()

    return make


def ome_zarr(version):
    def make(path):
        create_ome_zarr(path, STACK.shape, "uint8", voxel_size_nm=SIZE, version=version).write(
            (slice(None),) * 3, STACK
        )

    return make


def imaris(path):
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset(
            "DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data", data=STACK, chunks=True, compression=1
        )
        for name, said in {"X": "5", "Y": "6", "Z": "3", "Unit": "um", "ExtMin0": "0", "ExtMax0": "1"}.items():
            file.require_group("DataSetInfo/Image").attrs[name] = np.array([letter.encode() for letter in said], "S1")


def detached(path):
    head = ["NRRD0004", "type: uint8", "dimension: 3", "sizes: 5 6 3", "encoding: raw", "data file: a.raw"]
    path.write_text("\n".join([*head, "", ""]))
    path.with_name("a.raw").write_bytes(STACK.tobytes())


def nnunet(path):
    found = np.random.default_rng(0).random((2, *STACK.shape)).astype(np.float32)
    np.savez_compressed(path, softmax=found / found.sum(0))
    properties = {"original_size_of_raw_data": np.array([4, 7, 6]), "crop_bbox": [[1, 4], [1, 7], [0, 5]]}
    path.with_suffix(".pkl").write_bytes(pickle.dumps(properties | {"itk_spacing": (4.0, 4.0, 40.0)}, 2))


def slices(path):
    path.mkdir()
    for z, plane in enumerate(STACK):
        Image.fromarray(plane).save(path / f"a_{z:03}.png")


def checkpoint(path):
    tensors = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(5, np.float32)}
    known = b"}(X\x03\0\0\0cfg}(X\x09\0\0\0num_heads" + number(4) + b"uu"
    write_state_dict(path, tensors, hyper_parameters=known)


def safetensors(path):
    header = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    header |= {"b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}, "__metadata__": {"format": "pt"}}
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + np.arange(8, dtype=np.float32).tobytes())


def weights(name, make):
    def read(folder, _):
        from maeref_jax.original.importing import hyper_parameters

        hyper_parameters(read_checkpoint(folder / name).rest)

    return Kind(lambda folder: make(folder / name), read)


def data_set(path):
    path.write_text(json.dumps({"labels": {"background": 0, "mito": 1}, "channel_names": {"0": "em"}}))


def names_of_classes(folder, _):
    from maeref_jax.commands.nnunet import names_in

    return names_in(folder / "dataset.json")


ZARR2 = blosc("zarr", shape=STACK.shape, chunks=[2, 4, 4], dtype="|u1", compressor={"id": "blosc"})
ZARR3 = blosc(
    "zarr3", shape=STACK.shape, data_type="uint8", codecs=[{"name": "blosc"}],
    chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2, 4, 4]}},
)  # fmt: skip
N5 = blosc(
    "n5", dimensions=STACK.shape, blockSize=[2, 4, 4], dataType="uint8",
    compression={"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
)  # fmt: skip
KINDS = {
    "tiff": volume("a.tif", tiff(metadata=None), "ZYX"),
    "tiff deflate": volume("a.tif", tiff(compression="zlib", rowsperstrip=2), "ZYX"),
    "imagej": volume("a.tif", tiff(imagej=True, metadata={"axes": "ZYX", "spacing": 40, "unit": "nm"}), "ZYX"),
    "ome-tiff": volume("a.ome.tif", tiff(ome=True, metadata={"axes": "ZYX"}), "ZYX"),
    "bigtiff tiles": volume("a.btf", tiff(bigtiff=True, tile=(16, 16), compression="zlib"), "ZYX"),
    "png": volume("a.png", lambda path: Image.fromarray(STACK[0]).save(path), "YX"),
    "slices": volume("folder", slices, "ZYX"),
    "npy": volume("a.npy", lambda path: np.save(path, STACK), "ZYX"),
    "npz": volume("a.npz", lambda path: np.savez_compressed(path, a=STACK), "ZYX"),
    "nnunet": volume("a.npz", nnunet, "CZYX", open_probabilities),
    "nifti": volume("a.nii", exported, "XYZ"),
    "nifti.gz": volume("a.nii.gz", exported, "XYZ"),
    "mrc": volume("a.mrc", exported, "ZYX"),
    "nrrd": volume("a.nrrd", exported, "XYZ"),
    "nhdr": volume("a.nhdr", detached, "XYZ"),
    "hdf5": volume("a.h5", written, "ZYX"),
    "imaris": volume("a.ims", imaris, "TCZYX"),
    "zarr v3": volume("a.zarr", written, "ZYX"),
    "zarr v2 blosc": volume("a.zarr", ZARR2, "ZYX"),
    "zarr v3 blosc": volume("a.zarr", ZARR3, "ZYX"),
    "n5 blosc": volume("a.n5", N5, "XYZ"),
    "ome-zarr 0.5": volume("a.ome.zarr", ome_zarr("0.5"), "ZYX"),
    "ome-zarr 0.4": volume("a.ome.zarr", ome_zarr("0.4"), "ZYX"),
    "n5": volume("a.n5", written, "XYZ"),
    "precomputed": volume("a.precomputed", written, "XYZC"),
    "checkpoint": weights("a.ckpt", checkpoint),
    "safetensors": weights("a.safetensors", safetensors),
    "checkpoint.npz": weights("a.npz", lambda path: np.savez(path, a=STACK, b=STACK)),
    "json": Kind(lambda folder: data_set(folder / "a.json"), lambda folder, _: read_object(folder / "a.json")),
    "dataset.json": Kind(lambda folder: data_set(folder / "dataset.json"), names_of_classes),
}
