"""What an ensemble says of its own training volumes, each predicted only by the members that never saw it:

    maeref out-of-fold --ensemble runs/ensemble --output runs/ensemble_out_of_fold

Writes what `maeref refine` writes without a refiner: labels, entropy, hidden tokens. A masked autoencoder may learn
from them as from those of volumes that nobody annotated. The same command again continues an interrupted run.
"""

from maeref_jax.commands import command_line


def main(argv):
    flags = command_line.parser(__doc__)
    flags.add_argument("--ensemble", required=True, metavar="DIR", help="workdir of the ensemble")
    flags.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    arguments = command_line.parse_flags(flags, argv)
    from maeref_jax.experiments import out_of_fold

    out_of_fold.predict(arguments.ensemble, arguments.output)
