"""An imported model beside numbers that the original computed (`maeref import-original --verify VECTORS.npz`).

A vectors file holds inputs (label maps, entropy, distances, noise) and what the original made of them, under the names
that `reproduced` gives; it may hold any part of them, at any image size.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from maeref_jax.errors import BadInput
from maeref_jax.masking import original_rules
from maeref_jax.masking.roles import Roles
from maeref_jax.masking.tokens import join_tokens, split_tokens, token_mean
from maeref_jax.original.weights import to_tensors
from maeref_jax.refiners import mae, masked_training
from maeref_jax.training.optimizer import build_optimizer

TOLERANCE = 2e-5  # of the largest absolute value of an array
STEPPED = 1e-6  # absolute, of parameters after optimiser steps
INPUTS = re.compile(
    r"labels|entropy|dist|dist_raw_ties|mask_ratio|(.*/)?noise(_dist)?|ties/patch_mean_dist|ties/argsort_default"
)
NEEDED = ("labels", "entropy", "dist", "noise", "mask_ratio")


class Line(NamedTuple):
    """One key of a vectors file. absolute, relative: the largest difference, and over the largest absolute value, NaN
    where the key is an input or not known here; allowed: what was tolerated, in words; good: whether it was kept to.
    """

    key: str
    absolute: float
    relative: float
    allowed: str
    good: bool


def compare(settings, params, vectors):
    """A Line for every key of `vectors`. settings: of the workdir, with the original's rules; params: of its network.

    Raises BadInput where the file lacks the inputs that everything is computed from, or they do not fit the model.
    """
    missing = [key for key in NEEDED if key not in vectors]
    if missing:
        raise BadInput(f"the vectors lack {', '.join(missing)}; expected the keys {', '.join(NEEDED)} and results")
    shape, token = vectors["labels"].shape, settings["token"]
    if len(shape) != 3 or shape[1] % token or shape[2] % token:
        raise BadInput(f"labels of the vectors have shape {shape}, expected (n, y, x) in multiples of {token}")
    with jax.default_matmul_precision("highest"):
        found = reproduced(settings, params, vectors)
    return [_line(key, np.asarray(vectors[key]), found) for key in vectors]


def text(line):
    """A Line as people read it."""
    if np.isnan(line.absolute):
        return f"{line.key:44} {line.allowed}"
    verdict = "ok" if line.good else "OUTSIDE"
    return f"{line.key:44} absolute {line.absolute:.2e}  relative {line.relative:.2e}  {line.allowed:18} {verdict}"


def _line(key, wanted, found):
    if key not in found:
        return Line(key, np.nan, np.nan, "input" if INPUTS.fullmatch(key) else "not known here, not compared", True)
    given = np.asarray(found[key])
    exact = wanted.dtype.kind in "iub" or key.endswith(("mask", "noise_after"))
    if given.shape != wanted.shape:
        return Line(key, np.inf, np.inf, f"shape {wanted.shape}, found {given.shape}", False)
    size = np.abs(wanted.astype(np.float64))
    # The constant of far tokens is no measure for the logits that were computed.
    size = size[size != original_rules.FAR_LOGIT] if key.endswith("logits") else size
    absolute = float(np.abs(given.astype(np.float64) - wanted.astype(np.float64)).max(initial=0))
    relative = absolute / max(float(size.max(initial=0)), 1e-30)
    if exact:
        return Line(key, absolute, relative, "exact", absolute == 0)
    if key.startswith("adamw3/") and key != "adamw3/losses":
        return Line(key, absolute, relative, f"absolute {STEPPED:.0e}", absolute <= STEPPED)
    return Line(key, absolute, relative, f"relative {TOLERANCE:.0e}", relative <= TOLERANCE)


def reproduced(settings, params, vectors):
    """{key: array} of everything a vectors file may hold, computed here from its inputs."""
    given = {key: value for key, value in vectors.items() if INPUTS.fullmatch(key) and value.ndim}
    stepped = any(key.startswith("adamw3/") for key in vectors)
    shares = tuple(sorted({key.split("/")[0] for key in vectors if key.startswith("full_pred_")}))

    # One program, of what is asked for: for models of this size most of the time goes into compiling.
    @jax.jit
    def compute(params, given):
        found, trees = _computed(settings, float(vectors["mask_ratio"]), shares, stepped, params, given)
        folders = {key.split("/")[0] for key in vectors}
        return {k: v for k, v in found.items() if k in vectors}, {k: v for k, v in trees.items() if k in folders}

    found, trees = jax.device_get(compute(params, given))
    trees["sd"] = params
    for folder, tree in trees.items():
        found |= {f"{folder}/{name}": array for name, array in to_tensors(tree, settings["token"]).items()}
    for key in ("sd/pos_embed", "sd/decoder_pos_embed"):
        if key in vectors:  # computed, and compared at the import
            found[key] = vectors[key]
    return found


def _computed(settings, ratio, shares, stepped, params, given):
    """Arrays by key, and trees of the parameters' structure by folder of keys."""
    token, keep = settings["token"], settings["original"]["keep"]
    net = mae.network(settings)
    tokens = split_tokens(given["labels"].astype(jnp.int32), token)
    grid = tuple(size // token for size in given["labels"].shape[1:])
    b, n, _ = tokens.shape
    distance, undecided = (token_mean(given[key], token).reshape(b, n) for key in ("dist", "entropy"))
    near_count, count = original_rules.near_count(n, keep), original_rules.visible_count(n, keep, ratio)
    near = original_rules.near(distance, keep)
    visible = original_rules.visible(given["noise"], near, count)
    ids_keep = _first(jnp.where(visible, given["noise"], jnp.inf), count)
    decoded, far = jnp.split(_first(distance, n), [near_count], axis=1)
    found = {"len_keep": count, "n_decoder_keep": near_count, "patch_mean_dist": distance}
    found |= {"patch_mean_entropy": undecided, "mask": 1.0 - visible, "ids_keep": ids_keep, "decoder_ids_keep": decoded}
    if "noise_dist" in given:
        found["ids_restore"] = original_rules.rank(_with_far_noise(given["noise"], far, given["noise_dist"]))
    if "ties/patch_mean_dist" in given:
        found["ties/argsort_stable"] = jnp.argsort(given["ties/patch_mean_dist"], -1, stable=True)
    found |= _activations(net, params, tokens, grid, ids_keep, decoded)

    entropy = split_tokens(given["entropy"], token)
    unweighted = {**settings, "class_weights": (1.0,) * len(settings["class_weights"])}

    def logits_of(params, part):
        return mae.logits_of(settings, net, params, tokens, grid, part, (count, n))

    def counted(settings, part):
        over = part.decoded & ~part.kept if settings["loss_over"] == "hidden" else part.decoded
        return masked_training.pixel_weights(settings, tokens, entropy, over[..., None], original=True)

    def loss_of(logits, part, settings=settings):
        weight = counted(settings, part)
        total, weight, _ = masked_training.loss_and_logs(tokens, logits, weight)
        return total / jnp.maximum(weight, 1e-8)

    part = Roles(kept=visible, decoded=near)

    def loss(params):
        logits = logits_of(params, part)
        return loss_of(logits, part), logits

    gradient_of = jax.value_and_grad(loss, has_aux=True)
    (value, logits), gradients = gradient_of(params)
    found |= {"logits": logits, "argmax_image": join_tokens(logits.argmax(-1), grid, token)}
    found["loss_target"] = jnp.where(counted(unweighted, part) > 0, tokens, -1)
    found |= {"loss_weighted": value, "loss_weighted_f64": value, "loss_unweighted": loss_of(logits, part, unweighted)}
    trees = {"grad": gradients}
    if stepped:
        trees["adamw3"], found["adamw3/losses"] = _three_steps(settings, params, gradient_of)
    if "nodist/noise" in given:
        everything = jnp.ones((b, n), bool)
        shown = original_rules.visible(given["nodist/noise"], everything, count)
        nodist = Roles(kept=shown, decoded=everything)
        logits = logits_of(params, nodist)
        found |= {"nodist/mask": 1.0 - shown, "nodist/logits": logits, "nodist/loss_weighted": loss_of(logits, nodist)}
    for name in shares:
        shown_count = original_rules.visible_count(n, keep, float(name.removeprefix("full_pred_")))
        shown = original_rules.visible(undecided, near, shown_count)
        part = Roles(kept=shown, decoded=near)
        labels = mae.logits_of(settings, net, params, tokens, grid, part, (shown_count, n)).argmax(-1)
        pixels = jnp.broadcast_to(~shown[..., None], labels.shape).astype(jnp.uint8)
        found |= {
            f"{name}/pred": join_tokens(labels, grid, token),
            f"{name}/mask_img": join_tokens(pixels, grid, token),
        }
        found[f"{name}/ids_keep_sorted"] = _first(~shown, shown_count)
        if f"{name}/noise" in given and f"{name}/noise_dist" in given:
            noise = given[f"{name}/noise"] + 2 * (near & ~shown)
            noise = _with_far_noise(noise, far, given[f"{name}/noise_dist"])
            found[f"{name}/noise_after"] = jnp.where(shown, 1.0, noise)
    return found, trees


def _activations(net, params, tokens, grid, kept, decoded):
    """What the network computes on the way, the tokens in the original's order."""

    def inside(kept, decoded):
        places = kept, jnp.ones(kept.shape, bool), decoded, jnp.ones(decoded.shape, bool)
        look = {"capture_intermediates": True, "mutable": ["intermediates"]}
        return net.apply({"params": params}, tokens, grid, *places, **look)[1]["intermediates"]

    seen = inside(kept, decoded)
    everything = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape[:2])
    first_blocks = {room: seen[room]["blocks"]["__call__"][0][0][0] for room in ("encoder", "decoder")}
    return {
        "x_masked": seen["encoder_in"][0][:, 1:],
        "act/patch_embed": inside(everything, decoded)["embed"]["__call__"][0],
        "act/enc_block0": first_blocks["encoder"],
        "act/latent": seen["encoder"]["__call__"][0],
        "act/decoder_embed": seen["to_decoder"]["__call__"][0],
        "act/decoder_in": seen["decoder_in"][0],
        "act/dec_block0": first_blocks["decoder"],
        "act/decoder_norm": seen["decoder"]["__call__"][0],
    }


def _three_steps(settings, params, gradient_of):
    """Parameters after three steps of the optimiser of the settings on the same batch, and the losses before them."""
    optimizer = build_optimizer({**settings["optimizer"], "steps": settings["steps"]})

    def step(carry, _):
        params, state = carry
        (value, _), gradients = gradient_of(params)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), length=3)
    return params, losses


def _first(values, count):
    return jnp.argsort(values, axis=-1, stable=True)[:, :count].astype(jnp.int32)


def _with_far_noise(noise, far, replacement):
    """Noise float (b, n) with that of the far tokens replaced by the first of `replacement`, plus 1, in their order."""
    values = replacement[:, : far.shape[1]] + 1
    return jax.vmap(lambda row, index, new: row.at[index].set(new))(noise, far, values)
