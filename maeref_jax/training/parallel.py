"""Data parallelism, here and nowhere else: jax.pmap over all devices of all processes, state replicated and unstacked.

A batch is a dict of arrays whose leading axis is the sample; what lies under the key "shared" belongs to the whole
batch (its shape or value) and goes to every device as it is. Every process makes only its own share of a batch.
"""

import math
from contextlib import contextmanager
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from maeref_jax.errors import BadInput
from maeref_jax.records import DEVICES
from maeref_jax.training.compiling import Compiled

PATIENCE_SECONDS = 24 * 3600  # that the other processes wait for the first one to prepare the data
SHARES = 4  # of a batch on a CPU, whose threads take them (pieces.py)
_barriers = count()  # every wait needs a name of its own
HEARTBEAT_SECONDS = 30  # after which the other processes take one that is silent for lost, and end with an error


def connect(coordinator=None, processes=None, process_id=None):
    """Join the processes of one run; call it before anything else touches jax.

    coordinator: "host:port" of process 0, with the number of processes and this one's number from 0; without them
    SLURM, Open MPI, Kubernetes and Cloud TPU are recognised by what they set. Raises BadInput if nothing is recognised.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError) as error:
        raise BadInput(
            f"cannot join the processes of this run ({error}); "
            "give --coordinator HOST:PORT --processes N --process_id I"
        ) from error
    multihost_utils.sync_global_devices("connected")  # the first collective must find all of them at once


@contextmanager
def primary_first():
    """A block that process 0 runs before all others: what it writes to the shared workdir, they find there."""
    if not is_primary():
        wait_for_all("primary first")
    yield
    if is_primary():
        wait_for_all("primary first")


def wait_for_all(name):
    """Until every process has come here. Not a collective of the devices: those give up after half a minute."""
    if jax.process_count() > 1:
        multihost.get_barrier_sync_fn()(key=f"{name} {next(_barriers)}", timeout_ms=PATIENCE_SECONDS * 1000)


def from_primary(value):
    """A number or an array as process 0 has it: where a last bit may differ, all decide by the same one."""
    if jax.process_count() == 1:
        return value
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(value, np.float32)))


def is_primary():
    """Whether this process writes what is written once: logs, config, summary."""
    return jax.process_index() == 0


def sum_over_devices(tree):
    """psum, for use inside a function given to `parallel`."""
    return jax.lax.psum(tree, DEVICES)


def parallel(function, batch):
    """function(carry, batch, key, requests) over all devices; carry and outputs replicated, the carry given away.

    batch gives the structure. requests: int32 (local devices, …), what this process asks all of them for.
    Pass the carry as numpy the first time: it is donated, and must not belong to anybody else.
    """
    axes = (None, _batch_axes(batch), None, 0)
    mapped = jax.pmap(function, axis_name=DEVICES, in_axes=axes, out_axes=None, donate_argnums=(0,))
    placed = jax.pmap(_copied, axis_name=DEVICES, in_axes=(None, 0), out_axes=None)

    def step(carry, *others):
        # Of numpy arrays another program would be compiled than of what a step gives: the first step would cost twice.
        on_devices = all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(carry))
        return mapped(carry if on_devices else placed(carry, others[-1]), *others)

    return step


def _copied(tree, _):
    """The tree, on the device; pmap wants something that devices share among them."""
    return jax.tree.map(jnp.copy, tree)


def parallel_sums(function):
    """function(params, state, batch) -> {name: (sum, count)} over this process's devices, for batches of any length.

    Samples that do not divide are computed by one device alone, so that every sample counts once.
    """
    devices = jax.local_devices()
    alone = Compiled(function)
    together = {}

    def sums(params, state, batch):
        size = _size(batch)
        even = size - size % len(devices)
        found = []
        if even and len(devices) > 1:
            names = tuple(batch)
            if names not in together:
                together[names] = jax.pmap(
                    lambda p, s, b: sum_over_devices(function(p, s, b)),
                    axis_name=DEVICES, in_axes=(None, None, _batch_axes(batch)), out_axes=None, devices=devices,
                )  # fmt: skip
            found.append(together[names](params, state, split_batch(samples_of(batch, 0, even), len(devices))))
        else:
            even = 0
        if even < size:
            rest = samples_of(batch, even, size)
            shares = shared_out(rest, shares_of(size) if on_one_cpu() else 1)
            found += alone.each([(params, state, share) for share in shares])
        return jax.tree.map(lambda *values: np.sum(values, axis=0), *jax.device_get(found))

    return sums


def on_one_cpu():
    """Whether this process computes alone, on one CPU."""
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def shares_of(samples, micro_batches=1):
    """Into how many shares one CPU parts a batch of so many samples, each of whole micro-batches."""
    return math.gcd(SHARES, samples // micro_batches) if samples % micro_batches == 0 else 1


def shared_out(batch, count):
    """The batch in so many equal shares, a list."""
    length = _size(batch) // count
    return [samples_of(batch, i * length, (i + 1) * length) for i in range(count)]


def own_share(batch_size, accumulate=1):
    """Global indices, int32, of the samples of a batch that this process makes. Raises BadInput if they do not divide
    over all devices (and micro-batches).
    """
    devices = jax.device_count() * accumulate
    if batch_size % devices:
        parts = f"{jax.device_count()} devices" + (f" × {accumulate} micro-batches" if accumulate > 1 else "")
        below = batch_size // devices * devices
        numbers = f"{below} or {below + devices}" if below else f"{devices}"
        raise BadInput(f"a batch of {batch_size} does not divide over {parts}; set batch to {numbers}")
    share = batch_size // jax.process_count()
    return np.arange(jax.process_index() * share, (jax.process_index() + 1) * share, dtype=np.int32)


def split_batch(batch, devices):
    """(b, …) -> (devices, b / devices, …) for everything but `shared`."""
    return {
        name: value if name == "shared" else value.reshape(devices, len(value) // devices, *value.shape[1:])
        for name, value in batch.items()
    }


def samples_of(batch, start, stop):
    """The batch of the samples start … stop-1 alone."""
    return {name: value if name == "shared" else value[start:stop] for name, value in batch.items()}


def _size(batch):
    return next(len(value) for name, value in batch.items() if name != "shared")


def _batch_axes(batch):
    return {name: None if name == "shared" else 0 for name in batch}
