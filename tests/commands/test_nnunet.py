"""nnU-Net's folders as they are on disk, of both versions, made here: cases, folds, geometry, names of classes."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from fakes import SCHEME, SHAPE, refiner
from stacks import sidecar, use_models

from maeref_jax.errors import BadInput
from maeref_jax.pipeline import refining
from maeref_jax.volumes.formats.plain_pickle import read_plain_pickle
from maeref_jax.volumes.volume import open_probabilities
from maeref_jax.volumes.windows import whole

pytest.importorskip("nibabel")
NAMES = ("background", "intermembrane", "cristae", "matrix")
SPACING = (4e-6, 5e-6, 30e-6)  # x, y, z in mm, as ITK says it


def softmax(seed, shape=SHAPE):
    scores = np.random.default_rng(seed).normal(size=(4, *shape)) * 2
    return (np.exp(scores) / np.exp(scores).sum(0)).astype(np.float16)


def dataset_json(folder, names=NAMES, version=2):
    labels = {name: i for i, name in enumerate(names)}
    labels = labels if version == 2 else {str(i): name for name, i in labels.items()}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))


# As of an image whose axes point to the right, to the front and up: those of ITK point to the left and to the back.
DIRECTION = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
AFFINE = np.array([[SPACING[0], 0, 0, -1], [0, SPACING[1], 0, -2], [0, 0, SPACING[2], 3], [0, 0, 0, 1]])


def predict_v2(folder, case, seed):
    """As nnUNetv2_predict --save_probabilities: the whole image, zeros outside of the crop in early versions."""
    folder.mkdir(parents=True, exist_ok=True)
    found = softmax(seed)
    found[:, :, :3] = 0
    np.savez_compressed(folder / f"{case}.npz", probabilities=found)
    known = {
        "sitk_stuff": {"spacing": SPACING, "origin": (1.0, 2.0, 3.0), "direction": DIRECTION},
        "spacing": [np.float64(s) for s in SPACING[::-1]],
        "shape_before_cropping": SHAPE,
        "bbox_used_for_cropping": [[0, SHAPE[0]], [3, SHAPE[1]], [0, SHAPE[2]]],
    }
    (folder / f"{case}.pkl").write_bytes(pickle.dumps(known))
    return found


def predict_v1(folder, case, seed, protocol=4):
    """As nnUNet_predict --save_npz: the crop alone, where it was is in the pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    inner = softmax(seed, (2, 20, 30))
    np.savez_compressed(folder / f"{case}.npz", softmax=inner)
    known = {
        "original_size_of_raw_data": np.array(SHAPE),
        "crop_bbox": [[1, 3], [np.int64(5), np.int64(25)], [4, 34]],
        "itk_spacing": SPACING,
        "classes": np.array([0.0, 1.0], np.float32),
        "use_nonzero_mask_for_norm": {0: False},
    }
    (folder / f"{case}.pkl").write_bytes(pickle.dumps(known, protocol=protocol))
    return inner


def images(folder, *cases):
    import nibabel

    folder.mkdir()
    for case in cases:
        values = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
        for channel in range(2):
            picture = nibabel.Nifti1Image(values.T + channel, AFFINE)
            picture.header.set_xyzt_units("mm")
            nibabel.save(picture, folder / f"{case}_{channel:04}.nii.gz")
    return folder


@pytest.fixture
def ours(stacks):
    (stacks / "mae" / "config.json").write_text(json.dumps({"method": "mae", "config": {"classes": SCHEME}}))
    return stacks


ASKED = ("--config", "refine:smoke", "--refiner", "mae", "--output", "out", "--nnunet")


def initial(case, role="initial"):
    return refining.open_result("out", case, role).read(whole(SHAPE))


def test_a_prediction_folder_of_version_2_is_refined_with_one_command(refine, ours):
    found = {case: predict_v2(ours / "pred", case, seed) for seed, case in enumerate(("mito_001", "mito_002"))}
    dataset_json(ours / "pred")
    images(ours / "imagesTs", *found)
    code, out, err = refine(*ASKED, "pred", "--input", "imagesTs")
    assert code == 0 and "2 of 2 inputs done" in out, err
    for case, probabilities in found.items():
        expected = probabilities.argmax(0)
        assert (expected[:, :3] == 0).all(), "background outside of the crop"
        np.testing.assert_array_equal(initial(case), expected)
        assert (initial(case, "entropy")[:, :3] == 0).all(), "and sure of it"
        made = sidecar(case)["made_by"]["inputs"]
        assert made["image"]["path"].endswith(f"imagesTs/{case}_0000.nii.gz")
    assert refining.open_result("out", case, "refined").voxel_size_nm == (30.0, 5.0, 4.0), "millimetres of ITK"


def test_what_is_exported_lies_where_the_segmentation_of_nnunet_does(refine, ours):
    import nibabel

    predict_v2(ours / "pred", "a", 0)
    dataset_json(ours / "pred")
    affine = np.array([[-4e-6, 0, 0, 1], [0, 5e-6, 0, 2], [0, 0, 3e-5, 3], [0, 0, 0, 1.0]])
    theirs = nibabel.Nifti1Image(np.zeros(SHAPE[::-1], np.uint8), affine)
    theirs.header.set_xyzt_units("mm")
    nibabel.save(theirs, ours / "pred" / "a.nii.gz")
    code, _, err = refine(*ASKED, "pred", "--export", "nii.gz")
    assert code == 0, err
    mine = nibabel.load(ours / "out" / "a_refined.nii.gz")
    np.testing.assert_allclose(mine.affine, affine, rtol=1e-6)
    assert mine.shape == SHAPE[::-1] and mine.header.get_xyzt_units()[0] == "mm"


def test_without_a_segmentation_it_lies_where_the_pickle_says(refine, ours):
    import nibabel

    predict_v2(ours / "pred", "a", 0)
    dataset_json(ours / "pred")
    code, _, err = refine(*ASKED, "pred", "--export", "nii.gz")
    assert code == 0, err
    np.testing.assert_allclose(nibabel.load(ours / "out" / "a_refined.nii.gz").affine, AFFINE, rtol=1e-6)


def test_a_crop_of_version_1_is_put_back_where_it_was(refine, ours):
    inner = predict_v1(ours / "pred", "a", 3)
    dataset_json(ours / "pred", version=1)
    code, _, err = refine(*ASKED, "pred")
    assert code == 0, err
    expected = np.zeros(SHAPE, int)
    expected[1:3, 5:25, 4:34] = inner.argmax(0)
    np.testing.assert_array_equal(initial("a"), expected)
    assert (initial("a", "entropy")[0] == 0).all() and (initial("a", "entropy")[1:3, 5:25, 4:34] > 0).all()
    # The same file by itself is no other one.
    volume = open_probabilities("pred/a.npz")
    assert volume.shape == SHAPE and volume.voxel_size_nm == (30.0, 5.0, 4.0)
    part = whole(SHAPE).intersect(whole((3, 7, 9)))
    np.testing.assert_array_equal(volume.read(part), volume.read(whole(SHAPE))[:, :3, :7, :9])


@pytest.mark.parametrize("inside", ["validation", "", "validation_raw"])
def test_folds_are_members(refine, ours, inside):
    trainer = ours / "nnUNet_results" / "Dataset001_mito" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    found = [predict_v2(trainer / f"fold_{i}" / inside, "a", i) for i in range(3)]
    (trainer / "fold_all").mkdir()
    dataset_json(trainer)
    code, _, err = refine(*ASKED, "nnUNet_results")
    assert code == 0, err
    found = [np.where((f == 0).all(0), np.eye(4)[:, :1, None, None], f) for f in np.asarray(found, np.float32)]
    np.testing.assert_array_equal(initial("a"), np.mean(found, 0).argmax(0))
    assert len([name for name in sidecar("a")["made_by"]["inputs"] if name.startswith("probabilities")]) == 3
    other = ours / "nnUNet_results" / "Dataset001_mito" / "nnUNetTrainer__nnUNetPlans__2d"
    predict_v2(other / "fold_0" / inside, "a", 9)
    code, _, err = refine(*ASKED, "nnUNet_results", "--overwrite")
    assert code == 2 and "holds several models, give one of" in err and str(other.name) in err


def test_a_case_that_some_folds_lack_and_one_without_an_image_are_said(refine, ours):
    for fold, case in (("f0", "a"), ("f1", "a"), ("f0", "b"), ("f0", "c"), ("f1", "c")):
        predict_v2(ours / fold, case, 1)
    dataset_json(ours / "f0")
    images(ours / "imagesTs", "a", "b")
    code, out, err = refine(*ASKED, "f0", "f1", "--input", "imagesTs")
    lacks = "b has 1 members, other cases have 2: f0 alone"
    assert f"warning: {lacks}" in err and lacks in sidecar("b")["warnings"] and lacks not in sidecar("a")["warnings"]
    assert code == 1 and "error: c: there is no image c_0000.* in imagesTs" in err and "2 of 3 inputs done" in out


def test_names_decide_which_class_is_which(refine, ours):
    found = predict_v2(ours / "pred", "a", 0)
    dataset_json(ours / "pred", ("background", "Matrix", "cristae", "intermembrane"))
    assert refine(*ASKED, "pred")[0] == 0
    order = np.array([0, 3, 2, 1])
    np.testing.assert_array_equal(initial("a"), order[found.argmax(0)])


def test_other_names_are_asked_about_with_a_flag_that_settles_it(refine, ours):
    found = predict_v2(ours / "pred", "a", 0)
    dataset_json(ours / "pred", ("background", "rim", "folds", "lumen"))
    code, _, err = refine(*ASKED, "pred")
    assert code == 2 and "1 rim" in err and "2 cristae" in err and "--label_map 0:0,1:1,2:2,3:3" in err
    code, _, err = refine(*ASKED, "pred", "--label_map", "0:0,1:1,2:3,3:3")
    assert code == 0, err
    together = found.astype(np.float32)
    together = np.stack([together[0], together[1], together[0] * 0, together[2] + together[3]])
    np.testing.assert_array_equal(initial("a"), together.argmax(0))
    code, _, err = refine(*ASKED, "pred", "--label_map", "0:0,1:1", "--overwrite")
    assert code == 2 and "every id must be given" in err
    code, _, err = refine(*ASKED, "pred", "--label_map", "identity", "--overwrite")
    assert code == 0, err


def test_without_a_refiner_the_classes_are_those_of_the_dataset(refine, ours):
    predict_v2(ours / "pred", "a", 0)
    dataset_json(ours / "pred", ("background", "rim", "folds", "lumen", "ignore"))
    code, _, err = refine("--config", "refine:smoke", "--refiner", "none", "--output", "out", "--nnunet", "pred")
    assert code == 0, err
    assert sidecar("a")["classes"] == ["background", "rim", "folds", "lumen"]


@pytest.mark.parametrize("named", [["--refiner", "nearest"], ["--refiner", "none"]])
def test_names_decide_without_a_trained_refiner_too(refine, ours, named, monkeypatch):
    monkeypatch.undo()  # the refiner is the one of that name
    monkeypatch.chdir(ours)
    found = predict_v2(ours / "pred", "a", 0)
    dataset_json(ours / "pred", ("cristae", "background", "rim", "lumen"))
    plain = ("--config", "refine:smoke", *named, "--threshold", "0.9", "--output", "out", "--nnunet", "pred")
    code, _, err = refine(*plain)
    assert code == 0, err
    assert sidecar("a")["classes"] == ["background", "cristae", "rim", "lumen"]
    np.testing.assert_array_equal(initial("a"), np.array([1, 0, 2, 3])[found.argmax(0)])
    mine = (*plain, "--overwrite", "--classes", "background,lumen,rim,cristae")
    code, _, err = refine(*mine)
    assert code == 0, err
    np.testing.assert_array_equal(initial("a"), np.array([3, 0, 2, 1])[found.argmax(0)])
    code, _, err = refine(*plain, "--overwrite", "--classes", "background,inside")
    assert code == 2 and "wanted are 0 background, 1 inside" in err and "--label_map ID:CLASS" in err
    code, _, err = refine(*plain, "--overwrite", "--classes", "background,inside", "--label_map", "0:1,1:0,2:1,3:1")
    assert code == 0, err
    inside = 1 - found.astype(np.float32)[1]
    np.testing.assert_array_equal(initial("a"), inside > found.astype(np.float32)[1])


def test_without_dataset_json_the_order_is_taken_and_said(refine, ours):
    predict_v2(ours / "pred", "a", 0)
    code, _, err = refine(*ASKED, "pred")
    said = "a: no dataset.json says what the classes are; taken as 0 background"
    assert code == 0 and f"warning: {said}" in err and any(said in text for text in sidecar("a")["warnings"])
    code, _, err = refine(*ASKED, "pred", "--output", "strict", "--strict")
    assert code == 2 and "no dataset.json" in err and not any(Path("strict").glob("a*"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "whole": [1, 2]}, "regions, which overlap"),
        ({"background": 0, "mito": 2}, "expected 0, 1, 2"),
        (None, "cannot be read"),
        ([1], "cannot be read"),
    ],
)
def test_a_dataset_that_cannot_be_understood_is_refused(refine, ours, labels, message):
    predict_v2(ours / "pred", "a", 0)
    (ours / "pred" / "dataset.json").write_text(json.dumps({"labels": labels}))
    code, _, err = refine(*ASKED, "pred")
    assert code == 2 and message in err


def test_predictions_without_probabilities_say_how_to_get_them(refine, ours):
    (ours / "pred").mkdir()
    (ours / "pred" / "a.nii.gz").touch()
    code, _, err = refine(*ASKED, "pred")
    assert code == 2 and "--save_probabilities" in err
    code, _, err = refine(*ASKED, "nowhere")
    assert code == 2 and "no such folder" in err
    code, _, err = refine(*ASKED, "pred", "--labels", "a_labels.tif")
    assert code == 2 and "leave --labels out" in err


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def test_a_pickle_is_never_run(refine, ours):
    predict_v1(ours / "pred", "a", 0)
    for bomb in (Bomb(), {"crop_bbox": Bomb()}, np.array([Bomb()], object)):
        (ours / "pred" / "a.pkl").write_bytes(pickle.dumps(bomb))
        code, _, err = refine(*ASKED, "pred")
        assert code == 2 and "a.pkl" in err and ("refused" in err or "objects" in err)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_every_protocol_are_read(tmp_path, protocol):
    content = {
        "a": [1, 2.5, "µ", None, True, b"\xff\x00", (1, 2)],
        "array": np.arange(6.0, dtype=np.float32).reshape(2, 3),
        "integers": np.arange(3)[::-1],
        "scalar": np.float64(4.5),
        "set": {1, 2},
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_plain_pickle(tmp_path / "a.pkl")
    assert found["a"] == content["a"] and found["set"] == content["set"] and found["scalar"] == 4.5
    np.testing.assert_array_equal(found["array"], content["array"])
    np.testing.assert_array_equal(found["integers"], content["integers"])
    for damage in (b"", b"\x80\x04.", pickle.dumps(content, protocol=protocol)[:-9]):
        (tmp_path / "a.pkl").write_bytes(damage)
        with pytest.raises(BadInput, match=r"a\.pkl cannot be read"):
            read_plain_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        {"crop_bbox": None},
        {"crop_bbox": 3, "original_size_of_raw_data": "x"},
        {"crop_bbox": [[0, 1]] * 3, "original_size_of_raw_data": [1, 1, 1]},
        {"crop_bbox": [[-1, 1], [0], None], "original_size_of_raw_data": [9, 99, 99], "itk_spacing": [np.nan, 1, -1]},
        {"sitk_stuff": 7, "itk_spacing": {"x": 1}, "original_size_of_raw_data": [np.inf] * 3},
    ],
)
def test_odd_geometry_is_a_note_and_never_an_error(tmp_path, odd):
    np.savez(tmp_path / "a.npz", softmax=softmax(0))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(odd))
    volume = open_probabilities(tmp_path / "a.npz")
    assert volume.shape == SHAPE and volume.voxel_size_nm is None and "taken as the whole image" in volume.note
    np.testing.assert_array_equal(volume.read(whole(SHAPE)), softmax(0).astype(np.float32))


def test_a_refiner_that_needs_the_image_gets_it(refine, ours, monkeypatch):
    use_models(monkeypatch, refiner=refiner(needs=("image",)))
    predict_v2(ours / "pred", "a", 0)
    dataset_json(ours / "pred")
    code, _, err = refine(*ASKED, "pred")
    assert code == 2 and "needs image" in err
    images(ours / "imagesTs", "a")
    code, _, err = refine(*ASKED, "pred", "--input", "imagesTs", "--channel", "1")
    assert code == 0, err
    assert sidecar("a")["made_by"]["inputs"]["image"]["path"].endswith("a_0001.nii.gz")
