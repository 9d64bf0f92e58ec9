"""Data parallelism, here and nowhere else: jax.pmap over the local devices, state replicated and unstacked.

A batch is a dict of arrays whose leading axis is the sample; what lies under the key "shared" belongs to the whole
batch (its shape or value) and goes to every device as it is.
"""

import jax

from maeref_jax.errors import BadInput

AXIS = "devices"


def sum_over_devices(tree):
    """psum, for use inside a function given to `parallel`."""
    return jax.lax.psum(tree, AXIS)


def parallel(function, batch):
    """function(carry, batch, key) over all local devices; carry and outputs replicated. `batch` gives the structure."""
    return jax.pmap(function, axis_name=AXIS, in_axes=(None, _batch_axes(batch), None), out_axes=None)


def split_batch(batch, devices):
    """(b, …) -> (devices, b / devices, …) for everything but `shared`."""
    samples = {name: value for name, value in batch.items() if name != "shared"}
    size = len(next(iter(samples.values())))
    if size % devices:
        raise BadInput(
            f"a batch of {size} does not divide over {devices} devices; set batch to a multiple of {devices}, "
            f"for example {max(devices, size // devices * devices)}"
        )
    split = {name: value.reshape(devices, size // devices, *value.shape[1:]) for name, value in samples.items()}
    return {**split, "shared": batch["shared"]}


def _batch_axes(batch):
    return {name: None if name == "shared" else 0 for name in batch}
