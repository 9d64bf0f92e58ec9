"""Makes a refiner's confidence honest, on its validation volumes; maeref train ends with it:

    maeref calibrate --refiner runs/mae

Hides scattered and contiguous tokens of validation crops, lets the refiner fill them in as the workdir says it is used,
and fits a temperature per depth of the hole. Writes WORKDIR/calibration.json, which `maeref refine` reads.
A crop's error is measured with temperatures fitted on other crops; neighbouring crops of a volume are alike, though.
"""

from pathlib import Path

from maeref_jax.commands import command_line


def main(argv):
    flags = command_line.parser(__doc__)
    flags.add_argument("--refiner", required=True, metavar="DIR", help="workdir of the refiner")
    arguments = command_line.parse_flags(flags, argv)
    # Imported late: mistakes in the command are answered without waiting for jax.
    from maeref_jax import report
    from maeref_jax.experiments import calibrate, experiment, run
    from maeref_jax.pipeline import methods

    model = methods.load_model(arguments.refiner, "refiner")
    methods.tell_doubts(model)
    calibrate.check(model)  # before its data are looked for
    with run.alone(arguments.refiner):
        prepared = experiment.prepare(model.settings, Path(arguments.refiner), range(model.settings["batch"]))
        table = calibrate.calibrate(model, prepared.validation)
    print(report.text_table(table))
