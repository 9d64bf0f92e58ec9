"""Checkpoints through orbax: the last few, to continue from, and the best by validation, to use.

Of an ensemble, every checkpoint holds for use the best of each member so far (members.py), beside the parameters that
training goes on from. Its score is the sum of the members' lowest losses: the lowest one is of the last improvement.

Orbax writes in the background and renames when a checkpoint is whole, so a kill leaves the one before. Everything goes
through numpy on the host: orbax refuses the output of pmap, and pmap must not be handed arrays that somebody else owns.

Every leaf has a digest, saved with it and checked whenever it is read (digests.py). Checkpoints of earlier versions
have none and are taken as they are.

Which parameters a run starts from:
  1. those of the latest checkpoint of the workdir that is whole;
  2. a damaged one is set aside, saying so, and the one before it is taken;
  3. without any checkpoint, those of the workdir that `init_from` names, as far as they fit (`adopted`);
  4. and otherwise random ones, from the seed.
"""

import logging
import sys
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from maeref_jax.errors import BadInput
from maeref_jax.training.digests import Damaged, check, digest_of_json, digests_of
from maeref_jax.training.late_writes import drop_unfinished, without_closed_loops
from maeref_jax.training.members import Best, untried
from maeref_jax.training.parallel import is_primary, wait_for_all
from maeref_jax.training.state import TrainState
from maeref_jax.volumes.json_files import parse_object

NUMBERS = ("model", "training")
ITEMS = (*NUMBERS, "settings", "digests")
# The layers whose shape depends on the classes: the only ones that may differ from those of `init_from`.
CLASS_LAYERS = ("head", "embed", "guessed_class", "class_factor", "class_sum", "head_classes")


@contextmanager
def open_checkpoints(workdir, keep=2):
    """The checkpoint manager of the run in a workdir: keeps the last `keep` and the one with the lowest score."""
    if is_primary():
        drop_unfinished(_directory(workdir))
    _drop_unreadable_scores(workdir)
    policy = preservation_policy.AnyPreservationPolicy(
        [
            preservation_policy.LatestN(keep),
            preservation_policy.BestN(get_metric_fn=lambda metrics: metrics["score"], reverse=True, n=1),
        ]
    )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        best_fn=lambda metrics: metrics["score"],
        best_mode="min",
        cleanup_tmp_directories="://" in str(workdir),  # elsewhere drop_unfinished does it
    )
    with _told_once(), ocp.CheckpointManager(_directory(workdir), options=options, item_names=ITEMS) as checkpoints:
        yield checkpoints


@contextmanager
def _told_once():
    """While inside, orbax prints no traceback of a failed save: the next save raises the error, or the end does."""
    without_closed_loops()
    logger = logging.getLogger("absl")

    def without_traceback(record):
        return not record.exc_info

    logger.addFilter(without_traceback)
    try:
        yield
    finally:
        logger.removeFilter(without_traceback)


def save(checkpoints, train_state, settings, score=np.inf, best=None):
    """Save a TrainState of numpy arrays under its step; returns while it is being written.

    score: what the best is chosen by, the lower the better; infinite for a checkpoint that was not evaluated.
    best: the members.Best of an ensemble in training, which is then the model; None: the model is what is `used`.
    """
    step = int(train_state.step)
    if step in checkpoints.all_steps():
        return
    numbers, score = _items(train_state, best), float(score)
    digests = {name: digests_of(item) for name, item in numbers.items()}
    digests |= {"settings": digest_of_json(settings), "score": score}
    items = {name: ocp.args.StandardSave(item) for name, item in numbers.items()}
    items |= {"settings": ocp.args.JsonSave(settings), "digests": ocp.args.JsonSave(digests)}
    checkpoints.save(step, args=ocp.args.Composite(**items), metrics={"score": score})


def restore_latest(checkpoints, like, members=None):
    """The latest (TrainState, members.Best or None) that can be read, as numpy arrays; None when nothing was saved.

    like: a TrainState of shapes and dtypes; members: how many, of an ensemble, None of what has no Best.

    Damaged ones are set aside once an older one has been read. Raises BadInput when there are checkpoints but none can
    be read; they stay where they are.
    """
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    items = {name: ocp.args.StandardRestore(item) for name, item in _items(like, untried(like, members)).items()}
    steps, damaged = sorted(checkpoints.all_steps(), reverse=True), []
    for step in steps:
        try:
            restored = checkpoints.restore(step, args=ocp.args.Composite(**items))
            _check(checkpoints.directory / str(step), {name: restored[name] for name in NUMBERS})
        except Exception as error:  # whatever orbax and TensorStore say of a damaged file
            damaged.append((step, _first_line(error)))
            continue
        for other, reason in damaged:
            print(f"checkpoint {other} is damaged ({reason}); it is set aside", file=sys.stderr, flush=True)
            _set_aside(checkpoints.directory / str(other))
        if damaged:
            wait_for_all("set aside")
            checkpoints.reload()
        return jax.tree.map(np.array, _read(restored["model"], restored["training"]))
    if steps:
        raise _none_is_whole(checkpoints.directory, steps, damaged[0][1])
    return None


class Loaded(NamedTuple):
    """What use takes of a workdir, numpy arrays; of which step. Where it is not the best one: the steps of the damaged
    ones that are better, or of which nobody knows, and what to warn of.
    """

    params: Any
    state: Any
    step: int
    damaged: tuple[int, ...] = ()
    doubts: tuple[str, ...] = ()


def load_best(workdir):
    """The Loaded of the best checkpoint by validation that is whole, saying so where a better one is damaged.

    BadInput if `workdir` has none that was evaluated, or all of those are damaged.
    """
    directory, (steps, damaged) = _directory(workdir), _best_first(workdir)
    for step in steps:
        try:
            model = load_items(workdir, step)["model"]
        except Exception as error:  # orbax has no one error for a damaged file
            damaged[step] = _first_line(error)
            continue
        doubts = (_doubt(workdir, damaged, step),) if damaged else ()
        return Loaded(model["params"], model["state"], step, tuple(sorted(damaged)), doubts)
    step = next(iter(damaged))
    raise BadInput(
        f"{directory / str(step)} is damaged ({damaged[step]}), and there is no other evaluated checkpoint that is "
        "whole; copy the workdir again, or train it again"
    )


def _best_first(workdir):
    """(steps of the checkpoints that were evaluated, the best one first, {step: reason} of those with no whole score).
    Read without orbax's manager: it would tidy up what the run itself may be writing.
    """
    directory = _directory(workdir)
    if not directory.is_dir():
        raise BadInput(f"{workdir} has no checkpoints/; expected the workdir of a train.py run that has saved once")
    evaluated, damaged = {}, {}
    for step in saved_steps(workdir):
        try:
            score = _score(directory / str(step))
            evaluated |= {step: score} if np.isfinite(score) else {}
        except Damaged as error:
            damaged[step] = str(error)
    if not evaluated and not damaged:
        raise BadInput(f"{directory} holds no evaluated checkpoint; let train.py run until its first evaluation")
    return sorted(evaluated, key=evaluated.get), damaged


def _doubt(workdir, damaged, step):
    places = ", ".join(f"checkpoints/{other} ({reason})" for other, reason in damaged.items())
    return (
        f"{workdir}: damaged is {places}, so that of step {step} is used, the best that is whole: its verdict, "
        "calibration and threshold may be those of another one; copy the workdir again, or train it again"
    )


def saved_steps(workdir):
    """Steps of the finished checkpoints, ascending; orbax gives them their final name when they are whole."""
    return sorted(int(folder.name) for folder in _directory(workdir).iterdir() if folder.name.isdigit())


def load_items(workdir, step, names=("model",)):
    """What `save` wrote at a step, as numpy arrays: "model" is {"params", "state"}, "training" the rest.

    Raises Damaged, or whatever orbax and TensorStore say of a damaged file.
    """
    without_closed_loops()
    place = _directory(workdir) / str(step)
    with ocp.StandardCheckpointer() as reader:
        found = {name: jax.tree.map(np.asarray, reader.restore(place / name)) for name in names}
    _check(place, found)
    return found


def saved_settings(workdir):
    """(step, settings) of the latest checkpoint whose settings are whole, as JSON has them; None without any."""
    directory = _directory(workdir)
    for step in reversed(saved_steps(workdir) if directory.is_dir() else ()):
        try:
            found = _json(directory / str(step) / "settings" / "metadata")
            kept = _kept(directory / str(step))
        except (OSError, ValueError):
            continue
        if kept is None or kept.get("settings") == digest_of_json(found):
            return step, found
    return None


class Finding(NamedTuple):
    """What `verify` has to say of a checkpoint. path: its folder; damaged: False for what could not be checked."""

    path: str
    text: str
    damaged: bool


def verify(workdir):
    """A Finding for every checkpoint of a workdir that is damaged, or too old to be checked; [] where all is well.
    Changes nothing.
    """
    directory, found = _directory(workdir), []
    for step in saved_steps(workdir) if directory.is_dir() else ():
        place = directory / str(step)
        try:
            load_items(workdir, step, NUMBERS)
            _score(place)
            if _kept(place) is None:
                text = "has no digests, it was saved by an earlier version: its numbers cannot be checked"
                found.append(Finding(str(place), text, False))
        except Exception as error:  # whatever orbax and TensorStore say of a damaged file
            text = f"is damaged ({_first_line(error)}); copy the workdir again, or go on training: it is set aside then"
            found.append(Finding(str(place), text, True))
    return found


def adopted(fresh, found, source, same_classes):
    """Parameters to fine-tune from: those `found` in another workdir where name and shape are the same as in `fresh`.

    Unless the classes are the same, the layers that depend on them (CLASS_LAYERS) keep their fresh values. Returns the
    parameters and the names of those that stayed fresh. Raises BadInput for any other difference.
    """
    theirs = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(found)}
    stayed, wrong = [], []

    def choose(path, leaf):
        name = jax.tree_util.keystr(path)
        other = theirs.pop(name, None)
        if other is not None and not same_classes and any(f"'{layer}'" in name for layer in CLASS_LAYERS):
            stayed.append(name)
            return leaf
        if other is not None and other.shape == leaf.shape:
            return np.asarray(other)
        wrong.append(f"{name} ({'absent' if other is None else other.shape} there, {leaf.shape} here)")
        return leaf

    params = jax.tree_util.tree_map_with_path(choose, fresh)
    wrong += [f"{name} (not here)" for name in theirs]
    if wrong:
        raise BadInput(f"cannot start from {source}, its network is another one: {'; '.join(wrong[:5])}")
    return params, stayed


def _items(train_state, best):
    """What is saved together: the model, which use needs, apart from what only training needs."""
    model = {"params": train_state.used, "state": train_state.state}
    rest = {
        "optimizer": train_state.optimizer,
        "step": np.asarray(train_state.step),
        "progress": train_state.progress,
    }
    if train_state.used is not train_state.params:
        rest["params"] = train_state.params
    if best is not None:
        rest |= {"members": {"loss": best.loss, "step": best.step}, "current": model}
        model = {"params": best.params, "state": best.state}
    return {"model": model, "training": rest}


def _read(model, rest):
    """(TrainState, members.Best or None) of the two items that `_items` made."""
    current = rest["current"] if "members" in rest else model
    params, averaged = (rest["params"], current["params"]) if "params" in rest else (current["params"], ())
    train_state = TrainState(rest["step"], params, current["state"], rest["optimizer"], averaged, rest["progress"])
    return train_state, Best(**rest["members"], **model) if "members" in rest else None


def _set_aside(folder):
    """Out of orbax's sight, but not deleted: somebody may want to look at it."""
    if is_primary():
        place = folder.parent.parent / "damaged"
        place.mkdir(exist_ok=True)
        folder.rename(place / f"{folder.name}_{len(list(place.iterdir()))}")


def _check(folder, items):
    """Raises Damaged unless the items {name: tree} of the checkpoint in a folder are those that were saved there."""
    kept = _kept(folder)
    for name, tree in items.items() if kept is not None else ():
        check(tree, kept.get(name))


def _kept(folder):
    """The digests of the checkpoint in a folder, None of one that an earlier version saved. Raises Damaged."""
    try:
        if (folder / "digests").is_dir():
            return _json(folder / "digests" / "metadata")
        about = folder / "_CHECKPOINT_METADATA"
        if about.exists() and "digests" in _json(about)["item_handlers"]:
            raise Damaged("its digests are missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise error if isinstance(error, Damaged) else Damaged("its digests") from error
    return None


def _score(folder):
    """The score of a checkpoint. Raises Damaged where it cannot be read, or is not the one that was saved."""
    kept = _kept(folder)
    try:
        score = float(_json(folder / "metrics" / "metrics")["score"])
        if kept is None or kept["score"] == score:
            return score
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise Damaged("its score")


def _json(path):
    return parse_object(path.read_bytes(), path.name)


def _drop_unreadable_scores(workdir):
    """A damaged score would end in a traceback as soon as orbax opens the folder."""
    directory, damaged = _directory(workdir), {}
    steps = saved_steps(workdir) if directory.is_dir() else []
    for step in steps:
        try:
            _score(directory / str(step))
        except Damaged as error:
            damaged[step] = str(error)
    if damaged and len(damaged) == len(steps):
        raise _none_is_whole(directory, steps, damaged[steps[-1]])
    for step, reason in damaged.items():
        print(f"checkpoint {step} is damaged ({reason}); it is set aside", file=sys.stderr, flush=True)
        _set_aside(directory / str(step))
    wait_for_all("dropped")


def _none_is_whole(directory, steps, reason):
    return BadInput(
        f"none of the checkpoints {steps} in {directory} can be read ({reason}); see to the disk, or take a new "
        "--workdir"
    )


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _directory(workdir):
    path = epath.Path(workdir)
    return (path if "://" in str(workdir) else path.resolve()) / "checkpoints"
