"""Programs that are compiled before they are needed, and computed by several threads."""

import os

import jax

from maeref_jax.volumes import threads

# On CPUs. Of what runs once, optimising takes longer than it saves; of the rest, the compiler's last effort takes a
# fifth of its time and makes nothing faster.
EFFORT = "xla_backend_optimization_level"
RUNS_ONCE, RUNS_OFTEN = ({EFFORT: level} for level in (0, 2))


def jitted(function, options=RUNS_OFTEN, donated=()):
    """jax.jit, on CPUs with those options, unless XLA_FLAGS says another effort; donated: the numbers of the arguments
    that are given away.
    """
    ours = jax.default_backend() == "cpu" and EFFORT not in os.environ.get("XLA_FLAGS", "")
    return jax.jit(function, compiler_options=options if ours else None, donate_argnums=donated)


class Compiled:
    """A function that is compiled once for all arguments of the same shapes. For one thread; `each` starts others."""

    def __init__(self, function, donated=()):
        self._function, self._lowered, self._compiled = jitted(function, donated=donated), {}, {}

    def lower(self, *arguments):
        """Trace it for arguments like these; of arrays, jax.ShapeDtypeStruct is enough. That is Python's part of
        compiling, of which two threads take as long as one. Returns what knows the shapes of the results: `out_info`.
        """
        found = self._lowered[_like(arguments)] = self._function.lower(*arguments)
        return found

    def prepare(self, *arguments):
        """Compile it for arguments like these. Returns what computes it."""
        like = _like(arguments)
        if like not in self._compiled:
            lowered = self._lowered.pop(like, None) or self._function.lower(*arguments)
            self._compiled[like] = lowered.compile()
        return self._compiled[like]

    def __call__(self, *arguments):
        return self.prepare(*arguments)(*arguments)

    def each(self, calls, most=0):
        """[what it is of each of the `calls`, tuples of arguments of the same shapes], several computed at a time, by a
        thread each; `most`: no more than so many, 0 for as many as there are cores.
        """
        run, limit = self.prepare(*calls[0]), (most,) if most else ()
        return list(threads.in_order(lambda arguments: jax.block_until_ready(run(*arguments)), calls, *limit))


def _like(arguments):
    leaves, tree = jax.tree.flatten(arguments)
    return tree, *((leaf.shape, leaf.dtype) for leaf in leaves)
