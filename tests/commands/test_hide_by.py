"""maeref refine --hide_by: a corrector says what is filled in, of itself or of another refiner."""

from pathlib import Path

import numpy as np
import pytest
from fakes import corrector, image, refiner, segmenter
from stacks import IMAGE, LABELS, SIZE, result, sidecar, use_models

import maeref_jax
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import methods
from maeref_jax.volumes.volume import labels_from_disk


@pytest.fixture
def correctors(stacks, monkeypatch):
    use_models(monkeypatch, refiner=corrector())


@pytest.fixture
def both(stacks, monkeypatch):
    """A refiner of "mae", and a corrector of "corrector"."""
    found = {"ensemble": segmenter(), "mae": refiner(), "corrector": corrector()}
    monkeypatch.setattr(methods, "load_model", lambda workdir, kind: found[workdir])


def test_the_refiner_itself_says_what_is_wrong_and_the_page_says_so(refine, correctors):
    code, out, err = refine(*IMAGE, "--hide_by", "error", "--config.report=true")
    assert code == 0, err
    assert "gain 0.02, of runs/corrector, which says what is wrong" in out
    assert sidecar("a")["workdirs"]["hidden_by"] == "runs/corrector" and result("out", "a", "error").max() > 0
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "Reliability was judged by the gain that a network expects which has learned from the segmentation" in page
    assert "were hidden where its mean exceeded 0.02" in page and "τ" not in page


def test_another_gain_is_another_result_and_the_plan_counts_the_pass(refine, correctors):
    code, out, _ = refine(*IMAGE, "--hide_by", "error", "--config.gain=0.2", "--dry_run")
    assert code == 0 and "judge" in out, out
    code, out, _ = refine(*IMAGE, "--hide_by", "error", "--config.gain=0.2")
    assert code == 0 and "gain 0.2, as given" in out
    code, _, err = refine(*IMAGE, "--hide_by", "error")
    assert code == 2 and "settings.gain was 0.2 and is now 0.02" in err


def test_another_refiner_fills_it_in_from_python_with_the_same_bits(refine, both):
    code, _, err = refine(*IMAGE, "--hide_by", "corrector")
    assert code == 0, err
    found = maeref_jax.refine(refiner(), image=image(0), segmenter=segmenter(), hide_by=corrector(), voxel_size_nm=SIZE)
    np.testing.assert_array_equal(found.labels, labels_from_disk(result("out", "a")))
    np.testing.assert_array_equal(found.hidden, result("out", "a", "hidden") != 0)
    with pytest.raises(BadInput, match="expected a refiner, as load_model gives it, found 'error'"):
        maeref_jax.refine(refiner(), image=image(0), segmenter=segmenter(), hide_by="error")
    with pytest.raises(BadInput, match="does not say how likely a label is wrong"):
        maeref_jax.refine(refiner(), image=image(0), segmenter=segmenter(), hide_by=refiner())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([*IMAGE, "--hide_by", "error"], "which does not say how likely a label is wrong; maeref refine --hide_by"),
        ([*IMAGE[:4], *IMAGE[6:], "--refiner", "none", "--hide_by", "error"], "but --refiner is none; leave it out"),
        ([*LABELS, "--entropy", "stacks/a_entropy.tif", "--hide_by", "corrector"], "labels have none; give --input"),
        ([*IMAGE, "--hide_by", "corrector", "--suggest_threshold"], "--suggest_threshold does not go with --hide_by"),
        ([*IMAGE, "--config.gain=0.1"], "gain is 0.1, but tokens are hidden by entropy; add --hide_by"),
    ],
)
def test_what_cannot_be_is_one_line(refine, both, given, message):
    code, _, err = refine(*given)
    assert code == 2 and message in err and err.count("error:") == 1
