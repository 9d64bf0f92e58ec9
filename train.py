"""Train any method:  python train.py --config configs/mae.py --workdir runs/mae [--config.KEY=VALUE …]

The workdir is the model: copy it, and refine.py needs nothing else. The same command again continues where the last
checkpoint was; Ctrl-C and SIGTERM save first.

  start from another model, e.g. with other classes:   --init_from runs/other
  several processes (on SLURM, Open MPI, TPU pods):      --distributed
  several processes anywhere:   --coordinator HOST:PORT --processes 2 --process_id 0    (and 1 on the other machine)
"""

from pathlib import Path

from etils import epath

from maeref_jax import command_line
from maeref_jax.errors import BadInput

LONG_HOURS = 0.5  # from which a CPU is warned about
SAMPLED_STEPS = 3000  # fewer steps are not worth an estimate


def main(argv):
    flags = command_line.parser(__doc__)
    flags.add_argument("--config", required=True, help="configs/NAME.py or configs/NAME.py:MODE")
    flags.add_argument("--workdir", required=True, help="where the model goes; gs://… as well (untested)")
    flags.add_argument("--init_from", metavar="DIR", help="workdir to start from instead of random weights")
    flags.add_argument("--profile", action="store_true", help="write a trace of a few steps to WORKDIR/profile")
    flags.add_argument("--distributed", action="store_true", help="one of several processes, as the cluster says")
    flags.add_argument("--coordinator", metavar="HOST:PORT", help="one of several processes; address of process 0")
    flags.add_argument("--processes", type=int, metavar="N", help="how many there are")
    flags.add_argument("--process_id", type=int, metavar="I", help="which of them this is, from 0")
    arguments, overrides = command_line.parse(flags, argv)
    if arguments.init_from:
        overrides.append(f"--config.init_from={arguments.init_from}")
    settings = command_line.load_config(arguments.config, overrides).to_dict()
    check_processes(arguments)
    # Imported late: mistakes in the command are answered without waiting for jax.
    from maeref_jax import parameter_search, pipeline, train_settings
    from maeref_jax.training import parallel
    from maeref_jax.training import workdir as folder

    if settings["method"] in pipeline.SEARCHED:
        parameter_search.check(settings)
        folder.check_same_run(arguments.workdir, settings)
        if arguments.distributed or arguments.coordinator or arguments.profile:
            raise BadInput(f"method {settings['method']} is searched in one process; leave --distributed and such out")
        if settings["data"]["phantom"]["validation"] and not settings["data"]["ensemble"]:
            train_ensemble_first(settings, arguments)
        return search(settings, arguments.workdir)
    train_settings.check(settings)
    if settings["method"] in pipeline.UNLEARNED:
        folder.check_same_run(arguments.workdir, settings)
        folder.write_config(arguments.workdir, settings, {})
        print(f"{settings['method']} learns nothing; {arguments.workdir} is ready")
        return
    folder.check_starting_point(settings, arguments.workdir)
    if arguments.distributed or arguments.coordinator:
        parallel.connect(arguments.coordinator, arguments.processes, arguments.process_id)
    # What can be refused is refused before an ensemble is trained first.
    parallel.own_share(settings["batch"], settings["optimizer"]["accumulate"])
    folder.check_same_run(arguments.workdir, settings)
    data = settings["data"]
    if data["phantom"]["train"] and "ensemble" in data and not data["ensemble"]:
        train_ensemble_first(settings, arguments)
    train(settings, arguments.workdir, arguments.profile)


def check_processes(arguments):
    """BadInput unless --coordinator, --processes and --process_id come together."""
    given = [arguments.coordinator, arguments.processes, arguments.process_id]
    if any(value is not None for value in given) and None in given:
        raise BadInput("--coordinator, --processes and --process_id belong together; some are missing")
    if arguments.coordinator and not 0 <= arguments.process_id < arguments.processes:
        raise BadInput(f"--process_id must be 0 … {arguments.processes - 1}, found {arguments.process_id}")


def train(settings, workdir, profile=False):
    """Train the method that `settings` describe into `workdir`, or continue there."""
    import jax

    from maeref_jax import experiment
    from maeref_jax.training import loop
    from maeref_jax.training import workdir as folder
    from maeref_jax.training.optimizer import build_optimizer
    from maeref_jax.training.parallel import is_primary, own_share, primary_first

    optimizer_settings = settings["optimizer"]
    indices = own_share(settings["batch"], optimizer_settings["accumulate"])
    folder.check_same_run(workdir, settings)
    start_from = folder.starting_point(settings)
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
        card = epath.Path(workdir) / "model_card.md"
        print(f"{workdir} is ready; {best_steps(summary)}, see {card}")


def best_steps(summary):
    """Which step, or which step of every member, the model is of, in words."""
    if "member_steps" in summary:
        return f"the best steps of its members were {', '.join(map(str, summary['member_steps']))}"
    return f"its best step was {summary['validation'].get('step')}"


def make_confidence_honest(settings, workdir, batches):
    """Calibrates the confidence of a refiner that can be, on its validation batches."""
    from maeref_jax import pipeline

    if settings["method"] not in pipeline.LEARNED:
        return
    from maeref_jax import calibrate

    model = pipeline.load_model(workdir, "refiner")
    if calibrate.can_be_calibrated(model.apply):
        everything = calibrate.calibrate(model, batches).rows[0]
        before, after = everything[3], everything[4]
        print(f"confidence in validation crops: expected calibration error {before}, calibrated {after}")


def search(settings, workdir):
    """Choose the parameters of a method without gradients into `workdir`, or go on choosing there."""
    from maeref_jax import parameter_search
    from maeref_jax.training import search as trials
    from maeref_jax.training import workdir as folder

    prepared = parameter_search.prepare(settings, workdir)
    folder.write_config(workdir, settings, prepared.facts)
    print(f"{settings['method']}: {prepared.description}", flush=True)
    summary = trials.search(prepared.candidates, prepared.state, prepared.evaluate, prepared.batches, settings, workdir)
    folder.write_summary(workdir, settings, prepared.facts, summary)
    print(f"{workdir} is ready; the best of {summary['steps']} trials: {summary['parameters']}, all in metrics.jsonl")


def warn_of_slowness(seconds, steps):
    """Says how long this will take on a CPU, when it is long."""
    hours = seconds * steps / 3600
    if hours > LONG_HOURS:
        print(f"slow on this CPU: about {seconds:.1f} s a step, {hours:.1f} hours for {steps} steps;")
        print("it is meant for a GPU or TPU, and a mode such as :demo is made for CPUs", flush=True)


def train_ensemble_first(settings, arguments):
    """Without an ensemble there are no predictions to learn from: train configs/ensemble.py in the mode that the config
    names, for the same seed, classes and voxel size.
    """
    workdir, mode = epath.Path(arguments.workdir) / "ensemble", settings["data"]["ensemble_mode"]
    config = f"{Path(__file__).parent / 'configs' / 'ensemble.py'}{mode and ':'}{mode}"
    if not (workdir / "summary.json").exists():
        print(f"no --config.data.ensemble given: training {config} into {workdir} first", flush=True)
        same = {name: settings[name] for name in ("seed", "classes", "voxel_size_nm")}
        train({**command_line.load_config(config).to_dict(), **same}, workdir)


if __name__ == "__main__":
    command_line.run(main)
