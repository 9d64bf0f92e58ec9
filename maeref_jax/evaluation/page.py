"""The page of evaluate.py: the verdict in words, pictures where most changed, tables, and how it was made."""

import json
from importlib.metadata import version
from pathlib import Path

import maeref_jax
from maeref_jax import report
from maeref_jax.evaluation import pictures
from maeref_jax.pipeline import jobs
from maeref_jax.report.methods_section import methods_paragraph
from maeref_jax.report.most_changed import doubt_of
from maeref_jax.report.page import html_page
from maeref_jax.results.output import sidecars
from maeref_jax.training.workdir import flat, write_text


def write_page(workdir, judged, given, tables, lead, models, classes, settings):
    """Writes WORKDIR/report.html and picture_N.png.

    judged: (Case, {role: Volume}, agreement.Judged) of every volume that is no shift; given: every Case; what they were
    warned of stands above all; lead: paragraphs; models: {"ensemble", "refiner", "competitor ...": Model} of those that
    there are; classes: of `without_ambiguous`; settings: of configs/evaluate.py.
    """
    ensemble, refiner = models.get("ensemble"), models.get("refiner")
    chosen = pictures.choose_slices(judged, settings["pictures"]) if refiner else []
    everywhere = bool(refiner and refiner.apply.everywhere)
    shown = [pictures.before_and_after(judged, choice, classes, everywhere) for choice in chosen]
    used = {
        f"{name.capitalize()}: {model.name}": {"workdir": model.workdir, **flat(model.settings)}
        for name, model in models.items()
    }
    said = sidecars(Path(workdir) / "held_out")
    warned = [text for case in given for text in said.get(case.stem, {}).get("warnings", ())]
    page = html_page(
        title=_title(refiner, settings["on_validation"]),
        warnings=list(dict.fromkeys(warned)),
        lead=lead,
        pictures=[one for pair in shown for one in pair],
        tables=tables,
        figures=_figures(judged, chosen, classes, settings, ensemble),
        methods=_methods(judged, said, ensemble, refiner, classes, settings),
        classes=classes,
        facts={
            "Held-out volumes": {case.stem: described(case) for case in given},
            **used,
            "Evaluation settings": flat(settings),
            "Versions": versions(),
        },
    )
    write_pictures(workdir, [six.png for _, six in shown])
    write_text(workdir / "report.html", page)


def write_pictures(workdir, pictures):
    """Writes PNG bytes as WORKDIR/picture_1.png and so on; those of an earlier run, which had more, do not stay."""
    for earlier in workdir.glob("picture_*.png"):
        if earlier.stem.removeprefix("picture_").isdecimal():
            earlier.unlink()
    for number, png in enumerate(pictures, 1):
        (workdir / f"picture_{number}.png").write_bytes(png)


def versions(libraries=("jax", "flax", "numpy", "scipy", "scikit-image")):
    """{library: version}, this one first."""
    return {"maeref_jax": maeref_jax.__version__, **{library: version(library) for library in libraries}}


def described(case):
    """Size of a held-out volume, and what of it is given, in words."""
    size = "unknown" if case.voxel_size_nm is None else " x ".join(f"{side:g}" for side in case.voxel_size_nm)
    told = "".join(f"; {note}" for note in case.notes)
    return (
        f"{' x '.join(map(str, case.truth.shape))} voxels (z y x) of {size} nm; given: {', '.join(case.inputs)}{told}"
    )


def fades(settings, ensemble):
    """Whether one of the figures shows mitochondria of phantoms being faded: real data may look unlike phantoms."""
    return ensemble is not None and settings["figures"] and bool(settings["phantom"]["seeds"])


def cost_table(models, seconds):
    """A report.Table of what every model cost: a comparison is fair only at equal effort."""
    rows = []
    for name, model in models.items():
        trials, learned = model.settings.get("trials", 1), jobs.parameters(model)
        took = "-" if seconds[name] is None else f"{seconds[name]:,.0f}"
        rows.append((name, model.name, took, f"{trials}", f"{learned:,}"))
    header = ("model", "method", "seconds of training", "settings tried", "parameters")
    return report.Table(
        "What it cost", header, tuple(rows), (), "As each workdir says of its last start, on its own machine."
    )


def training_seconds(folder):
    """What the training of a workdir took, as it says itself; None while it has not finished."""
    path = Path(folder) / "summary.json"
    return json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.exists() else None


def _title(refiner, on_validation):
    what = "Repaired segmentation" if refiner else "Segmentation"
    return f"{what}, judged by the truth{' of VALIDATION volumes: to choose, not to report' if on_validation else ''}"


def _figures(judged, chosen, classes, settings, ensemble):
    """The paper's figures, [] without anything to show."""
    if not chosen or not settings["figures"]:
        return []
    fading = None
    if fades(settings, ensemble):
        fading = {"shape": tuple(settings["phantom"]["shape"]), "seeds": settings["fading"]["seeds"][: pictures.FADED]}
        fading["voxel_size_nm"] = tuple(ensemble.settings["voxel_size_nm"])
    return pictures.paper_figures(judged, chosen, classes, settings["validity"]["classes"], ensemble, fading)


def _methods(judged, said, ensemble, refiner, classes, settings):
    """The paragraph for a methods section. said: {stem: sidecar}: they know how every volume was refined."""
    done = [said[case.stem] for case, _, _ in judged]
    first, voxels = done[0], sum(one["voxels"] for one in done)
    asked, by_error = first["made_by"]["settings"], "error" in first["hidden_tokens"]
    sizes = {case.voxel_size_nm for case, _, _ in judged}
    own = {tuple(one.get("file_grid", {}).get("voxel_size_nm", ())) for one in done}
    may_be_ambiguous = ensemble and ensemble.settings["classes"]["ambiguous"] >= 0 and not by_error
    damaged = settings["files"]["damage"] > 0
    given = "the true labels, of which regions were taken away" if damaged else "a segmentation given beforehand"
    doubt = "damage" if damaged else doubt_of(first)  # nobody has painted that mask
    return methods_paragraph(
        volumes=len(done),
        voxel_size_nm=sizes.pop() if len(sizes) == 1 else None,
        file_voxel_size_nm=own.pop() if len(own) == 1 else None,
        segmented_by="an ensemble of U-Nets" if ensemble else given,
        members=ensemble.settings.get("members") if ensemble else None,
        classes=classes["names"],
        doubt="error" if by_error else doubt,
        threshold=asked["gain"] if by_error else asked["threshold"],
        ambiguous_threshold=asked["ambiguous_threshold"] if may_be_ambiguous else None,
        token=asked["token"],
        refiner=refiner.name if refiner else "",
        parameters=jobs.parameters(refiner) if refiner else None,
        everywhere=first.get("everywhere", False),
        hidden_share=sum(one["voxels"] * one["hidden_share"] for one in done) / voxels,
        changed_share=sum(one["changed_voxels"] for one in done) / voxels if refiner else None,
        caution=first.get("caution", 1.0),
        agreeing_slices=max(one.get("agreeing_slices", 0) for one in done),
        versions=versions(("jax", "flax", "numpy")),
    )
