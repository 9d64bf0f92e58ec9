"""The tables of the protocol, on label maps small enough to count by hand."""

import jax
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.evaluation import (
    agreement,
    along_z,
    endpoint,
    groups,
    measurements,
    plausibility,
    ratings,
    reconstruction,
    sureness,
    tables,
)
from maeref_jax.evaluation.cases import Case
from maeref_jax.evaluation.runs import Found
from maeref_jax.metrics.validity import MITOCHONDRIA
from maeref_jax.pipeline import jobs
from maeref_jax.records import Refiner

MODEL = jobs.Model("R", "mae", {}, {}, {}, Refiner(None, (8, 8), (4, 4), 2, ("image",), 4), {})
VALIDITY = {"classes": (0, 1, 2, 3), "size": 24, "min_foreground": 0.1, "slice_step": 1}


SETTINGS = {
    "endpoint_classes": (2, 3),
    "validity": {**VALIDITY, "least_hidden": 0.1},
    "reconstruction": {"crops": 0},
    "seed": 0,
    "priors": (),
}


def mitochondrion(depth=4, size=24):
    """A block of matrix in a shell, with two cristae."""
    truth = np.zeros((depth, size, size), np.int16)
    truth[:, 2:22, 2:22] = 1
    truth[:, 5:19, 5:19] = 3
    truth[:, 8:10, 7:17] = 2
    truth[:, 13:15, 7:17] = 2
    return truth


def found(initial, refined, hidden, stem="a", truth=None, **changes):
    truth = mitochondrion() if truth is None else truth
    case = Case(stem, truth, None, {}, (10.0, 5.0, 5.0), **changes)
    confidence = np.where(hidden, 204, 0).astype(np.uint8)
    maps = {"initial": initial, "nearest": initial, "refined": refined}
    rating = np.where(hidden, 1 + (np.arange(truth.shape[1]) >= 14)[:, None], 0).astype(np.uint8)
    return Found(case, maps, hidden, np.zeros(truth.shape, np.uint8), confidence, rating, {}, {})


def damaged(truth):
    """The second crista called matrix, in tokens that are hidden."""
    initial, hidden = truth.copy(), np.zeros(truth.shape, bool)
    hidden[:, 12:16, 4:20] = True
    initial[:, 13:15, 7:17] = 3
    return initial, hidden


def cells(table, row):
    return dict(zip(table.header, next(line for line in table.rows if line[0].startswith(row)), strict=True))


def test_the_best_competitor_stands_alone_and_the_others_are_corrected():
    truth = mitochondrion()
    initial, hidden = damaged(truth)
    volumes = [found(initial, truth, hidden, str(i)) for i in range(6)]
    volumes = [one._replace(maps={**one.maps, "rival": initial.copy()}) for one in volumes]
    for one in volumes:
        one.maps["rival"][:, 13, 7:17] = 2  # half of the crista
    table = endpoint.comparison([agreement.judge(one, 4, VALIDITY).scores for one in volumes], (2, 3))
    best = cells(table, "rival (best of the others)")
    assert best["ahead in"] == "6 of 6" and best["p"] == "0.031", "2 / 2^6, not corrected"
    assert cells(table, "initial")["p"] == "0.062", "Holm over two"
    assert float(cells(table, "initial")["refined minus it"]) > float(best["refined minus it"]) > 0


def test_the_shell_derived_again_is_a_row_that_competes_with_none():
    truth = mitochondrion()
    initial, hidden = damaged(truth)
    refined = np.where(truth == 1, np.int16(3), truth)  # no shell at all
    volumes = [found(initial, refined, hidden, stem)._replace(reshelled=truth) for stem in "ab"]
    tables = agreement.tables([agreement.judge(one, 4, VALIDITY) for one in volumes], ("b", "i", "c", "m"), (2, 3))
    rows = [row for row in tables[0].rows if row[0] == "  sanity: refined, its shell derived again"]
    assert [row[1:] for row in rows] == [("1.000",) * 4] * 2, "hidden, everywhere"
    assert [row[2] for row in tables[0].rows if row[0] == "  refined"] == ["0.000"] * 2
    assert "derives it by distance" in tables[0].note and not any("sanity" in row[0] for row in tables[1].rows)
    plain = [agreement.judge(one._replace(reshelled=None), 4, VALIDITY) for one in volumes]
    assert not any("sanity" in row[0] for row in agreement.tables(plain, ("b", "i", "c", "m"), (2, 3))[0].rows)


def test_the_verdict_leads_with_the_primary_endpoint_good_or_bad():
    truth = mitochondrion()
    initial, hidden = damaged(truth)
    wrong = np.where(hidden, np.int16(0), initial)
    for refined, word in ((truth, "better than"), (wrong, "WORSE than"), (initial, "not told apart from")):
        judged = [agreement.judge(found(initial, refined, hidden, str(i)), 4, VALIDITY) for i in range(3)]
        primary = endpoint.endpoint([one.scores for one in judged], (2, 3))
        lead = endpoint.verdict(agreement.total(judged), primary)
        assert lead[0].startswith("Primary endpoint") and f"The refiner is {word} it." in lead[0]
        assert primary.name == "nearest" and primary.difference.clusters == 3


def told(initial, refined, truth=None, volumes=1):
    """The verdict, one text, on volumes of which all tokens of one corner are hidden."""
    hidden = np.zeros(initial.shape, bool)
    hidden[:, 4:8, 4:20] = True
    judged = [agreement.judge(found(initial, refined, hidden, str(i), truth), 4, VALIDITY) for i in range(volumes)]
    primary = endpoint.endpoint([one.scores for one in judged], (2, 3))
    table = endpoint.comparison([one.scores for one in judged], (2, 3))
    assert "nan" not in " ".join(map(" ".join, table.rows))
    return " ".join(endpoint.verdict(agreement.total(judged), primary)), primary


def test_false_foreground_that_is_taken_away_is_a_repair_though_no_dice_says_so():
    truth = np.zeros((4, 24, 24), np.int16)
    invented = truth.copy()
    invented[:, 5, 5:9] = 2
    lead, primary = told(invented, truth, truth)
    assert primary is None and "no primary endpoint: in hidden tokens the truth has none of the classes" in lead
    assert "none left there. 16 wrong voxels became right and 0 right ones became wrong: the refiner repaired" in lead
    assert "leaves 16 voxels wrong there; the refiner 0, fewer than that" in lead
    assert "nan" not in lead and "did not rise" not in lead
    most = truth.copy()
    most[0, 5, 5] = 2
    lead, primary = told(invented, most, truth)
    assert primary is None and "has some there. 15 wrong voxels became right" in lead, "a Dice of 0 before and after"
    lead, _ = told(truth, invented, truth)
    assert "0 wrong voxels became right and 16 right ones became wrong: the refiner did NOT repair more" in lead
    assert "leaves 0 voxels wrong there; the refiner 16, MORE than that" in lead


def test_where_nothing_was_hidden_it_is_told_what_changed_all_the_same():
    truth = mitochondrion()
    initial, nowhere = damaged(truth)[0], np.zeros(truth.shape, bool)
    for refined, said in (
        (initial, "was hidden: there was nothing to repair. Outside the hidden tokens no voxel changed."),
        (truth, "was hidden. Outside the hidden tokens 80 voxels changed; everywhere, the mean Dice of the foreground"),
    ):
        total = agreement.total([agreement.judge(found(initial, refined, nowhere), 4, VALIDITY)])
        (lead,) = endpoint.verdict(total, endpoint.endpoint([total], (2, 3)))
        assert said in lead and lead.endswith(" to 1.000." if refined is truth else "changed.")


def test_of_one_volume_a_dice_is_higher_or_lower_and_no_method_better():
    truth = mitochondrion()
    initial = truth.copy()
    initial[:, 5, 5:19] = 1
    worse = initial.copy()
    worse[:, 6, 5:19] = 1
    for refined, word in ((truth, "higher"), (worse, "lower"), (initial, "as high")):
        lead, primary = told(initial, refined)
        assert f"is {word}." in lead and "better" not in lead and "not told apart from it" in lead
        assert primary.difference.clusters == 1


def test_the_initial_map_is_named_where_it_is_ahead_of_every_other_repair():
    truth = mitochondrion()
    initial, hidden = damaged(truth)
    one = found(initial, truth, hidden)
    one.maps["nearest"] = np.where(hidden, np.int16(0), initial)
    score = agreement.judge(one, 4, VALIDITY).scores
    primary = endpoint.endpoint([score], (2, 3))
    assert primary.initial > primary.other
    lead = endpoint.verdict(score, primary)[0]
    assert f"{primary.other:.3f} (the initial map, which nobody repaired, {primary.initial:.3f}): " in lead
    one.maps["nearest"] = truth
    score = agreement.judge(one, 4, VALIDITY).scores
    assert "nobody repaired" not in endpoint.verdict(score, endpoint.endpoint([score], (2, 3)))[0]


def test_where_the_truth_is_unknown_no_map_is_looked_at():
    truth = mitochondrion()
    hidden = damaged(truth)[1]
    hidden[2:] = False
    unknown = truth.copy()
    unknown[:, :, 12:] = -1
    one = found(truth, truth, hidden, truth=unknown)
    volumes = [one._replace(case=one.case._replace(stem=stem)) for stem in "ab"]
    counted = [tables.count(volume, {"refined": MODEL}, 4, SETTINGS) for volume in volumes]
    by_title = {table.title: table for table in tables.tables(counted, ("b", "i", "c", "m"), SETTINGS)}
    plausible = by_title["How plausible the masks look"]
    assert cells(plausible, "initial")["boundary to area"] == cells(plausible, "truth")["boundary to area"]
    assert cells(by_title["Distance to control, and what it cost"], "initial")["invented"] == "0%"


def test_a_refiner_that_sees_hidden_labels_is_not_asked_for_them():
    blind = MODEL._replace(apply=MODEL.apply._replace(needs=()))
    sees = blind._replace(apply=blind.apply._replace(sees_hidden=True))
    assert set(reconstruction.comparable({"refined": blind, "a": sees, "b": blind})) == {"refined", "b"}


def test_control_masks_say_how_much_of_the_errors_a_choice_of_tokens_holds():
    truth = mitochondrion()
    initial, hidden = damaged(truth)
    elsewhere = np.zeros_like(hidden)
    elsewhere[:, 4:8, 4:20] = True
    worse = np.where(elsewhere, np.int16(0), initial)
    given = found(initial, truth, hidden)._replace(controls={"random": (elsewhere, worse), "oracle": (hidden, truth)})
    tables = agreement.tables([agreement.judge(given, 4, VALIDITY)], ("b", "i", "c", "m"), (2, 3))
    table = next(one for one in tables if one.title == "Are the right places hidden?")
    assert cells(table, "tokens of high entropy")["of all errors"] == "100%"
    random = cells(table, "random tokens")
    assert random["of all errors"] == "0%" and random["wrong → right"] == "0"
    assert random["right → wrong"] == f"{np.count_nonzero(elsewhere & (truth > 0)):,}"


def test_erasing_cristae_looks_plausible_and_is_unmasked():
    truth = mitochondrion()
    initial, hidden = damaged(truth)
    hidden[2:] = False  # two crops with hidden tokens, two for the control
    crops = [crop for stem in "ab" for crop in plausibility.count(found(initial, truth, hidden, stem), VALIDITY, 4)]
    table = plausibility.table(crops, 0.1, cristae=2)
    assert cells(table, "refined")["end points"] == "0.00", "as the truth of the others"
    assert cells(table, "refined")["their area"] == "1.00" and cells(table, "refined")["lost"] == "0%"
    assert cells(table, "initial")["lost"] == "50%" and cells(table, "initial")["cristae"] == "1.0"
    erased = cells(table, "sanity: cristae erased")
    assert erased["lost"] == "100%" and erased["their area"] == "0.00" and erased["boundary to area"] == "0.00"
    assert plausibility.table([crop for crop in crops if crop.hidden >= 0.1], 0.1, 2) is None, "nothing to compare with"


def test_control_crops_have_the_size_and_the_number_of_mitochondria_of_the_crops_judged():
    truth = mitochondrion(6)
    truth[4:, :, 12:] = 0  # half a mitochondrion
    truth[5] = np.where(np.arange(24) == 4, 0, truth[5])  # the same in two pieces
    initial, hidden = damaged(truth)
    hidden[[1, 2, 5]] = False
    crops = plausibility.count(found(initial, truth, hidden, truth=truth), VALIDITY, 4)
    half, whole, split = crops[4], crops[0], crops[5]
    assert whole.foreground == 400 / 24**2 and half.foreground == 200 / 24**2
    assert [crop.mitochondria for crop in (half, whole, split)] == [1, 1, 2]
    assert plausibility.matched([half, whole], [whole, split, half]).tolist() == [2, 0], "size"
    assert plausibility.matched([half], [split, whole]).tolist() == [1], "number before size"
    assert plausibility.matched([whole, whole], [whole, half]).tolist() in ([0, 1], [1, 0]), "none twice"
    assert sorted(plausibility.matched([whole, half, whole], [half, whole]).tolist()) == [0, 1, 1], "but if need be"
    table = plausibility.table(crops, 0.1, cristae=2)
    assert "(58% of a whole crop is foreground, 1.0 mitochondria); control: the truth of the 3 most like" in table.note
    assert "of 3 others (57% of a whole crop is foreground, 1.3 mitochondria)" in table.note
    one = plausibility.table([crop for crop in crops if crop.mitochondria == 1], 0.1, 2)
    assert "the 2 most like them of 2 others, some for several (" in one.note
    alike = plausibility.table([crops[z] for z in (0, 3, 1, 2, 5)], 0.1, 2)
    assert cells(alike, "truth")["boundary to area"] == "0.00", "the split one takes no part"
    assert plausibility.table(crops[:3], 0.1, 2) is None, "one crop to judge has no spread to compare with"


def test_flicker_is_counted_where_the_truth_stands_still():
    truth = mitochondrion()
    initial, hidden = damaged(truth)
    blinking = truth.copy()
    blinking[1] = initial[1]
    counted = along_z.count(found(blinking, truth, hidden), (2, 3))
    table = along_z.table([counted], ("cristae", "matrix"))
    assert "of cristae and matrix together" in table.note
    assert cells(table, "refined")["false changes"] == "0.0%"
    share = 2 * 20 / (3 * 4 * 16)  # twenty voxels change to slice 1 and back; three pairs of slices
    assert cells(table, "initial")["false changes"] == f"{share:.1%}"


def test_measures_are_biased_as_the_masks_are_and_pieces_belong_to_the_nearest_mitochondrion():
    truth = np.concatenate([mitochondrion(8), np.zeros((8, 24, 8), np.int16), mitochondrion(8)], 2)
    initial = truth.copy()
    initial[:, 13:15, 7:17] = 3  # the first has lost one of two cristae
    hidden = np.zeros(truth.shape, bool)
    hidden[:, 12:16, 4:20] = True
    table = measurements.table(measurements.count(found(initial, truth, hidden, truth=truth), MITOCHONDRIA))
    row, left_out = cells(table, "initial"), cells(table, "initial, affected")
    assert row["mitochondria"] == "2" and row["cristae volume"] == "-25.0% ± 25.0%" and row["volume"] == "+0.0% ± 0.0%"
    assert left_out["mitochondria"] == "1" and left_out["cristae volume"] == "+0.0% ± 0.0%"
    empty = found(initial, truth, hidden, truth=np.zeros_like(truth))
    assert measurements.table(measurements.count(empty, MITOCHONDRIA)) is None


def test_confidence_is_judged_by_the_radius_of_the_hole():
    truth = mitochondrion()
    hidden = np.zeros(truth.shape, bool)
    hidden[:, 2:22, 2:22] = True  # deepest pixel ten from what is visible
    hidden[0, 0, 0] = True
    refined = truth.copy()
    refined[:, 2:12, 2:22] = 0  # half of the hole is wrong
    table = sureness.table([sureness.count(found(truth, refined, hidden))])
    assert [row[0] for row in table.rows] == ["0 to 4 px", "8 to 16 px"]
    row = cells(table, "8 to 16 px")
    assert (row["mean confidence"], row["share right"], row["calibration error"]) == ("0.800", "0.500", "0.300")
    assert cells(table, "0 to 4 px")["share right"] == "1.000"


def test_colours_are_judged_by_what_was_right_before_and_after():
    truth = mitochondrion()
    initial, hidden = damaged(truth)  # row 13 lies in a green blob, row 14 in an amber one; each has 40 wrong voxels
    initial[0, 12, 5] = -1
    refined = truth.copy()
    refined[:, 14, 7:17] = 3  # the amber one stays as it was
    refined[:, 15, 7:9] = 2  # and of it 8 voxels are broken
    refined[0, 12, 4] = 0  # as is one of the green ones
    truth[0, 12, 6] = -1  # nobody knows
    table = ratings.table([ratings.count(found(initial, refined, hidden, truth=truth))] * 2)
    assert [row[0] for row in table.rows] == ["green", "amber"]
    green, amber = cells(table, "green"), cells(table, "amber")
    assert (green["hidden voxels"], green["repaired"], green["broken"]) == ("254", "82", "2")
    assert (green["right before"], green["right after"]) == (f"{86 / 127:.3f}", f"{126 / 127:.3f}")
    assert (amber["hidden voxels"], amber["repaired"], amber["broken"]) == ("256", "0", "16")


def test_conditions_and_shifts_have_rows_of_their_own_and_leave_the_main_tables_alone():
    truth = mitochondrion()
    initial, hidden = damaged(truth)
    volumes = [found(initial, truth, hidden, "a", condition="x"), found(initial, truth, hidden, "b", condition="y")]
    volumes.append(found(initial, initial, hidden, "c", shift="blur"))
    counted = [
        tables.Counted(
            one.case.shift, one.case.condition, agreement.judge(one, 4, VALIDITY), *(None,) * 6,
            groups.features(one, MITOCHONDRIA),
        )
        for one in volumes
    ]  # fmt: skip
    settings = {"endpoint_classes": (2, 3), "validity": VALIDITY, "priors": (("x", "initial"), ("y", "refined"))}
    by_title = {table.title: table for table in tables.tables(counted, ("b", "i", "c", "m"), settings)}
    shifted = by_title["What no training volume had"]
    assert cells(shifted, "none")["refined"] == "1.000" and cells(shifted, "blur")["refined"] != "1.000"
    assert cells(by_title["The refined map against every other one"], "initial")["ahead in"] == "2 of 2"
    conditions = by_title["Does the prior erase an effect?"]
    shares = {name: cells(conditions, name)["cristae share"].split(" → ") for name in ("initial", "refined", "truth")}
    assert shares["truth"][0] == shares["truth"][1] != shares["initial"][0]
    crossed = cells(conditions, "each by the other's prior")["cristae share"]
    assert crossed == f"{shares['refined'][0]} → {shares['initial'][1]}"


def test_cristae_are_counted_in_square_micrometres_of_pixels_that_are_not_square():
    truth = mitochondrion()
    hidden = np.zeros(truth.shape, bool)
    given = found(truth, truth, hidden)
    given = given._replace(case=given.case._replace(voxel_size_nm=(10.0, 20.0, 5.0)))
    number, area = groups.features(given, MITOCHONDRIA)["truth"]["cristae_per_um2"]
    assert number == 2 * 4 and area == pytest.approx(4 * 14 * 14 * 20 * 5 / 1e6)
    spaced = groups.features(given, MITOCHONDRIA)["truth"]["lamella_spacing_nm"]
    assert spaced[0] / spaced[1] == pytest.approx(5 * 20), "one above the other"


@pytest.mark.parametrize(
    ("priors", "expected"),
    [
        ((("x", "one"),), "two"),
        ((("x", "one"), ("z", "other")), r"\['x', 'y'\]"),
        ((("x", "one"), ("y", "third")), "'third' is none of them"),
    ],
)
def test_priors_of_one_condition_must_be_competitors_and_one_for_each(priors, expected):
    groups.check_priors((("x", "one"), ("y", "other")), ("x", "", "y", "x"), {"one": 1, "other": 1})
    with pytest.raises(BadInput, match=expected):
        groups.check_priors(priors, ("x", "y", "x"), {"one": 1, "other": 1})


def test_table_1_asks_back_what_was_hidden_and_counts_only_what_was_sure():
    truth = mitochondrion()[:2]
    hidden = np.zeros(truth.shape, bool)
    hidden[:, 8:16, 8:16] = True
    sure = np.ones(truth.shape, bool)
    sure[:, :, 12:] = False
    filled = np.where(hidden & sure, 0, truth).astype(np.int16)
    counts = reconstruction.counts(truth, filled, hidden, sure, 4)
    assert counts["all"].sum() == np.count_nonzero(hidden & sure) and reconstruction.macro(counts) == 0
    counts = reconstruction.counts(truth, truth, hidden, sure, 4)
    assert reconstruction.macro(counts) == reconstruction.paper_like(counts) == 1
    guessed = reconstruction.nearest(truth, hidden)
    assert (guessed[~hidden] == truth[~hidden]).all() and guessed.min() >= 0
    masks = reconstruction.hidden_tokens(jax.random.key(0), 3, 0.5, (16, 24), 4, "scattered")
    assert masks.shape == (3, 16, 24) and masks.mean() == pytest.approx(0.5)
