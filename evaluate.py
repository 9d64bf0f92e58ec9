"""Judge a refinement by the truth:  python evaluate.py --config configs/evaluate.py --workdir runs/evaluate

Prints the tables and writes WORKDIR/report.html, tables.txt, summary.json, a line of openings.log, and the volumes in
WORKDIR/held_out.
"""

import json
import sys
import textwrap
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from maeref_jax import __version__, command_line, report
from maeref_jax.errors import BadInput
from maeref_jax.report.methods import methods_paragraph
from maeref_jax.report.page import html_page

LIBRARIES = ("jax", "flax", "numpy", "scipy", "scikit-image")


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
    from maeref_jax import degradation
    from maeref_jax.blockwise import in_3d
    from maeref_jax.evaluation import agreement, cases, groups, opening, pictures, refinement, runs
    from maeref_jax.training.workdir import make_workdir, write_text
    from maeref_jax.volumes.inputs import doubt_about_scale

    began = time.monotonic()
    cases.check(settings)
    ensemble, refiner, competitors, others = load_models(settings, workdir)
    groups.check_priors(settings["priors"], settings["files"]["conditions"], competitors)
    scheme = (refiner or ensemble).settings["classes"]
    classes = real_classes(scheme)
    cases.check_classes(settings, classes["names"])
    models = {"ensemble": ensemble, "refiner": refiner} | {
        f"competitor {n}": m for n, m in (competitors | others).items()
    }
    models = {name: model for name, model in models.items() if model is not None}
    cases.check_held_out(settings, models.values())
    if fades(settings, ensemble) and refiner and settings["pictures"]:
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
    total = agreement.total(parts)
    lead = agreement.verdict(total, agreement.endpoint([one.scores for one in parts], settings["endpoint_classes"]))
    seconds = {name: training_seconds(model.workdir) for name, model in models.items()}
    tables = [*refinement.tables(counted, classes["names"], settings), cost_table(models, seconds)]
    seconds |= {"refine": round(refining, 1), "evaluate": round(time.monotonic() - began, 1)}
    write_text(workdir / "tables.txt", "\n\n".join(map(report.text_table, tables)) + "\n")
    summary = {**agreement.summary(parts, settings["endpoint_classes"]), "seconds": seconds}
    write_text(workdir / "summary.json", json.dumps(summary, indent=1, allow_nan=False))
    chosen = pictures.choose_slices(judged, settings["pictures"]) if refiner else []
    shown = [pictures.before_and_after(judged, choice, classes) for choice in chosen]
    page = html_page(
        title=title(refiner, settings["on_validation"]),
        lead=lead,
        pictures=[one for pair in shown for one in pair],
        tables=tables,
        figures=draw_figures(judged, chosen, classes, settings, ensemble),
        methods=methods(total, ensemble, refiner, classes, settings, [case for case, _, _ in judged]),
        classes=classes,
        facts={
            "Held-out volumes": {case.stem: described(case) for case in given},
            **{
                f"{name.capitalize()}: {model.name}": {"workdir": model.workdir, **flat(model.settings)}
                for name, model in models.items()
            },
            "Evaluation settings": flat(settings),
            "Versions": {"maeref_jax": __version__, **{library: version(library) for library in LIBRARIES}},
        },
    )
    write_text(workdir / "report.html", page)
    for number, (_, six) in enumerate(shown, 1):
        (workdir / f"picture_{number}.png").write_bytes(six.png)
    words = (textwrap.fill(paragraph, 100) for paragraph in lead)
    print("\n" + "\n\n".join([*map(report.text_table, tables), *words]))
    print(f"\nPictures and tables: {workdir / 'report.html'}\nVolumes for Fiji:    {output}")


def title(refiner, on_validation):
    what = "Repaired segmentation" if refiner else "Segmentation"
    return f"{what}, judged by the truth{' of VALIDATION volumes: to choose, not to report' if on_validation else ''}"


def load_models(settings, workdir):
    """(ensemble or None, refiner or None, {name: other refiner}, {name: other ensemble}) of a config; its thresholds
    are set to those that are used, and said. Raises BadInput for models that do not go together.
    """
    from maeref_jax import jobs, pipeline
    from maeref_jax.evaluation import runs

    has_labels = settings["files"]["labels"] or settings["files"]["damage"]
    refiner = settings["refiner"] or workdir / "mae"
    ensemble = None if has_labels else pipeline.load_model(settings["ensemble"] or workdir / "ensemble", "segmenter")
    refiner = None if settings["refiner"] == "none" else pipeline.load_model(refiner, "refiner")
    if ensemble is None and refiner is None:
        raise BadInput("refiner is 'none' and labels are given: there is nothing to run; give --config.refiner=DIR")
    # Before the threshold counts as given: what is chosen is refused with another ensemble here too.
    jobs.check_chosen(jobs.Job("", workdir), ensemble, refiner, jobs.Settings(**settings["refine"]))
    thresholds, said = jobs.thresholds_of(settings["refine"], refiner)
    settings["refine"].update(thresholds)
    print(said, flush=True)
    competitors = load_others(settings["competitors"], refiner, "refiner")
    runs.check_tokens(refiner, competitors.values())
    if settings["other_ensembles"] and ensemble is None:
        raise BadInput("other_ensembles segment the image, but labels are given in its place")
    others = load_others(settings["other_ensembles"], refiner, "segmenter")
    if both := sorted({*competitors} & {*others}):
        raise BadInput(f"a competitor and another ensemble are both called '{both[0]}'; rename a folder")
    return ensemble, refiner, competitors, others


def load_others(workdirs, refiner, kind):
    """{name of the workdir: Model}. BadInput where two share a name, or one takes that of another row; for one of other
    classes than the refiner's Model, or where that is None.
    """
    from maeref_jax import jobs, pipeline
    from maeref_jax.evaluation import runs

    if workdirs and refiner is None:
        raise BadInput(f"competitors {', '.join(workdirs)} are compared with a refiner, but refiner is 'none'")
    names = [Path(workdir).resolve().name for workdir in workdirs]
    taken = [name for name in names if names.count(name) > 1 or name in (*runs.NAMES, "truth", "erased", "majority")]
    if taken:
        raise BadInput(f"competitors are named by their workdirs, and '{taken[0]}' is taken; rename the folder")
    found = {name: pipeline.load_model(workdir, kind) for name, workdir in zip(names, workdirs, strict=True)}
    for model in found.values():
        jobs.check_same_scheme(refiner, model)
    return found


def fades(settings, ensemble):
    """Whether one of the figures shows mitochondria of phantoms being faded: real data may look unlike phantoms."""
    return ensemble is not None and settings["figures"] and bool(settings["phantom"]["seeds"])


def draw_figures(judged, chosen, classes, settings, ensemble):
    """The paper's figures, [] without anything to show."""
    from maeref_jax.evaluation import pictures

    if not chosen or not settings["figures"]:
        return []
    fading = None
    if fades(settings, ensemble):
        fading = {"shape": tuple(settings["phantom"]["shape"]), "seeds": settings["fading"]["seeds"][: pictures.FADED]}
        fading["voxel_size_nm"] = tuple(ensemble.settings["voxel_size_nm"])
    return pictures.paper_figures(judged, chosen, classes, settings["validity"]["classes"], ensemble, fading)


def methods(total, ensemble, refiner, classes, settings, judged):
    """The paragraph for a methods section. judged: cases.Case of every volume."""
    from maeref_jax import jobs
    from maeref_jax.metrics import scores

    known = int(total.confusions["all"]["initial"].sum())
    changed = None
    if refiner:
        counts = total.repairs["refined"]
        changed = (counts["wrong_to_right"] + counts["right_to_wrong"] + counts["wrong_to_other_wrong"]) / max(known, 1)
    model = refiner or ensemble
    asked = jobs.Settings(**settings["refine"])
    agreeing = (jobs.agreeing_slices(asked, refiner, case.voxel_size_nm, len(case.truth)) for case in judged)
    versions_used = {library: version(library) for library in ("jax", "flax", "numpy")}
    return methods_paragraph(
        volumes=len(judged),
        voxel_size_nm=tuple(model.settings["voxel_size_nm"]),
        segmented_by="an ensemble of U-Nets" if ensemble else "a segmentation given beforehand",
        members=ensemble.settings.get("members") if ensemble else None,
        classes=classes["names"],
        doubt=settings["refine"].get("entropy_kind", "mean") if ensemble else "given",
        threshold=settings["refine"]["threshold"],
        ambiguous_threshold=settings["refine"]["ambiguous_threshold"] if ensemble else None,
        token=model.apply.token if refiner else 4,
        refiner=refiner.name if refiner else "",
        parameters=parameters(refiner) if refiner else None,
        hidden_share=scores.share_hidden(total),
        changed_share=changed,
        agreeing_slices=max(agreeing),
        versions={"maeref_jax": __version__, **versions_used},
    )


def cost_table(models, seconds):
    """A report.Table of what every model cost: a comparison is fair only at equal effort."""
    rows = []
    for name, model in models.items():
        trials = model.settings.get("trials", 1)
        took = seconds[name]
        rows.append((name, model.name, "-" if took is None else f"{took:,.0f}", f"{trials}", f"{parameters(model):,}"))
    header = ("model", "method", "seconds of training", "settings tried", "parameters")
    return report.Table(
        "What it cost", header, tuple(rows), (), "As each workdir says of its last start, on its own machine."
    )


def parameters(model):
    """How many numbers were learned, or searched for."""
    import jax

    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(model.params))


def judge_uncertainty(settings, workdir):
    """Members against their mean, entropy against errors, entropy before and after the signal is taken away."""
    from maeref_jax import degradation, doubt, pipeline
    from maeref_jax.blockwise import in_3d
    from maeref_jax.evaluation import cases as held_out
    from maeref_jax.evaluation import opening
    from maeref_jax.training.workdir import make_workdir, write_text

    held_out.check(settings)
    model, fading = pipeline.load_model(settings["ensemble"] or workdir / "ensemble", "segmenter"), settings["fading"]
    if settings["phantom"]["seeds"]:
        degradation.check(fading, settings["phantom"]["shape"], in_3d(model.apply)[0])
    held_out.check_held_out(settings, [model])
    faded = {**settings, "phantom": {**settings["phantom"], "seeds": fading["seeds"]}}
    held_out.check_held_out(faded, [model])
    scheme, found, cases = model.settings["classes"], None, []
    given = held_out.cases(settings, scheme, workdir / "held_out")
    if any("image" not in case.inputs for case in given):
        raise BadInput("the ensemble needs images to judge: give files.images beside files.truths")
    make_workdir(workdir)
    to_fade = [f"phantom_{seed}" for seed in fading["seeds"]] if settings["phantom"]["seeds"] else []
    opening.write_log(workdir, [case.stem for case in given] + to_fade, {"ensemble": model.workdir})
    for case in given:
        print(f"counting {case.stem}, shape {case.truth.shape}", flush=True)
        one = doubt.count(model, case.inputs["image"], case.truth)
        found, cases = one if found is None else doubt.add(found, one), [*cases, case]
    tables = doubt.tables(found, real_classes(scheme)["names"])
    if settings["phantom"]["seeds"]:
        phantoms = (tuple(settings["phantom"][name]) for name in ("shape", "voxel_size_nm"))
        windows = degradation.windows(fading["seeds"], *phantoms, in_3d(model.apply)[0], fading["mitochondria"])
        tables.append(degradation.table(degradation.measure(windows, degradation.ensemble_entropy(model))))
    facts = {
        "Held-out volumes": {case.stem: described(case) for case in cases},
        "Ensemble": {"workdir": model.workdir, **flat(model.settings)},
        "Evaluation settings": flat(settings),
        "Versions": {"maeref_jax": __version__, **{library: version(library) for library in LIBRARIES}},
    }
    page = html_page(
        title="Does the ensemble know where it is wrong?",
        lead=[],
        pictures=[],
        tables=tables,
        classes=real_classes(scheme),
        facts=facts,
    )
    write_text(workdir / "uncertainty.html", page)
    print("\n" + "\n\n".join(map(report.text_table, tables)))
    print(f"\nThe same as a page: {workdir / 'uncertainty.html'}")


def compare_phantoms(settings, workdir):
    """Phantoms, real labels and the paper's control group side by side: a check of the generator, no evidence."""
    from maeref_jax import realism

    if "real" not in settings:
        raise BadInput("the task 'phantoms' belongs to configs/evaluate.py:phantom, which names the real labels beside")
    tables = realism.tables(settings)
    workdir.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(map(report.text_table, tables))
    (workdir / "phantoms.txt").write_text(text + "\n", encoding="utf-8")
    print(text)


def real_classes(classes):
    """Names and colours without the ambiguous class, which is the last one if there is any."""
    kept = len(classes["names"]) - (classes["ambiguous"] >= 0)
    return {"names": tuple(classes["names"][:kept]), "colours": tuple(classes["colours"][:kept])}


def described(case):
    size = "unknown" if case.voxel_size_nm is None else " x ".join(f"{side:g}" for side in case.voxel_size_nm)
    return f"{' x '.join(map(str, case.truth.shape))} voxels (z y x) of {size} nm; given: {', '.join(case.inputs)}"


def flat(tree, prefix=""):
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for name, value in tree.items() for k, v in flat(value, f"{prefix}.{name}".lstrip(".")).items()}


def training_seconds(folder):
    """What the training of a workdir took, as it says itself; None while it has not finished."""
    path = Path(folder) / "summary.json"
    return json.loads(path.read_text())["seconds"] if path.exists() else None


if __name__ == "__main__":
    command_line.run(main)
