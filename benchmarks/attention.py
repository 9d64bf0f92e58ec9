"""Attention at once against attention head by head, the way it runs on CPUs: milliseconds and their ratio.

    python benchmarks/attention.py

Shapes of the decoder and the encoder of the paper's masked autoencoder and of the demo's, alternating in one run.
"""

import statistics
import time

import jax
import numpy as np

from maeref_jax.models.attention import at_once, attention

SHAPES = {
    "paper, decoder": (8, 718, 8, 8),
    "paper, encoder": (8, 400, 1, 128),
    "demo, decoder": (16, 145, 4, 16),
    "demo, encoder": (16, 80, 4, 16),
}
ROUNDS = 9


def prepared(function, shape, backward):
    """A call without arguments that runs the compiled function on fixed random input."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for _ in range(3)]
    valid = np.arange(shape[1])[None] < np.full((shape[0], 1), shape[1] - 5)

    def total(*arrays):
        return (function(*arrays, valid) ** 2).sum()

    compiled = jax.jit(jax.grad(total, (0, 1, 2)) if backward else lambda *arrays: function(*arrays, valid))
    jax.block_until_ready(compiled(*arrays))
    return lambda: jax.block_until_ready(compiled(*arrays))


def main():
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; medians of {ROUNDS}, alternating")
    print(f"{'(batch, tokens, heads, width)':44}{'at once ms':>12}{'library ms':>12}{'ratio':>8}")
    for name, shape in SHAPES.items():
        for backward in (False, True):
            calls = [prepared(function, shape, backward) for function in (at_once, attention)]
            times = [[], []]
            for _ in range(ROUNDS):
                for call, found in zip(calls, times, strict=True):
                    began = time.perf_counter()
                    call()
                    found.append(1000 * (time.perf_counter() - began))
            plain, ours = map(statistics.median, times)
            direction = "forward, backward" if backward else "forward"
            print(f"{f'{name} {shape}, {direction}':56.56}{plain:9.1f}{ours:12.1f}{ours / plain:8.2f}", flush=True)


if __name__ == "__main__":
    main()
