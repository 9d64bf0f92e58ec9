"""A checkpoint of the original implementation as a workdir of this one: what `maeref import-original` does."""

import hashlib
import json
import reprlib
from pathlib import Path

import jax
import numpy as np
from etils import epath

from maeref_jax.errors import BadInput
from maeref_jax.original import verify, weights
from maeref_jax.original.torch_files import read_checkpoint
from maeref_jax.training import checkpoint, workdir
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.state import Progress, TrainState
from maeref_jax.volumes.formats.numpy_files import read_npz
from maeref_jax.volumes.formats.trust import CAUTIOUS
from maeref_jax.volumes.voxel_size import checked_size

# What only hyper-parameters say: our flag -> their name.
REQUIRED = {
    "encoder_heads": "num_heads",
    "decoder_heads": "decoder_num_heads",
    "keep": "patch_perc_keep",
    "position_weight": "pos_encode_w",
}


def bring(arguments, config):
    """Does what `maeref import-original` was asked for; its exit code. arguments: its flags; config: mae_original's,
    which is changed to what the checkpoint says.
    """
    trust = CAUTIOUS._replace(piece_gb=arguments.piece_gb)
    found = read_checkpoint(arguments.checkpoint, trust)
    tensors = weights.without_prefix(found.tensors)
    sizes = weights.sizes(tensors)
    settings = settings_of(sizes, hyper_parameters(found.rest), arguments, config)
    params = weights.to_params(tensors)
    if arguments.verify and not verified(settings, params, arguments.verify, trust):
        return 1
    if arguments.output:
        step = found.rest.get("global_step", 0)
        write(arguments.output, settings, params, arguments.checkpoint, step if isinstance(step, int) else 0)
        print(f"{arguments.output} is ready: maeref refine … --refiner {arguments.output}")
    return 0


def hyper_parameters(rest):
    """{name: value} of all settings in a Lightning checkpoint's hyper-parameters, however deep; a name that is there
    twice with different values says nothing.
    """
    found, unclear, seen = {}, set(), set()
    waiting = [rest.get("hyper_parameters")]
    while waiting:
        tree = waiting.pop()
        if not isinstance(tree, dict) or id(tree) in seen:  # a tree may hold itself
            continue
        seen.add(id(tree))
        for name, value in tree.items():
            if isinstance(value, dict):
                waiting.append(value)
            elif not _is_simple(value):
                continue
            elif name in found and found[name] != value:
                unclear.add(name)
            else:
                found[name] = value
    return {name: value for name, value in found.items() if name not in unclear}


def _is_simple(value):
    """Whether it can be a setting: a number, text, or numbers. Other trees may be endless to compare and to print."""
    if isinstance(value, list | tuple):
        return all(isinstance(entry, int | float) for entry in value)
    return isinstance(value, int | float | str)


def _number(known, name, usual):
    """The number that a checkpoint knows by that name, or `usual`. Raises BadInput for what is no number."""
    if not isinstance(known.get(name, usual), int | float):
        raise BadInput(f"the checkpoint says {name} = {reprlib.repr(known[name])}, expected a number")
    return known.get(name, usual)


def settings_of(sizes, known, arguments, config):
    """The settings of `config` (mae_original) with what the checkpoint says. known: its hyper-parameters.

    Raises BadInput for what is neither known nor given as a flag, or both and different.
    """
    said = {flag: known.get(name) and _number(known, name, None) for flag, name in REQUIRED.items()}
    facts = {flag: _fact(flag, said[flag], getattr(arguments, flag)) for flag in REQUIRED}
    missing = [f"--{flag}" for flag, value in facts.items() if value is None]
    if missing:
        raise BadInput(f"{arguments.checkpoint} does not say {', '.join(missing)}: give it, from the training config")
    for flag, width in (("encoder_heads", sizes.encoder_width), ("decoder_heads", sizes.decoder_width)):
        if facts[flag] < 1 or width % facts[flag]:
            raise BadInput(f"--{flag} {facts[flag]} does not divide the width {width}")
    if not 0 < facts["keep"] <= 1:
        raise BadInput(f"--keep is a share of the tokens, in (0, 1], found {facts['keep']}")
    config.original.keep = facts["keep"]
    config.classes.update(_classes(sizes.classes, config.classes.to_dict(), arguments))
    for name in ("encoder_width", "encoder_depth", "decoder_width", "decoder_depth", "mlp_ratio"):
        config.model[name] = getattr(sizes, name)
    for name in ("encoder_heads", "decoder_heads", "position_weight"):
        config.model[name] = facts[name]
    stride = int(_number(known, "img_stride", sizes.window // 2))
    config.update({"token": sizes.token, "window": (sizes.window,) * 2, "stride": (stride,) * 2})
    config.class_weights = _weights(known.get("weights"), sizes.classes)
    config.threshold = float(_number(known, "entropy_pixel_threshold", config.threshold))
    config.train_threshold = float(_number(known, "entropy_loss_threshold", config.train_threshold))
    config.voxel_size_nm = _voxel_size(arguments.voxel_size_nm)
    config.data.phantom.update({"train": (), "validation": ()})
    if not 1 <= stride <= sizes.window or stride % sizes.token:
        raise BadInput(f"the stride {stride} of the checkpoint is no multiple of its token, {sizes.token}")
    if len(config.class_weights) != sizes.classes:
        raise BadInput(f"the checkpoint has {sizes.classes} classes and class weights {config.class_weights}")
    return config.to_dict()


def verified(settings, params, path, trust):
    """Prints a line for every key of a vectors file; whether all are within their tolerance."""
    vectors = read_npz(Path(path), trust)
    lines = verify.compare(settings, params, vectors)
    for line in lines:
        print(verify.text(line))
    bad = [line.key for line in lines if not line.good]
    compared = sum(not np.isnan(line.absolute) for line in lines)
    which = f": {weights.listed(bad)}" if bad else ""
    print(f"{compared} keys compared, {len(bad)} outside their tolerance{which}")
    return not bad


def write(output, settings, params, source, step):
    """The workdir `output` of an imported model; `step`: how many steps it had been trained for."""
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    facts = {"imported_from": Path(source).name, "sha256": digest, "volumes": [], "validation_volumes": []}
    optimizer = build_optimizer({**settings["optimizer"], "steps": settings["steps"]})
    moments = jax.tree.map(np.asarray, optimizer.init(params))
    epath.Path(output).mkdir(parents=True)
    progress = Progress(best=np.float32(0), best_step=np.int32(step))
    train_state = TrainState(np.int32(step), params, {}, moments, (), progress)
    with checkpoint.open_checkpoints(output) as checkpoints:
        checkpoint.save(checkpoints, train_state, settings, score=0.0)
        checkpoints.wait_until_finished()
    summary = {"steps": step, "seconds": 0.0, "validation": {}, "imported_from": facts["imported_from"]}
    workdir.write_text(epath.Path(output) / "summary.json", json.dumps(summary, indent=1))
    workdir.write_text(epath.Path(output) / "model_card.md", _card(settings, facts, step))
    workdir.write_config(output, settings, facts)


def _card(settings, facts, step):
    classes = ", ".join(f"{i} {name}" for i, name in enumerate(settings["classes"]["names"]))
    size = settings["voxel_size_nm"] or "not known"
    return f"""# mae

A masked autoencoder of the original implementation, imported from {facts["imported_from"]} (SHA-256 {facts["sha256"]}),
which had been trained for {step} steps. Classes: {classes}.
Window {tuple(settings["window"])} pixels. Voxel size in nm (z y x): {size}.

## Data and validation

Not known: the checkpoint does not say. Ask whoever trained it before trusting it with a measurement.

## Use and limits

It works by the original's own rules (maeref_jax/masking/original_rules.py): of a window only the nearest
{settings["original"]["keep"]:.0%} of the tokens take part, by their rank of distance from foreground, hidden foreground
included; hidden tokens farther away become background. It restores what is typical of its training data: do not use it
to count rare events, on pathology it has not seen, or to measure inside repaired voxels without reporting the hidden
share.
"""


def _weights(known, count):
    """The class weights that a checkpoint knows, or 1 for every class."""
    if not known:
        return (1.0,) * count
    if not isinstance(known, list | tuple):
        raise BadInput(f"the checkpoint says weights = {reprlib.repr(known)}, expected a number for every class")
    return tuple(map(float, known))


def _fact(flag, known, given):
    if known is not None and given is not None and known != given:
        raise BadInput(f"--{flag} {given} contradicts the checkpoint, which says {known}")
    return given if known is None else known


def _classes(count, usual, arguments):
    """Names, colours and the ambiguous class of a config for `count` classes."""
    if not arguments.class_names:
        if count != len(usual["names"]):
            raise BadInput(
                f"the model has {count} classes: say what they are with --class_names A,B,…, background first"
            )
        return usual
    names = tuple(name.strip() for name in arguments.class_names.split(","))
    if len(names) != count:
        raise BadInput(f"--class_names has {len(names)} names, the model {count} classes")
    colours = tuple(tuple((37 * i * k) % 256 for k in (3, 5, 7)) for i in range(count))
    return {"names": names, "colours": colours, "ambiguous": count - 1 if arguments.ambiguous else -1}


def _voxel_size(text):
    """(z, y, x) of --voxel_size_nm, () when it was not given: not known."""
    return checked_size(text, "--voxel_size_nm Z,Y,X") if text else ()
