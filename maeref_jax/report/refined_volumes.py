"""The page of refine.py: what became of every volume of a folder, with pictures where most changed. No truth is known.

It is made of what is stored: sidecars, and of a few volumes the slices that are shown. The same results give the same
bytes, whoever makes the page.
"""

import colorsys
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maeref_jax.report import most_changed, what_changed
from maeref_jax.report.methods_section import LEFT, RULES, methods_paragraph
from maeref_jax.report.page import html_page
from maeref_jax.results import maps, output
from maeref_jax.results.files import write_text
from maeref_jax.results.made_by import differences_of
from maeref_jax.results.place import Output
from maeref_jax.training.workdir import flat
from maeref_jax.volumes.volume import Volume, labels_from_disk, open_volume
from maeref_jax.volumes.voxel_size import size_text
from maeref_jax.volumes.windows import blocks

GENERATOR = "maeref_jax refine.py"
MOST_VOLUMES = 6  # that are pictured


class Entry(NamedTuple):
    """One input. summary: its sidecar, None where it is not complete; image: to be shown, None for none; pictured:
    whether it may be; trouble: why it failed or what it waits for.
    """

    stem: str
    summary: dict | None
    image: Volume | None = None
    pictured: bool = True
    trouble: str = ""


def write_page(
    directory: Path,
    images: Mapping[str, Volume | None],
    failed: Mapping[str, str],
    scheme: Mapping[str, Any],
    models: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Path | None:
    """Writes report.html: of the volumes of this call, and of those that are in the folder already and were made by the
    same models and settings; these get no pictures. None, and a warning, where another program's report is there; None
    where no volume is complete.

    images: of every input of this call that could be opened, by stem; failed: messages; the rest as `refinement_page`.
    """
    path, made = Path(directory) / "report.html", None
    if path.exists() and GENERATOR not in path.read_text(encoding="utf-8", errors="replace")[:1000]:
        print(f"warning: {path} was not made by refine.py and is left as it is; no report", file=sys.stderr)
        return None
    # Another process may finish a volume meanwhile, and write its page before this one.
    while made != (found := output.sidecars(directory)):
        first = next((found[stem] for stem in images if stem in found), None)
        if first is None:
            return None
        alike = {stem: summary for stem, summary in found.items() if _models_and_settings(summary, first)}
        entries = []
        for stem in sorted({*images, *failed, *alike}):
            trouble = "" if stem in alike else "waiting for other parts"
            trouble = f"failed: {failed[stem]}" if stem in failed else trouble
            entries.append(Entry(stem, alike.get(stem), images.get(stem), stem in images, trouble))
        others = [stem for stem in found if stem not in alike]
        write_text(path, refinement_page(directory, entries, scheme, models, versions, others))
        made = found
    return path


def _models_and_settings(one: dict, other: dict) -> bool:
    """Whether two summaries are of the same models and settings."""
    first, second = ({k: v for k, v in summary["made_by"].items() if k != "inputs"} for summary in (one, other))
    return not any(differences_of(first, second))


def refinement_page(
    directory: Path,
    entries: Sequence[Entry],
    scheme: Mapping[str, Any],
    models: Mapping[str, Any],
    versions: Mapping[str, str],
    others: Sequence[str] = (),
) -> str:
    """The HTML document; at least one entry has a summary, and all summaries are of the same models and settings.

    scheme: {"names", "colours", "ambiguous"} of the classes. models: {"members", "parameters"}: how many members the
    ensemble has and how many numbers the refiner has learned, None where there is none or nobody knows. versions: of
    what made the page. others: names of volumes in the folder that were made otherwise, to be mentioned.
    """
    done = [entry for entry in entries if entry.summary]
    made_by, refined = done[0].summary["made_by"], done[0].summary["made_by"]["refiner"] is not None
    classes = _classes(directory, scheme, done)
    chosen = [entry for entry in done if entry.pictured][:MOST_VOLUMES]
    pictures = []
    for entry in chosen:
        pictures += most_changed.volume_pictures(directory, entry.stem, entry.summary, entry.image, classes)
    said = _versions(done, versions)
    return html_page(
        title="Refined segmentation" if refined else "Segmentation and its doubt",
        warnings=list(dict.fromkeys(text for e in done for text in e.summary.get("warnings", ()))),
        lead=_lead(entries, done, refined, len(done) - len(chosen), others),
        pictures=pictures,
        tables=[
            what_changed.volume_table(entries, refined, _may_be_ambiguous(done, scheme)),
            *([what_changed.class_table(done)] if refined else []),
            *what_changed.within_tables(done),
            *what_changed.asked_tables(done),
            *what_changed.witness_tables(done),
        ],
        classes=classes,
        facts={
            "Inputs": {f"{e.stem}, {role}": v["path"] for e in done for role, v in _inputs(e.summary).items()},
            "Models": {
                f"{role}.{key}": value
                for role in ("segmenter", "refiner")
                if made_by[role]
                for key, value in ({"workdir": done[0].summary["workdirs"][role]} | made_by[role]).items()
            },
            "Settings": flat(made_by["settings"]),
            "Versions": said,
        },
        methods=_methods(directory, done, classes, scheme, models, said),
        generator=GENERATOR,
    )


def _lead(entries, done, refined, without_pictures, others) -> list[str]:
    voxels, hidden, changed = _sums(done)
    many = f"{len(done)} volume{'s' * (len(done) != 1)}"
    first = f"{many}, {voxels:,} voxels: {hidden / voxels:.2%} hidden as unreliable"
    first += f", {changed / voxels:.2%} relabelled; all other voxels are as they were." if refined else "."
    if (inside := what_changed.inside_share(done)) is not None:
        first += f" These are the voxels inside of masks, {inside:.2%} of all; what lies outside is background."
    share = "hidden"
    if any(entry.summary.get("everywhere") for entry in done):
        first += " The refiner worked everywhere, not at hidden places alone."
        share = "relabelled"
    doubts = (
        f"The truth is not known here: the pictures show what changed most, not whether it is right. Tell the {share} "
        "share beside every number that you measure in these volumes."
    )
    lead = [first, doubts] if refined else [first]
    lead += _brought_back(done)
    if red := what_changed.red_share(done):
        lead.insert(1, f"{red:.0%} of the hidden voxels lie in red repairs, which are not to be trusted.")
    if failed := [entry for entry in entries if entry.trouble]:
        lead.append(f"Not complete, see the table: {', '.join(entry.stem for entry in failed)}.")
    if without_pictures:
        lead.append(f"{without_pictures} of the volumes are in the tables only, without pictures.")
    if others:
        lead.append(f"Made with other models or settings, and not counted here: {', '.join(others)}.")
    return lead


def _brought_back(done) -> list[str]:
    """A sentence for every pair of sizes that volumes were worked at and brought back to."""
    stems: dict[tuple, list[str]] = {}
    for entry in done:
        if found := entry.summary.get("file_grid"):
            pair = tuple(size_text(found[name]) for name in ("worked_at_nm", "voxel_size_nm"))
            stems.setdefault(pair, []).append(entry.stem)
    return [
        f"Worked at {worked} nm (z y x), as all that is told and shown here; brought back to the file's {own} nm in "
        "the exports and STEM_on_file_grid.ome.zarr, labels by the nearest voxel and entropy linearly: "
        f"{', '.join(found)}."
        for (worked, own), found in stems.items()
    ]


def _sums(done):
    voxels = sum(entry.summary["voxels"] for entry in done)
    hidden = sum(entry.summary["voxels"] * entry.summary["hidden_share"] for entry in done)
    return voxels, hidden, sum(entry.summary["changed_voxels"] for entry in done)


def _methods(directory, done, classes, scheme, models, versions) -> str:
    voxels, hidden, changed = _sums(done)
    made_by = done[0].summary["made_by"]
    settings, refiner, inputs = made_by["settings"], made_by["refiner"], _inputs(done[0].summary)
    sizes = {open_volume(maps.path_of(Output(Path(directory), e.stem), "initial")).voxel_size_nm for e in done}
    own = {tuple(e.summary.get("file_grid", {}).get("voxel_size_nm", ())) or None for e in done}
    members = models["members"] if made_by["segmenter"] else sum(name.startswith("probabilities") for name in inputs)
    members = 0 if made_by["segmenter"] and made_by["segmenter"]["method"] in RULES else members
    if made_by["segmenter"]:
        origin = RULES.get(made_by["segmenter"]["method"], "an ensemble of U-Nets")
        doubt = settings["entropy_kind"]
    elif "labels" in inputs:
        origin, doubt = "a segmentation given beforehand", most_changed.doubt_of(done[0].summary)
    else:
        origin, doubt = "class probabilities given beforehand", settings["entropy_kind"]
    ambiguous, judged = scheme["ambiguous"], "error" in done[0].summary["hidden_tokens"]
    doubt = "error" if judged else doubt
    return methods_paragraph(
        volumes=len(done),
        voxel_size_nm=next(iter(sizes)) if len(sizes) == 1 else None,
        file_voxel_size_nm=next(iter(own)) if len(own) == 1 else None,
        segmented_by=origin,
        members=members or None,
        classes=[name for i, name in enumerate(classes["names"]) if i != ambiguous],
        doubt=doubt,
        threshold=settings["gain"] if judged else settings["threshold"],
        ambiguous_threshold=settings["ambiguous_threshold"] if _may_be_ambiguous(done, scheme) else None,
        token=settings["token"],
        refiner=refiner["method"] if refiner else "",
        parameters=models["parameters"],
        everywhere=done[0].summary.get("everywhere", False),
        left=[name for name in LEFT if name in settings.get("leave", ())],
        labelled_slices=sum(len(entry.summary.get("labelled_slices", ())) for entry in done),
        inside_share=what_changed.inside_share(done),
        hidden_share=hidden / voxels,
        changed_share=changed / voxels if refiner else None,
        caution=done[0].summary.get("caution", 1.0),
        agreeing_slices=max(e.summary.get("agreeing_slices", 0) for e in done) if refiner else 0,
        versions={name: said for name, said in versions.items() if name in ("maeref_jax", "jax", "flax", "numpy")},
    )


def _may_be_ambiguous(done, scheme) -> bool:
    """Whether tokens may have been hidden for being called "ambiguous": by an ensemble that knows the class, or as the
    given segmentation has it somewhere.
    """
    if "error" in done[0].summary["hidden_tokens"]:  # by the error that is expected
        return False
    if scheme["ambiguous"] < 0 or done[0].summary["made_by"]["segmenter"]:
        return scheme["ambiguous"] >= 0
    name, found = scheme["names"][scheme["ambiguous"]], [entry.summary for entry in done]
    called = sum(one["hidden_tokens"][rule] for one in found for rule in ("ambiguous", "both"))
    return called > 0 or any(name in one["classes_changed"] for one in found)


def _classes(directory, scheme, done) -> dict[str, Any]:
    """Names and colours of all classes; where no model says them, of as many as the labels have."""
    names = list(scheme["names"])
    if not names:
        made = ((Output(Path(directory), e.stem), e.summary["made_by"]["settings"]["block"]) for e in done)
        names = [str(label) for label in range(1 + max(_highest(*one) for one in made))]
    drawn = [colorsys.hsv_to_rgb(0.61803 * i % 1, 0.65, 0.95) for i in range(1, len(names))]
    colours = [(0, 0, 0), *(tuple(round(255 * part) for part in colour) for colour in drawn)]
    colours = [tuple(colour) for colour in scheme["colours"]] if scheme["colours"] else colours
    # "Ambiguous", the last class, is no result: it is told only where a segmentation given by a user has it.
    occurs = any(names[-1] in entry.summary["classes_changed"] for entry in done)
    kept = len(names) - (scheme["ambiguous"] == len(names) - 1 and not occurs)
    return {"names": names[:kept], "colours": colours[:kept]}


def _highest(place, block) -> int:
    """The highest label of a volume, block by block."""
    labels = open_volume(maps.path_of(place, "initial"))
    return max(int(labels_from_disk(labels.read(box)).max()) for box in blocks(labels.shape, block))


def _versions(done, versions) -> dict[str, str]:
    """Of every library all versions that took part."""
    found = {name: {version} for name, version in versions.items()}
    for entry in done:
        for name, said in (entry.summary["versions"] | {"device": entry.summary["device"]}).items():
            found.setdefault(name, set()).add(said)
    return {name: ", ".join(sorted(said)) for name, said in found.items()}


def _inputs(summary) -> dict[str, dict]:
    return summary["made_by"]["inputs"]
