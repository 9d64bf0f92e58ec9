"""Label volumes through the imaging model: images whose truth is known, of real shapes instead of phantoms.

    maeref render --config configs/render_mef_cristae.py --output runs/rendered

Writes, for every label volume of every split of the config, OUTPUT/SPLIT/STEM_image.tif, STEM_truth.tif,
STEM_annotated.tif (the truth with class 4, ambiguous, where an annotator could not decide) and STEM_low_signal.tif;
STEM is the file's name without "_label". Labels are brought to the classes 0 background, 1 intermembrane, 2 cristae, 3
matrix by label_map and the derived shell; or to those that a config like configs/render_urocell.py names, which also
says what undecided voxels are.
"""

from pathlib import Path

from maeref_jax.commands import command_line
from maeref_jax.errors import BadInput


def main(argv):
    flags = command_line.parser(__doc__)
    flags.add_argument("--config", required=True, help="a config of this command, like configs/render_mef_cristae.py")
    flags.add_argument("--output", required=True, type=Path, metavar="DIR", help="where the volumes go")
    command_line.add_reading_flags(flags)
    arguments, overrides = command_line.parse(flags, argv)
    overrides += command_line.reading_overrides(arguments, "")
    settings = command_line.load_config(arguments.config, overrides).to_dict()
    if "splits" not in settings:
        raise BadInput(f"{arguments.config} is no config of this command: it has no splits; see configs/render_*.py")
    # Imported late: mistakes in the command are answered without waiting for the libraries.
    from maeref_jax.experiments import render

    for line in render.write_volumes(settings, arguments.output):
        print(line, flush=True)
