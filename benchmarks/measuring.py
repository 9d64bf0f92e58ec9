"""What the benchmarks share: alternating timings, what the machine could do at best, a table and a JSON file.

Times are medians of calls that alternate in one run, so that what slows the machine slows all of them alike.
"""

import datetime
import json
import os
import platform
import resource
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

FOLDER = Path("runs/bench")


def alternating(calls, rounds=7):
    """{name: median seconds} of {name: call}; every call is made once before, and must wait for its result itself.

    Every other round goes backwards: what a call leaves behind, such as threads that still spin, is not always at the
    cost of the same one.
    """
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for number in range(rounds):
        for name, call in list(calls.items())[:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in times.items()}


def machine():
    """What the numbers belong to."""
    return {
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def best_flops(size=None, dtype=jnp.float32, rounds=5):
    """Floating-point operations a second of a large matrix product, the most this machine was seen to do."""
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    product = jax.jit(lambda a, b: a @ b)
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)  # ones would need less power, and be faster
    times = [_seconds(lambda: product(a, a)) for _ in range(rounds + 1)]
    return 2 * size**3 / min(times[1:])


def best_bytes(size=2**27, rounds=5):
    """Bytes a second, read and written, of a copy with one addition."""
    add = jax.jit(lambda a: a + 1)
    a = jnp.ones(size // 4, jnp.float32)
    times = [_seconds(lambda: add(a)) for _ in range(rounds + 1)]
    return 2 * size / min(times[1:])


def cost(compiled):
    """(floating-point operations, bytes) of a compiled program as the compiler counts them; NaN where it does not.

    Loops count once: programs with lax.scan or lax.map do more than this says.
    """
    found = compiled.cost_analysis() or {}
    return float(found.get("flops", np.nan)), float(found.get("bytes accessed", np.nan))


def peak_memory_mib():
    """{"host": …, "device": …}: the most memory this process has held so far; device NaN where it does not say."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = jax.devices()[0].memory_stats() or {}
    return {"host": host, "device": found.get("peak_bytes_in_use", float("nan")) / 2**20}


def report(name, header, rows):
    """Prints the rows (name, numbers …) as a table and writes them, with the machine, to runs/bench/{name}.json."""
    facts = machine()
    print(f"\n{name}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    width = max(len(str(row[0])) for row in [header, *rows])
    for row in [header, *rows]:
        cells = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row[1:])
        print(f"{row[0]!s:{width}}" + "".join(f"{cell:>16}" for cell in cells), flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = {"machine": facts, "peak_memory_mib": peak_memory_mib(), "header": header, "rows": rows}
    (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1))


def _seconds(call):
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began
