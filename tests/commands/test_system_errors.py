"""A disk that is full, gone or not ours ends a command in one line, and the same command goes on afterwards."""

import errno
import os
import resource
import sys

import numpy as np
import pytest
from test_loop import batches, lines_of, train
from test_state import line

from maeref_jax.commands import command_line
from maeref_jax.errors import CannotGoOn
from maeref_jax.training import checkpoint


def ended(main, monkeypatch, capsys):
    """(exit code, stderr) of a command."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as exit_:
        command_line.run(main)
    return exit_.value.code, capsys.readouterr().err


def wrapped(error):
    """As a library passes on what one of its threads met."""
    try:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("the save thread failed") from cause
    except RuntimeError as found:
        return ExceptionGroup("several", [ValueError("another"), found])


STORE = (
    'RESOURCE_EXHAUSTED: Error writing "w/0" in OCDBT database at local file "/runs/a/": No space left on device [28]'
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/a/x"),
            "/runs/a/x: No space left on device; make room",
        ),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "Disk quota exceeded; make room, and give the same command"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), b"/a"), "/a: Read-only file system; see to its permissions"),
        (PermissionError(errno.EACCES, "no", "/a"), "/a: Permission denied; see to its permissions"),
        (FileNotFoundError(errno.ENOENT, "no", "/a"), "/a: No such file or directory; see whether the disk"),
        (ValueError(STORE), "/runs/a/: No space left on device; make room"),
        (wrapped(ValueError(STORE)), "/runs/a/: No space left on device; make room"),
        (wrapped(OSError(errno.EMFILE, "no")), "too many files are open; allow more"),
    ],
)
def test_one_line_says_where_what_and_what_to_do(monkeypatch, capsys, error, expected):
    def main(argv):
        raise error

    code, said = ended(main, monkeypatch, capsys)
    assert code == 1 and said.startswith("error: ") and expected in said and said.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("no number"), ZeroDivisionError()])
def test_a_bug_keeps_its_traceback(monkeypatch, capsys, error):
    def main(argv):
        raise error

    with pytest.raises(type(error)):
        command_line.run(main)


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

    def main(argv):
        train(tmp_path / "run", 20, every=2, data=filling, method=big())

    try:
        code, said = ended(main, monkeypatch, capfd)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert code == 1 and "File too large; no file may be so large there" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert len(lines_of(tmp_path / "run")) >= 4
    train(tmp_path / "run", 20, every=2, method=big())
    train(tmp_path / "whole", 20, every=2, method=big())
    whole, full = (checkpoint.load_best(tmp_path / name).params for name in ("whole", "run"))
    assert all(np.array_equal(whole[name], full[name]) for name in whole)


def test_running_out_of_memory_is_still_advice_about_memory(monkeypatch, capsys):
    def main(argv):
        raise CannotGoOn("out of memory; set a smaller batch")

    assert ended(main, monkeypatch, capsys) == (1, "error: out of memory; set a smaller batch\n")
