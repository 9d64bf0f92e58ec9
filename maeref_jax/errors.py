"""The one exception that means "the user's input cannot be used"; the entry scripts print it and exit with code 2."""


class BadInput(ValueError):
    """Says what was expected, what was found (path, shape, dtype) and what to do about it.

    Every other exception is a bug of ours and keeps its traceback.
    """
