"""Numpy in, numpy out: the same bits as the command on the same input, planes and stacks, nothing left on disk."""

import subprocess
import sys
import tempfile

import numpy as np
import pytest
from fakes import SHAPE, TOKEN, image, labels, refiner, segmenter
from stacks import IMAGE, LABELS, SIZE, entropy_of, result

import maeref_jax
from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import labels_from_disk


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())


def test_an_image_has_the_same_bits_as_by_the_command(refine):
    assert refine(*IMAGE, "--config.disagreement=true")[0] == 0
    found = maeref_jax.segment(segmenter(), image(0), voxel_size_nm=SIZE, disagreement=True)
    np.testing.assert_array_equal(found.labels, labels_from_disk(result("out", "a", "initial")))
    np.testing.assert_array_equal(found.entropy, result("out", "a", "entropy") / np.float32(255))
    np.testing.assert_array_equal(found.disagreement, result("out", "a", "disagreement") / np.float32(255))
    assert 0 < found.disagreement.mean() < found.entropy.mean()
    repaired = maeref_jax.refine(refiner(), image=image(0), segmenter=segmenter(), voxel_size_nm=SIZE)
    np.testing.assert_array_equal(repaired.labels, labels_from_disk(result("out", "a", "refined")))
    np.testing.assert_array_equal(repaired.hidden, result("out", "a", "hidden") != 0)
    np.testing.assert_array_equal(repaired.confidence, result("out", "a", "confidence") / np.float32(255))
    assert repaired.labels.dtype == np.int16 and repaired.confidence.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint32])
def test_labels_have_the_same_bits_as_by_the_command_whatever_their_type(refine, dtype):
    assert refine(*LABELS, "--entropy", "stacks/a_entropy.tif")[0] == 0
    given = labels(0).astype(dtype)
    found = maeref_jax.refine(refiner(), given, entropy=entropy_of(0), voxel_size_nm=SIZE)
    np.testing.assert_array_equal(found.labels, labels_from_disk(result("out", "a_labels")))
    np.testing.assert_array_equal(found.initial, given)
    changed = sum(voxels for row in found.changed.values() for voxels in row.values())
    assert changed == found.summary["changed_voxels"] == (found.labels != found.initial).sum() > 0
    assert (found.labels == found.initial)[~found.hidden].all()


def test_labels_are_the_refiners_classes_and_a_mask_of_255_is_asked_about():
    """What `segment` gives may hold any of the classes; a file that held these would be asked about."""
    two, painted = (labels(0) > 1).astype(np.int16), labels(0) == 0
    found = maeref_jax.refine(refiner(), two, hidden=painted, voxel_size_nm=SIZE)
    np.testing.assert_array_equal(found.initial, two)
    mask = two.astype(np.uint8) * 255
    with pytest.raises(BadInput, match="holds the labels 0 and 255, a mask, it seems"):
        maeref_jax.refine(refiner(), mask, hidden=painted, voxel_size_nm=SIZE)
    with pytest.raises(BadInput, match="holds the labels -1 and 0, a mask of 0 and 255 stored as signed bytes"):
        maeref_jax.refine(refiner(), mask.view(np.int8), hidden=painted, voxel_size_nm=SIZE)
    mapped = maeref_jax.refine(refiner(), mask, hidden=painted, voxel_size_nm=SIZE, label_map=((255, 1),))
    np.testing.assert_array_equal(mapped.labels, found.labels)


def test_a_plane_is_a_stack_of_one_slice():
    mask = np.zeros(SHAPE[1:], bool)
    mask[9:14, 5:6] = True
    plane = maeref_jax.refine(refiner(), labels(0)[1], hidden=mask, voxel_size_nm=SIZE[1:])
    stack = maeref_jax.refine(refiner(), labels(0)[1:2], hidden=mask[None], voxel_size_nm=SIZE)
    assert plane.labels.shape == SHAPE[1:]
    np.testing.assert_array_equal(plane.labels, stack.labels[0])
    assert mask[plane.hidden].sum() == mask.sum() and plane.hidden.sum() % TOKEN == 0
    assert maeref_jax.segment(segmenter(), image(0)[1]).labels.shape == SHAPE[1:]


def test_probabilities_of_members_in_two_and_three_dimensions():
    rng = np.random.default_rng(0)
    members = [rng.dirichlet(np.ones(5), SHAPE).transpose(3, 0, 1, 2).astype(np.float32) for _ in range(2)]
    found = maeref_jax.refine(refiner(), probabilities=members, voxel_size_nm=SIZE)
    np.testing.assert_array_equal(found.initial, np.mean(members, 0)[:4].argmax(0))
    plane = maeref_jax.refine(refiner(), probabilities=[one[:, 0] for one in members], threshold=0.5)
    np.testing.assert_array_equal(plane.initial, found.initial[0])


def test_a_folder_is_kept_where_one_is_asked_for(tmp_path):
    given = {"entropy": entropy_of(0), "voxel_size_nm": SIZE, "output": tmp_path, "stem": "cell"}
    first = maeref_jax.refine(refiner(), labels(0), **given)
    assert {"cell.json", "cell.ome.zarr", "cell_refined.tif"} <= {path.name for path in tmp_path.iterdir()}
    again = maeref_jax.refine(refiner(), labels(0), **given)  # it is complete
    np.testing.assert_array_equal(first.labels, again.labels)
    with pytest.raises(BadInput, match="was made otherwise"):
        maeref_jax.refine(refiner(), labels(1), **given)


def test_a_judgement_by_hand():
    truth = np.array([[0, 0, 1, 1], [2, 2, 255, -1]], np.int16)
    found = np.array([[0, 1, 1, 1], [2, 0, 7, 7]])
    before = np.array([[0, 0, 0, 1], [0, 0, 7, 7]])
    judged = maeref_jax.judge(truth, found, classes=("background", "inner", "outer"), initial=before)
    assert judged.dice == pytest.approx({"background": 0.5, "inner": 0.8, "outer": 2 / 3})
    assert judged.iou["inner"] == pytest.approx(2 / 3)
    assert judged.mean_dice == pytest.approx((0.8 + 2 / 3) / 2) and judged.voxels == 6
    repairs = {"wrong_to_right": 2, "right_to_wrong": 1, "wrong_to_other_wrong": 0, "wrong_kept": 1, "right_kept": 2}
    assert judged.repairs == repairs
    inside = maeref_jax.judge(truth, found, classes=("background", "inner", "outer"), region=truth == 1)
    assert inside.voxels == 2 and inside.dice["inner"] == 1 and np.isnan(inside.dice["outer"]) and not inside.repairs
    assert set(maeref_jax.judge([0, 1], [1, 1]).dice) == {"0", "1"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: maeref_jax.refine(refiner(), labels(0)), "labels need entropy, a hidden mask or both"),
        (lambda: maeref_jax.refine(refiner(), labels(0), entropy=entropy_of(0)[1:]), "has shape"),
        (lambda: maeref_jax.refine(refiner(), labels(0), hidden=labels(0)[0]), "or all of planes"),
        (lambda: maeref_jax.refine(refiner(), labels(0)[None], hidden=labels(0)[None]), r"labels \(1, 3, 29, 38\)"),
        (lambda: maeref_jax.refine(refiner(), labels(0), entropy=entropy_of(0) * 3), "in nats"),
        (lambda: maeref_jax.refine(refiner(), labels(0) + 0.5, hidden=labels(0)), "labels are whole numbers"),
        (lambda: maeref_jax.refine(refiner(), labels(0), hidden=labels(0), treshold=1.0), "did you mean 'threshold'"),
        (lambda: maeref_jax.refine(refiner(), labels(0), hidden=labels(0), threshold="high"), "the setting threshold"),
        (lambda: maeref_jax.segment(segmenter(), image(0).astype(object)), "holds object"),
        (
            lambda: maeref_jax.segment(segmenter(), image(0), voxel_size_nm=(1, 2)),
            "^voxel_size_nm expects three positive",
        ),
        (
            lambda: maeref_jax.segment(segmenter(), image(0), voxel_size_nm=SIZE, at_voxel_size_nm=(0, 1, 1)),
            "^at_voxel_size_nm expects three positive numbers",
        ),
        (lambda: maeref_jax.segment(segmenter(), image(0) * np.nan), "expected finite values"),
        (lambda: maeref_jax.judge(labels(0), labels(0)[1:]), "must have one shape"),
        (lambda: maeref_jax.judge(labels(0), labels(0) * 0.5), "expected labels of an integer type"),
        (lambda: maeref_jax.judge(labels(0), labels(0), classes=("a", "b")), r"must lie in 0\.\.1"),
        (lambda: maeref_jax.load_model("nowhere"), "nowhere"),
        (lambda: maeref_jax.load_model(None), "path of a workdir"),
        (lambda: maeref_jax.refine("runs/mae", labels(0), hidden=labels(0)), "expected a refiner"),
        (lambda: maeref_jax.segment(refiner(), image(0)), "expected a segmenter"),
        (lambda: maeref_jax.refine(refiner(), [[1, 2], [3]], hidden=labels(0)), "labels is no array"),
        (lambda: maeref_jax.refine(refiner(), np.ma.array(labels(0)), hidden=labels(0)), "masked array"),
        (lambda: maeref_jax.refine(refiner(), labels(0), hidden=labels(0), voxel_size_nm=45), "voxel_size_nm expects"),
        (lambda: maeref_jax.refine(refiner(), labels(0), hidden=labels(0), stem="../cell"), "no file name"),
        (lambda: maeref_jax.refine(refiner(), labels(0), hidden=labels(0), seed=-1), "seed is -1"),
        (lambda: maeref_jax.refine(refiner(), labels(0), hidden=labels(0), block=8), "block is 8, expected a tuple"),
        (lambda: maeref_jax.judge(labels(0).astype(int) * 65791, labels(0)), "ids of objects"),
        (lambda: maeref_jax.judge(labels(0).astype(int) - 65536, labels(0)), "holds -65536"),
        (lambda: maeref_jax.judge((labels(0) > 0) * 255, labels(0)), "write the class for 255"),
        (lambda: maeref_jax.judge(labels(0) * 0 + 255, labels(0)), "truth holds no known class"),
        (lambda: maeref_jax.judge(-(labels(0) > 0).astype(np.int8), labels(0)), "holds 0 and -1 alone"),
        (lambda: maeref_jax.judge([0, 1], [0, 1], classes=("a", "a")), "a name stands there twice"),
        (lambda: maeref_jax.judge([0, 1], [0, 1], classes="ab"), "expected several names"),
        (lambda: maeref_jax.load_model("nearst"), "did you mean 'nearest'"),
        (lambda: maeref_jax.segment(segmenter(), image(0), stem=3), "stem is 3, expected a text"),
        (lambda: maeref_jax.segment(segmenter(), image(0), output=3), "output is 3, expected the path of a folder"),
        (
            lambda: maeref_jax.refine(refiner(), labels(0), hidden=labels(0), token=8),
            "token is 8, but runs/fill fills in",
        ),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def test_the_package_is_imported_quickly_and_names_what_it_offers():
    code = "import sys, maeref_jax; print('numpy' in sys.modules, 'jax' in sys.modules, *maeref_jax.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, names = done.stdout.split()[:2], done.stdout.split()[2:]
    assert loaded == ["False", "False"]
    assert {"judge", "load_model", "refine", "segment"} < set(names) < set(dir(maeref_jax))
    with pytest.raises(AttributeError, match="no attribute 'segmet'"):
        _ = maeref_jax.segmet


def test_a_mask_of_0_and_255_is_judged_as_one():
    mask = np.arange(12).reshape(3, 4) > 5
    for truth, found in ((mask * 255, mask), (mask, mask * 255), (mask.astype(np.uint8) * 255,) * 2):
        assert maeref_jax.judge(truth, found).dice == {"0": 1.0, "1": 1.0}
    partly = np.where(mask, 1, 0)
    partly[0] = 255  # with another class beside it, it is unknown
    assert maeref_jax.judge(partly, mask).voxels == 8


def test_settings_are_those_that_would_be_typed_or_numbers_of_numpy():
    given = {"hidden": labels(0) > 1, "voxel_size_nm": SIZE}
    typed = maeref_jax.refine(refiner(), labels(0), label_map="0:0,1:1,2:2,3:3", block="1,16,16", **given)
    plain = maeref_jax.refine(refiner(), labels(0), threshold=np.float32(0.5), seed=np.int64(0), **given)
    np.testing.assert_array_equal(typed.labels, plain.labels)


def test_what_lies_outside_of_a_mask_is_background():
    mask = np.zeros(SHAPE, bool)
    mask[:, :16, :20] = True
    every, found = (maeref_jax.segment(segmenter(), image(0), within=one) for one in (None, mask))
    np.testing.assert_array_equal(found.labels, every.labels * mask)
    np.testing.assert_array_equal(found.entropy, every.entropy * mask)
    repaired = maeref_jax.refine(refiner(), labels(0), entropy=entropy_of(0), within=mask)
    np.testing.assert_array_equal(repaired.initial, labels(0) * mask)
    assert not repaired.labels[~mask].any() and repaired.summary["voxels"] == mask.sum()
    with pytest.raises(BadInput, match=r"within has shape \(3, 16, 20\), but volume has \(3, 29, 38\)"):
        maeref_jax.segment(segmenter(), image(0), within=mask[:, :16, :20])
    plane = maeref_jax.segment(segmenter(), image(0)[0], within=mask[0])
    np.testing.assert_array_equal(plane.labels, found.labels[0])


def test_arrays_come_back_in_their_own_voxels_from_another_size():
    def fine(array):
        return array.repeat(2, 0).repeat(2, 1).repeat(2, 2)

    half = tuple(length / 2 for length in SIZE)
    sizes = {"voxel_size_nm": half, "at_voxel_size_nm": SIZE}
    direct = maeref_jax.segment(segmenter(), image(0), voxel_size_nm=SIZE, disagreement=True)
    found = maeref_jax.segment(segmenter(), fine(image(0)), **sizes, disagreement=True)
    np.testing.assert_array_equal(found.labels, fine(direct.labels))
    assert found.entropy.shape == found.disagreement.shape == found.labels.shape
    direct = maeref_jax.refine(refiner(), labels(0), entropy=entropy_of(0), voxel_size_nm=SIZE)
    found = maeref_jax.refine(refiner(), fine(labels(0)), entropy=fine(entropy_of(0)), **sizes)
    for name in ("labels", "initial", "hidden", "confidence"):
        np.testing.assert_array_equal(getattr(found, name), fine(getattr(direct, name)))
    assert found.summary["changed_voxels"] == direct.summary["changed_voxels"]
    plane = maeref_jax.segment(segmenter(), fine(image(0))[0], voxel_size_nm=half[1:], at_voxel_size_nm=SIZE[1:])
    assert plane.labels.shape == fine(image(0))[0].shape
    with pytest.raises(BadInput, match="image cannot be read at another voxel size, as its own is not known"):
        maeref_jax.segment(segmenter(), image(0), at_voxel_size_nm=SIZE)


@pytest.mark.parametrize(
    ("truth", "found", "said"),
    [
        (
            [1, 2, 2],
            [0, 1, 1],
            "truth holds [1, 2], labels [0, 1]: one of them has no 0; does it count classes from 1?",
        ),
        ([0, 5, 5], [0, 1, 1], "truth holds [0, 5], labels [0, 1], no class in common but 0"),
        ([0, 1, 1], [0, 1, 0], ""),
        ([0, 0, 0], [0, 1, 0], ""),
        ([1, 1, 1], [0, 1, 0], ""),
    ],
)
def test_ids_that_seem_to_mean_other_classes_are_warned_of(truth, found, said, capsys):
    maeref_jax.judge(truth, found)
    printed = capsys.readouterr().err
    assert printed == "" if not said else printed.startswith("warning: ") and said in printed


def test_a_model_is_of_its_own_classes_and_by_name_of_those_that_are_named(smoke, capsys):
    with pytest.raises(BadInput, match="was trained for background,intermembrane,cristae,matrix"):
        maeref_jax.load_model(smoke, classes=("background", "mitochondria"))
    assert maeref_jax.load_model("nearest").settings["classes"]["names"][1] == "intermembrane"
    assert "nearest: without classes those are 0 background, 1 intermembrane" in capsys.readouterr().out
    named = maeref_jax.load_model("nearest", classes=("background", "mitochondria"))
    assert named.settings["classes"]["names"] == ("background", "mitochondria") and not capsys.readouterr().out
