"""A function over the members of an ensemble: all at once, or one after the other (design law 6)."""

from functools import partial

import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput

MAPPINGS = ("auto", "vmap", "unroll", "scan")


def map_members(function, *stacked, mapping="auto", chunk=0, on_cpu="scan"):
    """function over the leading member axis of every argument, results stacked. The results are the same however:

    vmap    all members at once; convolutions become grouped ones, which are several times slower on CPUs
    unroll  one after another in one program, which takes longer to compile
    scan    one after another in a loop, activations recomputed in the backward pass: the memory of one member. On CPUs
            as fast as unroll in use, and several times slower in training: gradients of kernels in a loop are slow
    auto    vmap, but on CPUs scan in use, and in training members apart, as many at a time as there are cores, by one
            program that is compiled once (training/pieces.py); where several CPU devices train together, unroll

    chunk: so many members at a time where all do not fit (0: all), each chunk as above and recomputed in the backward
    pass; on_cpu: what auto is there. Raises BadInput for an unknown mapping.
    """
    if mapping not in MAPPINGS:
        raise BadInput(f"member_mapping must be one of {', '.join(MAPPINGS)}, found {mapping!r}")
    if mapping == "auto":
        mapping = on_cpu if jax.default_backend() == "cpu" else "vmap"
    members = jax.tree.leaves(stacked[0])[0].shape[0]
    if mapping == "scan":
        return jax.lax.map(lambda one: jax.checkpoint(function)(*one), stacked)
    together = _unrolled if mapping == "unroll" else _vmapped
    if not 0 < chunk < members:
        return together(function, *stacked)
    saving = jax.checkpoint(partial(together, function))
    sizes = [min(chunk, members - start) for start in range(0, members, chunk)]
    results = []
    for part in _parted(stacked, sizes):
        if results:
            # Without this the compiler may run all chunks at the same time, and their memory adds up.
            part, results[-1] = jax.lax.optimization_barrier((part, results[-1]))
        results.append(saving(*part))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *results)


def _vmapped(function, *stacked):
    return jax.vmap(function)(*stacked)


def _unrolled(function, *stacked):
    members = jax.tree.leaves(stacked[0])[0].shape[0]
    results = [function(*jax.tree.map(lambda x: x[0], part)) for part in _parted(stacked, [1] * members)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def _parted(stacked, sizes):
    """Trees of so many members each. Not by indices: the gradient of every one of those would be all members large."""
    leaves, tree = jax.tree.flatten(stacked)
    return [jax.tree.unflatten(tree, part) for part in zip(*(jax.lax.split(x, sizes) for x in leaves), strict=True)]
