"""A training whose disk is full ends in one line, and goes on when there is room."""

import contextlib
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from etils import epath
from test_loop import batches, lines_of, train
from test_state import line

from maeref_jax.commands import command_line
from maeref_jax.training import checkpoint
from maeref_jax.training.logs import Logs


def big():
    """A method with numbers that are too many for a small file."""
    small = line()
    return small._replace(
        init=lambda key, batch: (
            {**small.init(key, batch)[0], "big": np.random.default_rng(0).normal(size=50_000)},
            {},
        ),
    )


def test_training_on_a_full_disk_is_one_line_and_goes_on_when_there_is_room(tmp_path, monkeypatch, capfd):
    """What has no room here is a file of more than 64 kB, which works everywhere."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(step):
        if step == 9:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limit[1]))
        return batches(step)

    monkeypatch.setattr(sys, "argv", ["train.py"])

    def main(argv):
        train(tmp_path / "run", 20, every=2, data=filling, method=big())

    try:
        with pytest.raises(SystemExit) as exit_:
            command_line.run(main)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    said = capfd.readouterr().err
    assert exit_.value.code == 1 and "File too large; no file may be so large there" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert len(lines_of(tmp_path / "run")) >= 4
    late = SimpleNamespace(exc_value=RuntimeError("Event loop is closed"))
    sys.unraisablehook(late)  # of a write that comes to its end only now: nobody hears of it
    train(tmp_path / "run", 20, every=2, method=big())
    train(tmp_path / "whole", 20, every=2, method=big())
    whole, full = (checkpoint.load_best(tmp_path / name).params for name in ("whole", "run"))
    assert all(np.array_equal(whole[name], full[name]) for name in whole)


def test_what_a_failed_save_still_writes_does_not_keep_the_next_training_from_its_start(tmp_path):
    """As in a notebook, where the process that failed is the one that goes on."""
    train(tmp_path / "run", 2, every=2)
    folder = tmp_path / "run" / "checkpoints" / "6.orbax-checkpoint-tmp" / "d"
    folder.mkdir(parents=True)
    deadline = time.monotonic() + 0.5

    def late_writes():
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                for name in range(50):
                    (folder / str(name)).touch()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(late_writes)
        train(tmp_path / "run", 4, every=2)
        writing.result()
    assert checkpoint.saved_steps(tmp_path / "run")[-1] == 4


def test_a_picture_for_which_there_is_no_room_leaves_the_last_one_whole(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Logs(epath.Path(tmp_path), 0, 2, 1, "crops") as logs:
        logs._picture(b"whole" * 1000, {"image": 1})
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, limit[1]))
        try:
            logs._picture(b"cut" * 1000, {"image": 1})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (tmp_path / "validation.png").read_bytes() == b"whole" * 1000
    assert not list(tmp_path.glob("*.part"))
