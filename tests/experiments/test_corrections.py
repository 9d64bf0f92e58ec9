"""A corrector from one command: predictions out of fold, copies with less signal, and what it is used with."""

import copy
import json
import shutil

import jax
import numpy as np
import pytest

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.experiments import corrections, run
from maeref_jax.masking.exact import sum_in_tokens
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.volumes.volume import array_volume, write_tiff
from maeref_jax.volumes.windows import whole

SIZE = (20.0, 10.0, 10.0)


def settings(ensemble, *overrides):
    small = ("--config.steps=2", "--config.evaluate_every=2", f"--config.data.ensemble={ensemble}")
    return load_config("corrector:smoke", (*small, *overrides)).to_dict()


@pytest.fixture(scope="module")
def ensemble(smoke):
    return smoke / "ensemble"


@pytest.fixture(scope="module")
def workdir(ensemble, tmp_path_factory):
    path = tmp_path_factory.mktemp("corrector") / "corrector"
    run.train(settings(ensemble), path)
    return path


def test_every_volume_is_predicted_by_members_that_have_not_seen_it(ensemble, workdir):
    seen = json.loads((ensemble / "config.json").read_text())["facts"]["member_volumes"]
    for seed in (0, 1):
        made = json.loads((workdir / "predictions" / "train" / f"phantom_{seed}.json").read_text())["made_by"]
        assert made["members"] and not any(f"phantom_{seed}" in seen[i] for i in made["members"])
    (folder,) = {path.parent for path in (workdir / "predictions" / "validation").glob("phantom_2*.json")}
    assert {path.stem for path in folder.glob("*.json")} == {"phantom_2", "phantom_2_degraded_0"}


def test_what_is_learned_from_is_what_they_said_and_what_was_annotated(ensemble, workdir):
    found = corrections.volumes(settings(ensemble), workdir, "train", print)
    assert [[one.target.name for one in part] for part in found] == [["phantom_0", "phantom_1"]] * 2
    plain, degraded = found[0][0], found[1][0]
    np.testing.assert_array_equal(plain.target.labels, degraded.target.labels)
    assert set(np.unique(plain.target.labels)) <= {0, 1, 2, 3, 4} and plain.probabilities.shape[0] == 5
    assert (plain.probabilities != degraded.probabilities).any(), "what was degraded is predicted again"


def test_what_it_is_used_with_was_chosen_and_is_found_again(workdir):
    chosen = json.loads((workdir / "gain.json").read_text())
    model = methods.load_model(workdir, "refiner")
    used = {"temperature": chosen["temperature"], "gain": chosen["threshold"], "caution": chosen["caution"]}
    used |= {"symmetries": False}
    assert chosen["caution"] in corrections.CAUTIONS and model.apply.caution == 1
    careful = model._replace(settings=model.settings | {"use": used | {"caution": 3.0}})
    assert methods.hidden_by(careful, "error").apply.caution == 3, "in the tokens that it hides itself"
    assert methods.judged_by(careful, careful._replace(workdir="a copy")).apply.caution == 3, (
        "wherever it was read from"
    )
    assert methods.judged_by(careful, model).apply.caution == 1, "another one"
    assert model.settings["use"] == used and (model.apply.dims, model.apply.context) == (2, 1)
    assert chosen["hidden_share"] <= model.settings["most_hidden"]
    assert [chosen[name] for name in ("hidden_share", "repaired", "broken")] == chosen["tried"][f"{used['gain']:g}"]
    shares = [share for share, _, _ in chosen["tried"].values()]
    assert shares == sorted(shares, reverse=True)
    (workdir / "gain.json").write_text('{"temperature": 0}')
    with pytest.raises(BadInput, match=r"gain.json is damaged, expected what maeref train --config corrector"):
        methods.load_model(workdir, "refiner")
    (workdir / "gain.json").write_text(json.dumps(chosen))


BOXES = ("--config.window=4,32,32", "--config.stride=2,16,16", "--config.model.strides=((1,2,2),)")


@pytest.mark.parametrize(
    "more", [(), (*BOXES, "--config.model.plane_levels=1"), (*BOXES, "--config.model.plane_levels=0")]
)
def test_it_is_used_on_a_volume_by_the_error_that_it_expects_whatever_the_blocks(ensemble, workdir, tmp_path, more):
    image = array_volume(phantom(77, (6, 48, 48), SIZE).image, "image", SIZE)
    segmenter, corrector = methods.load_model(ensemble, "segmenter"), methods.load_model(workdir, "refiner")
    assert methods.hidden_by(corrector, str(workdir)).judge.name == "corrector"
    asked, rng, found = settings(ensemble, *more), np.random.default_rng(0), {}
    method, apply = (getattr(methods.REFINERS["corrector"], name)(asked) for name in ("method", "refiner"))
    shape = (1, *(() if more else (3,)), *asked["window"], 5)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), {"probabilities": np.zeros(shape, np.uint8)})
    learned = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), params)
    refiner = methods.hidden_by(corrector._replace(params=learned, apply=apply), "error")
    for block in ((4, 32, 32), (6, 48, 48)):
        output = tmp_path / str(block[0])
        asked = jobs.Settings(block=block, tiff_export=False, gain=0.001)
        refining.refine_volume(jobs.Job("a", output, image), segmenter, refiner, asked)
        for role in ("error", "hidden", "refined", "confidence"):
            found[role, block] = refining.open_result(output, "a", role).read(whole(image.shape))
            np.testing.assert_array_equal(found[role, block], found[role, (4, 32, 32)])
    assert found["error", block].max() > 0 and found["hidden", block].any()


def test_the_same_command_again_predicts_nothing_anew(ensemble, workdir):
    marks = {path: path.stat().st_mtime_ns for path in (workdir / "predictions").rglob("*.json")}
    run.train(settings(ensemble), workdir)
    assert {path: path.stat().st_mtime_ns for path in (workdir / "predictions").rglob("*.json")} == marks
    notes = corrections.prepare(settings(ensemble), workdir, range(4)).facts["notes"]
    assert notes == [], "what was found on disk is no fact of the data, and would stand in the model card"


def test_predictions_that_were_made_otherwise_are_refused_by_a_flag_of_training(ensemble, workdir, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(workdir / "predictions", copied / "predictions")
    for path in copied.rglob("*.json"):
        path.write_text(path.read_text().replace('"format": 3', '"format": 2'))
    with pytest.raises(BadInput, match=r"format was 2 and is now 3; choose another --workdir$"):
        corrections.prepare(settings(ensemble), copied, range(4))


def test_who_has_seen_the_image_has_seen_the_volume_whatever_its_labels_are_called(ensemble, tmp_path, monkeypatch):
    asked = []

    def heard(names, seen):
        asked.append(set(names))
        raise BadInput("heard")

    for name in ("image", "labels"):
        write_tiff(tmp_path / f"{name}.tif", np.indices((2, 32, 32)).sum(0).astype(np.uint8) % 2, SIZE)
    given = copy.deepcopy(settings(ensemble))
    given["data"]["phantom"] = {"train": (), "validation": (), "shape": (4, 48, 48)}
    given["data"]["label_map"] = ("identity",)
    files = {"images": "image.tif", "labels": "labels.tif"}
    given["data"]["train"] |= {role: (str(tmp_path / name),) for role, name in files.items()}
    learned = {"images": (str(tmp_path / "image.tif"),), "labels": (str(tmp_path / "clicks.csv"),)}
    model = methods.load_model(ensemble, "segmenter")
    known = model.settings | {"data": model.settings["data"] | {"train": model.settings["data"]["train"] | learned}}
    monkeypatch.setattr(methods.SEGMENTERS["ensemble"], "out_of_fold", heard)
    monkeypatch.setattr(corrections.experiment, "load_ensemble", lambda *_: model._replace(settings=known))
    with pytest.raises(BadInput, match="heard"):
        corrections.volumes(given, tmp_path, "train", print)
    assert {str(tmp_path / name) for name in ("image.tif", "labels.tif", "clicks.csv")} <= asked[0]


def test_what_it_calls_ambiguous_is_not_learned_as_its_second_choice():
    shown = np.zeros((5, 1, 2, 2), np.uint8)
    shown[2], shown[4, 0, 0, 0] = 200, 255
    scheme = {"names": "abcde", "ambiguous": 4}
    given = {"classes": scheme, "train_threshold": 0.5, "ambiguous_threshold": 0.5}
    found = corrections.sure_labels(shown, np.zeros((1, 2, 2)), given)
    np.testing.assert_array_equal(found, [[[-1, 2], [2, 2]]])


def test_without_annotations_the_ensembles_sure_labels_are_the_truth_of_copies(ensemble, tmp_path):
    for seed in (11, 12):
        write_tiff(tmp_path / f"{seed}.tif", phantom(seed, (4, 48, 48), SIZE).image, SIZE)
    given = copy.deepcopy(settings(ensemble, "--config.train_threshold=0.9"))
    given["data"]["phantom"] = {"train": (), "validation": (), "shape": (4, 48, 48)}
    for split, seed in (("train", 11), ("validation", 12)):
        given["data"][split]["images"] = (str(tmp_path / f"{seed}.tif"),)
    plain, (one,) = corrections.volumes(given, tmp_path, "train", print)
    assert not plain
    shown, entropy = (
        refining.open_result(tmp_path / "predictions" / "train", "11", role).read(whole((4, 48, 48)))
        for role in ("initial", "entropy")
    )
    sure = entropy / 255 < 0.9
    assert 0 < sure.mean() < 1 or sure.all()
    np.testing.assert_array_equal(one.target.labels[~sure], -1)
    known = one.target.labels >= 0
    assert known.any() and not (known & ~sure).any(), "and of these not what is called ambiguous"
    assert (one.target.labels == shown)[known].mean() > 0.98, "but for what is nearly equal"
    given["degraded"]["copies"] = 0
    with pytest.raises(BadInput, match=r"nothing to learn from in train: without labels degraded.copies"):
        corrections.volumes(given, tmp_path, "train", print)


def test_the_gain_that_wins_most_without_breaking_much_or_hiding_much():
    rows = {0.0: (0.3, 9000, 900), 0.1: (0.09, 8000, 2000), 0.2: (0.05, 6200, 900), 0.3: (0.02, 5500, 400)}
    rows |= {0.4: (0.01, 2000, 0), 0.5: (0.001, 400, 0), 1.0: (0.0, 0, 0)}

    def chosen(*limits):
        return corrections.chosen_gain(rows, corrections.good_gains(rows, *limits))

    assert chosen(0.5, 6.0) == 0.0 and chosen(0.1, 6.0) == 0.2
    assert chosen(0.1, 0.0) == 0.1 and chosen(0.1, 7.0) == 0.3
    assert chosen(0.015, 100.0) == 0.4
    assert chosen(0.005, 6.0) == 1.0, "so few repaired prove nothing"
    assert corrections.chosen_gain(rows, set()) == 1.0 == corrections.GAINS[-1], "nothing, where none is good"
    text = corrections.sentence({"threshold": 1.0}, {"repaired_per_broken": 6.0, "most_hidden": 0.1})
    assert text.startswith("warning: --hide_by error will hide nothing by this corrector: no gain was found at which")


def test_repaired_and_broken_are_counted_in_the_tokens_that_promise_enough():
    rng = np.random.default_rng(0)
    likely = rng.dirichlet((0.4, 0.4, 0.4), (2, 10, 12)).astype(np.float32)
    initial, truth = (rng.integers(0, 3, (2, 10, 12)).astype(np.int16) for _ in range(2))
    truth[0, 0] = -1
    found = corrections._counted(likely, initial, truth, 4)
    filled = likely.argmax(-1)
    assert (np.diff(found[0, :, 0]) <= 0).all() and found[0, 0, 0] > 200
    there = np.take_along_axis(likely, initial[..., None].astype(int), -1)[..., 0]
    gain = sum_in_tokens(np.rint(255 * (likely.max(-1) - there)).astype(int), 4)
    voxels = sum_in_tokens(np.ones(initial.shape, bool), 4)
    i = corrections.GAINS.index(0.3)
    hidden = (gain / voxels / 255 > 0.3).repeat(4, 1).repeat(4, 2)[:, :10]
    known = truth >= 0
    expected = [hidden.sum(), (hidden & known & (initial != truth) & (filled == truth)).sum(),
                (hidden & known & (initial == truth) & (filled != truth)).sum()]  # fmt: skip
    np.testing.assert_allclose(found[0, i], expected, atol=16)
    assert (found[1:, :, 0] == found[0, :, 0]).all(), "caution hides no other tokens"
    assert (np.diff(found[..., 1:], axis=0) <= 0).all() and (found[-1, 0, 1:] < found[0, 0, 1:]).all()


def test_only_a_corrector_says_what_is_wrong(smoke):
    refiner = methods.load_model(smoke, "refiner")
    with pytest.raises(BadInput, match="holds a model of method 'mae', which does not say how likely a label is wrong"):
        methods.hidden_by(refiner, "error")
    with pytest.raises(BadInput, match="--hide_by error says what a refiner fills in, but --refiner is none"):
        methods.hidden_by(None, "error")
