"""Programs of networks: compiled once, beside what else is computed, and called in turn."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from maeref_jax.pipeline.programs import Program, compile_for, computed
from maeref_jax.volumes import threads


def program(function, *key):
    return Program("the network", (function, *key), jax.jit(function), lambda given: (given,))


@pytest.fixture
def compilations(monkeypatch):
    """Names of the threads that compiled something, in order; each takes a while, so that others come meanwhile."""
    found, compiling = [], jax.stages.Lowered.compile

    def noted(lowered, *given, **more):
        found.append(threading.current_thread().name)
        time.sleep(0.2)
        return compiling(lowered, *given, **more)

    monkeypatch.setattr(jax.stages.Lowered, "compile", noted)
    return found


def test_a_program_is_compiled_once_however_many_threads_want_it(compilations):
    wanted, given = program(lambda x: 2 * x), [np.full(3, i, np.float32) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: compile_for(wanted, one), given))
        found = [computed(wanted, [one])[0] for one in given]
    assert [int(one[0]) for one in found] == [0, 2, 4, 6]
    assert len(compilations) == 1


def test_one_program_is_called_while_another_one_is_compiled(compilations):
    called = threading.Event()

    def slow(x):  # traced as long as the other one has not been called
        assert called.wait(60)
        return x

    first, second, given = program(lambda x: x + 1), program(slow), np.zeros(2, np.float32)
    compile_for(first, given)
    with threads.begun(lambda one: compile_for(one, given), [second]):
        assert computed(first, [given])[0].tolist() == [1, 1]
        called.set()
        assert computed(second, [given])[0].tolist() == [0, 0]
    assert len(compilations) == 2
    assert compilations[1].startswith("beside"), "nobody who waits for the second compiles it once more"


def test_what_cannot_be_compiled_is_told_to_whoever_calls_it():
    def wrong(x):
        raise ValueError("no such layer")

    wanted, given = program(wrong), np.zeros(2, np.float32)
    with (
        threads.begun(lambda one: compile_for(wanted, one), [given]),
        pytest.raises(ValueError, match="no such layer"),
    ):
        computed(wanted, [given])
