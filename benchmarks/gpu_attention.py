"""The part of gpu.py that compares forms of attention, by themselves and in the masked autoencoder."""

import jax
import jax.numpy as jnp
import measuring
import numpy as np
from gpu_setup import PRECISIONS, Found, attempt, distance, number, precision, random_batch
from gpu_steps import MIB, timed_step

from maeref_jax.models.attention import at_once, attention
from maeref_jax.report.table import Table

PADDING = 5  # tokens at the end that nobody attends to; what they attend to is each form's own affair


def attention_forms(setup):
    """Every form at the shapes of the masked autoencoder, and a training step with each of them in it."""
    how, batch = setup.sized("bfloat16", "float32"), setup.sized(64, 2)
    settings = setup.settings("mae", how)
    rows, steps = [], []
    for what, shape in attention_shapes(settings, batch)[: setup.sized(None, 1)]:
        wanted = prepared(at_once, shape, "float32")[0]()[0]
        for name, form in setup.sized(FORMS, TINY_FORMS).items():
            setup.check_time()

            def measured(form=form, shape=shape, wanted=wanted):
                forward, both = prepared(form, shape, PRECISIONS[how][0])
                wrong = distance(*(np.asarray(found, np.float32)[:, :-PADDING] for found in (forward()[0], wanted)))
                seconds = measuring.alternating({"forward": forward, "both": both}, setup.sized(20, 1))
                return (*(number(1e6 * one) for one in seconds.values()), f"{wrong:.1e}")

            rows.append(attempt(f"{what} {shape}, {name}", 4, measured))
    crops = random_batch(settings, batch)
    for name, form in setup.sized(FORMS, TINY_FORMS).items():
        setup.check_time()

        def stepped(form=form):
            timed = timed_step(settings, crops, how, setup.sized(20, 2), form)
            return tuple(map(number, (1000 * timed.step, batch / timed.step, timed.memory / MIB)))

        steps.append(attempt(name, 4, stepped))
    note = f"{how}; error: ‖difference‖ / ‖einsum in float32‖. A form that cannot do a shape here says why."
    header = ("(batch, tokens, heads, width)", "forward µs", "and backward µs", "error")
    step = Table(
        f"A training step of the masked autoencoder, {batch} crops, by form of attention",
        *(("form", "ms", "crops/s", "MiB"), steps, (), f"{how}; the first is the library's own."),
    )
    return Found([Table("Forms of attention", header, rows, (), note), step])


def attention_shapes(settings, batch):
    model, token = settings["model"], settings["token"]
    tokens = settings["window"][0] * settings["window"][1] // token**2
    kept = len(random_batch(settings, 1)["shared"]["slots"])

    def shape(which, length):
        heads = model[f"{which}_heads"]
        return batch, length + 1, heads, model[f"{which}_width"] // heads

    return [("decoder", shape("decoder", tokens)), ("encoder", shape("encoder", kept))]


def prepared(form, shape, dtype):
    """Two calls that wait for their results: attention, and it with its gradients, of fixed random inputs."""
    rng = np.random.default_rng(0)
    arrays = [jax.device_put(rng.normal(size=shape).astype(dtype)) for _ in range(3)]
    valid = jax.device_put(np.arange(shape[1])[None] < np.full((shape[0], 1), shape[1] - PADDING))

    def total(*arrays):
        found = form(*arrays, valid).astype(jnp.float32)
        return (found**2).sum(), found

    with precision("float32"):
        both = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True)).lower(*arrays).compile()
        forward = jax.jit(lambda *arrays: (form(*arrays, valid),)).lower(*arrays).compile()
    return (lambda: jax.block_until_ready(forward(*arrays))), (lambda: jax.block_until_ready(both(*arrays)))


def by_jax(implementation):
    def form(query, key, value, valid):
        mask = jnp.broadcast_to(valid[:, None, None], (len(valid), 1, query.shape[1], key.shape[1]))
        return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation=implementation)

    return form


def by_pallas(query, key, value, valid):
    """The kernel that comes with jax: lengths are a multiple of its blocks, heads at least 16 wide."""
    from jax.experimental.pallas.ops.gpu import attention as kernel

    length, width = query.shape[1], query.shape[-1]
    pads = ((0, 0), (0, -length % 128), (0, 0), (0, max(16 - width, 0)))
    query, key, value = (jnp.pad(x, pads) for x in (query, key, value))
    segments = jnp.pad(valid, pads[:2]).astype(jnp.int32)  # attention stays within a segment
    found = kernel.mha(query, key, value, segments, sm_scale=width**-0.5)
    return found[:, :length, :, :width]


def by_tokamax(query, key, value, valid):
    import tokamax

    return tokamax.dot_product_attention(query, key, value, mask=valid[:, None, None])


FORMS = {
    "the library's": attention,
    "jax.nn, XLA": by_jax("xla"),
    "jax.nn, cuDNN": by_jax("cudnn"),
    "Pallas": by_pallas,
    "tokamax": by_tokamax,
}


TINY_FORMS = {name: form for name, form in FORMS.items() if name != "jax.nn, XLA"}
