"""Ctrl-C and SIGTERM while training: finish the step, save, say so, leave with 130 or 143."""

import signal
import sys
import time

import numpy as np

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Requests:
    """What this process wants from all of them: to stop, because of a signal, or to save, because it is time.

    The wishes travel with the batch and come back summed over all devices (`state.Report.requests`), so that all
    processes act on them after the same step. A second signal acts at once, as it would without us.
    """

    def __init__(self, minutes, primary):
        self.minutes, self.primary, self.saved = minutes, primary, time.monotonic()
        self.received = np.zeros(len(SIGNALS), np.int32)

    def __enter__(self):
        self.before = [signal.getsignal(number) for number in SIGNALS]
        for number in SIGNALS:
            signal.signal(number, self._receive)
        return self

    def __exit__(self, *error):
        for number, handler in zip(SIGNALS, self.before, strict=True):
            signal.signal(number, handler)

    def _receive(self, number, frame):
        self.received[SIGNALS.index(number)] = 1
        for each, handler in zip(SIGNALS, self.before, strict=True):
            signal.signal(each, handler)
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
