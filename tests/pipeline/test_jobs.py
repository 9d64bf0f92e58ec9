"""jobs.py: what does not fit together is refused before any work, with both sides named."""

import numpy as np
import pytest
from fakes import SCHEME, SHAPE, image, image_job, label_job, labels, refiner, result, segmenter, settings

from maeref_jax.errors import BadInput
from maeref_jax.pipeline import jobs, refining
from maeref_jax.volumes.volume import array_volume


def test_a_chosen_threshold_is_used_and_refused_with_other_members_or_kinds_of_entropy(tmp_path):
    known = {"threshold": 0.9, "entropy_kind": "mean", "classes": 5, "members": 3, "chosen_on": "a.tif"}
    six = segmenter()._replace(settings=segmenter().settings | {"members": 6})
    chosen = refiner()._replace(chosen=known)
    assert jobs.thresholds_of({"threshold": None, "ambiguous_threshold": None}, chosen)[0]["threshold"] == 0.9
    job, plain = image_job(tmp_path), settings()
    with pytest.raises(BadInput, match=r"threshold 0.9 .* belongs to members 3, found 6; give --threshold"):
        refining.refine_volume(job, six, chosen, plain)
    other = refiner()._replace(chosen=known | {"members": 6, "entropy_kind": "votes"})
    with pytest.raises(BadInput, match="belongs to entropy_kind votes, found mean"):
        refining.refine_volume(job, six, other, plain)
    turned = six._replace(settings=six.settings | {"use": {"symmetries": True}})
    with pytest.raises(BadInput, match="belongs to symmetries False, found True"):
        refining.refine_volume(job, turned, chosen._replace(chosen=known | {"members": 6}), plain)
    assert not list(tmp_path.iterdir())
    summary = refining.refine_volume(job, six, chosen._replace(chosen=known | {"members": 6}), plain)
    assert summary["made_by"]["settings"]["threshold"] == 0.9
    given = refining.refine_volume(image_job(tmp_path, "b"), six, chosen, settings(threshold=0.4))
    assert given["made_by"]["settings"]["threshold"] == 0.4


def nan_image():
    bad = image()
    bad[1, 2, 3] = np.nan
    return array_volume(bad, "stack.tif")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: image_job(d, image=nan_image()), r"stack.tif holds nan at voxel \(z, y, x\) = \(1, 2, 3\)"),
        (lambda d: image_job(d, image=None), "expected one of"),
        (lambda d: label_job(d, image=array_volume(image(), "image")), "expected one of"),
        (lambda d: image_job(d, entropy=array_volume(image(), "entropy")), "nothing else does"),
    ],
)
def test_bad_image_jobs(tmp_path, make, message):
    with pytest.raises(BadInput, match=message):
        refining.refine_volume(make(tmp_path / "out"), segmenter(), refiner(), settings())
    assert not (tmp_path / "out").exists(), "something was written"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": labels(classes=4) + 3}, r"holds the labels 3, 4, 5 and 6, and no voxel is 0; --label_map"),
        ({"labels": labels().astype(np.float32) + 0.5}, "holds 0.5; labels are whole numbers"),
        ({"labels": labels().astype(np.int16) - 2}, r"holds the labels \[-2\]"),
        ({"labels": labels()[:, :-1]}, r"entropy has shape \(3, 29, 38\), but labels has \(3, 28, 38\)"),
        ({"entropy": np.full(SHAPE, 1.2, np.float32)}, "nats"),
        ({"entropy": np.full(SHAPE, -0.1, np.float32)}, "expected 0 to 1"),
        ({"entropy": np.ones(SHAPE, np.int32)}, "expected entropy as float"),
        ({"entropy": None}, "labels need entropy, a hidden mask or both"),
    ],
)
def test_bad_label_jobs(tmp_path, changes, message):
    changes = {name: value if value is None else array_volume(value, name) for name, value in changes.items()}
    with pytest.raises(BadInput, match=message):
        refining.refine_volume(label_job(tmp_path / "out", **changes), None, refiner(), settings())
    assert not (tmp_path / "out").exists(), "something was written"


def test_slices_of_unknown_thickness_do_not_agree_and_it_is_said(tmp_path):
    job, agreeing, said = label_job(tmp_path), settings(agree_within_nm=40.0), []
    summary = refining.refine_volume(job, None, refiner(), agreeing, said.append)
    assert summary["agreeing_slices"] == 0, "the refiner's thickness was taken for the volume's"
    assert any("with --voxel_size_nm Z,Y,X slices within 40 nm agree" in line for line in said)
    assert jobs.agreeing_slices(agreeing, refiner(voxel_size_nm=[]), (10.0, 5.0, 5.0), 3) == 4
    assert jobs.agreeing_slices(agreeing, refiner(), (10.0, 5.0, 5.0), 1) == 0, "a single slice has none to agree with"
    quiet = refining.refine_volume(label_job(tmp_path / "0"), None, refiner(), settings(), said.append)
    assert not any("how large a voxel" in text for text in quiet["warnings"]), "nothing depends on it"


def test_a_threshold_chosen_for_an_ensemble_is_not_used_for_labels_and_it_is_said(tmp_path):
    known = {"threshold": 0.9, "entropy_kind": "mean", "classes": 5, "members": 3, "chosen_on": "a.tif"}
    said, chosen = [], refiner()._replace(chosen=known)
    summary = refining.refine_volume(label_job(tmp_path), None, chosen, settings(), said.append)
    assert summary["made_by"]["settings"]["threshold"] == 0.4
    assert any("the threshold 0.9 stored in runs/fill was chosen for the entropy of an ensemble" in s for s in said)
    assert summary["notes"] == [line for line in said if not line.startswith("warning: ")]
    given = refining.refine_volume(label_job(tmp_path / "0"), None, chosen, settings(threshold=0.5), lambda line: None)
    assert given["notes"] == [] and given["made_by"]["settings"]["threshold"] == 0.5


def test_entropy_and_a_painted_mask_together_hide_what_either_hides(tmp_path):
    painted = np.zeros(SHAPE, np.uint8)
    painted[2, 5, 6] = 255
    both = {"hidden": array_volume(painted, "painted")}
    for name, changes in (("entropy", {}), ("painted", both | {"entropy": None}), ("both", both)):
        given = settings(threshold=1.0 if name == "painted" else 0.4)
        refining.refine_volume(label_job(tmp_path / name, **changes), None, refiner(), given)
    hidden = {name: result(tmp_path / name, "hidden") for name in ("entropy", "painted", "both")}
    assert hidden["painted"].sum() == 16 and hidden["entropy"].any()
    np.testing.assert_array_equal(hidden["both"], hidden["entropy"] | hidden["painted"])


def test_other_mistakes(tmp_path):
    job = label_job(tmp_path)
    for bad, message in (
        ({"threshold": 1.5}, "threshold is 1.5, expected 0 to 1"),
        ({"batch": 0}, "must be at least 1"),
        ({"block": (4, 0, 4)}, "three positive numbers"),
        ({"agree_within_nm": -1.0}, "is a length, 0 for none, found -1"),
        ({"agree_within_nm": float("nan")}, "is a length, 0 for none, found nan"),
    ):
        with pytest.raises(BadInput, match=message):
            refining.refine_volume(job, None, refiner(), settings(**bad))
    names = SCHEME["names"]
    three = SCHEME | {"names": names[:3] + names[-1:], "ambiguous": 3}
    with pytest.raises(BadInput, match="trained for different classes"):
        refining.refine_volume(image_job(tmp_path), segmenter(), refiner(scheme=three), settings())
    spacing = array_volume(np.zeros(SHAPE, np.float32), "entropy", (30.0, 4.0, 4.0))
    mismatch = label_job(tmp_path, labels=array_volume(labels(), "labels", (30.0, 5.0, 4.0)), entropy=spacing)
    with pytest.raises(BadInput, match="voxels of"):
        refining.refine_volume(mismatch, None, refiner(), settings())
    logits = array_volume(np.random.default_rng(0).normal(size=(4, *SHAPE)).astype(np.float32), "logits")
    with pytest.raises(BadInput, match="a softmax, no logits"):
        refining.refine_volume(jobs.Job("a", tmp_path, probabilities=(logits,)), None, refiner(), settings())
    seven = array_volume(np.full((7, *SHAPE), 1 / 7, np.float32), "seven")
    with pytest.raises(BadInput, match="seven has 7 classes"):
        refining.refine_volume(jobs.Job("a", tmp_path, probabilities=(seven,)), None, refiner(), settings())
    assert not list(tmp_path.iterdir())


def test_a_threshold_for_the_mean_is_not_used_for_another_kind_of_entropy(tmp_path):
    with pytest.raises(BadInput, match="set its --threshold"):
        refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(entropy_kind="votes"))
    with pytest.raises(BadInput, match="entropy_kind is vote,"):
        refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(entropy_kind="vote"))
    assert not list(tmp_path.iterdir())
