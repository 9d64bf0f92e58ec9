"""threads.py: pieces of work beside each other."""

import threading
import time

import pytest

from maeref_jax.volumes import threads


def test_two_pieces_are_at_work_at_a_time_and_all_come_back():
    meeting, at_work, most = threading.Barrier(2, timeout=10), [], []

    def work(item):
        at_work.append(item)
        most.append(len(at_work))
        meeting.wait()  # nobody gets on alone
        at_work.remove(item)

    assert sorted(threads.as_done(work, range(6))) == list(range(6))
    assert max(most) == 2 == threads.AT_ONCE


def test_what_work_raises_is_raised_when_the_piece_beside_it_is_done_and_no_other_is_begun():
    begun, ended, failing = [], [], threading.Event()

    def work(item):
        begun.append(item)
        if item == 1:
            failing.set()
            raise OSError("disk full")
        assert failing.wait(10)
        time.sleep(0.05)
        with threads.network():
            ended.append(item)

    with pytest.raises(OSError, match="disk full"):
        list(threads.as_done(work, range(9)))
    assert ended == [0] and sorted(begun) == [0, 1]
    assert not any(thread.name.startswith("block") for thread in threading.enumerate())


def test_where_the_caller_is_interrupted_the_others_stop_before_their_next_call_of_a_network():
    ended, running = [], threading.Event()

    def work(item):
        if item == 0:
            return
        running.set()
        time.sleep(0.2)
        with threads.network():
            ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        for _ in threads.as_done(work, range(5)):
            assert running.wait(10)
            raise KeyboardInterrupt
    assert not ended


def test_one_network_is_called_at_a_time():
    inside, most = [], []

    def work(item):
        for _ in range(5):
            with threads.network():
                inside.append(item)
                most.append(len(inside))
                time.sleep(0.002)
                inside.remove(item)

    list(threads.as_done(work, range(4)))
    assert max(most) == 1 and len(most) == 20


def test_results_come_in_the_order_of_the_items_of_which_few_are_taken_ahead(monkeypatch):
    monkeypatch.setattr(threads, "_AHEAD", 5)
    taken = []

    def items():
        for item in range(40):
            taken.append(item)
            yield item

    def work(item):
        time.sleep(0.01 * (item % 3))
        return 2 * item

    found = threads.in_order(work, items())
    assert next(found) == 0 and len(taken) == 5
    assert list(found) == list(range(2, 80, 2)) and list(threads.in_order(work, ())) == []


@pytest.mark.parametrize(("asked", "least", "end"), [((), 2, 8), ((1,), 1, 1)])
def test_there_is_an_end_to_how_many_are_at_work_on_many_processors(monkeypatch, asked, least, end):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: range(64), raising=False)
    at_work, most = [], []

    def work(item):
        at_work.append(item)
        most.append(len(at_work))
        time.sleep(0.01)
        at_work.remove(item)

    list(threads.in_order(work, range(40), *asked))
    assert least <= max(most) <= end


def test_what_work_raises_in_order_is_raised_and_what_waits_is_not_begun(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: range(2), raising=False)
    begun = []

    def work(item):
        begun.append(item)
        if item == 1:
            raise OSError("disk full")
        time.sleep(0.1)

    with pytest.raises(OSError, match="disk full"):
        list(threads.in_order(work, range(500)))
    assert len(begun) < 10
    assert not any(thread.name.startswith("item") for thread in threading.enumerate())
