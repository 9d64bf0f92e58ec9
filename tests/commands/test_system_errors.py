"""A disk that is full, gone or not ours ends a command in one line, and the same command goes on afterwards."""

import errno
import os
import sys

import pytest

from maeref_jax.commands import command_line
from maeref_jax.errors import CannotGoOn


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


def test_running_out_of_memory_is_still_advice_about_memory(monkeypatch, capsys):
    def main(argv):
        raise CannotGoOn("out of memory; set a smaller batch")

    assert ended(main, monkeypatch, capsys) == (1, "error: out of memory; set a smaller batch\n")
