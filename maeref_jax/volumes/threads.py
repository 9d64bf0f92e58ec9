"""Pieces of work beside each other, in threads: one reads or writes while another one computes.

A network is called for one block at a time (`network`): no more memory of an accelerator than one call takes, and one
compilation of each program.
"""

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

AT_ONCE = 2
_MOST = 8  # pieces beside each other, on however many processors: their memory adds up
_AHEAD = 1000  # pieces begun or waiting: as many as it takes that a long one keeps nobody from work
_network = threading.Lock()
_here = threading.local()


class _Stopped(Exception):
    """Raised in a piece of work that nobody waits for any more."""


def as_done(work: Callable[[Any], None], items: Iterable[Any]) -> Iterator[Any]:
    """Does `work` for every item, AT_ONCE of them at a time, begun in order, and gives each back when it is done.

    What work raises is raised here, when the pieces beside it have come to their end; no other is begun. Where the
    caller is interrupted, those stop before their next call of a network.
    """
    stop, failures = threading.Event(), []

    def one(item):
        _here.stop = stop
        if failures:
            raise _Stopped
        try:
            work(item)
        except BaseException as error:
            failures.append(error)
            raise

    with ThreadPoolExecutor(AT_ONCE, "block") as pool:
        waiting = {pool.submit(one, item): item for item in items}
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    item = waiting.pop(future)
                    if future.exception() is not None:
                        raise failures[0]
                    yield item
        except BaseException as error:
            if error not in failures:
                stop.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def in_order(work: Callable[[Any], Any], items: Iterable[Any], most: int = _MOST) -> Iterator[Any]:
    """What `work` returns for every item, in their order, as many at a time as there are processors for this process,
    `most` at most. What it raises is raised here, when the pieces beside it have come to their end. Of many items, few
    are kept.
    """
    items = iter(items)
    with ThreadPoolExecutor(min(_processors(), most), "item") as pool:
        try:
            waiting = deque(pool.submit(work, item) for item in itertools.islice(items, _AHEAD))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in itertools.islice(items, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def begun(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[None]:
    """Does `work` for the items, in their order, beside what is done inside, which nobody need wait for: what is not
    begun when that ends is left undone, and what it raises is not heard.
    """
    pool = ThreadPoolExecutor(_processors(), "beside")
    try:
        for item in items:
            pool.submit(work, item)
        yield
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def network() -> Iterator[None]:
    """The turn to call a network."""
    with _network:
        if getattr(_here, "stop", None) is not None and _here.stop.is_set():
            raise _Stopped
        yield


def _processors() -> int:
    """How many there are for this process, _MOST at most."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(number, _MOST)
