"""training/loop.py and its neighbours: a run that is stopped anywhere and goes on is one run."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.io import imread
from test_state import SETTINGS, batch, line

from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.training import checkpoint, loop, workdir
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.state import Progress, TrainState


def batches(step):
    return batch(np.random.default_rng(step), 4)


def settings_of(steps, every=5, **optimizer):
    return {
        "seed": 0, "steps": steps, "evaluate_every": every, "batch": 4, "stop_after": 0, "init_from": "",
        "checkpoint": {"minutes": 0.0, "keep": 2, "best": "loss", "patience_s": 8.0},
        "classes": {"colours": ((0, 0, 0),)},
        "optimizer": {**SETTINGS, **optimizer},
    }  # fmt: skip


def train(folder, steps, every=5, data=batches, method=None, stop_after=0, **optimizer):
    folder.mkdir(exist_ok=True)
    settings = {**settings_of(steps, every, **optimizer), "stop_after": stop_after}
    built = build_optimizer({**settings["optimizer"], "steps": steps})
    return loop.train(method or line(), built, data, [batches(1000), batches(1001)], settings, folder)


def lines_of(folder):
    return [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("optimizer", [{}, {"name": "adamax", "average": 0.9, "accumulate": 2, "schedule": "plateau"}])
def test_a_run_continued_equals_a_run_in_one_go(tmp_path, optimizer):
    for name, stops in (("whole", [20]), ("continued", [10, 20])):
        for steps in stops:
            train(tmp_path / name, steps, **optimizer)
    whole, continued = (checkpoint.load_best(tmp_path / name).params for name in ("whole", "continued"))
    assert whole["w"] == continued["w"] and whole["b"] == continued["b"]
    assert [found["step"] for found in lines_of(tmp_path / "continued")] == [5, 10, 15, 20]


def test_the_best_checkpoint_is_used_not_the_latest(tmp_path):
    summary = train(tmp_path / "run", 8, every=1, rate=3.0)
    losses = [found["validation_loss"] for found in lines_of(tmp_path / "run")]
    assert losses.index(min(losses)) + 1 == summary["validation"]["step"] == checkpoint.load_best(tmp_path / "run").step
    params = checkpoint.load_best(tmp_path / "run").params
    total, count = (sum(line().evaluate(params, {}, batches(i))["loss"][j] for i in (1000, 1001)) for j in (0, 1))
    assert np.isclose(total / count, min(losses), rtol=1e-5)


def test_early_stopping_ends_the_run_and_it_stays_ended(tmp_path):
    summary = train(tmp_path / "run", 100, every=1, rate=3.0, stop_after=3)
    best = summary["validation"]["step"]
    assert summary["steps"] == best + 3 < 100
    assert train(tmp_path / "run", 100, every=1, rate=3.0, stop_after=3)["steps"] == best + 3


def test_a_plateau_lowers_the_rate_and_the_highest_may_be_the_best(tmp_path):
    settings = settings_of(10, schedule="plateau", patience=2, decay=0.5)
    state = TrainState(np.int32(4), {}, {}, (), (), Progress(best=np.float32(1)))
    found = []
    for score in (1.0, 2.0, 0.5, 0.6):
        state = state._replace(progress=loop.progressed(state, score, settings))
        found.append((float(state.progress.rate_scale), int(state.progress.stale)))
    assert found == [(1.0, 1), (0.5, 2), (0.5, 0), (0.5, 1)]
    settings["checkpoint"]["best"] = "-dice"
    assert loop.scored({"loss": 1.0, "dice": 0.8}, settings) == -0.8
    settings["checkpoint"]["best"] = "accuracy"
    with pytest.raises(BadInput, match="must be one of loss, or"):
        loop.train(line(), build_optimizer(settings["optimizer"]), batches, [batches(1)], settings, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_last_good_checkpoint(tmp_path):
    def broken(step):
        data = batches(step)
        return {**data, "y": data["y"] + np.float32(np.nan)} if step == 7 else data

    with pytest.raises(CannotGoOn, match=r"step 8, samples 0 to 3 .* that of step 5"):
        train(tmp_path / "run", 20, data=broken)
    assert checkpoint.load_best(tmp_path / "run").step == 5


def test_running_out_of_memory_says_which_knob_to_turn(tmp_path):
    def greedy(params, state, data, key):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes")

    with pytest.raises(CannotGoOn, match=r"optimizer\.accumulate"):
        train(tmp_path / "run", 5, method=line()._replace(loss=greedy))


# Of several damaged files orbax reports one; the futures of the others are collected unread.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["cut", "flipped", "missing"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(tmp_path, capfd, how):
    train(tmp_path / "whole", 20)
    train(tmp_path / "run", 10)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    for file in sorted((tmp_path / "run" / "checkpoints" / "10").rglob("*")):
        data = file.read_bytes() if file.is_file() else b""
        if "/d/" not in str(file) or not data:  # the numbers themselves
            continue
        if how == "missing":
            file.unlink()
        else:
            half = len(data) // 2
            file.write_bytes(
                data[:half] if how == "cut" else data[:half] + bytes([data[half] ^ 255]) + data[half + 1 :]
            )
    loaded = checkpoint.load_best(tmp_path / "run")
    assert (loaded.step, loaded.damaged) == (5, (10,)) and "damaged is checkpoints/10" in loaded.doubts[0]
    train(tmp_path / "run", 20)
    assert "checkpoint 10 is damaged" in capfd.readouterr().err
    assert [found.name.split("_")[0] for found in (tmp_path / "run" / "damaged").iterdir()] == ["10"]
    whole, repaired = (checkpoint.load_best(tmp_path / name).params for name in ("whole", "run"))
    assert whole["w"] == repaired["w"]


def everything_saved_last(folder):
    """The bytes of the last checkpoint: parameters, their average, the optimiser, the step, the progress."""
    items = checkpoint.load_items(folder, checkpoint.saved_steps(folder)[-1], ("model", "training"))
    leaves = jax.tree_util.tree_leaves_with_path(items)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


KILLED = """
import sys; sys.path.insert(0, "tests/training")
import time
from pathlib import Path
from test_loop import batches, train
made = []
def slowly(step):
    made.append(step)
    if len(made) > 4:  # the first one is asked for twice, two are made ahead: a step was taken
        (Path(sys.argv[1]) / "training").touch()
    time.sleep(0.002)
    return batches(step)
for folder in sys.argv[1:]:
    train(Path(folder), 200, every=3, data=slowly, average=0.9)
"""


def start(root, folder, *others):
    """A process that has begun to train; when it has ended, it trains in other folders."""
    folder.mkdir(exist_ok=True)
    (folder / "training").unlink(missing_ok=True)
    command = [sys.executable, "-c", KILLED, str(folder), *map(str, others)]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (folder / "training").exists():
        time.sleep(0.01)
    return process


def test_killed_again_and_again_and_interrupted_it_ends_with_the_same_bits(root, tmp_path):
    rng, folder = random.Random(0), tmp_path / "killed"
    for number, code in ((signal.SIGKILL, -9), (signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = start(root, folder)
        time.sleep(0.4 + rng.uniform(0, 0.4))  # compiled; every third step saves, so that most kills hit a save
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert process.returncode == code, error
        assert number == signal.SIGKILL or ("the same command continues" in error and "Traceback" not in error)
    # In one go there as well: this process may have been started with other flags of the compiler.
    _, error = start(root, folder, tmp_path / "whole").communicate(timeout=120)
    whole, killed = (everything_saved_last(tmp_path / name) for name in ("whole", "killed"))
    assert whole == killed, error
    assert [found["step"] for found in lines_of(folder) if "validation_loss" in found] == [*range(3, 200, 3), 200]


def test_prefetched_batches_come_in_order():
    assert [(step, got) for step, got in loop.prefetch(lambda step: step * 10, range(3, 8))] == [
        (step, step * 10) for step in range(3, 8)
    ]


def test_an_error_while_making_a_batch_reaches_the_user():
    def broken(step):
        raise BadInput("no such volume")

    with pytest.raises(BadInput, match="no such volume"):
        list(loop.prefetch(broken, range(3)))


def test_a_workdir_is_copied_anywhere_and_zipped(tmp_path):
    train(tmp_path / "run", 10)
    params = checkpoint.load_best(tmp_path / "run").params
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    shutil.unpack_archive(tmp_path / "packed.zip", tmp_path / "elsewhere")
    assert checkpoint.load_best(tmp_path / "elsewhere").params["w"] == params["w"]


def test_fine_tuning_takes_what_fits_and_class_layers_only_for_the_same_classes():
    ours = {"body": {"kernel": np.zeros((3, 4))}, "head": {"kernel": np.zeros((4, 2))}}
    theirs = {"body": {"kernel": np.ones((3, 4))}, "head": {"kernel": np.ones((4, 2))}}
    taken, fresh = checkpoint.adopted(ours, theirs, "there", same_classes=True)
    assert taken["body"]["kernel"].all() and taken["head"]["kernel"].all() and fresh == []
    taken, fresh = checkpoint.adopted(
        ours, {**theirs, "head": {"kernel": np.ones((4, 5))}}, "there", same_classes=False
    )
    assert taken["body"]["kernel"].all() and not taken["head"]["kernel"].any() and fresh == ["['head']['kernel']"]
    for other, message in (
        ({**theirs, "body": {"kernel": np.ones((3, 9))}}, r"body.*\(3, 9\) there"),
        ({**theirs, "extra": np.ones(2)}, r"extra.*not here"),
        ({"head": theirs["head"]}, r"body.*absent there"),
    ):
        with pytest.raises(BadInput, match=message):
            checkpoint.adopted(ours, other, "there", same_classes=True)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no checkpoints"):
        checkpoint.load_best(tmp_path)
    with pytest.raises(BadInput, match=r"config\.json"):
        workdir.read_config(tmp_path)


def test_a_workdir_of_other_settings_is_refused_naming_the_difference(tmp_path):
    settings = {"method": "line", "steps": 10, "model": {"width": 4, "strides": ((2, 2),)}}
    workdir.check_same_run(tmp_path, settings)
    workdir.write_config(tmp_path, settings, {})
    workdir.check_same_run(tmp_path, {**settings, "steps": 20})
    with pytest.raises(BadInput, match=r"model\.width: 4 there, 8 here"):
        workdir.check_same_run(tmp_path, {**settings, "model": {"width": 8, "strides": ((2, 2),)}})


def test_event_files_hold_scalars_and_a_picture_which_is_a_file_too(tmp_path, capfd):
    from tensorboardX.proto.event_pb2 import Event

    def preview(params, state, data):
        return {"image": data["x"][:, None, None] * jnp.ones((4, 8, 8)), "truth": jnp.zeros((4, 8, 8), jnp.int32)}

    train(tmp_path / "run", 5, method=line()._replace(preview=preview))
    (file,) = (tmp_path / "run" / "tensorboard").iterdir()
    data, tags = file.read_bytes(), set()
    while data:  # length, checksum, event, checksum
        length = int.from_bytes(data[:8], "little")
        tags |= {value.tag for value in Event.FromString(data[12 : 12 + length]).summary.value}
        data = data[16 + length :]
    assert {"validation/loss", "validation"} <= tags
    picture = tmp_path / "run" / "validation.png"
    assert imread(picture).shape[2] == 3
    assert f"{picture} (from left to right: image, truth)" in capfd.readouterr().out


@pytest.mark.parametrize("steps", [20, 12, 3])
def test_a_profile_is_written_however_short_the_run(tmp_path, capfd, steps):
    settings = settings_of(steps)
    built = build_optimizer(settings["optimizer"])
    loop.train(line(), built, batches, [batches(1)], settings, tmp_path, profile=True)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert "wrote a profile" in capfd.readouterr().err


def test_a_model_may_be_used_while_it_is_trained(tmp_path):
    train(tmp_path / "run", 10)
    saving = tmp_path / "run" / "checkpoints" / "15.orbax-checkpoint-tmp"
    saving.mkdir()
    checkpoint.load_best(tmp_path / "run")
    assert saving.exists(), "whoever reads must not tidy up what is being written"


def test_a_checkpoint_that_was_never_evaluated_is_no_model(tmp_path):
    state = TrainState(np.int32(1), {"w": np.ones(3, np.float32)}, {}, (), (), Progress())
    with checkpoint.open_checkpoints(tmp_path) as checkpoints:
        checkpoint.save(checkpoints, state, settings_of(4))
    with pytest.raises(BadInput, match="no evaluated checkpoint"):
        checkpoint.load_best(tmp_path)


def test_where_nothing_can_be_read_nothing_is_moved(tmp_path):
    train(tmp_path / "run", 10)
    for step in ("5", "10"):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / step / "training")
    for _ in range(2):
        with pytest.raises(BadInput, match="none of the checkpoints"):
            train(tmp_path / "run", 20)
        for step in ("5", "10"):
            (tmp_path / "run" / "checkpoints" / step / "metrics" / "metrics").write_text("{}")
    assert not (tmp_path / "run" / "damaged").exists() and len(lines_of(tmp_path / "run")) == 2


def test_a_damaged_score_and_a_damaged_log_do_not_end_a_run(tmp_path, capfd):
    train(tmp_path / "run", 10)
    (tmp_path / "run" / "checkpoints" / "10" / "metrics" / "metrics").write_text('{"sco')
    assert "checkpoints/10 (its score)" in checkpoint.load_best(tmp_path / "run").doubts[0]
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "trai}\n')
    assert train(tmp_path / "run", 20)["validation"]["step"] in (5, 10, 15, 20)
    assert "checkpoint 10 is damaged" in capfd.readouterr().err


def test_a_signal_never_skips_an_evaluation(tmp_path, monkeypatch):
    """The run is told to stop while the step before an evaluation runs; it goes on as if nothing had happened."""
    options = {"schedule": "plateau", "patience": 1, "rate": 3.0}
    train(tmp_path / "whole", 12, every=2, **options)
    calls = iter(range(100))

    def wishes(self, devices):
        return np.tile(np.array([0, next(calls) == 6, 0, 0], np.int32), (devices, 1))

    with monkeypatch.context() as patch:
        patch.setattr(loop.Requests, "wishes", wishes)
        with pytest.raises(SystemExit) as stopped:
            train(tmp_path / "stopped", 12, every=2, **options)
    assert stopped.value.code == 143
    train(tmp_path / "stopped", 12, every=2, **options)
    assert lines_of(tmp_path / "whole") == lines_of(tmp_path / "stopped")


def test_validation_that_is_no_number_is_an_error(tmp_path):
    def evaluate(params, state, data):
        return {"loss": (jnp.float32(jnp.nan), jnp.float32(1))}

    with pytest.raises(CannotGoOn, match="validation at step 5"):
        train(tmp_path / "run", 10, method=line()._replace(evaluate=evaluate))
