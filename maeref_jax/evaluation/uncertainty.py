"""Whether the ensemble knows where it is wrong, from the config of evaluate.py to the page: doubt.py has the counts."""

from maeref_jax import report
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import cases, degradation, doubt, independence, openings_log
from maeref_jax.evaluation.contestants import without_ambiguous
from maeref_jax.evaluation.page import described, versions
from maeref_jax.pipeline import jobs, methods
from maeref_jax.pipeline.blockwise import in_3d
from maeref_jax.report.page import html_page
from maeref_jax.training.workdir import flat, make_workdir, write_text


def judge(settings, workdir):
    """Members against their mean, entropy against errors, entropy before and after the signal is taken away."""
    cases.check(settings)
    model, fading = methods.load_model(settings["ensemble"] or workdir / "ensemble", "segmenter"), settings["fading"]
    methods.tell_doubts(model)
    if settings["phantom"]["seeds"]:
        degradation.check(fading, settings["phantom"]["shape"], in_3d(model.apply)[0])
    cases.check_held_out(settings, [model])
    cases.check_held_out({**settings, "phantom": {**settings["phantom"], "seeds": fading["seeds"]}}, [model])
    scheme, found = jobs.scheme_of(model, None, settings["classes"]), None
    given, left_out = independence.without_shifts(cases.cases(settings, scheme, workdir / "held_out"))
    classes = without_ambiguous(scheme)
    if any("image" not in case.inputs for case in given):
        raise BadInput("the ensemble needs images to judge: give files.images beside files.truths")
    make_workdir(workdir)
    to_fade = [f"phantom_{seed}" for seed in fading["seeds"]] if settings["phantom"]["seeds"] else []
    with openings_log.opened(workdir, [case.stem for case in given] + to_fade, {"ensemble": model.workdir}):
        for case in given:
            print(f"counting {case.stem}, shape {case.truth.shape}", flush=True)
            one = doubt.count(model, case.inputs["image"], case.truth)
            found = one if found is None else doubt.add(found, one)
        first, *others = doubt.tables(found, classes["names"])
        tables = [independence.noted(first, left_out), *others]
        if settings["phantom"]["seeds"]:
            phantoms = (tuple(settings["phantom"][name]) for name in ("shape", "voxel_size_nm"))
            windows = degradation.windows(fading["seeds"], *phantoms, in_3d(model.apply)[0], fading["mitochondria"])
            tables.append(degradation.table(degradation.measure(windows, degradation.ensemble_entropy(model, windows))))
        page = html_page(
            title="Does the ensemble know where it is wrong?",
            lead=[],
            pictures=[],
            tables=tables,
            classes=classes,
            facts={
                "Held-out volumes": {case.stem: described(case) for case in given},
                "Ensemble": {"workdir": model.workdir, **flat(model.settings)},
                "Evaluation settings": flat(settings),
                "Versions": versions(),
            },
        )
        write_text(workdir / "uncertainty.html", page)
        print("\n" + "\n\n".join(map(report.text_table, tables)))
        print(f"\nThe same as a page: {workdir / 'uncertainty.html'}")
