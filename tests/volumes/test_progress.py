"""Who waits hears that work is alive: a line a minute without a terminal, a bar on one, and nothing too often."""

import io
import sys
import time

import pytest

from maeref_jax.volumes import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def hear(monkeypatch):
    """hear(stream) -> it, in the place of stderr, with a minute of 50 ms."""
    monkeypatch.setattr(progress, "LINE_S", 0.05)

    def use(stream):
        while progress._ticking.is_set():  # of an earlier piece of work
            time.sleep(0.01)
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return use


def test_without_a_terminal_a_line_a_minute_also_while_nothing_advances(hear):
    log, began = hear(io.StringIO()), time.monotonic()

    def heard(text):
        while text not in log.getvalue():
            time.sleep(0.01)
            assert time.monotonic() < began + 60, log.getvalue()

    with progress.showing("a: refine", 1200, "block", done=200) as shown:
        shown.note("waiting for parts 1")
        heard("200 of 1,200 blocks")
        shown.advance(500)
        heard("700 of 1,200 blocks")
        with progress.showing("compiling the ensemble"):
            heard("still compiling")
    lines = log.getvalue().splitlines()
    assert 3 <= len(lines) <= 3 + (time.monotonic() - began) / progress.LINE_S
    assert lines[0] == "a: refine: 200 of 1,200 blocks, 0 s so far (waiting for parts 1)"
    told = next(line for line in lines if "700 of 1,200 blocks" in line)
    assert "blocks/s, about 0 s left" in told
    assert lines[-1] == "still compiling the ensemble, 0 s", "the innermost alone speaks"


def test_what_is_quick_says_nothing(hear):
    log = hear(io.StringIO())
    for _ in range(3):
        with progress.showing("a: refine", 3, "block") as shown:
            shown.advance(3)
        time.sleep(0.01)
    assert log.getvalue() == ""


def test_on_a_terminal_a_bar_with_rate_and_time_left(hear):
    terminal = hear(Terminal())
    with progress.showing("a: refine", 4, "block") as shown:
        shown.advance()
        time.sleep(0.15)
        shown.advance()
    drawn = terminal.getvalue()
    assert "a: refine" in drawn and "2/4" in drawn and "block" in drawn and "<" in drawn
    assert "of 4 blocks" not in drawn, "a bar is no line in a log"


def test_a_count_is_asked_where_nobody_advances(hear):
    log = hear(io.StringIO())
    with progress.showing("a: 3 workers", 9, "block", count=lambda: 5):
        time.sleep(0.12)
    assert "5 of 9 blocks" in log.getvalue()


def test_silent(hear):
    log = hear(Terminal())
    with progress.showing("train", 9, "crop", silent=True) as shown:
        shown.advance()
        time.sleep(0.12)
    assert log.getvalue() == ""
