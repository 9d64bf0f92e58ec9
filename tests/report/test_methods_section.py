"""The paragraph for a paper holds every number that was used, and what to cite."""

import re
from pathlib import Path

from conftest import ROOT

from maeref_jax.pipeline.methods import REFINERS
from maeref_jax.report import methods_section
from maeref_jax.uncertainty.entropy import KINDS

GIVEN = {
    "volumes": 3,
    "hidden_share": 0.0817,
    "changed_share": 0.0274,
    "doubt": "mean",
    "threshold": 0.75,
    "ambiguous_threshold": 0.3,
    "token": 4,
    "classes": ("background", "matrix"),
    "versions": {"maeref_jax": "0.1.0", "jax": "0.12.0"},
    "voxel_size_nm": (20.0, 10.0, 10.0),
    "segmented_by": "an ensemble of U-Nets",
    "members": 6,
    "refiner": "mae",
    "parameters": 3_140_000,
}


def test_every_number_is_in_it():
    said = methods_section.methods_paragraph(**GIVEN)
    for part in (
        *("3 volumes were", "background, matrix", "20 × 10 × 10 nm", "ensemble of U-Nets with 6 members"),
        *("4 × 4 voxels", "τ = 0.75", "“ambiguous” 0.3", "masked autoencoder with 3.1 million parameters"),
        *("8.17% of the voxels were hidden", "2.74% got another label", "mean class probabilities", "jax 0.12.0"),
        "hidden (as by Sauer et al., CVPR Workshops 2024)",
    ):
        assert part in said, part
    agreeing = [methods_section.methods_paragraph(**GIVEN, agreeing_slices=n) for n in (1, 4)]
    cautious = methods_section.methods_paragraph(**GIVEN, caution=3.0)
    assert "where another label was at least 3 times as likely" in cautious and "as likely" not in agreeing[0]
    assert "in agreement with the nearest slice above and below" in agreeing[0] and "agreement" not in said
    assert "in agreement with the 4 nearest slices above and below" in agreeing[1]
    assert "\n" not in said and "  " not in said


def test_repairs_that_were_given_back_are_named():
    said = methods_section.methods_paragraph(**GIVEN, left=["red", "flagged"])
    assert "Repairs that were rated red and Hidden voxels" not in said
    assert "Repairs rated red and hidden voxels of objects that the rules flag got their labels back." in said
    assert "got their labels back" not in methods_section.methods_paragraph(**GIVEN)


def test_what_is_not_there_is_not_said():
    painted = {"doubt": "painted", "segmented_by": "", "members": None, "voxel_size_nm": None, "volumes": 1}
    said = methods_section.methods_paragraph(**GIVEN | painted | {"refiner": "nearest", "parameters": None})
    assert said.startswith("1 volume was segmented") and "nm" not in said and "τ" not in said
    assert "a mask painted by hand" in said and "parameters" not in said and "nearest visible label" in said
    both = methods_section.methods_paragraph(**GIVEN | {"doubt": "given and painted", "ambiguous_threshold": None})
    assert "came with the segmentation" in both and "τ = 0.75, or where a mask painted by hand touched them." in both
    said = methods_section.methods_paragraph(
        **GIVEN | {"refiner": "", "changed_share": None, "ambiguous_threshold": None}
    )
    assert "none was changed" in said and "filled" not in said and "ambiguous" not in said


def test_a_refiner_is_not_said_to_be_blind_to_what_it_sees():
    said = {name: methods_section.methods_paragraph(**GIVEN | {"refiner": name}) for name in REFINERS}
    assert "from the visible labels around them by a masked autoencoder with" in said["mae"]
    assert "the class probabilities and the image by a fully connected" in said["crf"]
    assert set(methods_section.SOURCES) <= set(REFINERS)


def test_every_refiner_and_kind_of_entropy_has_words():
    assert set(REFINERS) <= set(methods_section.REFINERS) and set(KINDS) <= set(methods_section.DOUBTS)


def test_the_citation_is_that_of_the_citation_file():
    text = Path(ROOT, "CITATION.cff").read_text(encoding="utf-8")
    cited = text[text.index("preferred-citation") :]
    names, title = re.findall(r"family-names: (\w+)", cited), re.search(r"title: (.+)", cited)[1]
    assert len(names) == 4 and all(name in methods_section.CITATION for name in names)
    assert title in methods_section.CITATION and re.search(r"year: (\d+)", cited)[1] in methods_section.CITATION
