"""Whether a training run can work with the settings of its config: asked before anything is made."""

import functools
import itertools
from math import inf

import jax.numpy as jnp

from maeref_jax.errors import BadInput
from maeref_jax.experiments import class_settings
from maeref_jax.pipeline import methods
from maeref_jax.samples import tissue_volumes
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.volumes import grey_values
from maeref_jax.volumes.label_ids import label_map_of
from maeref_jax.volumes.volume import overlapping, share_slices
from maeref_jax.volumes.voxel_size import checked_size

RANGES = {
    "seed": (0, 2**32 - 2),
    "steps": (1, inf), "batch": (1, inf), "evaluate_every": (1, inf), "validation_batches": (1, inf),
    "validation_slices": (1, inf), "anywhere_share": (0, 1),
    "stop_after": (0, inf), "members": (1, inf), "token": (1, inf), "min_foreground": (0, 1),
    "threshold": (0, 1), "ambiguous_threshold": (0, 1), "keep_within": (0, inf),
    # The checkpoint before the last is what a damaged one falls back to.
    "checkpoint.keep": (2, inf), "checkpoint.minutes": (0, inf), "checkpoint.patience_s": (0, inf),
    "optimizer.rate": (0, inf), "optimizer.warmup_steps": (0, inf), "optimizer.decay": (0, 1),
    "optimizer.decay_steps": (1, inf), "optimizer.patience": (1, inf), "optimizer.clip": (0, inf),
    "optimizer.b1": (0, 1), "optimizer.b2": (0, 1), "optimizer.weight_decay": (0, inf),
    "member_share": (0, 1), "judged_at_once": (1, inf), "pseudo_labels.steps": (1, inf),
    "pseudo_labels.groups": (1, inf), "pseudo_labels.neighbours": (1, inf), "pseudo_labels.radius_vx": (1, inf),
    "pseudo_labels.temperature": (1e-6, inf), "pseudo_labels.rate": (0, inf), "pseudo_labels.threshold": (0, 1),
    "pseudo_labels.threshold_growth": (0, 1), "pseudo_labels.threshold_every": (1, inf),
    "pseudo_labels.highest_threshold": (0, 1), "data.phantom.clicks": (0, inf),
    "optimizer.accumulate": (1, inf), "optimizer.average": (0, 0.999999), "use.foreground_threshold": (0.01, 0.99),
}  # fmt: skip


def check(settings):
    """Raises BadInput for settings that no run can work with."""
    check_common(settings)
    method = settings["method"]
    if method in methods.REFINERS:
        _check_masking_ratio(settings)
    if method in methods.UNLEARNED:
        methods.UNLEARNED[method].refiner(settings)
        return
    if method in methods.RULES:
        methods.RULES[method].segmenter(settings)
        return
    _check_training(settings)
    if "normalisation" in settings:
        grey_values.check(settings["normalisation"])
    _check_data(settings["data"])
    if method in methods.LEARNED:
        methods.LEARNED[method].method(settings)


def _check_training(settings):
    build_optimizer({**settings["optimizer"], "steps": settings["steps"]})
    try:
        jnp.dtype(settings["model"]["compute_dtype"])
    except TypeError as error:
        raise BadInput(f"model.compute_dtype must be float32 or bfloat16 ({error})") from error


def _check_data(data):
    if data["phantom"]["train"] and "tissue" in data["phantom"]:
        tissue_volumes.check(data["phantom"]["tissue"])
    if data["phantom"]["train"] and (data["train"]["labels"] or data["validation"]["labels"]):
        raise BadInput("both phantoms and files are given; for files only, add --config.data.phantom.train=")
    if data["phantom"]["train"] and not data["phantom"]["validation"]:
        raise BadInput("data.phantom.validation is empty; give a seed that is not in data.phantom.train")
    if data["phantom"]["train"] and (data["train"].get("within") or data["validation"].get("within")):
        raise BadInput("data.train.within and data.validation.within are masks of files, and phantoms have none")
    both = sorted({*data["phantom"]["train"]} & {*data["phantom"]["validation"]})
    if both:
        raise BadInput(f"phantoms {both} are both in data.phantom.train and in validation; keep whole volumes apart")
    _check_no_volume_twice(data["train"])
    for role in ("labels", "images"):
        for ours, theirs in itertools.product(data["train"][role], data["validation"][role]):
            if share_slices(ours, theirs):
                raise BadInput(f"{theirs} in data.validation shares slices with {ours} in data.train; keep them apart")
    if data["train"]["images"] and not data["train"]["labels"] and not data.get("ensemble"):
        raise BadInput(
            "data.train.images are given without data.train.labels: give --labels, or, for a refiner, --ensemble, the "
            "workdir of the ensemble that segments them"
        )


def _check_no_volume_twice(files):
    """BadInput for two volumes of a split that share slices in all of their files: members of an ensemble would have
    seen what others are to be asked about. Of one stack every volume may learn from other slices, or inside a mask.
    """
    if any(isinstance(slices, tuple | list) for slices in files.get("labelled_slices", ())) or files.get("within"):
        return
    given = [files[role] for role in ("images", "labels") if files[role]]
    if given and (pairs := set.intersection(*map(overlapping, given))):
        one, other = (given[0][i] for i in min(pairs))
        same = f"{one} is given twice" if one == other else f"{one} and {other} share slices"
        raise BadInput(f"{same} in data.train; name every volume once, and parts of a stack so that none overlap")


def check_common(settings):
    """BadInput for what every method has: numbers out of range, classes, voxel size, window and its tokens."""
    window, stride = settings["window"], settings["stride"]
    for name, (least, most) in RANGES.items():
        *groups, key = name.split(".")
        found = functools.reduce(lambda tree, group: tree.get(group, {}), groups, settings).get(key, least)
        if not least <= found <= most:
            expected = f"at least {least}" if most == inf else f"between {least} and {most}"
            raise BadInput(f"{name} must be {expected}, found {found}")
    size = settings["voxel_size_nm"]
    rules = methods.UNLEARNED | methods.RULES
    any_size = not size and settings["method"] in rules  # a rule may follow the volume's own
    if not any_size:
        checked_size(size, "voxel_size_nm")
    read_at = settings.get("data", {}).get("at_voxel_size_nm")
    if read_at and tuple(read_at) != tuple(size):
        raise BadInput(
            f"data.at_voxel_size_nm is {read_at}, but voxel_size_nm, which the model remembers, is {size}; give both "
            "with --at_voxel_size_nm Z,Y,X"
        )
    dims = (2, 3) if settings["method"] in methods.BOXES else (2,)
    fits = len(window) in dims and len(stride) == len(window)
    if not fits or any(not 1 <= s <= w for s, w in zip(stride, window, strict=True)):
        numbers = " or three" if 3 in dims else ""
        raise BadInput(f"window {window} and stride {stride} must be two{numbers} numbers each, 1 <= stride <= window")
    token = settings.get("token", 1)
    if any(size % token for size in (*window[-2:], *stride[-2:])):
        raise BadInput(f"window {window} and stride {stride} must be multiples of token, {token}")
    class_settings.check(settings)
    label_map_of(settings.get("data", {}).get("label_map", ()))


def _check_masking_ratio(settings):
    ratio = settings.get("masking_ratio")
    low, high = (0, 1) if ratio is None else ratio if len(ratio) == 2 else (1, 0)
    if not 0 <= low <= high <= 1:
        raise BadInput(f"masking_ratio must be two numbers, 0 <= lowest <= highest <= 1, is {ratio}")
