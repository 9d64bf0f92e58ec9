"""What refine.py tells of its results: report.html of all inputs, and scores against an independent stain."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fakes import image
from stacks import IMAGE, LABELS, SIZE, damage_last_page, mistakes, result, sidecar

from maeref_jax.audit import stain
from maeref_jax.metrics import witness
from maeref_jax.volumes.volume import labels_from_disk, write_tiff


def test_the_report_is_of_all_inputs_the_same_when_run_again_and_can_be_left_out(refine):
    command = ["--input", "stacks/[ab].tif", *IMAGE[2:]]
    code, out, err = refine(*command)
    assert (code, mistakes(err)) == (0, "") and "pictures and tables: out/report.html" in out
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "2 volumes" in page and page.count("<figure class=slider>") == 2 and "How to cite" in page
    assert refine(*command)[0] == 0 and Path("out/report.html").read_text(encoding="utf-8") == page
    damage_last_page("stacks/b.tif")
    code, _, err = refine("--input", "stacks/[ab].tif", *IMAGE[2:6], "--output", "other", "--axes", "ZYX")
    assert code == 1 and "failed: stacks/b.tif: page 2" in Path("other/report.html").read_text(encoding="utf-8")
    code, out, _ = refine(*IMAGE[:6], "--output", "none", "--config.report=false")
    assert code == 0 and not Path("none/report.html").exists() and "report.html" not in out


def test_results_from_before_slices_agreed_are_reported_as_they_are(refine):
    command = [*IMAGE, "--config.agree_within_nm=0"]
    assert refine(*command)[0] == 0
    earlier = sidecar()
    del earlier["agreeing_slices"], earlier["made_by"]["settings"]["agree_within_nm"]
    Path("out/a.json").write_text(json.dumps(earlier))
    Path("out/report.html").unlink()
    code, out, err = refine(*command)
    assert (code, mistakes(err)) == (0, "") and "complete already" in out
    assert "in agreement with" not in Path("out/report.html").read_text(encoding="utf-8")


def test_results_from_before_a_setting_existed_count_as_made_with_it_off(refine):
    assert refine(*IMAGE)[0] == 0
    path, older = Path("out/a.json"), sidecar()
    del older["made_by"]["settings"]["foreignness"]
    path.write_text(json.dumps(older))
    for more, alike in ((("stacks/b.tif",), True), (("stacks/c.tif", "--config.foreignness=true"), False)):
        assert refine("--input", *more, *IMAGE[2:])[0] == 0
        assert ("Made with other models or settings" in Path("out/report.html").read_text("utf-8")) != alike


def test_the_last_part_makes_the_report(refine):
    command = [*IMAGE, "--num_parts", "2", "--config.block=1,16,16", "--config.wait_minutes=0", "--part_id"]
    for part, there in (("0", False), ("1", False), ("0", True)):
        refine(*command, part)
        assert Path("out/report.html").exists() == there, part


def channels():
    """Image and a stain that is bright on the outlines of the refined labels of "a": two channels, and a file of it."""
    bright = witness.near_outline(labels_from_disk(result("out", "a")), (1, 2, 3, 4), 3) * 200 + 10
    both = np.stack([image(), bright]).astype(np.float32)
    tifffile.imwrite("both.tif", both.swapaxes(0, 1), imagej=True, metadata={"axes": "ZCYX"})
    write_tiff("a_tom20.tif", bright.astype(np.uint8), SIZE)


def test_a_witness_is_a_file_or_a_channel_and_may_come_later(refine):
    assert refine(*IMAGE)[0] == 0
    before = sidecar()
    channels()
    code, out, err = refine(*IMAGE, "--witness", "./{stem}_tom20.tif")
    assert (code, mistakes(err)) == (0, "") and "complete already" in out and "near hidden tokens: AUROC" in out
    found = sidecar()["witness"]
    assert sidecar() == before | {"witness": found}
    assert found["everywhere"]["refined"]["auroc"] == 1.0 > found["everywhere"]["initial"]["auroc"]
    assert found["classes"] == [1, 2, 3, 4] and found["distance_vx"] == 3.0
    assert "Agreement with an independent stain" in Path("out/report.html").read_text(encoding="utf-8")
    code, _, err = refine(
        "--input", "both.tif", "--voxel_size_nm", "30,5,4", "--channel", "0", "--witness", "1", *IMAGE[2:]
    )
    assert (code, mistakes(err)) == (0, "")
    again = sidecar("both")["witness"]
    assert again["near_hidden"]["refined"]["near_voxels"] == found["near_hidden"]["refined"]["near_voxels"]
    assert again["everywhere"]["refined"]["contrast"] == found["everywhere"]["refined"]["contrast"]
    assert refine(*IMAGE, "--witness", "./{stem}_tom20.tif", "--config.witness_distance_vx=1")[0] == 0
    assert sidecar()["witness"]["everywhere"]["refined"]["contrast"] < found["everywhere"]["refined"]["contrast"]


def test_a_witness_is_counted_once(refine, monkeypatch):
    assert refine(*IMAGE)[0] == 0
    channels()
    calls, real = [], stain.score
    monkeypatch.setattr(stain, "score", lambda *arguments: (calls.append(1), real(*arguments))[1])
    for _ in range(2):
        assert refine(*IMAGE, "--witness", "./{stem}_tom20.tif")[0] == 0
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nothing.tif", "no such file"),
        ("./{stem}_other.tif", "expected that of the input"),
        ("1", "has no channel axis"),
        ("tom20", "has no channel axis"),
    ],
)
def test_a_witness_that_cannot_be_used_is_one_line_before_any_work(refine, given, message):
    write_tiff("a_other.tif", image()[:2], SIZE)
    code, _, err = refine(*IMAGE, "--witness", given)
    assert code == 2 and message in err and err.count("\n") == 1 and not Path("out").exists()


def test_a_channel_is_one_of_an_image(refine):
    code, _, err = refine(*LABELS, "--entropy", "stacks/a_entropy.tif", "--witness", "1")
    assert code == 2 and "it is a channel of the image; give --input, or a path" in err
