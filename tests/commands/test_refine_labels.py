"""refine.py and people's own labels: masks, ids from 1, objects; what was taken how is said, and is in STEM.json."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fakes import SCHEME, SHAPE, refiner
from stacks import LABELS, SIZE, SMALL, entropy_of, result, sidecar, use_models

from maeref_jax.volumes.volume import write_tiff

BINARY = SCHEME | {"names": ["background", "mitochondria"], "colours": [[0, 0, 0], [250, 220, 60]], "ambiguous": -1}
MASK = np.zeros(SHAPE, np.uint8)
MASK[:, 4:20, 4:30] = 1
OWN = [*SMALL, "--labels", "mask.tif", "--entropy", "stacks/a_entropy.tif", "--output", "out"]
REFINED = [*OWN, "--refiner", "mae"]


def save(array, name="mask.tif"):
    write_tiff(name, array, SIZE)


@pytest.fixture
def binary(stacks, monkeypatch):
    def filling(params, state, inputs, key):
        return np.zeros((*inputs["labels"].shape, 2), np.float32) + np.array([0.9, 0.1], np.float32)

    model = refiner(scheme=BINARY)
    use_models(monkeypatch, refiner=model._replace(apply=model.apply._replace(refine=filling)))


def test_a_mask_of_0_and_255_is_foreground_before_and_after_and_said(refine, binary):
    save(MASK * 255)
    code, out, _ = refine(*REFINED)
    told = "mask.tif holds 0 and 255: 255 is taken as class 1, mitochondria"
    assert code == 0 and told in out and told in sidecar("mask")["notes"]
    np.testing.assert_array_equal(result("out", "mask", "initial"), MASK)
    hidden = result("out", "mask", "hidden") > 0
    np.testing.assert_array_equal(result("out", "mask"), np.where(hidden, 0, MASK))


@pytest.mark.parametrize(
    ("ids", "flags"),
    [((1, 2), ()), ((0, 100), ()), ((0, 3), ("--label_map", "3:1")), ((3, 9), ("--label_map", "3:0,9:1"))],
)  # fmt: skip
def test_every_way_to_write_a_mask_gives_the_same_result(refine, binary, ids, flags):
    save(np.array(ids, np.uint8)[MASK])
    code, _, _ = refine(*REFINED, *flags)
    assert code == 0
    np.testing.assert_array_equal(result("out", "mask", "initial"), MASK)


def test_a_mask_of_0_and_255_in_signed_bytes_is_asked_about_and_both_answers_can_be_typed(refine, binary):
    tifffile.imwrite("mask.tif", -MASK.astype(np.int8), photometric="minisblack", metadata={"axes": "ZYX"})
    code, _, err = refine(*REFINED)
    ways = re.findall(r"--label_map=-1:-?1", err)
    assert code == 2 and err.count("\n") == 1 and ways == ["--label_map=-1:1", "--label_map=-1:-1"]
    for way, foreground in zip(ways, (1, 255), strict=True):
        assert refine(*REFINED, way, "--overwrite")[0] == 0
        np.testing.assert_array_equal(result("out", "mask", "initial"), MASK * np.uint8(foreground))


def test_objects_of_a_mask_have_a_skeleton(refine, binary):
    objects = MASK * 0
    objects[:, 2:27, 4:8], objects[:, 2:27, 30:34] = 1, 2
    save(objects)
    code, _, err = refine(*REFINED)
    assert code == 2 and "as of single objects: --label_map=instances" in err
    more = ("--config.objects=true", "--config.trust=true")
    assert refine(*REFINED, "--label_map", "instances", *more)[0] == 0
    header, first, *_ = Path("out/mask_objects.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert float(row["mitochondria_nm3"]) > 0 and float(row["skeleton_nm"]) > 0 and row["branches"]
    assert Path("out/mask_repairs.csv").read_text().count("\n") > 1


def test_another_map_is_another_result(refine, binary):
    save(MASK * 255)
    assert refine(*REFINED)[0] == 0
    code, _, err = refine(*REFINED, "--label_map", "255:-1,0:1")
    assert code == 2 and "settings.label_map was [] and is now [[255, -1], [0, 1]]" in err
    assert refine(*REFINED, "--label_map", "0:1,255:0", "--overwrite")[0] == 0
    np.testing.assert_array_equal(result("out", "mask", "initial"), 1 - MASK)


def test_under_a_refiner_of_many_classes_a_mask_is_asked_about(refine):
    for ids, flag in ((MASK * 255, "255:1"), (MASK, "1:3")):
        save(ids)
        code, _, err = refine(*REFINED, "--overwrite")
        assert code == 2 and f"e.g. --label_map={flag}; where it is" in err and err.count("\n") == 1
        assert refine(*REFINED, "--label_map", flag, "--overwrite")[0] == 0
        np.testing.assert_array_equal(result("out", "mask", "initial"), MASK * int(flag[-1]))


def test_labels_without_background_are_warned_of_where_they_are_wanted_so(refine):
    save(np.array([1, 2], np.uint8)[MASK])
    assert refine(*REFINED)[0] == 2, "counted from 1, or a piece without background?"
    for ids, flags in (((1, 2), ["--label_map", "identity"]), ((2, 3), [])):
        save(np.array(ids, np.uint8)[MASK])
        code, _, err = refine(*REFINED, *flags, "--overwrite")
        assert code == 0 and "warning: mask.tif" in err and "no voxel is 0, background" in err
        assert any("no voxel is 0, background" in text for text in sidecar("mask")["warnings"])


def test_a_painted_mask_of_1_and_2_hides_2_alone(refine, binary):
    save(MASK)
    painted = np.ones(SHAPE, np.uint8)
    painted[0, 8:12, 8:12] = 2
    save(painted, "painted.tif")
    code, out, _ = refine(
        *SMALL, "--labels", "mask.tif", "--hidden", "painted.tif", "--output", "out", "--refiner", "mae"
    )
    assert code == 0 and "painted.tif holds 1 and 2 and no 0" in out
    np.testing.assert_array_equal(result("out", "mask", "hidden"), painted == 2)


def test_the_classes_of_a_model_are_checked_and_where_there_is_none_they_are_asked_for(refine, binary):
    save(MASK * 255)
    code, _, err = refine(*REFINED, "--classes", "background,matrix")
    assert code == 2 and "--classes background,matrix, but runs/fill was trained for background,mitochondria" in err
    assert refine(*REFINED)[0] == 0
    code, out, _ = refine(*REFINED, "--classes", "background,mitochondria")
    assert code == 0 and "complete already" in out, "a check makes no other result"
    alone = [*OWN, "--refiner", "none", "--overwrite"]
    code, _, err = refine(*alone)
    assert code == 2 and "e.g. --classes background,mitochondria" in err
    code, out, _ = refine(*alone, "--classes", "background,mitochondria", "--config.objects=true")
    assert code == 0 and "255 is taken as class 1, mitochondria" in out
    assert sidecar("mask")["classes"] == ["background", "mitochondria"]
    assert "mitochondria_nm3" in Path("out/mask_objects.csv").read_text()


def test_an_interrupted_run_reads_what_the_ids_mean_and_not_the_file_again(refine, binary, monkeypatch):
    from maeref_jax.volumes import label_ids

    save(MASK * 255)
    assert refine(*REFINED)[0] == 0
    Path("out/mask.json").unlink()  # as of a run that was killed
    monkeypatch.setattr(label_ids, "understand", None)
    code, out, _ = refine(*REFINED)
    assert code == 0 and "255 is taken as class 1" in out and sidecar("mask")["notes"]
    np.testing.assert_array_equal(result("out", "mask", "initial"), MASK)


def test_labels_of_an_output_that_an_earlier_version_began_are_not_guessed(refine, binary):
    save(MASK * 255)
    assert refine(*REFINED)[0] == 0
    Path("out/mask.json").unlink()
    Path("out/mask.ome.zarr/progress/labels.json").unlink()
    code, _, err = refine(*REFINED)
    assert code == 2 and "was begun by an earlier version; choose another --output, or --overwrite" in err
    assert refine(*REFINED, "--overwrite")[0] == 0


def test_a_mask_given_as_entropy_is_doubted(refine):
    mask = (entropy_of(0) > 0).astype(np.uint8)
    for highest, doubted in ((1, True), (2, False)):
        save(mask * np.uint8(highest))
        code, _, err = refine(*LABELS, "--entropy", "mask.tif", "--overwrite")
        assert code == 0 and ("give it as --hidden" in err) == doubted
