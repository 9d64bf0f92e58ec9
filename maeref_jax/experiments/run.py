"""One training run, from the settings of a config to a workdir that is ready."""

import jax
from etils import epath

from maeref_jax import report
from maeref_jax.experiments import calibrate, experiment, parameter_search, verdict
from maeref_jax.pipeline import methods
from maeref_jax.pipeline.doubts import MARK, tell
from maeref_jax.training import loop
from maeref_jax.training import search as trials
from maeref_jax.training import workdir as folder
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.parallel import is_primary, own_share, primary_first

LONG_HOURS = 0.5  # from which a CPU is warned about
SAMPLED_STEPS = 3000  # fewer steps are not worth an estimate


def train(settings, workdir, profile=False):
    """Train the method that `settings` describe into `workdir`, or continue there."""

    optimizer_settings = settings["optimizer"]
    indices = own_share(settings["batch"], optimizer_settings["accumulate"])
    folder.check_same_run(workdir, settings)
    start_from = folder.starting_point(settings)
    if settings["method"] in methods.REFINERS:
        verdict.check(settings)
    with primary_first():  # which writes the predictions that a masked autoencoder learns from
        prepared = experiment.prepare(settings, workdir, indices)
    optimizer = build_optimizer({**optimizer_settings, "steps": settings["steps"]}, prepared.method.members)
    if is_primary():
        folder.write_config(workdir, settings, prepared.facts)
        print(f"{settings['method']}: {prepared.description}", flush=True)
        if jax.default_backend() == "cpu" and settings["steps"] >= SAMPLED_STEPS:
            warn_of_slowness(loop.seconds_per_step(prepared.method, optimizer, prepared.batches(0)), settings["steps"])
    summary = loop.train(
        prepared.method, optimizer, prepared.batches, prepared.validation, settings, workdir, start_from, profile
    )
    if is_primary():
        folder.write_summary(workdir, settings, prepared.facts, summary)
        make_confidence_honest(settings, workdir, prepared.validation)
        judge(settings, workdir, prepared.facts, summary)
        card = epath.Path(workdir) / "model_card.md"
        print(f"{workdir} is ready; {best_steps(summary)}, see {card}")


def best_steps(summary):
    """Which step, or which step of every member, the model is of, in words."""
    if "member_steps" in summary:
        return f"the best steps of its members were {', '.join(map(str, summary['member_steps']))}"
    return f"its best step was {summary['validation'].get('step')}"


def make_confidence_honest(settings, workdir, batches):
    """Calibrates the confidence of a refiner that can be, on its validation batches."""
    if settings["method"] not in methods.LEARNED:
        return
    model = methods.load_model(workdir, "refiner")
    if calibrate.can_be_calibrated(model.apply):
        everything = calibrate.calibrate(model, batches).rows[0]
        before, after = everything[3], everything[4]
        print(f"confidence in validation crops: expected calibration error {before}, calibrated {after}")


def judge(settings, workdir, facts, summary):
    """Has a refiner judged on whole slices of its validation volumes; says it, and writes it into summary and card."""
    if settings["method"] not in methods.REFINERS:
        return
    found, tables = verdict.judge(settings, workdir)
    if found is None:
        print("no verdict: nothing is known of the validation volumes that this refiner could be judged by")
        return
    texts = [report.text_table(one) for one in tables]
    folder.write_summary(
        workdir, settings, facts, summary | {"verdict": found}, "\n\n".join([found["sentence"], *map(fenced, texts)])
    )
    print("\n" + "\n\n".join(texts) + "\n")
    tell(f"{MARK * found['harm']}{found['sentence']}")


def fenced(text):
    """Text as it is, in a model card."""
    return f"```\n{text}\n```"


def search(settings, workdir):
    """Choose the parameters of a method without gradients into `workdir`, or go on choosing there."""
    prepared = parameter_search.prepare(settings, workdir)
    folder.write_config(workdir, settings, prepared.facts)
    print(f"{settings['method']}: {prepared.description}", flush=True)
    summary = trials.search(prepared.candidates, prepared.state, prepared.evaluate, prepared.batches, settings, workdir)
    folder.write_summary(workdir, settings, prepared.facts, summary)
    judge(settings, workdir, prepared.facts, summary)
    print(f"{workdir} is ready; the best of {summary['steps']} trials: {summary['parameters']}, all in metrics.jsonl")


def warn_of_slowness(seconds, steps):
    """Says how long this will take on a CPU, when it is long."""
    hours = seconds * steps / 3600
    if hours > LONG_HOURS:
        print(f"slow on this CPU: about {seconds:.1f} s a step, {hours:.1f} hours for {steps} steps;")
        print("it is meant for a GPU or TPU, and a mode such as :demo is made for CPUs", flush=True)
