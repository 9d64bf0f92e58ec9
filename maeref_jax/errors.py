"""Errors that end a command with one line instead of a traceback, and how all that a user should know is told."""

import sys

MARK = "warning: "  # how a line that tells of a doubt begins


class BadInput(ValueError):
    """The user's input cannot be used. Says what was expected, what was found (path, shape, dtype) and what to do about
    it. Exit code 2.
    """


class CannotGoOn(RuntimeError):
    """A run that started well has to end: no memory left, a loss that is no number. Says what to change; code 1."""


def tell(text):
    """Prints a line that a user should read; one that begins with MARK on stderr."""
    print(text, file=sys.stderr if text.startswith(MARK) else sys.stdout, flush=True)
