"""Where is it wrong, from the config of evaluate.py to the page: whatever says which tokens to hide first, judged by
the truth of held-out volumes at equal hidden area (EVALUATION E13). metrics/places.py has the counts.

The labels that are judged and the tokens that are hidden today are those of the pipeline, as refine.py makes them.
Beside the entropies stands the error that correctors expect (`judges`), which the pipeline writes.
"""

from pathlib import Path

import numpy as np

from maeref_jax import report
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import cases, doubt, independence, openings_log, runs, summary
from maeref_jax.evaluation.contestants import load_models, without_ambiguous
from maeref_jax.evaluation.page import described, versions
from maeref_jax.metrics import calibration, places, statistics
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.pipeline.shown import seen_by
from maeref_jax.report.curves import Axis, curves_figure
from maeref_jax.report.page import Picture, html_page
from maeref_jax.training.workdir import flat, make_workdir, write_text
from maeref_jax.uncertainty.entropy import KINDS, entropy_of_means
from maeref_jax.volumes.volume import labels_from_disk
from maeref_jax.volumes.windows import whole

AREAS = (0.02, 0.05, 0.08, 0.1, 0.2)
COMPARED_AT = 0.08  # of AREAS: the ratio to the entropy of the mean, and single volumes
CURVE = np.linspace(0, 0.5, 51)
ORACLE = "the errors themselves"
CHANCE = "chance"
FIRST = doubt.WORDS["mean"]
DRAWS = 2000


def judge(settings, workdir):
    """Errors caught by hidden area, AUROC and average precision of every score: printed, and places.html, places.png,
    places.json.
    """
    cases.check(settings)
    alone = {**settings, "competitors": (), "other_ensembles": ()}
    ensemble, refiner, _, _ = load_models(alone, workdir)
    if ensemble is None:
        raise BadInput("the task 'places' needs an ensemble and images to judge: labels are given in their place")
    models = {"ensemble": ensemble} | ({"refiner": refiner} if refiner else {})
    if refiner and refiner.judge and not jobs.hides_for_itself(refiner):
        models["hidden by"] = refiner.judge
    judges = load_judges(settings["judges"])
    models |= {f"judge {name}": model for name, model in judges.items()}
    scheme = jobs.scheme_of(ensemble, refiner, settings["classes"])
    cases.check_held_out(settings, models.values())
    output = workdir / "held_out"
    given, left_out = independence.without_shifts(cases.cases(settings, scheme, output))
    if any("image" not in case.inputs for case in given):
        raise BadInput("the ensemble needs images to judge: give files.images beside files.truths")
    for model in (refiner, *judges.values()):
        runs.check(given, ensemble, model, {}, {}, settings, output)
    make_workdir(output)
    counted = {}
    looked_at = {name: model.workdir for name, model in models.items()}
    with openings_log.opened(workdir, [case.stem for case in given], looked_at):
        for case in given:
            print(f"counting {case.stem}, shape {case.truth.shape}", flush=True)
            results = runs.refine(case, ensemble, refiner, settings, output)
            more = {f"error that {n} expects": expected(case, ensemble, m, output / n) for n, m in judges.items()}
            token = jobs.settled(jobs.Settings(**settings["refine"]), refiner).token
            counted[case.stem] = count(case, results, ensemble, token, more)
        said = left_out, independence.in_words(settings)
        _write(counted, given, models, without_ambiguous(scheme), settings, workdir, said)


def load_judges(workdirs):
    """{name of the workdir: Model of a corrector, judged by itself}. Raises BadInput where two share a name."""
    names = [Path(workdir).resolve().name for workdir in workdirs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"judges: two workdirs are called '{twice[0]}', and rows of tables would be; rename a folder")
    found = zip(names, (methods.load_model(workdir, "refiner") for workdir in workdirs), strict=True)
    return {name: methods.judged_by(model, model) for name, model in found}


def expected(case, ensemble, judge, output):
    """The probability that the initial label is wrong, uint8 of 255 (z, y, x), by a corrector's Model."""
    job = jobs.Job(stem=case.stem, output=output, **case.inputs)
    asked = jobs.Settings(tiff_export=False, overwrite=True)
    refining.refine_volume(job, ensemble, judge, asked, lambda text: None)
    return refining.open_result(output, case.stem, "error").read(whole(case.truth.shape))


def count(case, results, ensemble, token, more):
    """{score: metrics.places.Places} of one Case, ORACLE last.

    results: {"initial", "hidden": Volume} of the pipeline; more: {name: array (z, y, x)}.
    """
    everything = whole(case.truth.shape)
    initial, hidden = (results[role].read(everything) for role in ("initial", "hidden"))
    initial, hidden = labels_from_disk(initial), hidden > 0
    image, total = seen_by(ensemble, case.inputs["image"]), None
    for box in doubt.slabs(ensemble, case.truth.shape):
        _, means = doubt.probabilities(ensemble, image, box)
        scores = {doubt.WORDS[kind]: np.asarray(entropy_of_means(means[kind], kind)) for kind in KINDS}
        scores |= {name: score[box.slices] for name, score in more.items()}
        labels, truth, inside = (array[box.slices] for array in (initial, case.truth, hidden))
        scores[ORACLE] = places.perfect(labels, truth)
        found = {name: places.count(score, labels, truth, token, inside) for name, score in scores.items()}
        total = found if total is None else {name: places.add(one, found[name]) for name, one in total.items()}
    return total


def added(counted):
    """{score: Places} of all volumes together. counted: [{score: Places}] of each."""
    total = counted[0]
    for one in counted[1:]:
        total = {name: places.add(found, one[name]) for name, found in total.items()}
    return total


def tables(counted, times):
    """The report.Tables. counted: {volume: {score: Places}}, the scores alike in all volumes; times: {score: its
    `times_as_many`}.
    """
    total = added(list(counted.values()))
    made = [_caught(len(counted), total, times), _ordering(total)]
    return [*made, _volumes(counted)] if len(counted) > 1 else made


def hidden_share(total):
    """(share of the voxels, share of the errors) in the tokens that are hidden today."""
    (voxels, wrong), (inside, caught) = (
        places.share_of(part) for part in (total[FIRST].everywhere, total[FIRST].inside)
    )
    return inside / max(voxels, 1), caught / wrong if wrong else float("nan")


def times_as_many(counted, name, seed=0):
    """statistics.Interval over volumes: how often as many errors a score catches as the entropy of the mean does, at
    COMPARED_AT.
    """
    clusters = np.stack([[np.stack(found[one].tokens) for one in (name, FIRST)] for found in counted.values()])
    used = clusters.any((0, 1, 2))  # most of the levels are empty, and a resample has to add up all others

    def ratio(sums):
        caught, first = (places.errors_caught(calibration.DoubtCounts(*one), COMPARED_AT) for one in sums)
        return float(caught / first) if first else float("nan")

    return statistics.interval(clusters[..., used], ratio, seed, draws=DRAWS)


def numbers(counted, times):
    """What places.json holds: of every score all that the tables and the picture show, NaN where undefined. counted,
    times: as for `tables`.
    """
    total = added(list(counted.values()))
    (area, errors), voxels = hidden_share(total), places.share_of(total[FIRST].everywhere)

    def plain(values):
        return [round(float(value), 5) for value in np.ravel(values)]

    parts = places.Places._fields[1:]
    return {
        "voxels": voxels[0],
        "errors": voxels[1],
        "hidden_today": {"area": plain(area)[0], "errors_caught": plain(errors)[0]},
        "area": plain(CURVE),
        "scores": {
            name: {
                "errors_caught": plain(places.errors_caught(found.tokens, CURVE)),
                "times_entropy": dict(zip(("estimate", "low", "high"), plain(times[name][:3]), strict=True)),
                "auroc": {part: plain(calibration.auroc(getattr(found, part)))[0] for part in parts},
                "average_precision": {
                    part: plain(calibration.average_precision(getattr(found, part)))[0] for part in parts
                },
            }
            for name, found in total.items()
        },
    }


def curve(total):
    """PNG bytes: errors caught against hidden area, of every score, of ORACLE and by chance."""
    caught = {name: 100 * places.errors_caught(found.tokens, CURVE) for name, found in total.items()}
    caught[CHANCE] = 100 * CURVE
    along, up = Axis("per cent of the voxels hidden", 50), Axis("per cent of all errors in them", 100)
    return curves_figure(100 * CURVE, caught, along, up, (ORACLE, CHANCE))


def _caught(volumes, total, times):
    area, errors = hidden_share(total)
    rows = []
    for name, found in total.items():
        ratio = times[name]
        interval = "" if np.isnan(ratio.low) else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
        cells = (report.number(float(value)) for value in places.errors_caught(found.tokens, (*AREAS, area)))
        rows.append((name, *cells, "" if name == FIRST else report.number(ratio.estimate, 2) + interval))
    header = ("share of all errors, hidden:", *(f"{share:.0%}" for share in AREAS), f"{area:.1%}, as today")
    header = (*header, f"times entropy, at {COMPARED_AT:.0%}")
    note = (
        f"Tokens of the highest mean score are hidden first, until they hold so much of the voxels of all volumes "
        f"({volumes}) together. Today's rule hides {area:.1%} of the voxels, which hold {errors:.0%} of all errors. "
        f"'{ORACLE}' is the ceiling: what is wrong by the truth comes first."
    )
    note += " Brackets: 95 %, by volumes." * (volumes > 1)
    return report.Table("Errors caught at equal hidden area", header, tuple(rows), (), note)


def _ordering(total):
    parts = places.Places._fields[1:]
    rows = []
    for name, found in total.items():
        counts = [getattr(found, part) for part in parts]
        numbers = [measure(one) for measure in (calibration.auroc, calibration.average_precision) for one in counts]
        rows.append((name, *map(report.number, numbers)))
    shares = [places.share_of(getattr(total[FIRST], part)) for part in parts]
    wrong = [report.number(errors / voxels if voxels else float("nan")) for voxels, errors in shares]
    rows.append((CHANCE, *(report.number(0.5),) * 3, *wrong))
    header = (
        "for errors, voxel by voxel",
        *(f"{of}, {part}" for of in ("AUROC", "AP") for part in ("all", "in", "out")),
    )
    note = (
        "In: the tokens that are hidden today; out: all others. AUROC: the chance that a wrong voxel has a higher "
        "score than a right one. AP, average precision: the mean share of errors among the voxels of at least an "
        "error's score; by chance their share of all voxels."
    )
    return report.Table("Does it know which voxels are wrong?", header, tuple(rows), (), note)


def _volumes(counted):
    names = next(iter(counted.values()))
    rows = []
    for stem, found in counted.items():
        caught = (places.errors_caught(found[name].tokens, COMPARED_AT) for name in names)
        voxels, wrong = places.share_of(found[FIRST].everywhere)
        rows.append((stem, f"{wrong / max(voxels, 1):.1%}", *(report.number(float(value)) for value in caught)))
    note = f"Share of a volume's errors caught where {COMPARED_AT:.0%} of it are hidden, by its own tokens' order."
    return report.Table("Volume by volume", ("", "wrong", *names), tuple(rows), (), note)


def _write(counted, given, models, classes, settings, workdir, said):
    times = {name: times_as_many(counted, name) for name in next(iter(counted.values()))}
    first, *others = tables(counted, times)
    made, picture = [independence.noted(first, *said), *others], curve(added(list(counted.values())))
    caption = (
        "Errors caught against hidden area, tokens ranked by their mean score. Dotted: the ceiling, the true errors "
        "first; dashed: chance."
    )
    page = html_page(
        title="Where is it wrong?" + " VALIDATION volumes: to choose, not to report" * settings["on_validation"],
        lead=[],
        pictures=[],
        tables=made,
        figures=[Picture(picture, caption)],
        classes=classes,
        facts={
            "Held-out volumes": {case.stem: described(case) for case in given},
            **{name.capitalize(): {"workdir": model.workdir, **flat(model.settings)} for name, model in models.items()},
            "Evaluation settings": flat(settings),
            "Versions": versions(),
        },
    )
    write_text(workdir / "places.html", page)
    summary.write(workdir / "places.json", numbers(counted, times))
    (workdir / "places.png").write_bytes(picture)
    print("\n" + "\n\n".join(map(report.text_table, made)))
    print(f"\nThe same as a page, with the curves: {workdir / 'places.html'}")
