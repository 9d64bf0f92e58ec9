"""Ctrl-C and SIGTERM: answered at once, or, while training, after the step is finished and saved; exit 130 or 143.

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

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 1.0  # for the main thread to remove temporary files and leave by itself
_may_wait = threading.Event()  # the next signal is one that training acts on after its step
_stopping: list[int] = []  # the signals that the main thread is leaving because of


@contextmanager
def answered() -> Iterator[None]:
    """While inside, SIGTERM raises SystemExit(143), Ctrl-C KeyboardInterrupt, and the process ends within GRACE_S of
    either; `Requests` puts off the first one. For the main thread, once.
    """
    heard, said = socket.socketpair()
    said.setblocking(False)
    before = signal.set_wakeup_fd(said.fileno(), warn_on_full_buffer=False)
    handlers = [signal.signal(number, _stop) for number in SIGNALS]
    threading.Thread(target=_listen, args=(heard,), name="signals", daemon=True).start()
    try:
        yield
    finally:
        if _stopping:
            _leave(_stopping[0])
        for number, handler in zip(SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        said.close()


def _stop(number, frame) -> NoReturn:
    # An exception: temporary files are removed and progress bars closed on the way out.
    _stopping.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _leave(number: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more
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
                    continue
                time.sleep(GRACE_S)
                os._exit(128 + number)


class Requests:
    """What this process wants from all of them: to stop, because of a signal, or to save, because it is time.

    The wishes travel with the batch and come back summed over all devices (`state.Report.requests`), so that all
    processes act on them after the same step. A second signal acts at once, as it would without us; so does the first
    one before `listen`.
    """

    def __init__(self, minutes, primary):
        self.minutes, self.primary, self.saved = minutes, primary, time.monotonic()
        self.received, self.before = np.zeros(len(SIGNALS), np.int32), ()

    def __enter__(self):
        return self

    def listen(self):
        """From now on there is something to save; may be called before every step."""
        if not self.before:
            self.before = [signal.getsignal(number) for number in SIGNALS]
            _may_wait.set()
            for number in SIGNALS:
                signal.signal(number, self._receive)

    def __exit__(self, *error):
        _may_wait.clear()
        self._restore()

    def _restore(self):
        for number, handler in zip(SIGNALS, self.before, strict=False):
            signal.signal(number, handler)

    def _receive(self, number, frame):
        self.received[SIGNALS.index(number)] = 1
        self._restore()
        print(f"\n{signal.Signals(number).name}: saving after this step", file=sys.stderr, flush=True)

    def wishes(self, devices):
        """int32 (devices, 3): SIGINT, SIGTERM, time to save."""
        due = self.primary and self.minutes > 0 and time.monotonic() - self.saved > 60 * self.minutes
        return np.tile(np.append(self.received, np.int32(due)), (devices, 1))

    def leave(self, code, step):
        """The end of an interrupted run, whose state after `step` steps is being written."""
        if self.primary:
            print(f"saved at step {step}; the same command continues", file=sys.stderr, flush=True)
        sys.exit(code)

    def was_saved(self):
        self.saved = time.monotonic()


def agreed(requests):
    """(exit code or None, whether to save) from the summed wishes of all processes."""
    requests = np.asarray(requests)
    asked = [128 + number for number, count in zip(SIGNALS, requests, strict=False) if count]
    return (asked[0] if asked else None), bool(requests.any())
