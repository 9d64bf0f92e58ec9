"""One training run, from the settings of a config to a workdir that is ready."""

from contextlib import nullcontext
from pathlib import Path

from etils import epath

from maeref_jax import report
from maeref_jax.errors import MARK, tell
from maeref_jax.experiments import calibrate, clicked, corrections, experiment, parameter_search, verdict
from maeref_jax.pipeline import doubts, methods
from maeref_jax.results import claim
from maeref_jax.results.output import check_directory
from maeref_jax.training import loop
from maeref_jax.training import search as trials
from maeref_jax.training import workdir as folder
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.parallel import is_primary, own_share, primary_first
from maeref_jax.volumes import progress

# What needs other data than the rest.
PREPARED = {corrections.METHOD: corrections.prepare, "sparse_labels": clicked.prepare}
CLAIMS = "claims"  # the folder of a workdir that says who trains in it


def train(settings, workdir, profile=False):
    """Train the method that `settings` describe into `workdir`, or continue there. Raises CannotGoOn where another
    process does.
    """
    optimizer_settings = settings["optimizer"]
    indices = own_share(settings["batch"], optimizer_settings["accumulate"])
    folder.check_same_run(workdir, settings, verdict.may_change(settings))
    check_place(workdir)
    folder.keep_compiled(workdir)
    start_from = folder.starting_point(settings)
    if settings["method"] in methods.REFINERS:
        verdict.check(settings)
    # The primary writes the predictions that a masked autoencoder learns from.
    with progress.showing("making the data ready"), primary_first():
        prepared = PREPARED.get(settings["method"], experiment.prepare)(settings, workdir, indices)
    optimizer = build_optimizer({**optimizer_settings, "steps": settings["steps"]}, prepared.method.members)
    with alone(workdir) if is_primary() else nullcontext():
        if is_primary():
            begin(workdir, settings, prepared)
        summary = loop.train(
            *(prepared.method, optimizer, prepared.batches, prepared.validation),
            *(settings, workdir, start_from, profile, prepared.judged_on),
        )
        if is_primary():
            make_confidence_honest(settings, workdir, prepared.validation)
            if settings["method"] == corrections.METHOD:
                tell(corrections.sentence(corrections.choose(settings, workdir), settings))
            for line in by_class(summary, settings["classes"]["names"]):
                print(line)
            judge(settings, workdir, prepared.facts, summary)
            card = epath.Path(workdir) / "model_card.md"
            print(f"{workdir} is ready; {best_steps(summary)}, see {card}")


def check_place(workdir):
    """Raises BadInput where nothing can be written, CannotGoOn where somebody trains: before any work."""
    if "://" not in str(workdir):
        check_directory(Path(workdir), "--workdir")
        claim.check_free(Path(workdir) / CLAIMS, "training", f"{workdir} is being trained already")


def alone(workdir):
    """While inside, this process alone trains in the workdir, or changes what is beside its model; of a bucket nobody
    knows. Raises CannotGoOn.
    """
    if "://" in str(workdir):
        return nullcontext()
    return claim.alone(Path(workdir) / CLAIMS, "training", f"{workdir} is being trained already")


def begin(workdir, settings, prepared):
    """Writes config.json and says what is to come. prepared: an Experiment, or a Search."""
    if (step := folder.lost_config(workdir)) is not None:
        print(f"{workdir}/config.json was lost; it is written again, as checkpoint {step} has these settings")
    folder.write_config(workdir, settings, prepared.facts)
    print(f"{settings['method']}: {prepared.description}", flush=True)


def by_class(summary, names):
    """Lines that say how well each class was found in validation, as far as that was counted class by class."""
    found, measures = summary["validation"], ("dice", "precision", "recall")
    lines = []
    for name in names:
        values = {measure: found.get(f"validation_{measure}_{name}") for measure in measures}
        if None not in values.values():
            lines.append(f"  {name}: " + ", ".join(f"{measure} {value:.3f}" for measure, value in values.items()))
    return [f"validation on {summary['validated_on']}, by class:", *lines] if lines else []


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
        with progress.showing("calibrating the confidence"):
            everything = calibrate.calibrate(model, batches).rows[0]
        before, after = everything[3], everything[4]
        print(f"confidence in validation crops: expected calibration error {before}, calibrated {after}")


def judge(settings, workdir, facts, summary):
    """Has a refiner judged on whole slices of its validation volumes; says it, and writes summary and card: all at
    once, so that what a kill leaves is no summary, or one with its verdict.
    """
    if settings["method"] not in methods.REFINERS:
        return folder.write_summary(workdir, settings, facts, summary)
    found, tables = verdict.judge(settings, workdir)
    texts, doubt = [report.text_table(one) for one in tables], doubts.unproven(found, settings)
    told = [found["sentence"], *([doubt] if doubt else []), *map(fenced, texts)]
    folder.write_summary(workdir, settings, facts, summary | {"verdict": found}, "\n\n".join(told))
    if texts:
        print("\n" + "\n\n".join(texts) + "\n")
    tell(f"{MARK * found['harm']}{found['sentence']}")
    if doubt:
        tell(f"{MARK}{doubt}")


def fenced(text):
    """Text as it is, in a model card."""
    return f"```\n{text}\n```"


def search(settings, workdir):
    """Choose the parameters of a method without gradients into `workdir`, or go on choosing there. Raises CannotGoOn
    where another process does.
    """
    check_place(workdir)
    prepared = parameter_search.prepare(settings, workdir)
    with alone(workdir):
        begin(workdir, settings, prepared)
        given = prepared.candidates, prepared.state, prepared.evaluate, prepared.batches
        summary = trials.search(*given, settings, workdir)
        judge(settings, workdir, prepared.facts, summary)
    print(f"{workdir} is ready; the best of {summary['steps']} trials: {summary['parameters']}, all in metrics.jsonl")
