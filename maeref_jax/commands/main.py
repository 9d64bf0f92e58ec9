"""maeref COMMAND …: the one door for what is typed. In a checkout train.py, refine.py and evaluate.py open it as well.

A command is a file of this room with `main(argv) -> exit code` and a docstring, which --help shows.
"""

import difflib
import functools
import importlib
import os
import signal
import sys
from typing import NoReturn

from maeref_jax import __version__
from maeref_jax.errors import BadInput

COMMANDS = {
    "train": "train a segmenter or a refiner",
    "refine": "segment volumes, and fill in their unreliable places",
    "tissue": "masks of the tissue in volumes of resin",
    "verify": "compare results with what was written, and have what is damaged made again",
    "evaluate": "judge a refinement by the truth",
    "calibrate": "make the confidence of a refiner honest",
    "out-of-fold": "predict an ensemble's own training volumes by members that never saw them",
    "export-member": "one member of an ensemble as a workdir of its own",
    "sample-labels": "clicks drawn from a label volume, to try how few would do",
    "render": "images of known label volumes, to train and to judge with",
    "import-original": "bring a checkpoint of the original implementation along",
}


def start(command: str = "") -> NoReturn:
    """Runs the command that sys.argv names, or `command` with sys.argv, and exits with its code."""
    _speak_utf8()
    # The libraries take a while to import; who stops us then is answered at once, by the system.
    for number in (signal.SIGTERM, signal.SIGINT):
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        from maeref_jax.commands import command_line

        command_line.run(functools.partial(run, command) if command else main)
    except ModuleNotFoundError as error:
        if (error.name or "maeref_jax").startswith("maeref_jax"):
            raise
        print(
            f"error: the Python package '{error.name}' is not installed for {sys.executable}; install what is needed "
            "with: python -m pip install -r requirements.txt (after `make demo` or `make test`, use .venv/bin/python)",
            file=sys.stderr,
        )
        sys.exit(2)


def _speak_utf8() -> None:
    """Where the system's locale has another encoding, starts Python again without it: TensorStore knows file names in
    UTF-8 only, and would take others for other files. What a terminal can print is another matter (terminal.py).
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"  # for workers as well
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main(argv: list[str]) -> int | None:
    if argv[:1] in (["--version"], ["-V"]):
        return print(f"maeref_jax {__version__}")
    if not argv or argv[0] in ("--help", "-h", "help"):
        lines = "\n".join(f"  {name:<17}{what}" for name, what in COMMANDS.items())
        print(f"usage: maeref COMMAND …\n\n{lines}\n\nmaeref COMMAND --help says more.")
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        close = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise BadInput(f"there is no command '{argv[0]}', expected one of {', '.join(COMMANDS)}{hint}")
    sys.argv[:1] = [f"maeref {argv[0]}"]  # as --help calls it
    return run(argv[0], argv[1:])


def run(command: str, argv: list[str]) -> int | None:
    """Runs one of COMMANDS. Imported late: the help above is there at once."""
    return importlib.import_module(f"maeref_jax.commands.{command.replace('-', '_')}").main(argv)
