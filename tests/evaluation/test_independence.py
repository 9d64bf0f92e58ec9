"""evaluation/independence.py: no volume counts twice, and slabs of one volume are told from volumes."""

import json

import numpy as np
import pytest
from closed_form import SETTINGS, evaluate

from maeref_jax.errors import BadInput
from maeref_jax.evaluation import endpoint, independence
from maeref_jax.metrics.scores import Scores
from maeref_jax.pipeline import methods

NONE = {"phantom": {"seeds": ()}, "fading": {"seeds": ()}}


def files(*truths, **others):
    return {**NONE, "files": {"truths": truths, "images": (), "shifts": (), **others}}


@pytest.mark.parametrize(
    ("truths", "others", "message"),
    [
        (("t.tif",) * 6, {}, "files.truths: t.tif and t.tif share slices, but every volume counts as an independent"),
        (("t.tif[0:4]", "./t.tif[3:8]"), {}, r"t.tif\[0:4\] and ./t.tif\[3:8\] share slices.* like \[0:40\] and"),
        (("t.tif", "t.tif[3:8]"), {}, "share slices"),
        (("a.tif", "b.tif"), {"images": ("i.tif", "i.tif")}, "files.images: i.tif and i.tif share slices"),
        (("t.tif",) * 3, {"shifts": ("", "blur", "blur")}, "share slices"),
    ],
)
def test_files_that_share_slices_are_refused(truths, others, message):
    with pytest.raises(BadInput, match=message):
        independence.check(files(*truths, **others))


def test_slabs_and_one_volume_as_it_is_and_shifted_are_allowed():
    independence.check(files("t.tif[0:4]", "t.tif[4:8]", images=("i.tif[0:4]", "i.tif[4:8]")))
    independence.check(files("t.tif", "t.tif", images=("i.tif", "blurred.tif"), shifts=("", "blur")))


def test_seeds_that_are_given_twice_are_refused_before_anything_is_written(root, tmp_path, models):
    for setting, seeds in (("phantom", "100,101,100"), ("fading", "200,200")):
        with pytest.raises(BadInput, match=f"{setting}.seeds has [12]00 several times.* give each seed once"):
            evaluate(root, tmp_path / "out", f"--config.{setting}.seeds={seeds}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("truths", "said"),
    [
        (("a.tif", "b.tif"), ""),
        (
            ("t.tif[0:4]", "t.tif[4:8]", "./t.tif[8:]"),
            "The 3 are slabs of one volume: intervals and p are about places",
        ),
        (
            ("t.tif[0:4]", "t.tif[4:8]", "b.tif"),
            "The 3 are slabs of 2 volumes: intervals and p are about places in them",
        ),
        (tuple(f"box_{z}_{z + 64}_truth.tif" for z in (0, 64, 128)), "The 3 are slabs of one volume"),
        (("box_0_64_truth.tif", "other_64_128_truth.tif"), ""),
        (("cell_1_2_truth.tif", "cell_1_3_truth.tif"), ""),
        (("day_3_1.tif", "day_2_1.tif"), ""),
    ],
)
def test_slabs_of_one_volume_are_told_by_their_paths(truths, said):
    found = independence.in_words(files(*truths))
    assert found.startswith(said) and bool(found) == bool(said)


def test_the_sentence_of_the_primary_endpoint_and_the_table_name_the_unit():
    right, wrong = (np.array([[5, 0, 0, 0], [0, 5, 0, 0], [0, 0, n, 9 - n], [0, 0, 0, 5]]) for n in (9, 2))
    maps = {"initial": wrong, "nearest": wrong, "refined": right}
    repairs = {"wrong_to_right": 7, "right_to_wrong": 0}
    one = Scores({"hidden": maps, "all": maps}, {"refined": repairs}, {}, {"refined": 0})
    unit = independence.in_words(files("t.tif[0:4]", "t.tif[4:8]"))
    primary = endpoint.endpoint([one, one], (2, 3))
    assert endpoint.verdict(one, primary, unit)[0].endswith(f"The refiner is better than it. {unit}")
    assert endpoint.comparison([one, one], (2, 3), unit=unit).note.endswith(unit)


@pytest.mark.parametrize(("task", "page"), [("places", "places.html"), ("uncertainty", "uncertainty.html")])
def test_shifted_phantoms_do_not_count_again_where_all_volumes_are_taken_together(
    root, tmp_path, models, monkeypatch, capsys, task, page
):
    model = methods.load_model("", "segmenter")._replace(settings=SETTINGS | {"members": 3})
    monkeypatch.setattr(methods, "load_model", lambda *_: model)
    small = ("refiner=none", "phantom.shape=4,64,64", "fading.mitochondria=1", "fading.seeds=200")
    given = [f"--config.{setting}" for setting in (f"task={task}", *small)]
    evaluate(root, tmp_path / "one", *given)
    evaluate(root, tmp_path / "three", *given, "--config.phantom.shifts=blur,stripes")
    said = "Volumes with a shift (blur, stripes) are left out."
    pages = [(tmp_path / name / page).read_text(encoding="utf-8") for name in ("one", "three")]
    assert [said in text for text in pages] == [False, True] and "held-out volumes" in pages[1].lower()
    log = (tmp_path / "three" / "openings.log").read_text()
    assert "phantom_100" in log and "blur" not in log, "nobody looked at these"
    if task == "places":
        one, three = (json.loads((tmp_path / name / "places.json").read_text()) for name in ("one", "three"))
        assert one == three
        assert "all volumes (1) together" in " ".join(capsys.readouterr().out.split())
