"""The exceptions that are no bugs of ours; the entry scripts print them in one line, without a traceback."""


class BadInput(ValueError):
    """The user's input cannot be used. Says what was expected, what was found (path, shape, dtype) and what to do about
    it. Exit code 2.
    """


class CannotGoOn(RuntimeError):
    """A run that started well has to end: no memory left, a loss that is no number. Says what to change; code 1."""
