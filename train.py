"""Train any method:  python train.py --config configs/mae.py --workdir runs/mae [--config.KEY=VALUE …]

The workdir is the model: copy it, and refine.py needs nothing else. The same command again continues.
"""

from pathlib import Path

from maeref_jax import command_line

LONG = 3000  # steps from which a CPU is warned about


def main(argv):
    flags = command_line.parser(__doc__)
    flags.add_argument("--config", required=True, help="configs/NAME.py or configs/NAME.py:MODE")
    flags.add_argument("--workdir", required=True, type=Path, help="where the model goes")
    arguments, overrides = command_line.parse(flags, argv)
    settings = command_line.load_config(arguments.config, overrides).to_dict()
    # Imported late: mistakes in the command are answered without waiting for jax.
    from maeref_jax import experiment

    experiment.check(settings)
    if settings["method"] == "mae" and settings["data"]["phantom"]["train"] and not settings["data"]["ensemble"]:
        train_ensemble_first(settings, arguments)
    train(settings, arguments.workdir)


def train(settings, workdir):
    """Train the method that `settings` describe into `workdir`, or continue there."""
    import jax

    from maeref_jax import experiment
    from maeref_jax.training import loop
    from maeref_jax.training import workdir as folder
    from maeref_jax.training.state import build_optimizer

    folder.claim(workdir, settings)
    prepared = experiment.prepare(settings, workdir)
    folder.write_config(workdir, settings, prepared.facts)
    print(f"{settings['method']}: {prepared.description}", flush=True)
    optimizer = build_optimizer({**settings["optimizer"], "steps": settings["steps"]}, prepared.method.members)
    if jax.default_backend() == "cpu" and settings["steps"] >= LONG:
        seconds = loop.seconds_per_step(prepared.method, optimizer, prepared.batches(0))
        hours = seconds * settings["steps"] / 3600
        print(f"slow on this CPU: about {seconds:.1f} s a step, {hours:.0f} hours for {settings['steps']} steps;")
        print("it is meant for a GPU or TPU, and a mode such as :demo is made for CPUs", flush=True)
    summary = loop.train(prepared.method, optimizer, prepared.batches, prepared.validation, settings, workdir)
    folder.write_summary(workdir, settings, prepared.facts, summary)
    print(f"{workdir} is ready; its best step was {summary['validation']['step']}, see {workdir / 'model_card.md'}")


def train_ensemble_first(settings, arguments):
    """Without an ensemble there are no predictions to learn from: train configs/ensemble.py in the same mode."""
    workdir = arguments.workdir / "ensemble"
    mode = arguments.config.partition(".py")[2]
    config = f"{Path(__file__).parent / 'configs' / 'ensemble.py'}{mode}"
    settings["data"]["ensemble"] = str(workdir)
    if not (workdir / "summary.json").exists():
        print(f"no --config.data.ensemble given: training {config} into {workdir} first", flush=True)
        train(command_line.load_config(config).to_dict(), workdir)


if __name__ == "__main__":
    command_line.run(main)
