"""That work is alive, for whoever waits for it.

On a terminal a bar with its rate and the time left; elsewhere, in a log file or a scheduler's output, a line at most
once a minute, also while nothing advances.

    with showing("a: refine", total=12, unit="block") as shown:
        shown.advance()

What has no total (a compilation, loading a model) shows for how long it has gone on. Where pieces of work lie in one
another, the line is about the innermost. Everything goes to stderr.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

LINE_S = 60.0  # between two lines, where stderr is no terminal
REDRAWN_S = 1.0  # a bar on a terminal
_WITHOUT_TOTAL = "{desc}, {elapsed}{postfix}"

_lock = threading.Lock()
_shown: list["Shown"] = []  # what is at work, the innermost last
_ticking = threading.Event()


class Shown:
    """One piece of work. total, unit: None and "" where it cannot be counted; done: how much of it was there before;
    count: says how much is done, where nobody calls `advance`; scaled: the bar writes 12.3k; silent: shows nothing.
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        unit: str = "",
        done: int = 0,
        count: Callable[[], int] | None = None,
        scaled: bool = False,
        silent: bool = False,
    ):
        self.what, self.total, self.unit, self.count, self.silent = what, total, unit, count, silent
        self.began, self.before, self.done, self.noted = time.monotonic(), done, done, ""
        form = {} if total is not None else {"bar_format": _WITHOUT_TOTAL, "leave": False}
        how = {"unit_scale": scaled, "dynamic_ncols": True, "disable": True if silent else None}
        self.bar = tqdm(desc=what, total=total, initial=done, unit=f" {unit}", **how, **form)

    def advance(self, by: int = 1) -> None:
        """So much more is done."""
        with _lock:
            self.done += by
            self.bar.update(by)

    def note(self, text: str) -> None:
        """What stands behind the bar or the line from now on: losses, what is waited for."""
        self.noted = text
        self.bar.set_postfix_str(text)

    def line(self, now: float) -> str:
        """How it stands, for those without a terminal."""
        passed = now - self.began
        noted = f" ({self.noted})" if self.noted else ""
        if self.total is None:
            return f"still {self.what}, {_duration(passed)}{noted}"
        words = f"{self.what}: {self.done:,} of {self.total:,} {self.unit}{'s' if self.total != 1 else ''}"
        rate = (self.done - self.before) / max(passed, 1e-9)
        if not rate:
            return f"{words}, {_duration(passed)} so far{noted}"
        said = f"{rate:.3g} {self.unit}s/s" if rate >= 1 else f"{1 / rate:.3g} s a {self.unit}"
        return f"{words}, {said}, about {_duration((self.total - self.done) / rate)} left{noted}"

    def tick(self, line_due: bool, now: float) -> None:
        """Redraws the bar, or prints the line where there is none and it is due."""
        if self.count is not None and (line_due or not self.bar.disable):
            self.advance(self.count() - self.done)
        if not self.bar.disable:
            with _lock:
                self.bar.refresh()
        elif line_due:
            print(self.line(now), file=sys.stderr, flush=True)


@contextmanager
def showing(what: str, total: int | None = None, unit: str = "", **how) -> Iterator[Shown]:
    """Shows a piece of work while inside; arguments as of `Shown`."""
    shown = Shown(what, total, unit, **how)
    with _lock:
        _shown.append(shown)
        if not _ticking.is_set():
            _ticking.set()
            threading.Thread(target=_tick, name="progress", daemon=True).start()
    try:
        yield shown
    finally:
        with _lock:
            _shown.remove(shown)
            shown.bar.close()


def say(text: str) -> None:
    """Prints a line to stdout, above the bars that there are."""
    tqdm.write(text)


def _tick() -> None:
    """Ends when nothing is shown any more; what is shown later starts another one."""
    told = time.monotonic()
    while True:
        time.sleep(min(REDRAWN_S, LINE_S))
        with _lock:
            here = [shown for shown in _shown if not shown.silent]
            if not _shown:
                _ticking.clear()
                return
        now = time.monotonic()
        due = now - told >= LINE_S
        told = now if due else told
        for shown in here:
            shown.tick(due and shown is here[-1], now)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
