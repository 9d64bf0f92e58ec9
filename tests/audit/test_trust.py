"""Ratings of repairs: by hand, independent of blocks, blind to what is hidden; and what is left unrepaired."""

import csv
import json

import numpy as np
import pytest
from fakes import SHAPE, label_job, labels, refiner, result, settings
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from maeref_jax.audit import trust
from maeref_jax.audit.trust import Limits
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import refining
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import Box, whole

ASKED = {"trust": True, "foreignness": True, "tiff_export": False}


LIMITS = Limits(confidence=(0.5, 0.44), context=(0.4, 0.3), foreignness=(0.8, 1.0))  # this refiner is a poor one


def spotty_job(directory, **changes):
    """Many small blobs, of all ratings by LIMITS."""
    tokens = np.random.default_rng(5).random((SHAPE[0], 8, 10)) < 0.12
    entropy = tokens.repeat(4, 1).repeat(4, 2)[:, : SHAPE[1], : SHAPE[2]].astype(np.float32)
    return label_job(directory, entropy=array_volume(entropy, "entropy"), **changes)


def rows_of(directory):
    with (directory / "a_repairs.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("numbers", "rating"),
    [
        ((0.8, 2.0, 0.6, 0.2), "green"),
        ((0.79, 2.0, 0.6, 0.2), "amber"),
        ((0.6, 4.0, 0.3, 0.5), "amber"),
        ((0.59, 1.0, 1.0, 0.0), "red"),
        ((1.0, 4.1, 1.0, 0.0), "red"),
        ((1.0, 1.0, 0.29, 0.0), "red"),
        ((1.0, 1.0, 1.0, 0.51), "red"),
        ((1.0, 1.0, 1.0, np.nan), "green"),
    ],
)
def test_the_worst_number_counts(numbers, rating):
    found = trust.rate(*(np.array([number]) for number in numbers), Limits())
    assert trust.RATINGS[found[0] - 1] == rating and found.dtype == np.uint8


def test_radius_and_context_of_a_hole_by_hand():
    visible = np.ones((2, 45, 45), bool)
    visible[0, 20:25, 20:25] = False
    visible[1] = False
    radius = trust.hole_radius(visible)
    assert radius[0, 22, 22] == 3 and radius[0, 20, 24] == 1 and radius[0, 0, 0] == 0
    assert (radius[1] == trust.LARGEST_RADIUS).all(), "nothing is visible in that slice, the other one does not help"
    assert trust.hole_radius(visible, (10.0, 20.0))[0, 22, 22] == 30
    near = trust.near_sum(visible, 1)
    assert near[0, 22, 22] == 0 and near[0, 20, 20] == 5 and near[0, 10, 10] == 8 and near[0, 0, 0] == 3


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_near_sum_is_a_sum_over_the_square(seed, reach):
    values = np.random.default_rng(seed).integers(0, 9, (2, 7, 6))
    padded = np.pad(values, ((0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1), (1, 2))
    np.testing.assert_array_equal(trust.near_sum(values, reach), windows.sum((-1, -2)) - values)


def test_tested_tokens_are_visible_touch_a_hidden_one_and_keep_visible_neighbours(tmp_path):
    hidden = np.zeros((1, 6, 6), bool)
    hidden[0, 2, 2] = hidden[0, 5, 5] = True
    visible = ~hidden
    visible[0, 1, 1] = False  # unknown
    chosen = trust.tokens_to_test(hidden, visible, (0, 0))
    assert np.argwhere(chosen[0]).tolist() == [[1, 3], [3, 1], [3, 3], [4, 4]]
    black = trust.tokens_to_test(hidden, visible, (7, 0))[0]
    assert np.argwhere(black).tolist() == [[1, 2], [2, 1], [2, 3], [3, 2], [4, 5], [5, 4]]
    voxels = hidden.repeat(4, 1).repeat(4, 2)[:, :22, :23]
    known = np.where(visible | hidden, 1, -1).repeat(4, 1).repeat(4, 2)[:, :22, :23].astype(np.int16)
    tested = trust.tested_volume(array_volume(voxels, "hidden"), array_volume(known, "labels"), 4)
    everything = tested.read(whole(tested.shape))
    np.testing.assert_array_equal(everything, chosen.repeat(4, 1).repeat(4, 2)[:, :22, :23])
    for start in ((0, 4, 4), (0, 12, 12), (0, 16, 20)):
        box = Box(start, (1, 22, 23))
        np.testing.assert_array_equal(tested.read(box), everything[box.slices])


def test_a_row_per_blob_by_hand(tmp_path):
    """Two blobs: one token that touches another one in the next slice; and a strip of tokens at the border."""
    painted = np.zeros(SHAPE, np.uint8)
    painted[0, 5, 5] = painted[1, 6, 6] = 1
    painted[2, :, 0] = 1
    job = label_job(tmp_path, entropy=None, hidden=array_volume(painted, "painted"))
    job = job._replace(labels=array_volume(labels(), "labels", (30.0, 5.0, 4.0)))
    summary = refining.refine_volume(job, None, refiner(), settings(**ASKED))
    rows, tested = rows_of(tmp_path), result(tmp_path, "tested")
    initial, refined, hidden = (result(tmp_path, role) for role in ("initial", "refined", "hidden"))
    pieces, count = ndimage.label(hidden)
    assert len(rows) == count == 2 and list(rows[0]) == list(trust.COLUMNS)
    one, strip = rows
    assert (one["voxels"], strip["voxels"]) == (str(2 * 16), str(29 * 4))
    assert [one[f"{end}_{axis}"] for end in ("start", "stop") for axis in "zyx"] == ["0", "4", "4", "2", "8", "8"]
    assert (one["radius_tokens"], one["radius_nm"]) == ("1", "16"), "the next token along x is 4 x 4 nm away"
    assert (strip["radius_tokens"], strip["radius_nm"]) == ("1", "16")
    inside = np.array([5 * (min(y + 4, 7) - max(y - 4, 0) + 1) for y in range(8)])  # of 9 x 9, half is outside
    seen = (inside - inside / 5) @ [4, 4, 4, 4, 4, 4, 4, 1] / 29 / 80
    assert float(strip["context"]) == pytest.approx(seen, abs=1e-3)
    confidence = result(tmp_path, "confidence")
    for i, row in enumerate(rows, 1):
        assert int(row["changed"]) == (initial != refined)[pieces == i].sum()
        assert float(row["confidence"]) == pytest.approx(confidence[pieces == i].mean() / 255, abs=1e-3)
    around = tested[:, 0:12, 0:12][:2]
    assert float(one["foreignness"]) == pytest.approx((around == 2).sum() / (around > 0).sum(), abs=1e-3)
    trusted = result(tmp_path, "trust")
    for i, row in enumerate(rows, 1):
        assert (trusted[pieces == i] == trust.RATINGS.index(row["rating"]) + 1).all()
    assert (trusted[hidden == 0] == 0).all()
    assert sum(entry["blobs"] for entry in summary["repairs"].values()) == 2
    assert sum(entry["voxels"] for entry in summary["repairs"].values()) == hidden.sum()


def test_the_test_hides_what_it_tests(tmp_path):
    """Wrong where the refiner, without the tested label, finds another one: for this refiner, by hand."""
    painted = np.zeros((1, 16, 16), np.uint8)
    painted[0, 5, 5] = 1
    own = np.ones((1, 16, 16), np.uint8)
    own[0, :4, :4] = 2  # a token on a white square: hidden, rows 0 to 3 show ones only; the refiner says 2
    own[0, 8:12, 8:12] = 0  # likewise, and 2 is wrong here
    job = label_job(tmp_path, labels=array_volume(own, "labels"), entropy=None, hidden=array_volume(painted, "painted"))
    refining.refine_volume(job, None, refiner(), settings(**ASKED))
    found = refining.open_result(tmp_path, "a", "tested").read(whole((1, 16, 16)))[0]
    expected = np.zeros((4, 4))
    expected[0, 0] = 1
    expected[2, 2] = expected[0, 2] = expected[2, 0] = 2
    np.testing.assert_array_equal(found, expected.repeat(4, 0).repeat(4, 1))


def test_ratings_depend_neither_on_blocks_nor_on_labels_under_hidden_tokens(tmp_path):
    made = []
    for i, block in enumerate([(1, 8, 12), (3, 64, 64), (2, 20, 8)]):
        job, directory = spotty_job(tmp_path / str(i)), tmp_path / str(i)
        refining.refine_volume(job, None, refiner(), settings(block=block, trust_limits=LIMITS, **ASKED))
        made.append([(directory / "a_repairs.csv").read_text(), *(result(directory, r) for r in ("trust", "tested"))])
    for other in made[1:]:
        assert other[0] == made[0][0]
        for one, two in zip(made[0][1:], other[1:], strict=True):
            np.testing.assert_array_equal(one, two)
    assert len(np.unique(made[0][1])) == 4 and len(np.unique(made[0][2])) == 3, "a test of nothing"
    refining.refine_volume(label_job(tmp_path / "seen"), None, refiner(), settings(**ASKED))
    disturbed = np.where(result(tmp_path / "seen", "hidden"), 3 - labels(), labels()).astype(np.uint8)
    job = label_job(tmp_path / "disturbed", labels=array_volume(disturbed, "labels"))
    refining.refine_volume(job, None, refiner(), settings(**ASKED))
    for role in ("trust", "tested"):
        np.testing.assert_array_equal(result(tmp_path / "seen", role), result(tmp_path / "disturbed", role))


@pytest.mark.parametrize("leave", [("red",), ("flagged",), ("red", "flagged")])
def test_what_is_left_is_as_it_was_also_after_a_kill(tmp_path, leave):
    asked = settings(**ASKED, object_classes=(2,), smallest_object_vx=2, flag_hidden_share=0.4)
    asked = asked._replace(trust_limits=LIMITS)
    refining.refine_volume(spotty_job(tmp_path / "all"), None, refiner(), asked)
    asked = asked._replace(leave=leave)
    summary = refining.refine_volume(spotty_job(tmp_path), None, refiner(), asked)
    initial, refined, hidden = (result(tmp_path / "all", role) for role in ("initial", "refined", "hidden"))
    trusted = result(tmp_path, "trust")
    np.testing.assert_array_equal(trusted, result(tmp_path / "all", "trust"))
    left = (trusted == trust.RED) & ("red" in leave)
    pieces, count = ndimage.label(initial == 2)
    for i in range(1, count + 1):
        piece = pieces == i
        left |= piece & (piece.sum() >= 2) & (hidden[piece].mean() > 0.4) & ("flagged" in leave)
    expected = np.where(left, initial, refined)
    assert (expected != refined).any() and (expected != initial).any(), "a test of nothing"
    np.testing.assert_array_equal(result(tmp_path, "refined"), expected)
    np.testing.assert_array_equal(result(tmp_path, "was"), np.where(expected != initial, initial + 1, 0))
    assert summary["changed_voxels"] == (expected != initial).sum()
    rows = rows_of(tmp_path)
    assert sum(int(row["changed"]) for row in rows) == summary["changed_voxels"]
    assert {row["left"] for row in rows if row["rating"] == "red"} == {str(int("red" in leave))}
    table = (tmp_path / "a_repairs.csv").read_bytes()
    (tmp_path / "a.json").unlink()
    (tmp_path / "a_repairs.csv").unlink()
    again = refining.refine_volume(spotty_job(tmp_path), None, refiner(), asked)
    assert again["changed"] == summary["changed"] and (tmp_path / "a_repairs.csv").read_bytes() == table
    assert json.loads((tmp_path / "a.json").read_text())["made_by"]["settings"]["leave"] == list(leave)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"leave": ("amber",)}, "expected some of red, flagged"),
        ({"leave": ("red",), "trust": False, "foreignness": False}, "set trust to true"),
        ({"trust_limits": Limits(confidence=(0.5, 0.6))}, "trust_limits.confidence is"),
        ({"trust_limits": Limits(radius=(2.0, 1.0))}, "trust_limits.radius is"),
        ({"trust_limits": Limits(radius=(2.0, 16.0))}, "expected below 16"),
    ],
)
def test_refused(tmp_path, changes, message):
    with pytest.raises(BadInput, match=message):
        refining.refine_volume(label_job(tmp_path), None, refiner(), settings(**(ASKED | changes)))
    assert not list(tmp_path.iterdir())


def test_the_docs_name_every_column(root):
    docs = (root / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"`{column}`" in docs for column in trust.COLUMNS if not column.startswith(("start", "stop")))
