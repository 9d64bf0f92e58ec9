"""Whole volumes with closed-form models: compositing, hidden rules, independence of blocks, resuming, refusals."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from fakes import (
    SCHEME,
    SHAPE,
    TOKEN,
    image,
    image_job,
    label_job,
    labels,
    predict,
    refine,
    refiner,
    result,
    segmenter,
    settings,
)

from maeref_jax.errors import BadInput
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.pipeline.blockwise import decide, real_probabilities
from maeref_jax.records import Refiner, Segmenter
from maeref_jax.uncertainty.entropy import KINDS, entropy_of_means, member_means
from maeref_jax.volumes.volume import array_volume, open_volume
from maeref_jax.volumes.windows import whole


def test_only_hidden_voxels_change_and_every_result_is_there(tmp_path):
    summary = refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings())
    initial, refined, entropy, hidden = (result(tmp_path, role) for role in ("initial", "refined", "entropy", "hidden"))
    assert 0 < hidden.mean() < 1
    assert (refined[hidden == 0] == initial[hidden == 0]).all()
    assert (refined[hidden == 1] != initial[hidden == 1]).any()
    assert initial.max() <= 3 and refined.max() <= 3
    for z in range(SHAPE[0]):  # a token is hidden as one, border tokens on the pixels they have
        for y in range(0, SHAPE[1], TOKEN):
            for x in range(0, SHAPE[2], TOKEN):
                square = (z, slice(y, y + TOKEN), slice(x, x + TOKEN))
                assert len(np.unique(hidden[square])) == 1
                if (entropy[square] / 255).mean() > 0.4 + 0.003:
                    assert hidden[square].all()
    assert summary["hidden_share"] == pytest.approx(hidden.mean())
    assert summary["changed_voxels"] == (initial != refined).sum()
    assert sum(n for row in summary["changed"].values() for n in row.values()) == summary["changed_voxels"]
    assert json.loads((tmp_path / "a.json").read_text()) == summary
    for role, stored in (("initial", initial), ("refined", refined), ("entropy", entropy), ("hidden", hidden * 255)):
        exported = open_volume(tmp_path / f"a_{role}.tif")
        assert exported.voxel_size_nm == (30.0, 5.0, 4.0)
        np.testing.assert_array_equal(exported.read(whole(SHAPE)), stored)
    assert not list(tmp_path.glob(".*")), "temporary files are left"


@pytest.mark.parametrize("agree_within_nm", [0.0, 30.0, 90.0])
def test_results_do_not_depend_on_blocks_or_batches(tmp_path, agree_within_nm):
    made = []
    for i, (block, batch) in enumerate([((1, 8, 12), 1), ((3, 64, 64), 7), ((2, 20, 8), 4)]):
        directory = tmp_path / str(i)
        given = settings(block=block, batch=batch, agree_within_nm=agree_within_nm)
        summary = refining.refine_volume(image_job(directory), segmenter(), refiner(), given)
        assert summary["agreeing_slices"] == agree_within_nm // 30
        made.append([result(directory, role) for role in ("initial", "refined", "entropy", "hidden", "confidence")])
    for other in made[1:]:
        for first, second in zip(made[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("own", ["labels", "probabilities"])
def test_results_do_not_depend_on_blocks_where_everything_ties(tmp_path, own):
    """Tokens whose mean is the threshold, but for one voxel of some; classes as likely as each other."""
    rng = np.random.default_rng(0)
    if own == "labels":
        entropy = np.full(SHAPE, 102)  # 0.4 of 255
        change = rng.integers(-60, 60, (SHAPE[0], SHAPE[1], SHAPE[2] // 2))
        entropy[:, :, ::2], entropy[:, :, 1::2] = 102 + change, 102 - change
        entropy += rng.random(SHAPE) < 0.03
        job, threshold = label_job(tmp_path, entropy=array_volume(entropy.astype(np.uint8), "entropy")), 0.4
    else:
        kinds = np.array([[0.5, 0.3, 0.2, 0.0], [0.3, 0.5, 0.0, 0.2], [0.25, 0.25, 0.25, 0.25]], np.float32)
        drawn = rng.choice(3, (2, *SHAPE), p=[0.5, 0.45, 0.05])
        drawn[0, :, 8:20, 8:20] = drawn[1, :, 8:20, 8:20] = 1  # the threshold itself
        members = [array_volume(np.moveaxis(kinds[one], -1, 0).copy(), f"member {i}") for i, one in enumerate(drawn)]
        job = jobs.Job("a", tmp_path, probabilities=tuple(members))
        threshold = float(decide(kinds[1][None], -1)[1][0])
    made = []
    for i, block in enumerate([(1, 4, 12), (3, 64, 64), (2, 20, 8)]):
        given = settings(block=block, threshold=threshold, agree_within_nm=30.0)
        refining.refine_volume(job._replace(output=tmp_path / str(i)), None, refiner(), given)
        made.append({role: result(tmp_path / str(i), role) for role in ("initial", "entropy", "hidden", "refined")})
        made[-1]["confidence"] = result(tmp_path / str(i), "confidence")
    assert 0 < made[0]["hidden"].mean() < 1
    if own == "labels":
        means = [entropy[:, y : y + 4, x : x + 4].mean((1, 2)) for y in range(0, 28, 4) for x in range(0, 36, 4)]
        assert (np.array(means) == 102).mean() > 0.5, "few ties"
        above = np.array(means) > 102
        shown = [made[0]["hidden"][:, y, x] for y in range(0, 28, 4) for x in range(0, 36, 4)]
        np.testing.assert_array_equal(np.array(shown) > 0, above)
    else:
        assert not made[0]["hidden"][:, 8:20, 8:20].any()
    for other in made[1:]:
        for role, found in made[0].items():
            np.testing.assert_array_equal(other[role], found, role)


def test_one_window_equals_the_model_itself(tmp_path):
    """Against the model applied by hand to a slice that is one window."""
    small = image()[:, :16, :16]
    job = image_job(tmp_path, image=array_volume(small, "image"), members=(1,))
    refining.refine_volume(job, segmenter(), None, settings(token=1))
    expected = np.asarray(predict({"scale": 8.0}, {}, small))[1]
    stored = refining.open_result(tmp_path, "a", "initial").read(whole(small.shape))
    np.testing.assert_array_equal(stored, expected[..., :4].argmax(-1))
    entropy = -(expected * np.log(expected)).sum(-1) / np.log(5)
    found = refining.open_result(tmp_path, "a", "entropy").read(whole(small.shape))
    np.testing.assert_allclose(found / 255, entropy, atol=0.6 / 255)
    assert not (tmp_path / "a_refined.tif").exists(), "there is nothing refined without a refiner"


def test_volume_smaller_than_a_window_and_a_three_dimensional_model(tmp_path):
    small = image()[:, :6, :9]
    box_model = segmenter()._replace(apply=Segmenter(predict, (4, 16, 16), (2, 8, 8), 3))
    for i, model in enumerate((segmenter(), box_model)):
        job = image_job(tmp_path, stem=str(i), image=array_volume(small, "image"))
        refining.refine_volume(job, model, refiner(), settings())
        assert refining.open_result(tmp_path, str(i), "refined").shape == small.shape
    filled = refiner()._replace(apply=Refiner(refine, (4, 16, 16), (2, 8, 8), 3, (), TOKEN))
    refining.refine_volume(image_job(tmp_path, stem="3"), box_model, filled, settings())


@pytest.mark.parametrize("agree_within_nm", [0.0, 60.0])
def test_labels_under_hidden_tokens_do_not_matter(tmp_path, agree_within_nm):
    given = settings(agree_within_nm=agree_within_nm)
    job = label_job(tmp_path / "0")
    refining.refine_volume(job, None, refiner(), given)
    hidden = result(tmp_path / "0", "hidden") == 1
    disturbed = np.where(hidden, 3 - labels(), labels()).astype(np.uint8)
    job = label_job(tmp_path / "1", labels=array_volume(disturbed, "labels"))
    refining.refine_volume(job, None, refiner(), given)
    np.testing.assert_array_equal(result(tmp_path / "0", "refined"), result(tmp_path / "1", "refined"))


def test_only_a_refiner_that_says_so_is_given_labels_under_hidden_tokens(tmp_path):
    for seen, same in ((False, True), (True, False)):
        made, given = [], labels()
        model = refiner()
        model = model._replace(apply=model.apply._replace(sees_hidden=seen))
        for i in range(2):
            place = tmp_path / f"{seen}{i}"
            refining.refine_volume(label_job(place, labels=array_volume(given, "labels")), None, model, settings())
            made.append(result(place, "refined"))
            hidden = result(place, "hidden") == 1
            given = np.where(hidden, (given + 1) % 4, given).astype(np.uint8)
        assert (made[0][hidden] == made[1][hidden]).all() == same
        np.testing.assert_array_equal(made[0][~hidden], labels()[~hidden])


def test_windows_without_hidden_voxels_are_not_computed(tmp_path):
    summary = refining.refine_volume(label_job(tmp_path), None, refiner(), settings(block=(3, 64, 64)))
    assert 0 < summary["windows"]["computed"] < summary["windows"]["refine"] / 2


def test_own_labels_with_entropy(tmp_path):
    refining.refine_volume(label_job(tmp_path), None, refiner(), settings())
    expected = np.zeros(SHAPE, np.uint8)
    expected[1, 8:16, 4:12] = 1
    np.testing.assert_array_equal(result(tmp_path, "hidden"), expected)
    np.testing.assert_array_equal(result(tmp_path, "initial"), labels())


def test_own_labels_with_a_painted_mask(tmp_path):
    painted = np.zeros(SHAPE, np.uint8)
    painted[2, 5, 6] = 255  # one voxel hides its token
    painted[0, 28, 37] = 255  # in the corner, a token cut by both borders
    job = label_job(tmp_path, entropy=None, hidden=array_volume(painted, "painted"))
    summary = refining.refine_volume(job, None, refiner(), settings(threshold=1.0))
    expected = np.zeros(SHAPE, np.uint8)
    expected[2, 4:8, 4:8] = expected[0, 28:, 36:] = 1
    np.testing.assert_array_equal(result(tmp_path, "hidden"), expected)
    assert summary["hidden_tokens"] == {"entropy": 2, "ambiguous": 0, "both": 0}, "whatever the threshold"


def test_the_tokens_that_each_rule_hides_are_counted_whatever_the_blocks(tmp_path):
    own = np.zeros(SHAPE, np.int16)
    own[1, :8, 20:] = 4  # called ambiguous: 2 rows of tokens, 5 columns, the last one cut
    entropy = np.zeros(SHAPE, np.float32)
    entropy[1, 4:, 28:36] = 1.0  # 7 rows, the last one cut, of 2 columns
    given = {"labels": array_volume(own, "labels"), "entropy": array_volume(entropy, "entropy")}
    for name, block in (("small", (1, 8, 8)), ("large", (3, 32, 40))):
        job = label_job(tmp_path / name, **given)
        summary = refining.refine_volume(job, None, refiner(), settings(block=block))
        assert summary["hidden_tokens"] == {"entropy": 7 * 2 - 2, "ambiguous": 2 * 5 - 2, "both": 2}
        hidden = result(tmp_path / name, "hidden")[:, ::TOKEN, ::TOKEN]
        assert sum(summary["hidden_tokens"].values()) == hidden.sum()


def test_unknown_and_ambiguous_labels(tmp_path):
    own = labels().astype(np.int16)
    own[0] = -1
    own[1] = np.where(np.arange(SHAPE[2]) < 20, 4, own[1])
    no_entropy = array_volume(np.zeros(SHAPE, np.float32), "entropy")
    job = label_job(tmp_path, labels=array_volume(own, "labels"), entropy=no_entropy)
    refining.refine_volume(job, None, refiner(), settings())
    initial, refined, hidden = (result(tmp_path, role) for role in ("initial", "refined", "hidden"))
    assert (initial[0] == 255).all() and (refined[0] == 255).all(), "unknown stays unknown"
    assert hidden[1, :, :20].all() and not hidden[1, :, 20:].any(), "predicted ambiguous is hidden"
    assert (initial[1, :, :20] == 4).all() and (refined[1, :, :20] < 4).all()


@pytest.mark.parametrize("classes", [4, 5])
def test_own_probabilities_as_members(tmp_path, classes):
    draw = np.random.default_rng(1).dirichlet(np.ones(classes) * 0.5, (2, *SHAPE)).astype(np.float32)
    members = tuple(array_volume(np.moveaxis(draw[i], -1, 0), f"member {i}") for i in range(2))
    refining.refine_volume(jobs.Job("a", tmp_path, probabilities=members), None, refiner(), settings())
    mean = draw.mean(0)
    np.testing.assert_array_equal(result(tmp_path, "initial"), mean[..., :4].argmax(-1))
    entropy = -(mean * np.log(np.maximum(mean, 1e-30))).sum(-1) / np.log(classes)
    np.testing.assert_allclose(result(tmp_path, "entropy") / 255, entropy, atol=0.6 / 255)


def test_a_refiner_may_need_the_image(tmp_path):
    with pytest.raises(BadInput, match="needs image"):
        refining.refine_volume(label_job(tmp_path), None, refiner(needs=("image",)), settings())
    assert not list(tmp_path.iterdir())
    job = label_job(tmp_path, image=array_volume(image(), "image"))
    refining.refine_volume(job, None, refiner(needs=("image",)), settings())


def echo(params, state, inputs, key):
    """Gives back the probabilities it is given, one sure class where there are none (outside the volume)."""
    assert inputs["probabilities"].dtype == jnp.float32
    nowhere = inputs["probabilities"].sum(-1, keepdims=True) == 0
    return jnp.where(nowhere, jnp.array([1.0, 0.0, 0.0, 0.0]), inputs["probabilities"])


def echoing(window=(16, 16), dims=2):
    apply = Refiner(echo, window, tuple(side // 2 for side in window), dims, ("probabilities",), TOKEN)
    return refiner()._replace(apply=apply)


@pytest.mark.parametrize(("kind", "dims"), [("mean", 3), ("votes", 2), ("mutual_information", 2)])
def test_a_refiner_may_need_the_probabilities_the_segmentation_was_decided_by(tmp_path, kind, dims):
    """Labels that come back as they were say that every voxel got its own probabilities."""
    made = echoing((4, 16, 16)[-dims:], dims)
    job = image_job(tmp_path, kind)
    refining.refine_volume(job, segmenter(), made, settings(entropy_kind=kind, threshold=0.0, block=(2, 20, 16)))
    hidden, initial, refined, sure = (
        result(tmp_path, role, kind) for role in ("hidden", "initial", "refined", "confidence")
    )
    assert hidden.mean() > 0.4
    np.testing.assert_array_equal(refined, initial)
    job = image_job(tmp_path, f"{kind}_2")
    refining.refine_volume(job, segmenter(), made, settings(entropy_kind=kind, threshold=0.0, block=(3, 64, 64)))
    np.testing.assert_array_equal(result(tmp_path, "confidence", f"{kind}_2"), sure)


@pytest.mark.parametrize("classes", [4, 5])
def test_own_probabilities_reach_a_refiner_that_needs_them(tmp_path, classes):
    draw = np.random.default_rng(1).dirichlet(np.ones(classes) * 0.5, (2, *SHAPE)).astype(np.float32)
    members = tuple(array_volume(np.moveaxis(draw[i], -1, 0), f"member {i}") for i in range(2))
    job = jobs.Job("a", tmp_path, probabilities=members)
    refining.refine_volume(job, None, echoing(), settings(threshold=0.0, ambiguous_threshold=0.0))
    np.testing.assert_array_equal(result(tmp_path, "refined"), result(tmp_path, "initial"))
    mean = draw.mean(0)[..., :4]
    expected = (mean / mean.sum(-1, keepdims=True)).max(-1) * 255
    assert result(tmp_path, "hidden").all() and np.abs(result(tmp_path, "confidence") - expected).max() < 0.51


def test_labels_alone_do_not_satisfy_a_refiner_that_needs_probabilities(tmp_path):
    with pytest.raises(BadInput, match="runs/fill needs probabilities as well; an ensemble or your own class"):
        refining.refine_volume(label_job(tmp_path), None, echoing(), settings())
    assert not list(tmp_path.iterdir())


def test_where_ambiguous_has_all_the_probability_the_real_classes_share_equally():
    means = np.array([[0.0, 0.0, 1.0], [0.2, 0.6, 0.2]], np.float32)
    np.testing.assert_allclose(real_probabilities(means, 2), [[0.5, 0.5], [0.25, 0.75]])
    np.testing.assert_allclose(real_probabilities(means, -1), means)
    np.testing.assert_allclose(real_probabilities(means, 3), means), "given without that class"


def test_an_image_of_another_byte_order_reaches_a_refiner_as_float(tmp_path):
    def brightness(params, state, inputs, key):
        assert inputs["image"].dtype == jnp.float32
        return jnp.broadcast_to(jnp.array([0.0, 0.0, 0.0, 1.0]), (*inputs["image"].shape, 4))

    swapped = array_volume(image().astype(np.uint16).astype(">u2"), "image")
    needing = refiner()._replace(apply=Refiner(brightness, (16, 16), (8, 8), 2, ("image",), TOKEN))
    refining.refine_volume(label_job(tmp_path, image=swapped), None, needing, settings())
    assert (result(tmp_path, "refined")[result(tmp_path, "hidden") == 1] == 3).all()


def test_uint8_entropy_is_scaled_and_said(tmp_path):
    said, entropy = [], np.zeros(SHAPE, np.uint8)
    entropy[0, :4, :4], entropy[0, :4, 4:8] = 103, 102  # 103 / 255 > 0.4 >= 102 / 255
    job = label_job(tmp_path, entropy=array_volume(entropy, "entropy.tif"))
    refining.refine_volume(job, None, refiner(), settings(threshold=102 / 255 + 1e-6), said.append)
    assert said == ["entropy.tif: uint8 entropy is read as value / 255"]
    assert result(tmp_path, "hidden").sum() == 16


def test_a_workdir_is_checked(tmp_path):
    with pytest.raises(BadInput, match="not the workdir"):
        methods.load_model(tmp_path, "refiner")
    content = {"method": "ensemble", "config": {}, "facts": {}, "versions": {}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match="method 'ensemble', expected a refiner: mae, mae_image, "):
        methods.load_model(tmp_path, "refiner")


CALIBRATION = {"temperatures": [1.0, 1.5, 2.0, 2.5], "use": {}}
CHOSEN = {"threshold": 0.9, "entropy_kind": "mean", "classes": 5, "members": None}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            (name, text)
            for name in ("calibration.json", "threshold.json")
            for text in ("", '{"a": [1, 2', "[]", "{}", "3")
        ),
        *(("calibration.json", json.dumps(CALIBRATION | {"temperatures": bad})) for bad in ([1.0], [0, 1, 1, 1], None)),
        *(("threshold.json", json.dumps(CHOSEN | {"threshold": bad})) for bad in ("x", 7, None, float("nan"))),
        ("threshold.json", json.dumps(CHOSEN | {"entropy_kind": "guess"})),
    ],
)
def test_a_damaged_file_beside_a_refiner_is_one_message(tmp_path, name, text):
    settings = {"token": 4, "window": [16, 16], "stride": [8, 8], "classes": SCHEME}
    (tmp_path / "config.json").write_text(json.dumps({"method": "nearest", "config": settings, "facts": {}}))
    (tmp_path / "calibration.json").write_text(json.dumps(CALIBRATION))
    (tmp_path / "threshold.json").write_text(json.dumps(CHOSEN))
    assert methods.load_model(tmp_path, "refiner").chosen == CHOSEN
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=f"{name} is damaged, expected what .* writes; remove it"):
        methods.load_model(tmp_path, "refiner")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_entropy_is_that_of_the_members_and_labels_stay(tmp_path, kind):
    """Two members in one window: what the pipeline stores is what the members give."""
    one_window = array_volume(image()[:, :16, :16], "image", (30.0, 5.0, 4.0))
    job = image_job(tmp_path, kind, image=one_window)
    refining.refine_volume(job, segmenter(), None, settings(entropy_kind=kind, threshold=0.4))
    members = predict({"scale": np.float32(8.0)}, {}, one_window.read(whole(one_window.shape)))
    stored = refining.open_result(tmp_path, kind, "entropy")
    expected = np.asarray(entropy_of_means(member_means(members, kind), kind)) * 255
    assert np.abs(stored.read(whole(stored.shape)) - expected).max() < 0.51
    labelled = refining.open_result(tmp_path, kind, "initial").read(whole(stored.shape))
    np.testing.assert_array_equal(labelled, np.asarray(members).mean(0)[..., :4].argmax(-1))
