"""training/members.py: every ensemble member is kept as it was at its own best step, whatever the others do."""

import json

import numpy as np
import pytest
from test_loop import everything_saved_last, lines_of, settings_of
from test_state import batch, line

from maeref_jax.errors import CannotGoOn
from maeref_jax.records import MEMBER_LOSS
from maeref_jax.training import checkpoint, loop, members
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.state import Progress, TrainState
from maeref_jax.training.workdir import write_summary

MEMBERS = 2


def data(step, spoilt=()):
    """Lines of other slopes for every member; those of `spoilt` members are others still."""
    found = batch(np.random.default_rng(step), 4, MEMBERS)
    slopes = np.where(np.isin(np.arange(MEMBERS), spoilt), -7.0, (3.0, 0.4)).astype(np.float32)
    return {**found, "y": slopes * found["x"] + 1}


def train(folder, steps, spoilt=(), every=1, keep=100, **optimizer):
    folder.mkdir(exist_ok=True)
    settings = settings_of(steps, every, rate=0.3, **optimizer)
    settings["checkpoint"]["keep"] = keep
    built = build_optimizer({**settings["optimizer"], "steps": steps}, MEMBERS)
    validation = [data(1000, spoilt), data(1001, spoilt)]
    return loop.train(line(MEMBERS), built, lambda step: data(step, spoilt), validation, settings, folder)


def saved(folder, step):
    return checkpoint.load_items(folder, step, ("model", "training"))


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_every_member_is_used_as_it_was_at_its_own_best_evaluation(tmp_path, average):
    summary = train(tmp_path / "run", 12, average=average)
    losses = np.array(
        [[one[f"validation_{MEMBER_LOSS.format(i)}"] for i in range(MEMBERS)] for one in lines_of(tmp_path / "run")]
    )
    best = losses.argmin(0) + 1
    assert summary["member_steps"] == best.tolist() and len(set(best)) == MEMBERS and best.min() < 12
    params = checkpoint.load_best(tmp_path / "run").params
    for i, step in enumerate(best):
        then = saved(tmp_path / "run", step)["training"]["current"]["params"]
        assert params["w"][i] == then["w"][i] and params["b"][i] == then["b"][i]
    found = summary["validation"]
    own = [found[f"validation_{MEMBER_LOSS.format(i)}"] for i in range(MEMBERS)]
    np.testing.assert_allclose(own, losses.min(0), rtol=1e-6)
    assert np.isclose(found["validation_loss"], np.mean(own), rtol=1e-6), "the numbers told are of what is used"


def test_training_goes_on_from_the_current_parameters_and_a_later_save_offers_the_same_members(tmp_path):
    best = train(tmp_path / "run", 12)["member_steps"]
    last, first = saved(tmp_path / "run", 12), saved(tmp_path / "run", max(best))
    np.testing.assert_array_equal(last["model"]["params"]["w"], first["model"]["params"]["w"])
    assert (last["training"]["current"]["params"]["w"] != last["model"]["params"]["w"]).any()
    assert checkpoint.load_best(tmp_path / "run").step == max(best), "the first that holds the best of all"


def test_another_member_does_not_reach_one(tmp_path):
    steps = [train(tmp_path / name, 12, spoilt)["member_steps"] for name, spoilt in (("one", ()), ("other", (1,)))]
    one, other = (checkpoint.load_best(tmp_path / name).params for name in ("one", "other"))
    assert steps[0][0] == steps[1][0] and one["w"][0] == other["w"][0] and one["b"][0] == other["b"][0]
    assert one["w"][1] != other["w"][1]


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_a_run_continued_keeps_the_same_members_to_the_bit(tmp_path, average):
    summaries = {}
    for name, stops in (("whole", [12]), ("continued", [2, 9, 12])):
        for steps in stops:
            # With few checkpoints kept: nothing is read back from an older one.
            summaries[name] = train(tmp_path / name, steps, keep=2, average=average)
    assert everything_saved_last(tmp_path / "whole") == everything_saved_last(tmp_path / "continued")
    for name in ("member_steps", "validation"):
        assert summaries["whole"][name] == summaries["continued"][name]


def test_a_save_between_evaluations_keeps_what_was_best(tmp_path):
    """Time to save, or a signal, before the first evaluation and between two."""
    settings = settings_of(4)
    state = TrainState(np.int32(3), {"w": np.ones(2, np.float32)}, {}, (), (), Progress())
    best = members.Best(np.float32([1, 2]), np.int32([1, 2]), {"w": np.float32([5, 6])}, {})
    for name, kept in (("never", members.untried(state, 2)), ("before", best)):
        with checkpoint.open_checkpoints(tmp_path / name) as checkpoints:
            checkpoint.save(checkpoints, state, settings, best=kept)
            checkpoints.wait_until_finished()
            again, found = checkpoint.restore_latest(checkpoints, state, 2)
        for one, other in zip(found[:2], kept[:2], strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(found.params["w"], kept.params["w"])
        np.testing.assert_array_equal(again.params["w"], [1, 1])


def test_statistics_of_a_member_go_with_it_and_what_is_shared_does_not():
    old = {"statistics": {"mean": np.zeros((2, 3))}, "range": np.float32([0, 1])}
    new = {"statistics": {"mean": np.ones((2, 3))}, "range": np.float32([5, 6])}
    best = members.Best(np.float32([0.5, 0.5]), np.int32([1, 1]), {"w": np.zeros((2, 4))}, old)
    state = TrainState(np.int32(7), {"w": np.ones((2, 4))}, new, (), (), Progress())
    found = members.improved(best, state, np.float32([0.5, 0.4]), ("statistics",))
    assert found.step.tolist() == [1, 7], "as good as before is no better"
    np.testing.assert_array_equal(found.params["w"], [[0] * 4, [1] * 4])
    np.testing.assert_array_equal(found.state["statistics"]["mean"], [[0] * 3, [1] * 3])
    np.testing.assert_array_equal(found.state["range"], [5, 6])
    with pytest.raises(CannotGoOn, match=r"step 7 gives members \[1\]"):
        members.improved(best, state, np.float32([0.5, np.nan]), ())


def test_without_members_a_checkpoint_holds_what_it_always_did(tmp_path):
    state = TrainState(np.int32(3), {"w": np.float32(1)}, {}, (), (), Progress())
    with checkpoint.open_checkpoints(tmp_path) as checkpoints:
        checkpoint.save(checkpoints, state, settings_of(4), 0.5)
        checkpoints.wait_until_finished()
        again, best = checkpoint.restore_latest(checkpoints, state)
    assert best is None and again.params["w"] == 1
    items = saved(tmp_path, 3)
    assert sorted(items["model"]) == ["params", "state"] and sorted(items["training"]) == [
        "optimizer", "progress", "step"
    ]  # fmt: skip


def test_the_model_card_tells_the_step_of_every_member(tmp_path):
    settings = {"method": "line", "seed": 0, "window": (4, 4), "classes": {"names": ("a",)}}
    summary = {"steps": 9, "member_steps": [4, 8], "validation": {"validation_loss": 0.5}}
    write_summary(tmp_path, settings, {}, summary)
    assert "after the steps 4, 8" in (tmp_path / "model_card.md").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["member_steps"] == [4, 8]
