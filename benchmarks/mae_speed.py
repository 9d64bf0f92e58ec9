"""The masked autoencoder of the paper's size: seconds of a training step and of a window, by masking ratio.

    python benchmarks/mae_speed.py [--batch 8] [--rounds 5] [--config configs/mae.py] [--dtype float32]

Beside it, where torch is installed, the same model in PyTorch (pytorch_models.py), alternating in one run, on the same
device; on a GPU with torch.compile, and with autocast for --dtype bfloat16. "rotary" is the model as it is, which sees
relative positions; "plain" goes without them, as the opponent does. All crops are foreground, so that every token takes
part; both keep exactly the tokens that the ratio leaves, the library in the next of its static lengths.
"""

import argparse
import importlib.util
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import measuring

from maeref_jax.commands import command_line
from maeref_jax.refiners import mae
from maeref_jax.samples.sampling import masking_length
from maeref_jax.training import loop
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.parallel import split_batch
from maeref_jax.training.state import initial_state

RATIOS = (0.1, 0.5, 0.9)
WITH_TORCH = importlib.util.find_spec("torch") is not None


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--batch", type=int, default=8)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--config", default="configs/mae.py")
    flags.add_argument("--dtype", default="float32")
    given = flags.parse_args()
    settings = command_line.load_config(given.config).to_dict()
    settings["model"]["compute_dtype"] = given.dtype
    settings["class_weights"] = (1.0,) * mae.learned_classes(settings)
    plain = {**settings, "model": {**settings["model"], "rotary": False}}
    peak = measuring.best_flops(dtype=given.dtype)
    rows, windows = [], []
    for ratio in RATIOS:
        batch = random_batch(settings, given.batch, ratio)
        steps = {"rotary": training(settings, batch), "plain": training(plain, batch)}
        uses = {"rotary": inference(settings, batch), "plain": inference(plain, batch)}
        if WITH_TORCH:
            import pytorch_calls

            steps["PyTorch"], uses["PyTorch"] = pytorch_calls.masked_autoencoder(settings, batch, given.dtype)
        for found, calls in ((rows, steps), (windows, uses)):
            seconds = measuring.alternating(calls, given.rounds)
            times = [seconds[name] for name in calls]
            ratios = [seconds[name] / seconds["PyTorch"] for name in ("rotary", "plain")] if WITH_TORCH else []
            work = operations(settings, batch) * (3 if found is rows else 1)
            share = given.batch * work / seconds["plain"] / peak
            found.append((f"ρ = {ratio:g}", *times, *ratios, given.batch / seconds["rotary"], share))
    others = ("PyTorch s", "rotary ratio", "plain ratio") if WITH_TORCH else ()
    header = (f"{given.batch} crops, {given.dtype}", "rotary s", "plain s", *others, "crops/s", "share of peak")
    print(f"\npeak of a matrix product: {peak / 1e9:.0f} GFLOP/s")
    measuring.report("mae_step", header, rows)
    measuring.report("mae_window", header, windows)


def random_batch(settings, batch, ratio):
    """Labels without background, drawn at random, and the tokens to hide: what sampling.label_batch makes."""
    rng, window = np.random.default_rng(0), settings["window"]
    tokens = (window[0] // settings["token"]) * (window[1] // settings["token"])
    count, length = masking_length(ratio, tokens)
    return {
        "labels": rng.integers(1, mae.real_classes(settings), (batch, *window)).astype(np.int16),
        "entropy": np.zeros((batch, *window), np.float32),
        "index": np.arange(batch, dtype=np.int32),
        "shared": {
            "hidden_count": np.int32(count),
            "slots": np.arange(length, dtype=np.int32),
            "progress": np.float32(1),
        },
    }


def training(settings, batch):
    """A call that does one training step and waits for it."""
    method = mae.method(settings)
    optimizer = build_optimizer({**settings["optimizer"], "steps": 1000})
    state = [jax.device_get(jax.jit(partial(initial_state, method, optimizer))(jax.random.key(0), batch))]
    steps = loop.stepper(method, optimizer, batch)
    more = split_batch(batch, 1), jax.random.key(0), np.zeros((1, 3), np.int32)

    def call():
        state[0], _ = steps.take(state[0], *more)
        jax.block_until_ready(state[0])

    return call


def inference(settings, batch):
    """A call that fills the hidden tokens of a batch of windows, as refine.py does."""
    method, refiner = mae.method(settings), mae.refiner(settings)
    params, state = jax.jit(method.init)(jax.random.key(0), batch)
    rng, token = np.random.default_rng(1), settings["token"]
    grid = [side // token for side in settings["window"]]
    hidden = np.zeros((len(batch["labels"]), grid[0] * grid[1]), bool)
    hidden[:, rng.permutation(hidden.shape[1])[: int(batch["shared"]["hidden_count"])]] = True
    spread = hidden.reshape(-1, *grid).repeat(token, 1).repeat(token, 2)
    inputs = jax.device_put({"labels": batch["labels"], "entropy": batch["entropy"], "hidden": spread})
    run, count = jax.jit(refiner.refine, static_argnums=4), jax.jit(refiner.lengths)

    def call():
        lengths = np.asarray(count(inputs["labels"], inputs["hidden"])).max(0)
        jax.block_until_ready(run(params, state, inputs, jax.random.key(0), tuple(lengths.tolist())))

    return call


def operations(settings, batch):
    """Floating-point operations of a forward pass of one crop: matrix products of kept and decoded tokens only."""
    model, classes, token = settings["model"], mae.learned_classes(settings), settings["token"]
    tokens = (settings["window"][0] // token) * (settings["window"][1] // token)
    kept = tokens - int(batch["shared"]["hidden_count"])

    def transformer(width, depth, length):
        dense = 2 * length * width * width * (4 + 2 * model["mlp_ratio"])
        return depth * (dense + 4 * length * length * width)

    ends = 2 * token**2 * classes * (kept * model["encoder_width"] + tokens * model["decoder_width"])
    encoder = transformer(model["encoder_width"], model["encoder_depth"], kept + 1)
    return encoder + transformer(model["decoder_width"], model["decoder_depth"], tokens + 1) + ends


if __name__ == "__main__":
    main()
