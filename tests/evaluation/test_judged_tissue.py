"""Masks of tissue: chosen by what may not be lost, counted over all blocks, on blocks that no model has seen."""

import json

import numpy as np
import pytest

from maeref_jax.commands import evaluate
from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import tissue_blocks, tissue_masks
from maeref_jax.masking import cleaning
from maeref_jax.phantoms.tissue_imaging import SHIFTS
from maeref_jax.pipeline.jobs import Model
from maeref_jax.pipeline.tissue import usual


def ball(radius=6.0, side=24):
    z, y, x = np.ogrid[:side, :side, :side]
    return np.sqrt((z - 11.5) ** 2 + (y - 11.5) ** 2 + (x - 11.5) ** 2) < radius


USUAL = {"close_nm": None, "fill_holes": "2d", "open_nm": None, "keep": "all", "smallest_vx": 250, "grow_nm": None}
RULES, VOXEL = tissue_masks.Rules(100.0, 0.01, USUAL), (80.0, 80.0, 80.0)


def test_a_mask_is_cleaned_and_grows_as_masks_do_elsewhere():
    score = np.where(ball(7.0), 1.0, 0.0) * np.where(ball(2.0), 0.0, 1.0)
    score[2, 2] = 1.0  # a line
    found = tissue_masks.masks(score, 0.5, "none", (0.0, 160.0), RULES, VOXEL)
    assert np.array_equal(found[0], score > 0) and np.array_equal(found[1], cleaning.grown(score > 0, 160.0, VOXEL))
    cleaned, larger = tissue_masks.masks(score, 0.5, "light", (0.0, 160.0), RULES, VOXEL)
    assert (
        np.count_nonzero(cleaned ^ ball(7.0)) < 0.05 * ball(7.0).sum()
        and cleaned[12, 12, 12]
        and not cleaned[2, 2].any()
    )
    assert np.array_equal(larger, cleaning.grown(cleaned, 160.0, VOXEL))
    nothing = tissue_masks.masks(np.zeros((3, 3, 3)), 0.5, "light", (320.0,), RULES, VOXEL)
    assert not nothing[0].any(), "nothing does not grow"


def test_as_it_comes_is_what_the_command_makes():
    truth = ball(9.0).astype(int)
    asked = {name: value for name, value in load_config("tissue_mask").to_dict().items() if name in USUAL}
    one = tissue_masks.as_it_comes([(truth, 0.6 * truth)], None, RULES, VOXEL)
    mask = cleaning.cleaned(truth > 0, usual(asked, VOXEL), VOXEL)
    assert np.array_equal(one.counted, tissue_masks.counts(truth, mask)) and tissue_masks.recall(one.counted) == 1


def test_counts_are_shares_of_what_they_say():
    truth = np.zeros((1, 4, 5), int)
    truth[0, :2] = 1
    mask = np.zeros((1, 4, 5), bool)
    mask[0, 1:3, :4] = True
    counted = tissue_masks.counts(truth, mask)
    assert counted.tolist() == [[6, 4], [6, 4]]
    assert tissue_masks.dice(counted) == pytest.approx(8 / 18) and tissue_masks.recall(counted) == 0.4
    assert tissue_masks.false_share(counted) == 0.4 and tissue_masks.kept(counted) == 0.4
    resin = tissue_masks.counts(np.zeros((1, 2, 2), int), np.ones((1, 2, 2), bool))
    assert np.isnan(tissue_masks.dice(resin)) and np.isnan(tissue_masks.recall(resin))
    assert tissue_masks.false_share(resin) == 1


def test_the_safe_mask_loses_next_to_nothing_and_the_closest_is_the_closest():
    truth = ball(7.0)
    # A score that misses the rim and the inside of the tissue alike.
    score = np.where(ball(5.5), 0.8, np.where(ball(7.5), 0.12, 0.0)) * np.where(ball(2.0), 0.3, 1)
    chosen = tissue_masks.choose({None: [(truth.astype(int), score)]}, True, RULES, VOXEL)
    closest, safe = chosen["closest"], chosen["safe"]
    assert closest.grown_nm == 0 and tissue_masks.recall(safe.counted) >= 0.995
    assert tissue_masks.dice(closest.counted) >= 0.9 and tissue_masks.dice(safe.counted) > 0.8
    again = tissue_masks.counts(truth.astype(int), tissue_masks.mask_of(score, safe, RULES, VOXEL))
    assert np.array_equal(again, safe.counted)


def test_sizes_are_chosen_too_and_a_unit_of_its_own_has_thresholds_of_its_own():
    truth, noise = ball(7.0), np.random.default_rng(0).normal(size=(24, 24, 24))
    scored = {"poor": [(truth.astype(int), noise)], "good": [(truth.astype(int), 1000 * truth + noise)]}
    chosen = tissue_masks.choose(scored, False, RULES, VOXEL)
    assert {one.sizes for one in chosen.values()} == {"good"}
    assert tissue_masks.dice(chosen["closest"].counted) > 0.95


def test_where_nothing_is_safe_the_mask_that_loses_least_is_told():
    truth = np.zeros((4, 20, 20), int)
    truth[:, :10] = 1
    score = np.zeros(truth.shape)
    score[:, 0] = 1.0
    safe = tissue_masks.choose({None: [(truth, score)]}, True, RULES, VOXEL)["safe"]
    assert tissue_masks.recall(safe.counted) == 0.5 and safe.grown_nm == max(tissue_masks.GROWN_NM)


def settings(mode="tissue_small"):
    return load_config(f"evaluate:{mode}").to_dict()["tissue"]


def model(volumes=(), validation=(), texture=None):
    data = {"phantom": {"tissue": {"texture": texture}} if texture else {}}
    facts = {"volumes": list(volumes), "validation_volumes": list(validation)}
    return Model("runs/one", "ensemble", {"data": data}, {}, {}, None, facts)


def test_what_a_model_has_seen_is_not_judged_on():
    asked = settings()
    learned = load_config("tissue:small").to_dict()["data"]["phantom"]
    tissue_blocks.check(asked, [model(texture=learned["tissue"]["texture"])])
    for given in ({"volumes": ["tissue_mixed_401"]}, {"validation": ["tissue_resin_410"]}):
        with pytest.raises(BadInput, match="expected volumes that no model has seen"):
            tissue_blocks.check(asked, [model(**given)])
    columns = {"train": (0.0, 0.8), "validation": (0.9, 1.0)}
    with pytest.raises(BadInput, match="test columns of the texture 'seen' were learned"):
        tissue_blocks.check(asked, [model(texture={**learned["tissue"]["texture"], "columns": columns})])


def test_seeds_of_validation_and_test_are_apart():
    asked = settings()
    asked["test"]["phantoms"]["seeds"] = asked["validation"]["blocks"]["seeds"]
    with pytest.raises(BadInput, match="both in validation and in test"):
        tissue_blocks.check(asked, [])
    asked = settings()
    asked["test"]["phantoms"]["texture"] = "another"
    with pytest.raises(BadInput, match="has the texture 'another'; there are seen, unseen"):
        tissue_blocks.check(asked, [])


def test_the_shifts_are_on_no_training_or_validation_block():
    asked = settings()
    assert not any(group["shift"] for group in asked["validation"].values())
    assert {group["shift"] for group in asked["test"].values()} == {"", *SHIFTS}
    columns = {name for _, names in asked["tables"] for name in names}
    assert columns == set(asked["test"]), "no group is judged and not shown"


def test_a_network_that_is_not_there_is_named(root, tmp_path):
    with pytest.raises(BadInput, match=r"there is no model in .*tissue_small; train it"):
        evaluate.main(["--config", "evaluate:tissue_small", "--workdir", str(tmp_path / "table"), *_nowhere(tmp_path)])


def _nowhere(tmp_path):
    return [f"--config.tissue.networks.network={tmp_path / 'tissue_small'}"]


def test_the_smoke_mode_writes_tables_pictures_and_the_log(tmp_path, capsys):
    evaluate.main(["--config", "evaluate:tissue_smoke", "--workdir", str(tmp_path)])
    printed, text = capsys.readouterr().out, (tmp_path / "tables.txt").read_text()
    assert text.strip() in printed and "texture, safe" in text and "local entropy, closest" in text
    found = json.loads((tmp_path / "summary.json").read_text())
    assert sum(map(sum, found["bare resin, texture, safe"]["voxels"])) == 12 * 32 * 32
    assert found["bare resin, texture, safe"]["dice"] is None, "there is no tissue to be found"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "the safe mask (outline)" in page and "hidden tokens" not in page
    assert (tmp_path / "picture_1.png").read_bytes()[:4] == b"\x89PNG"
    log = (tmp_path / "openings.log").read_text().splitlines()
    assert len(log) == 1 and "tissue_mixed_400 (phantoms)" in log[0]
    assert "tissue_mixed_300" not in log[0], "validation is no opening"
