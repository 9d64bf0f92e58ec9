"""The last part of gpu.py: the paper's masked autoencoder learns for the minutes that are left, and is asked (E3)."""

import json
import shutil
import time

from gpu_setup import Found, applied, random_batch
from gpu_steps import timed_step

from maeref_jax.evaluation import reconstruction
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import jobs
from maeref_jax.refiners import mae
from maeref_jax.samples import sampling
from maeref_jax.samples.training_volumes import TrainingVolume
from maeref_jax.training import loop
from maeref_jax.training.checkpoint import load_best
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.workdir import write_text
from maeref_jax.volumes import threads

HOW = "bfloat16"
HELD_OUT = (30, 31)  # phantoms that nobody trains on
SHARE = 0.75  # of the time that is left goes into steps; validation, saving and questions have the rest
NOTE = (
    "Learned from true label maps of phantoms, as no ensemble was trained in these minutes: a clean prior. Labels of "
    "held-out phantoms are hidden at random and asked back. Paper-like: share of right pixels (micro Dice), background "
    f"included, within {reconstruction.NEAR_PX} px of foreground. Macro: mean Dice of the foreground classes. The "
    "paper's figures are of its own data, training tiles among them."
)


def train(setup):
    """The Found of a training whose length is planned when it begins; what one call leaves undone the next one does."""
    settings = setup.settings("mae", setup.sized(HOW, "float32"))
    volumes, validation = (phantoms(setup, settings["data"]["phantom"][split]) for split in ("train", "validation"))

    def batches(step):
        return batch_of(settings, volumes, step, settings["masking_ratio"])

    settings |= plan(setup, settings, batches)
    settings["checkpoint"]["minutes"] = 1.0  # what a kill loses
    judged = [batch_of(settings, validation, step, (ratio, ratio)) for step, ratio in enumerate((0.25, 0.75))]
    method = mae.method(settings)._replace(preview=None)  # no pictures
    warmup = min(settings["optimizer"]["warmup_steps"], max(settings["steps"] // 10, 100))
    optimizer = build_optimizer({**settings["optimizer"], "warmup_steps": warmup, "steps": settings["steps"]})
    summary = loop.train(method, optimizer, batches, judged, settings, workdir_of(setup))
    best = load_best(workdir_of(setup))
    model = jobs.Model(str(workdir_of(setup)), "mae", settings, best.params, best.state, applied(settings), {})
    crops, classes = setup.sized(64, 4), len(settings["class_weights"])
    asked = [reconstruction.count(one, {"mae": model}, classes, 1.0, crops, 0) for one in phantoms(setup, HELD_OUT)]
    title = f"Labels asked back after {summary['steps']} steps of {settings['batch']} crops (E3)"
    return Found([reconstruction.table(asked)._replace(title=title, note=NOTE)], {"summary": summary})


def forget(setup, part):
    """Removes the training and its plan."""
    shutil.rmtree(workdir_of(setup), ignore_errors=True)
    plan_of(setup).unlink(missing_ok=True)


def workdir_of(setup):
    return (setup.folder / "mae").absolute()


def plan_of(setup):
    return setup.folder / "train_plan.json"


def phantoms(setup, seeds):
    """TrainingVolumes of the true labels of phantoms."""
    data = setup.settings("mae")

    def one(seed):
        made = phantom(seed, data["data"]["phantom"]["shape"], data["voxel_size_nm"])
        return TrainingVolume(f"phantom_{seed}", None, made.labels)

    return list(threads.in_order(one, seeds))


def batch_of(settings, volumes, step, ratio):
    crops = (range(settings["batch"]), tuple(settings["window"]), settings["token"], settings["min_foreground"])
    return sampling.label_batch(volumes, settings["seed"], step, *crops, ratio)


def plan(setup, settings, batches):
    """{"steps", "batch", "evaluate_every"}: as many steps as fit into the time, decided once."""
    place, measured = plan_of(setup), setup.folder / "speed.json"
    if place.exists():
        return json.loads(place.read_text())
    if setup.tiny:
        steps, batch = settings["steps"], settings["batch"]
    else:
        facts = (json.loads(measured.read_text())["facts"] if measured.exists() else None) or {}
        known = facts.get(f"mae/{HOW}")
        batch = known["batch"] if known else settings["batch"]
        step = known["step"] if known else timed_step(settings, random_batch(settings, batch), HOW, 5).step
        began = time.monotonic()
        batches(0)
        made = (time.monotonic() - began) * batch / settings["batch"]  # beside a step, by another thread
        steps = max(10, int(SHARE * setup.left() / max(step, made)))
    found = {"steps": steps, "batch": batch, "evaluate_every": max(1, steps // 4)}
    write_text(place, json.dumps(found))
    return found
