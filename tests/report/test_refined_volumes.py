"""The page of refine.py: what is in it, in bounded memory, with the same bytes every time."""

import json

import numpy as np
import pytest
from fakes import NAMES, SCHEME, SHAPE, image, image_job, label_job, labels, refiner, segmenter, settings
from test_page import everything

from maeref_jax.audit.trust import RATINGS
from maeref_jax.pipeline import refining
from maeref_jax.report import most_changed, refined_volumes
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.volume import array_volume

MODELS = {"members": 2, "parameters": 1234}
VERSIONS = {"maeref_jax": "0.1.0"}


def written(directory, images, failed=(), scheme=SCHEME, models=MODELS):
    path = refined_volumes.write_page(directory, images, dict(failed), scheme, models, VERSIONS)
    return None if path is None else path.read_text(encoding="utf-8")


@pytest.fixture
def refined(tmp_path):
    """Two refined volumes, "a" and "b"."""
    for stem in "ab":
        job = image_job(tmp_path, stem)
        refining.refine_volume(job, segmenter(), refiner(), settings(trust=True, tiff_export=False))
    return tmp_path


def images(stems="ab"):
    return {stem: array_volume(image(), "image") for stem in stems}


def test_all_volumes_are_in_it_and_it_is_the_same_every_time(refined):
    page = written(refined, images())
    summaries = [json.loads((refined / f"{stem}.json").read_text()) for stem in "ab"]
    assert page == written(refined, images())
    for found in summaries:
        found["seconds"] = dict.fromkeys(found["seconds"], 1e6)
        (refined / f"{found['stem']}.json").write_text(json.dumps(found))
    assert page == written(refined, images()), "timings are in it"
    share = sum(found["hidden_share"] for found in summaries) / 2
    assert f"2 volumes, {2 * np.prod(SHAPE):,} voxels: {share:.2%} hidden" in page
    counts = "".join(f"<td>{tokens:,}</td>" for tokens in summaries[0]["hidden_tokens"].values())
    assert f"<td>{summaries[0]['hidden_share']:.2%}</td>{counts}" in page, "the tokens that each rule hides"
    assert "<th scope=row>a</th>" in page and "<th scope=row>b</th>" in page
    assert page.count("<figure class=slider>") == 2, "three slices: one picture of each, as they are near each other"
    red, hidden = summaries[0]["repairs"]["red"], sum(one["voxels"] for one in summaries[0]["repairs"].values())
    assert f"<td>{red['voxels'] / hidden:.1%} ({red['blobs']})</td>" in page, "by voxels, not by count"
    assert "τ = 0.4" in page and "with 2 members" in page and "1,234 parameters" in page
    assert "30 × 5 × 4 nm" in page and "ambiguous</span>" not in page
    changed = summaries[0]["classes_changed"]["matrix"]
    assert f"{2 * changed['voxels_initial']:,}" in page


def test_what_failed_and_what_waits_is_told(refined):
    page = written(refined, images("abc"), {"c": "stacks/c.tif is empty or truncated <here>", "line 4": "no such file"})
    assert "<td class=long>failed: stacks/c.tif is empty or truncated &lt;here&gt;</td>" in page
    assert "failed: no such file" in page and "Not complete, see the table: c, line 4." in page
    page = written(refined, images("abc"))
    assert "waiting for other parts" in page


def test_volumes_of_earlier_calls_are_in_it_if_they_were_made_alike(refined):
    page = written(refined, images("b"))
    assert "<th scope=row>a</th>" in page and page.count("<figure class=slider>") == 1
    assert "1 of the volumes are in the tables only" in page
    refining.refine_volume(image_job(refined, "c"), segmenter(), refiner(), settings(threshold=0.9, tiff_export=False))
    page = written(refined, images("b"))
    assert "<th scope=row>c</th>" not in page and "other models or settings, and not counted here: c." in page
    page = written(refined, images("c"))
    assert "not counted here: a, b." in page and "τ = 0.9" in page


def test_nothing_complete_makes_no_page_and_another_programs_page_stays(tmp_path, refined, capsys):
    (tmp_path / "empty").mkdir()
    assert written(tmp_path / "empty", images(), {"a": "failed"}) is None
    assert not list((tmp_path / "empty").iterdir())
    (refined / "report.html").write_text(everything().replace("refine.py", "evaluate.py"), encoding="utf-8")
    assert written(refined, images()) is None
    assert "not made by refine.py and is left as it is" in capsys.readouterr().err


def test_a_page_is_made_again_where_another_process_finished_a_volume_meanwhile(refined, monkeypatch):
    sidecar, real, made = (refined / "b.json").read_text(), refined_volumes.refinement_page, []
    (refined / "b.json").unlink()

    def slow(*arguments):
        made.append(real(*arguments))
        (refined / "b.json").write_text(sidecar)
        return made[-1]

    monkeypatch.setattr(refined_volumes, "refinement_page", slow)
    page = written(refined, images())
    assert len(made) == 2 and "waiting for other parts" in made[0] and "waiting" not in page


def test_only_what_is_shown_is_read(refined, monkeypatch):
    reads, real = [], Volume.read
    monkeypatch.setattr(Volume, "read", lambda volume, box: (reads.append((volume.path, box)), real(volume, box))[1])
    monkeypatch.setattr(most_changed, "WINDOW", 8)
    written(refined, images("a"))
    assert len(reads) > 5
    for path, box in reads:
        part = (2, 16, 16) if path.endswith("was") else (1, 8, 8)
        assert all(side <= most for side, most in zip(box.shape, part, strict=True)), (path, box)


def test_without_models_and_without_doubt(tmp_path):
    """A user's labels, nothing hidden, no refiner: no names, no colours, nothing to show, and still a page."""
    job = label_job(tmp_path, entropy=array_volume(np.zeros(SHAPE, np.float32), "entropy"))
    asked = settings(tiff_export=False, threshold=0.5, ambiguous_threshold=0.5, classes=tuple(NAMES))
    refining.refine_volume(job, None, None, asked)
    scheme = {"names": [], "colours": None, "ambiguous": -1}
    page = written(tmp_path, {"a": None}, scheme=scheme, models={"members": None, "parameters": None})
    assert "a: nothing was hidden" in page and "none was changed" in page and "Segmentation and its doubt" in page
    assert "What changed" not in page and "relabelled" not in page
    assert page.count('<i style="background:rgb') == 1 + labels().max() + 1, "a swatch for every label, and hidden"


def test_warnings_come_first_and_repairs_are_weighed_by_voxels(refined):
    path = refined / "a.json"
    found = json.loads(path.read_text())
    assert found["warnings"] and found["notes"] == []
    asked = {"voxels": 1234, "places": 9, "right": {"refiner": 0.5, "nearest": 0.75, "commonest class": 0.25}}
    asked |= {"ahead": {"right": [-0.25, -0.3, -0.2]}}
    repairs = {name: {"blobs": 9 if name == "green" else 1, "voxels": 92 if name == "red" else 4} for name in RATINGS}
    known = {"warnings": ["a: <watch out>"], "asked": asked, "repairs": repairs}
    path.write_text(json.dumps(found | known))
    other = json.loads((refined / "b.json").read_text())
    (refined / "b.json").write_text(json.dumps({k: v for k, v in other.items() if k not in ("warnings", "repairs")}))
    page = written(refined, images())
    assert page.index("<li>a: &lt;watch out&gt;</li>") < page.index("<p class=lead>") < page.index("<figure")
    assert "92% of the hidden voxels lie in red repairs" in page and "<td>92.0% (1)</td>" in page
    assert "<td>1,234</td><td>50.0%</td><td>75.0%</td><td>25.0%</td><td>-30.0% … -20.0%</td>" in page


def test_where_nothing_is_called_ambiguous_the_method_does_not_speak_of_it(tmp_path):
    for name, own in (("none", labels()), ("some", np.where(labels() == 3, 4, labels()))):
        job = label_job(tmp_path / name, labels=array_volume(own.astype(np.uint8), "labels"))
        refining.refine_volume(job, None, refiner(), settings(tiff_export=False))
        page = written(tmp_path / name, {"a": None})
        assert ("“ambiguous”" in page) == (name == "some") and "entropy that came with the segmentation" in page


def test_scores_against_a_stain_are_a_table(refined):
    path = refined / "a.json"
    one = {"contrast": 1.25, "auroc": None, "coverage": 0.5, "near_voxels": 1000, "elsewhere_voxels": 2000}
    scores = {"initial": one, "refined": one | {"auroc": 0.75}}
    known = {"distance_vx": 3.0, "reach_vx": 16.0, "everywhere": scores, "near_hidden": scores}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"witness": known}))
    page = written(refined, images())
    assert "Agreement with an independent stain" in page and "within 3 voxels" in page
    assert "near hidden tokens, refined</th><td>1.250</td><td>0.750</td><td>0.500</td><td>1,000</td>" in page
    assert "near hidden tokens, initial</th><td>1.250</td><td>-</td>" in page


def test_what_masks_left_out_is_told(tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :16, :16] = 1
    for stem in "ab":
        given = {"entropy": array_volume(np.ones(SHAPE, np.float32), "entropy")}
        given |= {"within": array_volume(mask, "tissue.npy")} if stem == "a" else {}
        job = label_job(tmp_path, **given)._replace(stem=stem)
        refining.refine_volume(job, None, refiner(), settings(tiff_export=False), lambda line: None)
    page = written(tmp_path, {"a": None, "b": None})
    voxels, inside = mask.size + mask.sum(), (mask.size + mask.sum()) / (2 * mask.size)
    assert f"2 volumes, {voxels:,} voxels: 100.00% hidden" in page
    assert f"These are the voxels inside of masks, {inside:.2%} of all" in page
    lost = int((labels()[mask == 0] > 0).sum())
    cells = ("tissue.npy", f"{mask.mean():.2%}", "10 of 12", "-", f"{lost:,}")
    assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    assert f"Only the inside of a mask, {inside:.2%} of the voxels, was processed" in page
    without = written(tmp_path, {"b": None}, models=MODELS)
    assert "What was worked on" in without, "volumes of earlier calls are in the tables"
