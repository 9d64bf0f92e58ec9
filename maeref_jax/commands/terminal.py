"""What is printed arrives, line by line, on any terminal and in any file: in Latin letters where it knows no others."""

import codecs
import os
import sys
from contextlib import suppress

# What our words hold beyond ASCII and a code page may lack.
_PLAIN = {"…": "...", "→": "->", "×": "x", "–": "-", "—": "-", "─": "-", "│": "|", "±": "+-", "≥": ">=", "≤": "<="}
_PLAIN |= {"µ": "u", "μ": "u", "²": "2", "³": "3", "τ": "tau", "·": "*", "Δ": "delta", "−": "-"}


def prepare() -> None:
    """Has stdout and stderr print what their encoding lacks in plain letters, "?" where there are none, instead of
    raising; and every line as soon as it is whole, also into a pipe: who waits sees it, and who is killed has said it.
    """
    codecs.register_error("maeref_plain", _in_plain_letters)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # others, of a notebook or a test, are no files of bytes
            stream.reconfigure(errors="maeref_plain", line_buffering=True)


def fall_silent() -> None:
    """From here on what is printed goes nowhere, and nothing fails because of that: whoever read it is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.write(stream.fileno(), b"")
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end
