"""Every held-out volume refined in every way and counted against the truth: tables, report, one opening of the log."""

import textwrap
import time

from maeref_jax import report
from maeref_jax.evaluation import (
    agreement,
    cases,
    degradation,
    endpoint,
    groups,
    independence,
    openings_log,
    page,
    runs,
    summary,
    tables,
)
from maeref_jax.evaluation.contestants import load_models, without_ambiguous
from maeref_jax.pipeline import jobs
from maeref_jax.pipeline.blockwise import in_3d
from maeref_jax.training.workdir import make_workdir, write_text


def judge(settings, workdir):
    """Refine every held-out volume in every way, count against the truth, print and write the report."""
    began = time.monotonic()
    cases.check(settings)
    ensemble, refiner, competitors, others = load_models(settings, workdir)
    groups.check_priors(settings["priors"], settings["files"]["conditions"], competitors)
    scheme = jobs.scheme_of(ensemble, refiner, settings["classes"])
    classes = without_ambiguous(scheme)
    settings = cases.with_classes(settings, classes["names"])
    models = {f"competitor {name}": model for name, model in (competitors | others).items()}
    models = {"ensemble": ensemble, "refiner": refiner} | models
    if refiner and refiner.judge and not jobs.hides_for_itself(refiner):
        models["hidden by"] = refiner.judge
    models = {name: model for name, model in models.items() if model is not None}
    cases.check_held_out(settings, models.values())
    if page.fades(settings, ensemble) and refiner and settings["pictures"]:
        degradation.check(settings["fading"], settings["phantom"]["shape"], in_3d(ensemble.apply)[0])
    output = workdir / "held_out"
    judged, counted, refining, given = [], [], 0.0, cases.cases(settings, scheme, output)
    runs.check(given, ensemble, refiner, competitors, others, settings, output)
    make_workdir(output)
    looked_at = {name: model.workdir for name, model in models.items()}
    with openings_log.opened(workdir, [case.stem for case in given], looked_at):
        filling = {"refined": refiner, **competitors} if refiner else {}
        for case in given:
            print(f"refining {case.stem}, shape {case.truth.shape}", flush=True)
            started = time.monotonic()
            results = runs.refine(case, ensemble, refiner, settings, output)
            refining += time.monotonic() - started
            found = runs.gather(case, results, ensemble, refiner, competitors, others, settings, output)
            counted.append(tables.count(found, filling, len(classes["names"]), settings))
            if not case.shift:
                judged.append((case, results, counted[-1].agreement))
        parts = [found for _, _, found in judged]
        primary = endpoint.endpoint([one.scores for one in parts], settings["endpoint_classes"])
        slices = runs.slices_in_words(given, refiner, settings) if refiner else ""
        told = agreement.Told(slices, independence.in_words(settings))
        lead = endpoint.verdict(agreement.total(parts), primary, told.unit)
        seconds = {name: page.training_seconds(model.workdir) for name, model in models.items()}
        printed = [*tables.tables(counted, classes["names"], settings, told), page.cost_table(models, seconds)]
        seconds |= {"refine": round(refining, 1), "evaluate": round(time.monotonic() - began, 1)}
        write_text(workdir / "tables.txt", "\n\n".join(map(report.text_table, printed)) + "\n")
        numbers = {**agreement.summary(parts, settings["endpoint_classes"]), "seconds": seconds}
        summary.write(workdir / "summary.json", numbers)
        page.write_page(workdir, judged, given, printed, lead, models, classes, settings)
        words = (textwrap.fill(paragraph, 100) for paragraph in lead)
        print("\n" + "\n\n".join([*map(report.text_table, printed), *words]))
        print(f"\nPictures and tables: {workdir / 'report.html'}\nVolumes for Fiji:    {output}")
