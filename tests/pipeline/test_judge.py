"""Tokens that are hidden by the error that a corrector expects; class probabilities that are kept between passes."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from fakes import (
    GAIN,
    NAMES,
    SCHEME,
    SHAPE,
    TOKEN,
    corrector,
    image_job,
    label_job,
    refiner,
    result,
    said_along_z,
    segmenter,
    settings,
)

from maeref_jax.errors import BadInput
from maeref_jax.masking.exact import sum_in_tokens
from maeref_jax.masking.slices import agreed
from maeref_jax.pipeline import jobs, methods, passes, refining
from maeref_jax.results import marks, repairing, verifying
from maeref_jax.results.maps import probabilities
from maeref_jax.results.place import Output
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import blocks

ROLES = ("initial", "entropy", "error", "hidden", "refined", "confidence", *probabilities(len(NAMES)))


def refined(directory, model=None, **changes):
    return refining.refine_volume(
        image_job(directory), segmenter(), model or corrector(judged=True), settings(**changes)
    )


def kept(directory):
    return np.stack([result(directory, role) for role in probabilities(len(NAMES))], -1).astype(np.float32) / 255


def test_what_is_kept_is_what_the_segmentation_was_decided_by(tmp_path):
    refined(tmp_path)
    found = kept(tmp_path)
    np.testing.assert_allclose(found.sum(-1), 1, atol=0.02)
    decided = found[..., :4].argmax(-1) == result(tmp_path, "initial")
    assert decided.mean() > 0.98, "but for what is nearly equal"


def test_tokens_are_hidden_that_promise_more_than_the_gain(tmp_path):
    summary = refined(tmp_path)
    seen = kept(tmp_path)
    around = np.stack([seen[np.clip(np.arange(SHAPE[0]) + step, 0, SHAPE[0] - 1)] for step in (-1, 0, 1)], 1)
    likely = np.asarray(said_along_z({}, {}, {"stored_probabilities": jnp.asarray(around)}, None))
    initial = result(tmp_path, "initial").astype(int)
    right = np.take_along_axis(likely, initial[..., None], -1)[..., 0]
    np.testing.assert_allclose(result(tmp_path, "error") / 255, 1 - right, atol=1 / 255)
    gain = sum_in_tokens(np.rint(255 * (likely.max(-1) - right)).astype(int), TOKEN)
    voxels = sum_in_tokens(np.ones(SHAPE, bool), TOKEN)
    hidden = sum_in_tokens(result(tmp_path, "hidden") > 0, TOKEN)
    assert set(np.unique(hidden / voxels)) == {0, 1}, "tokens as a whole"
    far = np.abs(gain / voxels / 255 - GAIN) > 1.5 / 255
    np.testing.assert_array_equal(((hidden > 0) == (gain / voxels / 255 > GAIN))[far], True)
    assert 0.01 < summary["hidden_share"] < 0.9
    assert summary["hidden_tokens"] == {"error": int((hidden > 0).sum())}
    assert summary["workdirs"]["hidden_by"] == "runs/corrector" and "judge" in summary["seconds"]
    changed = result(tmp_path, "refined") != result(tmp_path, "initial")
    assert changed.any() and not (changed & (result(tmp_path, "hidden") == 0)).any()
    np.testing.assert_array_equal(result(tmp_path, "refined")[changed], likely.argmax(-1)[changed])


def test_visible_slices_agree_as_surely_as_they_were_segmented(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    refined(alone, agree_within_nm=0.0)
    refined(together, agree_within_nm=30.0)  # one slice on either side
    seen, initial, hidden = kept(together), result(together, "initial"), result(together, "hidden") > 0
    around = np.stack([seen[np.clip(np.arange(SHAPE[0]) + step, 0, SHAPE[0] - 1)] for step in (-1, 0, 1)], 1)
    likely = np.asarray(said_along_z({}, {}, {"stored_probabilities": jnp.asarray(around)}, None))
    said = seen[..., :4] / seen[..., :4].sum(-1, keepdims=True)
    expected = agreed(likely, initial.astype(int), hidden, 1, said)
    sure = hidden & (np.sort(expected, -1)[..., -1] - np.sort(expected, -1)[..., -2] > 0.01)
    np.testing.assert_array_equal(result(together, "refined")[sure], expected.argmax(-1)[sure])
    certain = agreed(likely, initial.astype(int), hidden, 1, np.eye(4)[initial]).argmax(-1)
    assert (certain != expected.argmax(-1))[sure].any(), "it matters"
    assert (result(together, "refined") != result(alone, "refined")).any()


def test_the_result_does_not_depend_on_blocks(tmp_path):
    for i, block in enumerate([(2, 16, 16), (3, 64, 64), (1, 8, 24)]):
        refined(tmp_path / str(i), block=block)
        for role in ROLES:
            np.testing.assert_array_equal(result(tmp_path / str(i), role), result(tmp_path / "0", role), role)


def test_another_refiner_fills_in_what_a_corrector_hides(tmp_path):
    refined(tmp_path / "own")
    refined(tmp_path / "other", refiner()._replace(judge=corrector()))
    for role in ("hidden", "error", "initial"):
        np.testing.assert_array_equal(result(tmp_path / "other", role), result(tmp_path / "own", role), role)
    assert (result(tmp_path / "other", "refined") != result(tmp_path / "own", "refined")).any()


def test_the_gain_can_be_given_and_nothing_promises_all(tmp_path):
    everything = refined(tmp_path / "all", gain=0.0)
    assert everything["hidden_share"] > refined(tmp_path / "some")["hidden_share"]
    assert everything["made_by"]["settings"]["gain"] == 0, "which the report reads"
    summary = refined(tmp_path / "none", gain=1.0)
    assert (summary["hidden_share"], summary["changed_voxels"]) == (0, 0)
    assert summary["warnings"][0].startswith("runs/corrector hides nothing at a gain of 1: see its gain.json")
    with pytest.raises(BadInput, match=r"settings.gain was 1.0 and is now 0.5"):
        refined(tmp_path / "none", gain=0.5)


def test_a_corrector_fills_in_what_entropy_hides_too(tmp_path):
    summary = refined(tmp_path, corrector())
    assert "error" not in summary["hidden_tokens"] and not (tmp_path / "a.ome.zarr" / "error").exists()
    assert (result(tmp_path, "hidden") > 0).any() and summary["changed_voxels"] > 0


def test_interrupted_in_any_pass_it_ends_the_same(tmp_path, monkeypatch):
    refined(tmp_path / "whole")
    count, done = len(blocks(SHAPE, (2, 16, 16))), passes._done
    for stop_after in (2, count + 3, 2 * count + 1):
        left = [stop_after]

        def interrupted(*given, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            done(*given)

        monkeypatch.setattr(passes, "_done", interrupted)
        with pytest.raises(KeyboardInterrupt):
            refined(tmp_path / "cut")
        monkeypatch.setattr(passes, "_done", done)
        refined(tmp_path / "cut")
        for role in ROLES:
            np.testing.assert_array_equal(result(tmp_path / "cut", role), result(tmp_path / "whole", role), role)
        shutil.rmtree(tmp_path / "cut")


@pytest.mark.parametrize("role", ["probability_2", "hidden", "error"])
def test_damage_is_found_and_what_depends_on_it_is_made_again(tmp_path, role):
    refined(tmp_path)
    place, before = Output(tmp_path, "a"), {role: result(tmp_path, role) for role in ROLES}
    assert verifying.verify(place).state == verifying.WHOLE
    array = refining.open_result(tmp_path, "a", role).source
    chunk = next(path for path in sorted((array / "0" / "c").rglob("*")) if path.is_file())
    chunk.write_bytes(b"nothing")
    found = verifying.verify(place)
    assert found.state == verifying.DAMAGED
    repairing.repair(found)
    left = {step: len(marks.finished(place, step)) for step in ("segment", "judge", "refine")}
    refined(tmp_path)
    assert verifying.verify(place).state == verifying.WHOLE
    for name, array in before.items():
        np.testing.assert_array_equal(result(tmp_path, name), array, name)
    count = len(blocks(SHAPE, (2, 16, 16)))
    assert (left["segment"] < count) == (role == "probability_2") and left["judge"] < count > left["refine"]


def test_probabilities_made_elsewhere_do_as_well(tmp_path):
    likely = np.random.default_rng(0).dirichlet((0.3,) * 4, SHAPE).astype(np.float32)
    given = array_volume(np.ascontiguousarray(np.moveaxis(likely, -1, 0)), "likely", (30.0, 5.0, 4.0))
    job = image_job(tmp_path, image=None, probabilities=(given,))
    refining.refine_volume(job, None, corrector(judged=True), settings())
    np.testing.assert_allclose(kept(tmp_path)[..., :4], likely, atol=1 / 255)
    assert not result(tmp_path, "probability_4").any(), "of the class that nobody spoke of"


def test_outside_of_a_mask_all_is_background_for_certain_and_nothing_is_hidden(tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, 8:24, 8:20] = 1
    job = image_job(tmp_path, within=array_volume(mask, "mask", (30.0, 5.0, 4.0)))
    refining.refine_volume(job, segmenter(), corrector(judged=True), settings())
    outside = mask == 0
    assert (kept(tmp_path)[..., 0][outside] == 1).all() and not result(tmp_path, "error")[outside].any()
    assert not result(tmp_path, "hidden")[outside].any() and result(tmp_path, "hidden")[~outside].any()


def test_probabilities_are_kept_for_a_user_who_asks(tmp_path):
    refining.refine_volume(image_job(tmp_path), segmenter(), None, settings(keep_probabilities=True))
    np.testing.assert_allclose(kept(tmp_path).sum(-1), 1, atol=0.02)


def test_slices_agree_in_what_entropy_hides_as_training_chose_and_not_in_what_it_hides_itself():
    model = corrector()._replace(verdict={"agree_within_nm": 80.0})
    one, other = (model._replace(judge=judge) for judge in (model._replace(workdir="a copy"), corrector()))
    other = other._replace(judge=other.judge._replace(settings=model.settings | {"seed": 7}))
    lengths = [jobs.settled(jobs.Settings(agree_within_nm=None), it).agree_within_nm for it in (model, one, other)]
    assert lengths == [80, 0, 80]


def test_labels_under_hidden_tokens_reach_nobody_who_must_not_see_them(tmp_path):
    def spying(params, state, inputs, key):
        assert set(inputs) == {"labels", "entropy", "hidden", "stored_probabilities"}
        return said_along_z(params, state, inputs, key)

    model = corrector(judged=True)
    refined(tmp_path, model._replace(apply=model.apply._replace(refine=spying)))


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(BadInput, match="runs/corrector works on class probabilities, and labels have none; give"):
        refining.refine_volume(label_job(tmp_path), None, corrector(judged=True), settings())
    judged = refiner()._replace(judge=corrector())
    with pytest.raises(BadInput, match="runs/corrector works on class probabilities, and labels have none"):
        refining.refine_volume(label_job(tmp_path), None, judged, settings())
    with pytest.raises(BadInput, match=r"gain is 0.5, but tokens are hidden by entropy; add --hide_by"):
        refined(tmp_path, refiner(), gain=0.5)
    with pytest.raises(BadInput, match="gain is 2, expected 0 to 1"):
        refined(tmp_path, gain=2.0)
    with pytest.raises(BadInput, match="keep_probabilities keeps those of an ensemble"):
        refining.refine_volume(label_job(tmp_path), None, refiner(), settings(keep_probabilities=True))
    other = corrector()
    scheme = other.settings["classes"] | {"names": ["a", "b", "c", "d", "e"]}
    odd = other._replace(settings=other.settings | {"classes": scheme}, workdir="runs/odd")
    with pytest.raises(BadInput, match="trained for different classes"):
        refined(tmp_path, refiner()._replace(judge=odd))
    assert not list(tmp_path.iterdir())


def test_who_fills_in_everything_is_told_by_nobody_what_is_hidden():
    everywhere = refiner()._replace(apply=refiner().apply._replace(everywhere=True))
    with pytest.raises(BadInput, match="fills in everything, whatever is hidden; leave --hide_by out"):
        methods.judged_by(everywhere, corrector())


def test_names_are_the_same_whether_read_from_json_or_typed(tmp_path):
    typed = refiner(scheme=SCHEME | {"names": tuple(NAMES)})._replace(workdir="nearest")
    refined(tmp_path, methods.judged_by(typed, corrector()))
    assert result(tmp_path, "hidden").any()


def test_labels_that_it_sees_are_not_asked_back():
    with pytest.raises(BadInput, match="sees what hidden tokens hold; leave it out"):
        refined("nowhere", trust=True, foreignness=True)
