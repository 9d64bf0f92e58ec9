"""Judge a refinement by the truth:  python evaluate.py --config configs/evaluate.py --workdir runs/evaluate

Prints the tables and writes WORKDIR/report.html, tables.txt, summary.json, a line of openings.log, and the volumes in
WORKDIR/held_out.
"""

import json
import sys
import textwrap
import time
from pathlib import Path

from maeref_jax import command_line
from maeref_jax.errors import BadInput


def main(argv):
    flags = command_line.parser(__doc__)
    flags.add_argument("--config", required=True, help="configs/evaluate.py or configs/evaluate.py:MODE")
    flags.add_argument("--workdir", required=True, type=Path, help="where the report goes, and where the models are")
    arguments, overrides = command_line.parse(flags, argv)
    settings = command_line.load_config(arguments.config, overrides).to_dict()
    tasks = {"refinement": judge_refinement, "uncertainty": judge_uncertainty, "phantoms": compare_phantoms}
    if settings["task"] not in tasks:
        raise BadInput(f"task is {settings['task']}, expected one of {', '.join(tasks)}")
    return tasks[settings["task"]](settings, arguments.workdir)


def judge_refinement(settings, workdir):
    """Refine every held-out volume in every way, count against the truth, print and write the report."""
    # Imported late, here and below: --help and mistakes in the command are answered without waiting for jax.
    from maeref_jax import degradation, report
    from maeref_jax.blockwise import in_3d
    from maeref_jax.evaluation import agreement, cases, endpoint, groups, opening, page, refinement, runs
    from maeref_jax.evaluation.models import load_models, without_ambiguous
    from maeref_jax.training.workdir import make_workdir, write_text
    from maeref_jax.volumes.inputs import doubt_about_scale

    began = time.monotonic()
    cases.check(settings)
    ensemble, refiner, competitors, others = load_models(settings, workdir)
    groups.check_priors(settings["priors"], settings["files"]["conditions"], competitors)
    scheme = (refiner or ensemble).settings["classes"]
    classes = without_ambiguous(scheme)
    cases.check_classes(settings, classes["names"])
    models = {f"competitor {name}": model for name, model in (competitors | others).items()}
    models = {"ensemble": ensemble, "refiner": refiner} | models
    models = {name: model for name, model in models.items() if model is not None}
    cases.check_held_out(settings, models.values())
    if page.fades(settings, ensemble) and refiner and settings["pictures"]:
        degradation.check(settings["fading"], settings["phantom"]["shape"], in_3d(ensemble.apply)[0])
    output = workdir / "held_out"
    judged, counted, refining, given = [], [], 0.0, cases.cases(settings, scheme, output)
    runs.check(given, ensemble, refiner, competitors, others, settings, output)
    make_workdir(output)
    opening.write_log(workdir, [case.stem for case in given], {name: model.workdir for name, model in models.items()})
    filling = {"refined": refiner, **competitors} if refiner else {}
    for case in given:
        print(f"refining {case.stem}, shape {case.truth.shape}", flush=True)
        model = ensemble or refiner
        doubt = doubt_about_scale(case.stem, case.voxel_size_nm, model.workdir, model.settings["voxel_size_nm"])
        if doubt:
            print(f"warning: {doubt}", file=sys.stderr)
        started = time.monotonic()
        results = runs.refine(case, ensemble, refiner, settings, output)
        refining += time.monotonic() - started
        found = runs.gather(case, results, ensemble, refiner, competitors, others, settings, output)
        counted.append(refinement.count(found, filling, len(classes["names"]), settings))
        if not case.shift:
            judged.append((case, results, counted[-1].agreement))
    parts = [found for _, _, found in judged]
    primary = endpoint.endpoint([one.scores for one in parts], settings["endpoint_classes"])
    lead = endpoint.verdict(agreement.total(parts), primary)
    seconds = {name: page.training_seconds(model.workdir) for name, model in models.items()}
    tables = [*refinement.tables(counted, classes["names"], settings), page.cost_table(models, seconds)]
    seconds |= {"refine": round(refining, 1), "evaluate": round(time.monotonic() - began, 1)}
    write_text(workdir / "tables.txt", "\n\n".join(map(report.text_table, tables)) + "\n")
    summary = {**agreement.summary(parts, settings["endpoint_classes"]), "seconds": seconds}
    write_text(workdir / "summary.json", json.dumps(summary, indent=1, allow_nan=False))
    page.write_page(workdir, judged, given, tables, lead, models, classes, settings)
    words = (textwrap.fill(paragraph, 100) for paragraph in lead)
    print("\n" + "\n\n".join([*map(report.text_table, tables), *words]))
    print(f"\nPictures and tables: {workdir / 'report.html'}\nVolumes for Fiji:    {output}")


def judge_uncertainty(settings, workdir):
    """Does the ensemble know where it is wrong?"""
    from maeref_jax.evaluation import uncertainty

    uncertainty.judge(settings, workdir)


def compare_phantoms(settings, workdir):
    """Phantoms, real labels and the paper's control group side by side."""
    from maeref_jax import realism

    realism.compare(settings, workdir)


if __name__ == "__main__":
    command_line.run(main)
