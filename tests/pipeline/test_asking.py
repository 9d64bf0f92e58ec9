"""asking.py and doubts.py: a refiner that does harm is found out before it is let loose, a good one is not blamed."""

import json

import numpy as np
import pytest
from fakes import SCHEME, SHAPE, image_job, label_job, labels, refiner, result, right_in_rows, rows, segmenter, settings

from maeref_jax.errors import BadInput
from maeref_jax.pipeline import asking, blockwise, doubts, refining
from maeref_jax.volumes.volume import array_volume

GOOD, BAD = refiner(fill=right_in_rows), refiner()


def job(directory, under_hidden=0):
    entropy = np.zeros(SHAPE, np.float32)
    entropy[:, 8:16, 12:24] = 1.0
    given = np.where(entropy > 0, (rows() + under_hidden) % 4, rows()).astype(np.uint8)
    return label_job(directory, labels=array_volume(given, "labels"), entropy=array_volume(entropy, "entropy"))


def run(directory, model, **changes):
    said = []
    summary = refining.refine_volume(job(directory), None, model, settings(ask=64, **changes), said.append)
    return summary, said


def test_a_good_refiner_is_not_blamed_and_a_harmful_one_is(tmp_path):
    good, said = run(tmp_path / "good", GOOD)
    assert good["asked"]["right"]["refiner"] > 0.9 > good["asked"]["right"]["nearest"] and not good["asked"]["worse"]
    assert not any("worse here" in text for text in good["warnings"])
    assert any(line.startswith("asked for ") for line in said) and good["notes"][-1].startswith("asked for ")
    bad, said = run(tmp_path / "bad", BAD)
    found = bad["asked"]
    assert found["right"]["refiner"] < 0.1 and found["worse"] and found["ahead"]["right"][2] < 0
    assert f"warning: {bad['warnings'][0]}" in said and "worse here than copying what lies nearest" in said[0] + said[1]
    counted = found["classes"].values()
    right = sum(one["refiner"] * one["voxels"] for one in counted) / sum(one["voxels"] for one in counted)
    assert right == pytest.approx(found["right"]["refiner"])


def test_with_strict_nothing_is_written_and_an_earlier_result_stays(tmp_path):
    with pytest.raises(BadInput, match=r"a: stopped by --strict, nothing was written: .* To go on, leave out --strict"):
        run(tmp_path / "out", BAD, strict=True)
    assert not (tmp_path / "out").exists()
    run(tmp_path / "out", GOOD)
    before = result(tmp_path / "out", "refined")
    with pytest.raises(BadInput, match="stopped by --strict"):
        run(tmp_path / "out", BAD, strict=True, overwrite=True)
    np.testing.assert_array_equal(result(tmp_path / "out", "refined"), before)
    assert run(tmp_path / "strict", GOOD, strict=True)[0]["warnings"] == []


def test_what_came_of_asking_is_kept_and_said_again_whatever_the_blocks(tmp_path, monkeypatch):
    first, said = run(tmp_path / "0", BAD)
    other, _ = run(tmp_path / "1", BAD, block=(1, 8, 12), batch=2)
    assert other["asked"] == first["asked"]
    refining.open_run(job(tmp_path / "2"), None, BAD, settings(ask=64), lambda line: None)  # and it was killed
    monkeypatch.setattr(asking, "ask", lambda run: pytest.fail("asked again"))
    again, told = run(tmp_path / "2", BAD)
    assert again["warnings"] == first["warnings"] and told == said
    whole, told = run(tmp_path / "2", BAD)
    assert whole == again and set(said) < set(told), "a complete one says the same once more"
    with pytest.raises(BadInput, match="it was refined without"):
        run(tmp_path / "2", BAD, strict=True)


def test_labels_under_hidden_tokens_do_not_matter(tmp_path):
    found = []
    for under_hidden in (0, 2):
        given = job(tmp_path / str(under_hidden), under_hidden)
        refining.refine_volume(given, None, GOOD, settings(ask=64), lambda line: None)
        found.append(json.loads((given.output / "a.json").read_text())["asked"])
    assert found[0] == found[1]


def test_an_image_is_segmented_where_the_refiner_is_asked(tmp_path):
    summary = refining.refine_volume(image_job(tmp_path), segmenter(), BAD, settings(ask=64), lambda line: None)
    assert summary["asked"]["places"] >= 5 and summary["asked"]["right"]["refiner"] < 0.5


def test_what_asking_segmented_of_a_volume_of_one_block_is_not_segmented_again(tmp_path, monkeypatch):
    calls, real = [], blockwise._segmented

    def counted(*given):
        calls.append(given)
        return real(*given)

    counted.lower = real.lower
    monkeypatch.setattr(blockwise, "_segmented", counted)
    found, used = {}, {}
    for name, ask, block in (("asked", 64, SHAPE), ("not", 0, SHAPE), ("blocks", 64, (1, 8, 12))):
        calls.clear()
        given = settings(ask=ask, block=block)
        refining.refine_volume(image_job(tmp_path / name), segmenter(), BAD, given, lambda line: None)
        used[name], found[name] = len(calls), result(tmp_path / name, "refined")
    assert used["asked"] == used["not"] < used["blocks"]
    for name in ("not", "blocks"):
        np.testing.assert_array_equal(found[name], found["asked"])


def test_who_sees_the_answer_is_not_asked_and_it_is_said(tmp_path):
    model = BAD._replace(apply=BAD.apply._replace(sees_hidden=True))
    summary, said = run(tmp_path, model)
    assert "asked" not in summary and any("sees what hidden tokens hold" in line for line in said)
    nothing = label_job(tmp_path / "0", entropy=array_volume(np.zeros(SHAPE, np.float32), "entropy"))
    summary = refining.refine_volume(nothing, None, BAD, settings(ask=64), lambda line: None)
    assert summary["warnings"] == ["entropy is 0 everywhere: it hides nothing"] and len(summary["notes"]) == 1
    assert "no place was found where hidden and visible tokens meet; the refiner was not tried" in summary["notes"][0]


def test_a_verdict_of_harm_is_repeated_for_every_volume(tmp_path):
    verdict = {"harm": True, "sentence": f"{doubts.HARM}: worse"}
    summary, said = run(tmp_path, GOOD._replace(verdict=verdict))
    assert summary["warnings"] == [f"runs/fill: {doubts.HARM}: worse"] and f"warning: {summary['warnings'][0]}" in said
    with pytest.raises(BadInput, match=doubts.HARM):
        run(tmp_path / "0", GOOD._replace(verdict=verdict), strict=True)
    assert run(tmp_path / "1", GOOD._replace(verdict=verdict | {"harm": False}))[0]["warnings"] == []


def test_that_nobody_knows_whether_it_helps_is_said_for_every_volume(tmp_path):
    asked = {"on": "visible labels", "harm": False, "sentence": "right are 90%"}
    summary, said = run(tmp_path, GOOD._replace(verdict=asked))
    (warning,) = summary["warnings"]
    assert warning.startswith(f"runs/fill: {doubts.UNPROVEN}: ") and f"warning: {warning}" in said
    with pytest.raises(BadInput, match=doubts.UNPROVEN):
        run(tmp_path / "0", GOOD._replace(verdict=asked), strict=True)
    harm = asked | {"harm": True, "sentence": f"{doubts.HARM}: worse"}
    assert run(tmp_path / "1", GOOD._replace(verdict=harm))[0]["warnings"] == [f"runs/fill: {doubts.HARM}: worse"]
    assert run(tmp_path / "2", GOOD._replace(verdict=asked | {"on": "truth"}))[0]["warnings"] == []


def told(**changes):
    counts = {"background": (9000, 9500), "cristae": (1000, 600)}
    known = {"stem": "a", "hidden_share": 0.1, "undecided_share": 0.1, "counts": counts} | changes
    classes = {n: {"voxels_initial": a, "voxels_refined": b} for n, (a, b) in known.pop("counts").items()}
    more = {name: known.pop(name) for name in ("left", "refined") if name in known}
    return doubts.after(known | {"classes_changed": classes}, SCHEME, **more)


RED = {"green": {"voxels": 40}, "amber": {"voxels": 5}, "red": {"voxels": 55}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_share": 0.26}, "26.0% of the voxels are hidden, more than a quarter"),
        ({"hidden_share": 0.26}, "what is measured there is the refiner's opinion"),
        ({"hidden_share": 0.26, "refined": False}, "what is measured there is hardly the image's word"),
        ({"undecided_share": 0.51}, "entropy is high nearly everywhere"),
        ({"counts": {"cristae": (1000, 499)}}, "cristae lost 50% of its voxels (1,000 before, 499 after)"),
        ({"counts": {"cristae": (1000, 1501)}}, "cristae gained 50% of its voxels"),
        ({"counts": {"cristae": (0, 600)}}, "cristae is new (0 before, 600 after)"),
        ({"repairs": RED}, "55% of the hidden voxels lie in repairs rated red"),
        ({"counts": {"cristae": (400, 0)}}, None),  # few voxels
        ({"counts": {"ambiguous": (1000, 0)}}, None),  # which is always filled in
        ({"repairs": RED, "left": ("red",)}, None),
        ({"counts": {"cristae": (1000, 500)}, "hidden_share": 0.25, "undecided_share": 0.5}, None),
    ],
)
def test_what_the_numbers_of_a_finished_volume_warn_of(changes, message):
    found = told(**changes)
    assert (message is None and not found) or (len(found) == 1 and message in found[0])


def test_with_strict_a_result_that_lost_a_class_is_not_finished_before_it_is_asked_for(tmp_path):
    given = settings(strict=True, trust=True)
    painted = np.ones(SHAPE, np.uint8)
    painted[0, :4, :4] = 0  # a mask of everything is doubted at once
    everything = {"hidden": array_volume(painted, "painted"), "entropy": None}
    own = array_volume(np.where(labels() == 1, 2, labels()).astype(np.uint8), "labels")
    with pytest.raises(BadInput, match=r"its blocks are done, but no result was written: .*a quarter"):
        refining.refine_volume(label_job(tmp_path, labels=own, **everything), None, BAD, given)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]
    summary = refining.refine_volume(label_job(tmp_path, labels=own, **everything), None, BAD, settings(trust=True))
    assert any("cristae lost" in text for text in summary["warnings"])
    assert json.loads((tmp_path / "a.json").read_text())["warnings"] == summary["warnings"]


@pytest.mark.parametrize(
    ("highest", "dtype", "classes", "told"),
    [
        (0.6931, np.float32, 2, "the logarithm of 2; if it is in nats, divide it by that"),
        (0.6931, np.float32, 3, ""),
        (0.72, np.float32, 2, ""),
        (100, np.uint8, 2, "per cent, divide them by 100"),
        (101, np.uint8, 2, ""),
        (1, np.uint8, 2, "is it a mask? give it as --hidden"),
        (0, np.float32, 2, "is 0 everywhere: it hides nothing"),
    ],
)
def test_entropy_that_is_probably_on_another_scale_is_doubted(highest, dtype, classes, told):
    entropy = np.zeros((2, 8, 8), dtype)
    entropy[1, 3, 3] = highest
    found = doubts.doubt_about_entropy(array_volume(entropy, "entropy"), classes)
    assert (told in found and "entropy" in found) if told else found == ""
