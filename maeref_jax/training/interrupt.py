"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP): answered at once, or, while training, after the step is finished and
saved, if that takes no longer than a scheduler waits; exit 130, 143 or 129.

Python acts on a signal between two of its own instructions, so a compilation, which is one, keeps it waiting for
minutes; and what a handler raises inside a callback of the garbage collector is dropped. Therefore a thread hears of
every signal as well, and ends the process where the main thread has not. Either way the interpreter is not wound up:
while a compilation goes on in other threads that ends in a segmentation fault. Files appear whole or not at all, so
that nothing half-written stays.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import numpy as np

# Windows has no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
PATIENCE_S = 8.0  # for training to finish a step and save; schedulers kill after 10 s and more
GRACE_S = 1.0  # for the main thread to remove temporary files and leave by itself
_may_wait = threading.Event()  # the next signal is one that training acts on after its step
_saved = threading.Event()  # what that signal asked for has been done
_patience = [PATIENCE_S]  # how long training may go on after it
_stopping: list[int] = []  # the signals that the main thread is leaving because of


@contextmanager
def answered() -> Iterator[None]:
    """While inside, SIGTERM raises SystemExit(143), Ctrl-C KeyboardInterrupt, and the process ends within GRACE_S of
    either; `Requests` puts off the first one. For the main thread, once. What was told to ignore a signal does: nohup,
    and a shell's background jobs.
    """
    heard, said = socket.socketpair()
    said.setblocking(False)
    before = signal.set_wakeup_fd(said.fileno(), warn_on_full_buffer=False)
    listened = [number for number in SIGNALS if not ignored(number)]
    handlers = [signal.signal(number, _stop) for number in listened]
    threading.Thread(target=_listen, args=(heard,), name="signals", daemon=True).start()
    try:
        yield
    finally:
        if _stopping:
            _leave(_stopping[0])
        for number, handler in zip(listened, handlers, strict=True):
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        said.close()


def ignored(number: int) -> bool:
    """Whether whoever started us wants this signal to be ignored."""
    return number != signal.SIGTERM and signal.getsignal(number) == signal.SIG_IGN


def _stop(number, frame) -> NoReturn:
    # An exception: temporary files are removed and progress bars closed on the way out.
    _stopping.append(number)
    if _importing(frame):
        _leave(number)
    sys.unraisablehook = lambda told: None  # where the exception is dropped, the thread ends us: nothing to tell
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _importing(frame) -> bool:
    """Whether something is being imported: libraries in C++ abort on an exception while they set themselves up."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _leave(number: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # nobody reads any more, or it is being written to just now
            stream.flush()
    os._exit(128 + number)


def _listen(heard: socket.socket) -> None:
    """Ends the process after a signal, the interpreter's other threads and what they compute included."""
    with heard:
        while numbers := heard.recv(16):
            for number in numbers:
                if number not in SIGNALS:
                    continue
                if _may_wait.is_set():
                    _may_wait.clear()
                    threading.Thread(target=_give_up, args=(number, _patience[0]), daemon=True).start()
                    continue
                time.sleep(GRACE_S)
                os._exit(128 + number)


def _give_up(number: int, seconds: float) -> NoReturn:
    """Ends the process after that time, if it has not left by itself: its last checkpoint is whole."""
    time.sleep(seconds)
    if not _saved.is_set():
        _say(f"not saved within {seconds:g} s (checkpoint.patience_s); the same command continues from the last one")
    os._exit(128 + number)


def _say(text: str) -> None:
    """Prints a line on stderr, if anybody hears it."""
    with suppress(OSError, ValueError, RuntimeError):  # RuntimeError: a handler that came while something was printed
        print(text, file=sys.stderr, flush=True)


def _fall_silent() -> None:
    """What was printed on a terminal that is closed goes nowhere from now on, and nothing fails because of that."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.write("\n")
            stream.flush()
        except RuntimeError:  # something is being printed just now
            continue
        except (OSError, ValueError):
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


class Requests:
    """What this process wants from all of them: to stop, because of a signal, or to save, because it is time.

    The wishes travel with the batch and come back summed over all devices (`state.Report.requests`), so that all
    processes act on them after the same step. A second signal acts at once, as it would without us; so does the first
    one before `listen`, and one that was not acted on within patience_s.
    """

    def __init__(self, minutes, primary, patience_s=PATIENCE_S):
        self.minutes, self.primary, self.saved = minutes, primary, time.monotonic()
        self.received, self.before, self.patience_s = np.zeros(len(SIGNALS), np.int32), {}, patience_s

    def __enter__(self):
        return self

    def listen(self):
        """From now on there is something to save; may be called before every step."""
        if not self.before:
            self.before = {number: signal.getsignal(number) for number in SIGNALS if not ignored(number)}
            _patience[0] = self.patience_s
            _may_wait.set()
            for number in self.before:
                signal.signal(number, self._receive)

    def __exit__(self, kind, *error):
        _may_wait.clear()
        self._restore()
        if kind is None and self.received.any():  # it came after the last step, which is saved
            sys.exit(agreed(self.received)[0])

    def _restore(self):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _receive(self, number, frame):
        self.received[SIGNALS.index(number)] = 1
        self._restore()
        if signal.Signals(number).name == "SIGHUP":
            _fall_silent()
        _say(f"\n{signal.Signals(number).name}: saving after this step")

    def wishes(self, devices):
        """int32 (devices, signals + 1): which of SIGNALS came, and whether it is time to save."""
        due = self.primary and self.minutes > 0 and time.monotonic() - self.saved > 60 * self.minutes
        return np.tile(np.append(self.received, np.int32(due)), (devices, 1))

    def leave(self, code, step):
        """The end of an interrupted run, whose state after `step` steps is being written."""
        _saved.set()
        if self.primary:
            _say(f"saved at step {step}; the same command continues")
        sys.exit(code)

    def was_saved(self):
        self.saved = time.monotonic()


def agreed(requests):
    """(exit code or None, whether to save) from the summed wishes of all processes."""
    requests = np.asarray(requests)
    asked = [128 + number for number, count in zip(SIGNALS, requests, strict=False) if count]
    return (asked[0] if asked else None), bool(requests.any())
