"""Bring a checkpoint of the original implementation along:

    maeref import-original model.ckpt --output runs/mae [--verify VECTORS.npz]

Reads a Lightning .ckpt or a state dict (.pt, .pth, .safetensors, .npz), without PyTorch and without running anything in
the file, and writes a workdir that maeref refine accepts. What the tensors do not say comes from the checkpoint's
hyper-parameters; where it has none, the flags are required. With --verify the model is first run against numbers that
the original computed, one line per key; exit code 1, and no workdir, if one is outside its tolerance.
"""

from pathlib import Path

from maeref_jax.commands import command_line
from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.trust import CAUTIOUS


def main(argv):
    flags = command_line.parser(__doc__)
    flags.add_argument("checkpoint", metavar="FILE", help=".ckpt, .pt, .pth, .safetensors or .npz")
    flags.add_argument("--output", metavar="DIR", help="the new workdir")
    flags.add_argument("--verify", metavar="VECTORS.npz", help="compare with numbers that the original computed")
    flags.add_argument(
        "--encoder_heads", type=int, metavar="N", help="where the file does not say it; so the next three"
    )
    flags.add_argument("--decoder_heads", type=int, metavar="N")
    flags.add_argument("--keep", type=float, metavar="SHARE", help="of the tokens that take part, 0.7 in the paper")
    flags.add_argument(
        "--position_weight", type=float, metavar="W", help="of the encoder's positions, 0.08 in the paper"
    )
    flags.add_argument(
        "--class_names", metavar="A,B,…", help="background first (default: the paper's, if there are five)"
    )
    flags.add_argument("--ambiguous", action="store_true", help="with --class_names: the last class means ambiguous")
    flags.add_argument("--voxel_size_nm", metavar="Z,Y,X", help="of the volumes it was trained on, if known")
    flags.add_argument(
        "--piece_gb", type=float, default=CAUTIOUS.piece_gb, metavar="N", help="memory for a packed .npz (default 0.5)"
    )
    arguments = command_line.parse_flags(flags, argv)
    if not arguments.output and not arguments.verify:
        raise BadInput("--output is missing (or --verify, to compare only)")
    if arguments.output and Path(arguments.output).exists():
        raise BadInput(f"--output {arguments.output} exists already; give a new folder")
    # Imported late: mistakes in the command are answered without waiting for jax.
    from maeref_jax.original import importing

    return importing.bring(arguments, command_line.load_config("mae_original"))
