"""One member of an ensemble as a workdir of its own, an ensemble of one, for use by itself:

    maeref export-member --ensemble runs/ensemble --member 2 --output runs/member_2

It predicts, bit for bit, what that member says inside the ensemble. To train it further, start from it (--init_from).
"""

from maeref_jax.commands import command_line


def main(argv):
    flags = command_line.parser(__doc__)
    flags.add_argument("--ensemble", required=True, metavar="DIR", help="workdir of the ensemble")
    flags.add_argument("--member", required=True, type=int, metavar="I", help="which member, from 0")
    flags.add_argument("--output", required=True, metavar="DIR", help="the new workdir")
    arguments = command_line.parse_flags(flags, argv)
    from maeref_jax.experiments import export_member

    export_member.export_member(arguments.ensemble, arguments.member, arguments.output)
    print(f"{arguments.output} is ready")
