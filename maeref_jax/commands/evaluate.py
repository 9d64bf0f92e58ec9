"""Judge a refinement by the truth:  maeref evaluate --config evaluate --workdir runs/evaluate

Prints the tables and writes WORKDIR/report.html, tables.txt, summary.json, a line of openings.log, and the volumes in
WORKDIR/held_out.
"""

import importlib
from pathlib import Path

from maeref_jax.commands import command_line
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import openings_log

# Task: the file of evaluation/ whose `judge(settings, workdir)` does it.
TASKS = {
    "refinement": "refinement",
    "uncertainty": "uncertainty",
    "phantoms": "realism",
    "continuity": "continuity",
    "sparse": "sparse",
    "tissue": "tissue",
    "places": "places",
}
# Tasks with settings of their own: the group that holds them, and the mode that has it.
MODES = {
    "phantoms": ("real", "phantom"),
    "continuity": ("continuity", "epfl_hippocampus"),
    "sparse": ("sparse", "sparse"),
    "tissue": ("tissue", "tissue"),
}


def main(argv):
    flags = command_line.parser(__doc__)
    flags.add_argument("--config", required=True, help="evaluate, evaluate:MODE, or a file, PATH.py or PATH.py:MODE")
    flags.add_argument("--workdir", required=True, type=Path, help="where the report goes, and where the models are")
    flags.add_argument("--classes", metavar="NAMES", help="names of the models' classes, background first: a check")
    flags.add_argument(
        "--label_map", metavar="ID:CLASS,…", help="what ids in truths mean: 0:0,255:1; or instances; or identity"
    )
    command_line.add_reading_flags(flags)
    arguments, overrides = command_line.parse(flags, argv)
    overrides += command_line.reading_overrides(arguments, "files.")
    shorthand = {"classes": arguments.classes, "files.label_map": arguments.label_map}
    overrides += [f"--config.{name}={value}" for name, value in shorthand.items() if value]
    settings = command_line.load_config(arguments.config, overrides).to_dict()
    if settings["task"] not in TASKS:
        raise BadInput(f"task is {settings['task']}, expected one of {', '.join(TASKS)}")
    group, mode = MODES.get(settings["task"], ("", ""))
    if group and group not in settings:
        raise BadInput(
            f"the task '{settings['task']}' belongs to configs/evaluate.py:{mode}, whose group '{group}' "
            f"{arguments.config} has not got; give --config evaluate:{mode}"
        )
    if (arguments.workdir / "config.json").exists():
        raise BadInput(
            f"{arguments.workdir} holds a model, whose summary.json would be replaced; give a --workdir for the "
            "report, and name the models: --config.ensemble=DIR --config.refiner=DIR"
        )
    openings_log.check_free(arguments.workdir)
    # Imported late: --help and mistakes in the command are answered without waiting for jax.
    importlib.import_module(f"maeref_jax.evaluation.{TASKS[settings['task']]}").judge(settings, arguments.workdir)
