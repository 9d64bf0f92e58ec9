"""The OME-Zarr of a refined volume: what is where in it, what viewers read of it, and the audit of what changed."""

import json

import numpy as np
import pytest
from fakes import COLOURS, NAMES, SHAPE, image, image_job, label_job, refiner, result, segmenter, settings

from maeref_jax.audit import objects
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import jobs, refining
from maeref_jax.results.maps import KINDS, create_arrays, write_pyramids
from maeref_jax.results.place import Output
from maeref_jax.volumes.formats.zarr_store import metadata_of
from maeref_jax.volumes.volume import array_volume, open_volume
from maeref_jax.volumes.windows import whole

LABELS = ["initial", "hidden", "refined", "was", "became"]


def attributes(path):
    found = metadata_of(path)[2]
    return found.get("ome", found)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_one_ome_zarr_with_labels_that_have_names_and_colours(tmp_path, version):
    refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(ome_zarr=version, copy_image=True))
    root = tmp_path / "a.ome.zarr"
    assert (root / "zarr.json").exists() == (version == "0.5")
    assert attributes(root / "labels")["labels"] == LABELS
    for name in ("initial", "refined"):
        label = attributes(root / "labels" / name)["image-label"]
        assert [entry["rgba"][:3] for entry in label["colors"]] == COLOURS
        assert [entry["class"] for entry in label["properties"]] == NAMES
        assert label["source"] == {"image": "../../"}
    for path in ("", "entropy", "confidence", *(f"labels/{name}" for name in LABELS)):
        opened = open_volume(root / path)
        assert (opened.shape, opened.voxel_size_nm) == (SHAPE, (30.0, 5.0, 4.0)), path
    np.testing.assert_array_equal(open_volume(root).read(whole(SHAPE)), image())
    assert metadata_of(root)[2]["maeref_jax"]["image"] == {"path": "image", "copied": True}


def test_the_image_is_only_named_unless_it_shall_be_copied(tmp_path):
    refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings())
    assert not (tmp_path / "a.ome.zarr" / "0").exists()
    assert metadata_of(tmp_path / "a.ome.zarr")[2]["maeref_jax"]["image"] == {"path": "image", "copied": False}
    with pytest.raises(BadInput, match="copy_image is set, but there is no image"):
        refining.refine_volume(label_job(tmp_path / "b"), None, refiner(), settings(copy_image=True))
    with pytest.raises(BadInput, match=r"ome_zarr is 0.3, expected one of 0.4, 0.5"):
        refining.refine_volume(label_job(tmp_path / "b"), None, refiner(), settings(ome_zarr="0.3"))
    big_endian = array_volume(image().astype(">u2"), "image")
    refining.refine_volume(
        image_job(tmp_path / "b", image=big_endian), segmenter(), refiner(), settings(copy_image=True)
    )
    stored = open_volume(tmp_path / "b" / "a.ome.zarr")
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored.read(whole(SHAPE)), image().astype(np.uint16))


def test_the_audit_says_what_every_changed_voxel_was_and_became_and_how_sure_that_is(tmp_path):
    own = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.int16)
    own[1, 8:12, 4:6] = -1  # unknown ones may be filled in too
    job = label_job(tmp_path, labels=array_volume(own, "labels"))
    summary = refining.refine_volume(job, None, refiner(), settings())
    initial, refined, hidden, was, became, confidence = (
        result(tmp_path, role).astype(int) for role in ("initial", "refined", "hidden", "was", "became", "confidence")
    )
    changed = initial != refined
    assert changed.any()
    np.testing.assert_array_equal(was, np.where(changed, initial + 1, 0))
    np.testing.assert_array_equal(became, np.where(changed, refined + 1, 0))
    assert was.max() == 256
    assert (confidence[hidden == 0] == 0).all() and (confidence[hidden == 1] >= 255 / 4 - 1).all()
    rows = summary["changed"]
    for i, name in [*enumerate(NAMES[:4]), (255, "unknown")]:
        for j, other in enumerate(NAMES[:4]):
            there = changed & (initial == i) & (refined == j)
            assert rows.get(name, {}).get(other, 0) == there.sum()
            if there.any():
                mean = confidence[there].mean() / 255
                assert summary["confidence_of_changes"][name][other] == pytest.approx(mean, abs=1e-3)
        entry = summary["classes_changed"][name]
        assert entry["voxels_initial"] == (initial == i).sum() and entry["voxels_refined"] == (refined == i).sum()
        assert entry["changed_share"] == pytest.approx(changed[initial == i].mean())


def test_confidence_is_the_blended_probability_of_the_class_chosen(tmp_path):
    """One window, so that nothing is blended, against the refiner by hand."""
    labels = np.zeros((1, 16, 16), np.uint8)
    labels[:, :, 10:] = 2
    hidden = np.zeros((1, 16, 16), np.uint8)
    hidden[0, 4:8, 4:8] = 1
    job = jobs.Job("a", tmp_path, labels=array_volume(labels, "labels"), hidden=array_volume(hidden, "hidden"))
    refining.refine_volume(job, None, refiner(), settings())
    counts = np.array([6, 0, 6, 0])  # visible in rows 4 to 7: six of class 0, six of class 2, moved on by one
    power = (np.roll(counts, 1) + 0.5) ** 2
    found = open_volume(tmp_path / "a.ome.zarr" / "confidence").read(whole((1, 16, 16)))
    assert (found[hidden == 1] == round(255 * power.max() / power.sum())).all()


def test_coarser_levels_are_there_and_of_the_right_kind(tmp_path):
    """The pipeline asks for them when everything is written: here for arrays of several levels."""
    output, shape = Output(tmp_path, "a"), (4, 150, 130)
    (tmp_path / "a.ome.zarr").mkdir()
    scheme = {"names": NAMES, "colours": COLOURS}
    roles = ("initial", "entropy", "confidence")
    arrays = create_arrays(output, roles, shape, (2, 64, 64), (30.0, 5.0, 5.0), scheme, "0.5")
    pattern = np.zeros(shape, np.uint8)
    pattern[:, ::2, ::2] = 3
    for role in roles:
        arrays[role].write(whole(shape), pattern)
    for _ in range(2):  # as after a kill
        write_pyramids(output, roles)
    levels = {role: open_volume(tmp_path / "a.ome.zarr" / path / "1").read(whole((4, 75, 65)))
              for role, path in zip(roles, ("labels/initial", "entropy", "confidence"), strict=True)}  # fmt: skip
    assert (levels["initial"] == 0).all(), "three of four voxels are background"
    assert (levels["entropy"] == 1).all() and (levels["confidence"] == 3).all()


def test_the_docs_name_every_array_and_column(root):
    docs = (root / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"`{kind.path}`" in docs for kind in KINDS.values() if kind.path and not kind.path[-1].isdigit())
    rules = objects.rules({"names": NAMES}, (), None, 1, 0.5)
    columns = set(objects._columns(NAMES, rules)) - {f"{name}_nm3" for name in NAMES}
    boxes = {f"{end}_{axis}" for end in ("start", "stop") for axis in "zyx"}
    assert all(f"`{column}`" in docs for column in columns - boxes)


def test_a_run_calls_for_the_coarser_levels_last(tmp_path):
    large = np.tile(image(), (1, 3, 2))
    job = image_job(tmp_path, image=array_volume(large, "image", (30.0, 5.0, 5.0)))
    refining.refine_volume(job, segmenter(), refiner(), settings(block=(3, 96, 96), tiff_export=False))
    for path in ("labels/initial", "labels/refined", "labels/hidden", "labels/was", "entropy", "confidence"):
        paths = [entry["path"] for entry in attributes(tmp_path / "a.ome.zarr" / path)["multiscales"][0]["datasets"]]
        assert paths == ["0", "1"], path
    assert json.loads((tmp_path / "a.json").read_text())["made_by"]["format"] == 3
