"""training/checkpoint.py: what is loaded is what was saved, or it is refused; never other numbers."""

import json
import random
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.training import checkpoint
from maeref_jax.training.state import Progress, TrainState

SETTINGS = {"seed": 0, "window": (16, 16), "classes": {"names": ("background", "shell")}}
# Of several damaged files orbax reports one; the futures of the others are collected unread.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def state_of(step):
    rng = np.random.default_rng(step)
    params = {"kernel": rng.normal(size=(64, 64)).astype(np.float32), "half": np.ones(3, ml_dtypes.bfloat16) * step}
    return TrainState(np.int32(step), params, {"mean": np.float32(step)}, (params, (), np.int32(step)), (), Progress())


def save(folder, **scores):
    """Checkpoints of the steps and scores in `scores`, as {"step_1": 0.5}."""
    with checkpoint.open_checkpoints(folder, keep=9) as checkpoints:
        for name, score in scores.items():
            checkpoint.save(checkpoints, state_of(int(name.removeprefix("step_"))), SETTINGS, score)
    return folder


def place(folder, step):
    return folder / "checkpoints" / str(step)


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def is_that_of(loaded, step):
    expected = state_of(step)
    pairs = (
        leaves({"params": loaded.params, "state": loaded.state}),
        leaves({"params": expected.params, "state": expected.state}),
    )
    return pairs[0].keys() == pairs[1].keys() and all(
        pairs[0][name].tobytes() == pairs[1][name].tobytes() and pairs[0][name].dtype == pairs[1][name].dtype
        for name in pairs[0]
    )


def damages(files, rng):
    """A file and its bytes after a flipped bit, a cut, or its removal (None): 60, 6 and 6 of them."""
    for number in range(72):
        file = rng.choice(files)
        data = bytearray(file.read_bytes())
        if number < 60:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        yield file, None if number >= 66 else bytes(data if number < 60 else data[: rng.randrange(len(data))])


def test_flipped_bits_are_refused_or_change_nothing_and_so_is_what_is_cut_or_missing(tmp_path):
    run, refused = save(tmp_path / "run", step_1=0.5), 0
    used = [place(run, 1) / name for name in ("model", "digests", "metrics")]
    files = sorted(path for folder in used for path in folder.rglob("*") if path.is_file())
    for file, data in damages(files, random.Random(0)):
        whole = file.read_bytes()
        file.unlink() if data is None else file.write_bytes(data)
        try:
            assert is_that_of(checkpoint.load_best(run), 1), f"other numbers, without a word: {file}"
        except BadInput as error:
            refused += 1
            assert "checkpoints/1 is damaged" in str(error) and "\n" not in str(error)
        file.write_bytes(whole)
    assert refused > 20, "the test must hit what matters"


def test_other_numbers_in_a_whole_store_are_found(tmp_path):
    """What no checksum of a file can see: a checkpoint that was put together from two."""
    run = save(tmp_path / "run", step_1=0.5, step_2=0.4)
    shutil.rmtree(place(run, 2) / "model")
    shutil.copytree(place(run, 1) / "model", place(run, 2) / "model")
    loaded = checkpoint.load_best(run)
    assert (loaded.step, loaded.damaged) == (1, (2,)) and is_that_of(loaded, 1)
    assert (
        "checkpoints/2 (state/mean holds other numbers than were saved)" in loaded.doubts[0]
        or "params/" in loaded.doubts[0]
    )
    (found,) = checkpoint.verify(run)
    assert found.damaged and found.path.endswith("checkpoints/2") and "holds other numbers" in found.text


def test_an_edited_score_does_not_choose_the_checkpoint(tmp_path):
    run = save(tmp_path / "run", step_1=0.5, step_2=0.4, step_3=0.9)
    assert checkpoint.load_best(run)[2:] == (2, (), ())
    (place(run, 3) / "metrics" / "metrics").write_text('{"score": 0.1}')
    loaded = checkpoint.load_best(run)
    assert (loaded.step, loaded.damaged) == (2, (3,)) and "(its score)" in loaded.doubts[0]


def test_of_an_earlier_version_without_digests_it_is_taken_as_it_is(tmp_path):
    run = save(tmp_path / "run", step_1=0.5)
    shutil.rmtree(place(run, 1) / "digests")
    with pytest.raises(BadInput, match=r"checkpoints/1 is damaged \(its digests are missing\)"):
        checkpoint.load_best(run)
    about = place(run, 1) / "_CHECKPOINT_METADATA"
    content = json.loads(about.read_text())
    del content["item_handlers"]["digests"]
    about.write_text(json.dumps(content))
    assert is_that_of(checkpoint.load_best(run), 1) and checkpoint.load_best(run).doubts == ()
    (found,) = checkpoint.verify(run)
    assert not found.damaged and "earlier version" in found.text


def test_the_settings_are_those_of_the_latest_that_are_whole(tmp_path):
    run = save(tmp_path / "run", step_1=0.5, step_2=0.4)
    step, settings = checkpoint.saved_settings(run)
    assert step == 2 and settings == json.loads(json.dumps(SETTINGS))
    edited = {**settings, "seed": 1}
    (place(run, 2) / "settings" / "metadata").write_text(json.dumps(edited))
    assert checkpoint.saved_settings(run) == (1, settings)
    (place(run, 1) / "settings" / "metadata").write_text("[" * 100_000)
    assert checkpoint.saved_settings(run) is None and checkpoint.saved_settings(tmp_path) is None


def test_training_goes_on_from_the_one_before_a_damaged_one(tmp_path, capfd):
    run = save(tmp_path / "run", step_1=0.5, step_2=0.4)
    shutil.rmtree(place(run, 2) / "training")
    shutil.copytree(place(run, 1) / "training", place(run, 2) / "training")
    with checkpoint.open_checkpoints(run, keep=9) as checkpoints:
        state, _ = checkpoint.restore_latest(checkpoints, state_of(1))
    assert state.step == 1 and "checkpoint 2 is damaged (optimizer/" in capfd.readouterr().err
    assert [folder.name for folder in (run / "damaged").iterdir()] == ["2_0"]
