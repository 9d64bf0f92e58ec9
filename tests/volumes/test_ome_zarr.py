"""OME-Zarr: what is written comes back, its metadata are those of the specification, labels are never averaged."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.ome_zarr import create_labels, create_ome_zarr
from maeref_jax.volumes.pyramid import downsample, level_factors, write_pyramid
from maeref_jax.volumes.volume import create_volume, open_probabilities, open_volume
from maeref_jax.volumes.windows import Box, blocks, whole

SIZE = (30.0, 4.6, 4.6)
STACK = np.random.default_rng(0).integers(0, 4, (6, 40, 34)).astype(np.uint8)
COLOURS = [[0, 0, 0], [40, 90, 255], [40, 200, 80], [250, 220, 60]]
NAMES = ["background", "ims", "cristae", "matrix"]


def read(volume):
    return volume.read(whole(volume.shape))


def write(stored, array):
    stored.write(tuple(slice(0, n) for n in array.shape), array)


def group(path, version):
    if version == "0.4":
        assert json.loads((path / ".zgroup").read_text()) == {"zarr_format": 2}
        return json.loads((path / ".zattrs").read_text())
    metadata = json.loads((path / "zarr.json").read_text())
    assert (metadata["zarr_format"], metadata["node_type"]) == (3, "group")
    assert metadata["attributes"]["ome"]["version"] == "0.5"
    return metadata["attributes"]["ome"]


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["0.4", "0.5", "0.5 sharded"]),
    st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([None, SIZE, (0.5, 1234.5, 1e-3)]),
)
def test_round_trip_box_by_box(kind, dtype, shape, chunk, classes, size):
    array = np.random.default_rng(0).integers(0, 99, (classes or 1, *shape)).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        shard = tuple(2 * n for n in chunk) if "sharded" in kind else None
        for box in blocks(shape, (3, 4, 5)):  # opened anew for every box, as after a kill
            stored = create_ome_zarr(
                f"{folder}/a.ome.zarr", shape, dtype, voxel_size_nm=size, classes=classes, chunk=chunk, shard=shard,
                version=kind[:3],
            )  # fmt: skip
            lead = () if classes is None else (slice(0, classes),)
            stored.write((*lead, *box.slices), array[(..., *box.slices)][0 if classes is None else slice(None)])
        if classes is None:
            volume = open_volume(f"{folder}/a.ome.zarr")
            assert (volume.shape, volume.dtype, volume.voxel_size_nm) == (shape, dtype, size)
            np.testing.assert_array_equal(read(volume), array[0])
        else:
            for channel in range(classes):
                volume = open_volume(f"{folder}/a.ome.zarr", channel=channel)
                np.testing.assert_array_equal(read(volume), array[channel])
        level = open_volume(f"{folder}/a.ome.zarr/0", channel=None if classes is None else 0)
        assert level.voxel_size_nm == size, "an array knows the size that its group states"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_metadata_are_those_of_the_specification(tmp_path, version):
    """Field by field after ome-zarr 0.4 and 0.5: no reader is needed to run this."""
    path = tmp_path / "a.ome.zarr"
    write(create_ome_zarr(path, STACK.shape, "uint8", voxel_size_nm=SIZE, version=version), STACK)
    options = {"voxel_size_nm": SIZE, "version": version, "names": NAMES, "colours": COLOURS}
    for name in ("initial", "refined", "refined"):
        write(create_labels(path, name, STACK.shape, "uint8", **options), STACK)
    write_pyramid(path, "mean", smallest=10)
    write_pyramid(path / "labels" / "refined", "mode", smallest=10)
    assert group(path / "labels", version)["labels"] == ["initial", "refined"]
    for where in (path, path / "labels" / "refined"):
        (multiscale,) = group(where, version)["multiscales"]
        assert multiscale.get("version") == ("0.4" if version == "0.4" else None)
        assert multiscale["axes"] == [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"]
        scales, translations = [], []
        for dataset in multiscale["datasets"]:
            scale, *rest = dataset["coordinateTransformations"]
            assert scale["type"] == "scale" and len(rest) <= 1
            scales.append(scale["scale"])
            translations.append(rest[0]["translation"] if rest else [0, 0, 0])
        np.testing.assert_allclose(scales, [SIZE, (30, 9.2, 9.2), (30, 18.4, 18.4)])
        np.testing.assert_allclose(translations, [(0, 0, 0), (0, 2.3, 2.3), (0, 6.9, 6.9)])
        shapes = [open_volume(where / dataset["path"]).shape for dataset in multiscale["datasets"]]
        assert shapes == [(6, 40, 34), (6, 20, 17), (6, 10, 9)]
    label = group(path / "labels" / "refined", version)["image-label"]
    assert label["source"] == {"image": "../../"} and label.get("version") == ("0.4" if version == "0.4" else None)
    assert label["colors"][0] == {"label-value": 0, "rgba": [0, 0, 0, 0]}
    assert label["colors"][2] == {"label-value": 2, "rgba": [40, 200, 80, 255]}
    assert label["properties"][3] == {"label-value": 3, "class": "matrix"}
    array = json.loads((path / "0" / (".zarray" if version == "0.4" else "zarr.json")).read_text())
    assert array.get("dimension_separator", array.get("chunk_key_encoding", {}).get("name")) in ("/", "default")
    assert open_volume(path / "1").voxel_size_nm == pytest.approx((30, 9.2, 9.2))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_reader_of_ome_zarr_finds_the_right_scale(tmp_path, version):
    pytest.importorskip("ome_zarr", reason="pip install ome-zarr to run it; it is no test dependency: many packages")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    path = tmp_path / "a.ome.zarr"
    shard = (8, 32, 32) if version == "0.5" else None
    options = {"voxel_size_nm": SIZE, "version": version, "chunk": (4, 16, 16), "shard": shard}
    write(create_ome_zarr(path, STACK.shape, "uint8", **options), STACK)
    write(create_labels(path, "refined", STACK.shape, "uint8", **options, names=NAMES, colours=COLOURS), STACK)
    write_pyramid(path / "labels" / "refined", "mode", smallest=20)
    nodes = list(Reader(parse_url(path))())
    image = next(n for n in nodes if Path(n.zarr.path).name == "a.ome.zarr")
    labels = next(n for n in nodes if str(n.zarr.path).rstrip("/").endswith("labels/refined"))
    for node in (image, labels):
        assert [axis["unit"] for axis in node.metadata["axes"]] == ["nanometer"] * 3
        assert node.metadata["coordinateTransformations"][0][0] == {"type": "scale", "scale": list(SIZE)}
        np.testing.assert_array_equal(np.asarray(node.data[0]), STACK)
    assert labels.data[1].shape == (6, 20, 17)


def test_labels_are_downsampled_by_vote_or_choice():
    array = np.array([[[1, 1, 3, 2], [5, 1, 2, 2]]], np.uint8)
    np.testing.assert_array_equal(downsample(array, (1, 2, 2), "mode"), [[[1, 2]]])
    np.testing.assert_array_equal(downsample(array, (1, 2, 2), "nearest"), [[[1, 3]]])
    np.testing.assert_array_equal(downsample(array, (1, 2, 1), "mode"), array[:, :1], "of a tie the first")
    np.testing.assert_array_equal(downsample(array[..., :3], (1, 2, 2), "mode"), [[[1, 3]]], "an odd end")


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 7)] * 3), st.tuples(*[st.integers(1, 2)] * 3), st.integers(0, 99))
def test_mode_is_a_most_frequent_label(shape, step, seed):
    array = np.random.default_rng(seed).integers(0, 4, shape).astype(np.int16)
    coarse = downsample(array, step, "mode")
    for box in blocks(coarse.shape, (1, 1, 1)):
        block = array[tuple(slice(a * s, (a + 1) * s) for a, s in zip(box.start, step, strict=True))]
        values, counts = np.unique(block, return_counts=True)
        assert counts[values == coarse[box.start]] == counts.max()


def test_levels_become_isotropic_first_and_end():
    assert level_factors((100, 500, 500), (30, 5, 5), 64) == [
        (1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]  # fmt: skip
    assert level_factors((100, 128, 128), (10, 5, 5), 64) == [(1, 1, 1), (1, 2, 2)]
    assert level_factors((1, 200, 100), (1, 50, 50), 64) == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    assert level_factors((64, 64, 64), None, 64) == [(1, 1, 1)]


def test_pyramid_block_by_block_is_that_of_the_whole(tmp_path):
    for shard in (None, (4, 16, 16)):
        path = tmp_path / f"{shard}.ome.zarr"
        write(create_ome_zarr(path, STACK.shape, "uint8", chunk=(2, 8, 8), shard=shard), STACK)
        for method in ("mode", "nearest"):
            write_pyramid(path, method, smallest=20)
            np.testing.assert_array_equal(read(open_volume(path / "1")), downsample(STACK, (2, 2, 2), method))
            _, coarse = group(path, "0.5")["multiscales"][0]["datasets"]
            moved = [entry["translation"] for entry in coarse["coordinateTransformations"][1:]]
            assert moved == ([[0.5, 0.5, 0.5]] if method == "mode" else []), "nearest keeps the first voxel's place"
    with pytest.raises(BadInput, match="no mean of labels"):
        create_labels(path, "a", STACK.shape, "uint8")
        write_pyramid(path / "labels" / "a", "mean")
    with pytest.raises(BadInput, match="no OME-Zarr image"):
        write_pyramid(path / "0", "mode")


def test_what_does_not_fit_names_both_sides(tmp_path):
    path = tmp_path / "a.ome.zarr"
    create_ome_zarr(path, STACK.shape, "uint8", voxel_size_nm=SIZE)
    for change, message in (
        ({"shape": (6, 40, 35)}, r"\[6,40,35\] but received: \[6,40,34\]"),
        ({"dtype": "uint16"}, "uint16"),
        ({"voxel_size_nm": (5.0, 5.0, 5.0)}, r"voxels of \(30.0, 4.6, 4.6\) nm.*\(5.0, 5.0, 5.0\)"),
        ({"version": "0.4"}, r"is OME-Zarr 0.5, expected 0.4"),
        ({"version": "0.3"}, r"expected one of 0.4, 0.5"),
        ({"classes": 2, "channels": ("a",)}, "1 channel names .a. for 2 classes"),
        ({"shard": (33, 128, 128)}, "expected multiples"),
    ):
        wanted = {"shape": STACK.shape, "dtype": "uint8", "voxel_size_nm": SIZE} | change
        with pytest.raises(BadInput, match=message):
            create_ome_zarr(path, **wanted)
    with pytest.raises(BadInput, match=r"of shape \(6, 40, 35\) for .* of shape \(6, 40, 34\)"):
        create_labels(path, "a", (6, 40, 35), "uint8")
    with pytest.raises(BadInput, match="whole numbers"):
        create_labels(path, "a", STACK.shape, "float32")
    assert not (path / "labels").exists()
    volume = create_volume(tmp_path / "b.ome.zarr", STACK.shape, "uint8")
    for array, box in (
        (STACK.astype(np.int16), whole(STACK.shape)),
        (STACK[:1], whole(STACK.shape)),
        (STACK, Box((1, 0, 0), (7, 40, 34))),
    ):
        with pytest.raises(ValueError, match="cannot write"):
            volume.write(box, array)
    with pytest.raises(ValueError, match="opened for reading"):
        open_volume(tmp_path / "b.ome.zarr").write(whole(STACK.shape), STACK)
    with pytest.raises(BadInput, match=r"expected a name that ends in one of .*\.ome\.zarr"):
        create_volume(tmp_path / "b.png", STACK.shape, "uint8")


def edit(path, change):
    metadata = json.loads((path / "zarr.json").read_text())
    change(metadata["attributes"]["ome"])
    (path / "zarr.json").write_text(json.dumps(metadata))


def test_damaged_and_missing_metadata(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write(create_ome_zarr(path, STACK.shape, "uint8", voxel_size_nm=SIZE), STACK)
    good = (path / "zarr.json").read_text()
    for change, message in (
        (lambda ome: ome["multiscales"][0]["axes"].reverse(), "z,y,x by the array, x,y,z by its OME metadata"),
        (lambda ome: ome["multiscales"][0].pop("datasets"), "damaged OME metadata"),
        (lambda ome: ome["multiscales"].append({}), "holds 2 multiscale images"),
        (lambda ome: ome["multiscales"][0]["datasets"][0].update(path="s0"), "'s0', which is not there"),
        (lambda ome: ome.pop("multiscales"), r"group without OME metadata.*a.ome.zarr/0"),
    ):
        (path / "zarr.json").write_text(good)
        edit(path, change)
        with pytest.raises(BadInput, match=message):
            open_volume(path)
    (path / "zarr.json").write_text(good)
    edit(path, lambda ome: ome["multiscales"][0]["axes"].pop())
    assert open_volume(path).voxel_size_nm is None, "the array names its axes, the image too few to say their lengths"
    (path / "zarr.json").write_text(good)
    edit(path, lambda ome: [axis.pop("unit") for axis in ome["multiscales"][0]["axes"]])
    assert open_volume(path).voxel_size_nm is None, "a scale without a unit is no voxel size"
    (path / "zarr.json").write_text(good)
    edit(path, lambda ome: ome["multiscales"][0]["datasets"][0].pop("coordinateTransformations"))
    assert open_volume(path).voxel_size_nm is None, "nor is a unit without a scale"
    (path / "zarr.json").write_text(good)
    twice = [{"type": "scale", "scale": [1, 2, 3]}]
    edit(path, lambda ome: ome["multiscales"][0].update(coordinateTransformations=twice))
    assert open_volume(path).voxel_size_nm == (30, 9.2, 13.8), "the image's scale comes on top of the level's"
    (path / "zarr.json").write_text("{")
    with pytest.raises(BadInput, match="is damaged, no JSON"):
        open_volume(path)


def test_missing_chunks_are_told(tmp_path):
    stored = create_ome_zarr(tmp_path / "a.ome.zarr", STACK.shape, "uint8", chunk=(3, 40, 34))
    write(stored, STACK)
    assert open_volume(tmp_path / "a.ome.zarr").note == ""
    (tmp_path / "a.ome.zarr" / "0" / "c" / "1" / "0" / "0").unlink()
    volume = open_volume(tmp_path / "a.ome.zarr")
    assert "not on disk" in volume.note and not volume.read(Box((3, 0, 0), (6, 40, 34))).any()


def test_channels_by_name(tmp_path):
    volume = create_volume(tmp_path / "a.ome.zarr", STACK.shape, "float32", classes=2)
    assert (volume.classes, volume.shape, volume.dtype) == (2, STACK.shape, np.float32)
    two = np.stack([STACK, 1 - STACK]).astype(np.float32)
    with pytest.raises(ValueError, match="cannot write"):
        volume.write(whole(STACK.shape), two[0])
    volume.write(whole(STACK.shape), two)
    np.testing.assert_array_equal(read(open_probabilities(tmp_path / "a.ome.zarr")), two)
    named = tmp_path / "b.ome.zarr"
    write(create_ome_zarr(named, STACK.shape, "float32", classes=2, channels=("raw", "mito")), two)
    np.testing.assert_array_equal(read(open_volume(named, channel="mito")), two[1])
    for channel, message in ((None, "called raw, mito"), ("er", "no channel of that name.*called raw, mito")):
        with pytest.raises(BadInput, match=message):
            open_volume(named, channel=channel)
    twins = create_ome_zarr(tmp_path / "c.ome.zarr", STACK.shape, "float32", classes=2, channels=("em", "em"))
    write(twins, two)
    with pytest.raises(BadInput, match="several channels of that name"):
        open_volume(tmp_path / "c.ome.zarr", channel="em")
    with pytest.raises(BadInput, match="no names"):
        open_volume(tmp_path / "a.ome.zarr", channel="raw")


def test_urls_are_read_like_folders(tmp_path, server):
    write(create_ome_zarr(tmp_path / "a.ome.zarr", STACK.shape, "uint8", voxel_size_nm=SIZE), STACK)
    for inner in ("a.ome.zarr", "a.ome.zarr/0"):
        volume = open_volume(f"{server}/{inner}[1:4]")
        assert (volume.path, volume.voxel_size_nm, volume.source) == (f"{server}/{inner}[1:4]", SIZE, None)
        np.testing.assert_array_equal(read(volume), STACK[1:4])
        identity = volume.identity()
        assert identity["path"] == volume.path and "sha256" not in identity, "naming a URL downloads nothing"
    with pytest.raises(BadInput, match=f"{server}/none"):
        open_volume(f"{server}/none")
    with pytest.raises(BadInput, match="are you on the network"):
        open_volume("http://localhost:1/a.zarr")
