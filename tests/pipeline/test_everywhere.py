"""Refiners that change voxels everywhere: on whole slices, and with the slices above and below; labelled slices."""

import threading

import jax.numpy as jnp
import numpy as np
import pytest
from fakes import SCHEME, image_job, label_job, refiner, segmenter

from maeref_jax.errors import BadInput
from maeref_jax.masking import continuity
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.records import Refiner
from maeref_jax.results import marks
from maeref_jax.results.place import Output
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole

SHAPE = (11, 29, 38)
SIZE = (5.0, 50.0, 50.0)
NAMES = ("background", "cell")
LABELLED = (0, 6)


def labels(seed=0):
    rng = np.random.default_rng(seed)
    found = (rng.random((SHAPE[0], 5, 6)) < 0.6).repeat(7, 1).repeat(7, 2)[:, : SHAPE[1], : SHAPE[2]].astype(np.uint8)
    found[4, :10] = 255  # unknown
    return found


def model(everywhere=True, order="free"):
    return methods.unlearned(
        "continuity",
        {
            "morphology": {"order": order, "distances": (1, 2)},
            "use": {"everywhere": everywhere},
            "classes": {"names": NAMES, "colours": ((0, 0, 0), (250, 220, 60)), "ambiguous": -1},
            "voxel_size_nm": (),
            "token": 4,
            "threshold": 0.4,
            "ambiguous_threshold": 0.5,
        },
    )


def job(directory, **changes):
    given = {"labels": array_volume(labels(), "labels", SIZE)} | changes
    return jobs.Job("a", directory, **given)


def settings(**changes):
    given = {
        "block": (3, 16, 16),
        "tiff_export": False,
        "labelled_slices": ("0:11:6",),
        "label_map": ((0, 0), (1, 1), (255, -1)),
    }
    return jobs.Settings(**(given | changes))


def stored(directory, role):
    return refining.open_result(directory, "a", role).read(whole(SHAPE))


def expected(order="free"):
    given = np.where(labels() == 255, np.int16(-1), labels())
    return continuity.continued(given, LABELLED, 2, continuity.rules_of(SIZE, order=order))


@pytest.mark.parametrize("order", continuity.ORDERS)
def test_what_comes_out_is_the_pure_function_whatever_the_blocks(tmp_path, order):
    for i, block in enumerate([(3, 16, 16), (11, 64, 64), (1, 12, 40)]):
        refining.refine_volume(job(tmp_path / str(i)), None, model(order=order), settings(block=block))
        refined = stored(tmp_path / str(i), "refined")
        np.testing.assert_array_equal(refined, np.where(expected(order) < 0, 255, expected(order)))
    assert (refined != labels()).any() and (refined[list(LABELLED)] == labels()[list(LABELLED)]).all()


def test_the_sidecar_says_everywhere_and_does_not_call_voxels_hidden(tmp_path):
    summary = refining.refine_volume(job(tmp_path), None, model(), settings(trust=True, objects=True))
    initial, refined, hidden, sure = (stored(tmp_path, role) for role in ("initial", "refined", "hidden", "confidence"))
    assert summary["everywhere"] and summary["labelled_slices"] == list(LABELLED)
    assert summary["hidden_share"] == 0 and not hidden.any()
    assert summary["changed_voxels"] == (initial != refined).sum() > 0
    assert (sure[list(LABELLED)] == 0).all() and (sure[refined != initial] == 255).all()
    np.testing.assert_array_equal(stored(tmp_path, "was"), np.where(initial != refined, initial + np.uint16(1), 0))
    assert "repairs" not in summary and not (tmp_path / "a_repairs.csv").exists(), (
        "nothing is rated that was not hidden"
    )
    assert "inf" not in (tmp_path / "a_objects.csv").read_text()


def test_at_hidden_tokens_alone_it_sees_them_and_changes_nothing_else(tmp_path):
    entropy = np.zeros(SHAPE, np.float32)
    entropy[2:9, 8:24] = 1
    given = job(tmp_path, entropy=array_volume(entropy, "entropy"))
    summary = refining.refine_volume(given, None, model(everywhere=False), settings())
    refined, hidden = stored(tmp_path, "refined"), stored(tmp_path, "hidden") > 0
    assert not hidden[6].any() and hidden[5].any(), "nobody doubts a labelled slice"
    np.testing.assert_array_equal(refined, np.where(hidden & (expected() >= 0), expected(), labels()))
    assert not summary["everywhere"] and 0 < summary["hidden_share"] == hidden.mean()


@pytest.mark.parametrize("order", continuity.ORDERS)
def test_a_run_that_was_killed_and_two_parts_give_the_same_bytes(tmp_path, order, monkeypatch):
    once = tmp_path / "once"
    refining.refine_volume(job(once), None, model(order=order), settings())
    killed, mark, marked = tmp_path / "killed", marks.mark, []

    def mark_or_stop(place, step, box, *told):
        marked.append(step)
        if marked.count("refine") == 5:
            raise OSError("no space left")
        mark(place, step, box, *told)

    monkeypatch.setattr(marks, "mark", mark_or_stop)
    with pytest.raises(OSError, match="no space"):
        refining.refine_volume(job(killed), None, model(order=order), settings())
    monkeypatch.undo()
    assert 0 < len(marks.finished(Output(killed, "a"), "refine")) < 24
    refining.refine_volume(job(killed), None, model(order=order), settings())
    parts = tmp_path / "parts"
    threads = [
        threading.Thread(
            target=refining.refine_volume,
            args=(job(parts), None, model(order=order), settings(num_parts=2, part_id=i, wait_minutes=1.0)),
            kwargs={"say": lambda line: None},
        )
        for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refining.refine_volume(job(parts), None, model(order=order), settings(num_parts=2))
    for other in (killed, parts):
        for role in ("initial", "refined", "was", "confidence"):
            np.testing.assert_array_equal(stored(other, role), stored(once, role))


def test_unknown_voxel_sizes_are_a_doubt_and_lengths_those_of_5_nm(tmp_path):
    given = job(tmp_path, labels=array_volume(labels(), "labels"))
    summary = refining.refine_volume(given, None, model(), settings())
    assert "the lengths of continuity are those of voxels of 5 nm; give --voxel_size_nm" in summary["warnings"][0]


@pytest.mark.parametrize(
    ("changes", "depth", "said"),
    [
        ({"labelled_slices": (11,)}, 11, "labelled_slices holds 11, but labels has 11 slices"),
        ({"labelled_slices": ("4:4",)}, 11, "a range without any slice"),
        ({"labelled_slices": ()}, 1, "a has 1 slice, but continuity works along z and needs 2 or more"),
        ({"foreignness": True, "trust": True}, 11, "works everywhere, not at hidden tokens alone"),
        ({"leave": ("red",), "trust": True}, 11, "works everywhere, not at hidden tokens alone"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, changes, depth, said):
    given = job(tmp_path / "out", labels=array_volume(labels()[:depth], "labels", SIZE))
    with pytest.raises(BadInput, match=said):
        refining.refine_volume(given, None, model(), settings(**changes))
    assert not (tmp_path / "out").exists()


def test_labels_alone_are_not_enough_for_a_refiner_of_hidden_tokens(tmp_path):
    with pytest.raises(
        BadInput, match="labels need entropy, a hidden mask or both beside them, unless the refiner works"
    ):
        refining.refine_volume(job(tmp_path), None, model(everywhere=False), settings())


def middle(params, state, inputs, key):
    """The mean of the slices of the context as one-hot: the commonest label of the column."""
    slices = inputs["slices"]
    assert slices.shape[1] == 5
    return jnp.stack([(slices == c).mean(1) for c in range(4)], -1)


def along(everywhere):
    one = refiner()
    apply = Refiner(middle, (16, 16), (8, 8), 2, (), 4, sees_hidden=True, everywhere=everywhere, context=2)
    return one._replace(apply=apply, settings=one.settings | {"classes": SCHEME})


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_network_of_adjacent_slices_sees_those_of_the_volume_with_its_ends_repeated(tmp_path, everywhere):
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 4, (7, 29, 38)).astype(np.uint8)
    entropy = np.zeros(drawn.shape, np.float32)
    entropy[1:3, 8:16] = 1
    around = np.pad(drawn, ((2, 2), (0, 0), (0, 0)), mode="edge")
    counts = sum((around[i : i + 7, ..., None] == np.arange(4)).astype(int) for i in range(5))
    best = counts.argmax(-1)
    for i, block in enumerate([(2, 16, 16), (7, 64, 64), (1, 12, 40)]):
        given = {"labels": array_volume(drawn, "labels"), "entropy": array_volume(entropy, "entropy")}
        how = settings(block=block, labelled_slices=(), label_map=(), agree_within_nm=90.0, batch=3)
        summary = refining.refine_volume(jobs.Job("a", tmp_path / str(i), **given), None, along(everywhere), how)
        read = {
            role: refining.open_result(tmp_path / str(i), "a", role).read(whole(drawn.shape))
            for role in ("refined", "hidden")
        }
        replaced = np.ones(drawn.shape, bool) if everywhere else read["hidden"] > 0
        np.testing.assert_array_equal(read["refined"], np.where(replaced, best, drawn))
        assert summary["agreeing_slices"] == 0, "it has heard of its neighbours"


def test_a_stack_of_fewer_slices_than_a_network_sees_is_doubted_and_of_half_as_many_refused(tmp_path):
    how = settings(labelled_slices=(), label_map=())
    summary = refining.refine_volume(label_job(tmp_path / "3"), None, along(True), how)
    assert any("a has 3 slices, fewer than the 5 that runs/fill sees at a time" in text for text in summary["warnings"])
    two = {name: array_volume(array[:2], name) for name, array in (("labels", made_labels()), ("entropy", zeros()))}
    with pytest.raises(BadInput, match="a has 2 slices, but runs/fill works along z and needs 3 or more"):
        refining.refine_volume(label_job(tmp_path / "2", **two), None, along(True), how)


def made_labels():
    return np.zeros((3, 29, 38), np.uint8)


def zeros():
    return np.zeros((3, 29, 38), np.float32)


def test_masks_made_with_another_threshold_than_those_it_learned_from_are_doubted(tmp_path):
    """The published network knows masks thresholded at .2 alone, and nothing says so."""
    learned = along(True)._replace(facts={"foreground_threshold": 0.35})
    made = segmenter()
    for threshold, doubted in ((0.5, True), (0.35, False)):
        known = made.settings | {"use": {"symmetries": False, "foreground_threshold": threshold}}
        summary = refining.refine_volume(
            image_job(tmp_path / str(threshold)),
            made._replace(settings=known),
            learned,
            jobs.Settings(tiff_export=False),
        )
        said = any("begins at a probability of 0.35, and here it begins at 0.5" in text for text in summary["warnings"])
        assert said == doubted
    summary = refining.refine_volume(label_job(tmp_path / "own"), None, learned, jobs.Settings(tiff_export=False))
    assert any(
        "begins at a probability of 0.35; where that of labels begins is not known" in t for t in summary["notes"]
    )
