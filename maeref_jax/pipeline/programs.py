"""Programs of networks: each compiled once, beside what others compute already, and called in turn."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from maeref_jax.volumes import progress, threads

_ready: set[tuple] = set()  # keys of programs that are compiled
_compiling: dict[tuple, threading.Lock] = defaultdict(threading.Lock)


class Program(NamedTuple):
    """What a network computes of inputs of one shape. name: of the network; key: which program of all it is; jitted:
    what jax.jit made; arguments: those of it for what is given.
    """

    name: str
    key: tuple
    jitted: Callable
    arguments: Callable[..., tuple]


def calls_beside() -> int:
    """Calls of a network beside each other. On a CPU two threads take less time than two cores that share each call."""
    return 2 if jax.default_backend() == "cpu" else 1


def compile_for(program: Program, given) -> None:
    """Compiles a program for what it will be given, unless that was done or another thread is at it: then waits."""
    with _compiling[program.key]:
        if program.key not in _ready:
            program.jitted.lower(*program.arguments(given)).compile()  # a call finds it in the cache of jax.jit
            _ready.add(program.key)


def computed(program: Program, inputs: Sequence) -> list[np.ndarray]:
    """What a network makes of each of a few inputs, beside each other, when it is this block's turn. That a program
    must be waited for is shown.
    """
    with threads.network():
        if program.key not in _ready:
            with progress.showing(f"compiling {program.name}"):
                compile_for(program, inputs[0])
        return list(threads.in_order(lambda given: np.asarray(program.jitted(*program.arguments(given))), inputs))
