"""The page of refine.py: what became of every volume of a folder, with pictures where most changed. No truth is known.

It is made of what is stored: sidecars, and of a few volumes the slices that are shown. Where most changed is counted
block by block, so memory is bounded by a block; the same results give the same bytes, whoever makes the page.
"""

import colorsys
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maeref_jax.report.methods import methods_paragraph
from maeref_jax.report.page import Picture, Slider, flat, html_page
from maeref_jax.report.panels import Slice, busiest_window, overlays, panels
from maeref_jax.report.table import Table
from maeref_jax.volumes import output, results
from maeref_jax.volumes.output import Output
from maeref_jax.volumes.volume import Volume, labels_from_disk, open_volume
from maeref_jax.volumes.windows import Box, blocks

GENERATOR = "maeref_jax refine.py"
MOST_VOLUMES, MOST_SLICES = 6, 3  # that are pictured
WINDOW = 160  # voxels a side of what is shown of a slice
APART = 4  # slices between two pictures of a volume, so that they show different things
RATINGS = ("green", "amber", "red")


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
        output.write_text(path, refinement_page(directory, entries, scheme, models, versions, others))
        made = found
    return path


def _models_and_settings(one: dict, other: dict) -> bool:
    """Whether two summaries are of the same models and settings."""
    first, second = ({k: v for k, v in summary["made_by"].items() if k != "inputs"} for summary in (one, other))
    return first == second


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
    pictures = [part for entry in chosen for part in volume_pictures(directory, entry, classes)]
    said = _versions(done, versions)
    return html_page(
        title="Refined segmentation" if refined else "Segmentation and its doubt",
        lead=_lead(entries, done, refined, len(done) - len(chosen), others),
        pictures=pictures,
        tables=[
            _volume_table(entries, refined, scheme["ambiguous"] >= 0),
            *([_class_table(done)] if refined else []),
            *_witness_tables(done),
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


def volume_pictures(directory: Path, entry: Entry, classes: Mapping[str, Any]) -> list:
    """What `html_page` shows of one finished volume: a heading; of each slice a Slider, if it was refined, and panels.

    Only what is shown is read, and once, block by block, where something changed.
    """
    place = Output(Path(directory), entry.stem)
    block = entry.summary["made_by"]["settings"]["block"]
    roles = ("initial", "entropy", "hidden", *(("refined", "was") if entry.summary["made_by"]["refiner"] else ()))
    arrays = {role: open_volume(results.path_of(place, role)) for role in roles}
    # Where nothing changed, what was hidden is looked at.
    weights = (arrays[role] for role in ("was", "hidden") if role in arrays)
    weight, counts = next(((v, n) for v in weights if (n := counts_by_block(v, block)).any()), (None, None))
    if weight is None:
        return [f"{entry.stem}: nothing was hidden"]
    found: list = [entry.stem]
    for z in choose_slices(counts.sum((1, 2))):
        box = _window(weight, z, counts[z], block)
        shown, parts = _read(arrays, entry.image, box), []
        at = f"{entry.stem}, slice {z}, rows from {box.start[1]}, columns from {box.start[2]}"
        if shown.refined is not None:
            here = int((shown.initial != shown.refined).sum())
            said = f"{at}. {here:,} of the voxels in view were relabelled, {counts[z].sum():,} in the whole slice"
            said = f"{said if weight is arrays['was'] else f'{at}. No voxel was relabelled'}. Pink: hidden tokens."
            parts.append(Slider(*overlays(shown, classes["colours"]), said))
        size = arrays["initial"].voxel_size_nm
        parts.append(Picture(panels(shown, classes["names"], classes["colours"], size), f"{at}."))
        found.append(tuple(parts))
    return found


def counts_by_block(volume: Volume, block: Sequence[int]) -> np.ndarray:
    """int64 (z, rows, columns) of blocks: how many voxels of each slice of a block are not 0; a block is in memory."""
    depth, height, width = volume.shape
    counts = np.zeros((depth, -(-height // block[1]), -(-width // block[2])), np.int64)
    for box in blocks(volume.shape, block):
        row, column = box.start[1] // block[1], box.start[2] // block[2]
        counts[box.slices[0], row, column] = np.count_nonzero(volume.read(box), axis=(1, 2))
    return counts


def choose_slices(totals: np.ndarray) -> list[int]:
    """The slices where most is, the earlier of equal ones, at least APART from each other; none where nothing is."""
    chosen: list[int] = []
    for z in np.argsort(-totals, kind="stable"):
        if len(chosen) == MOST_SLICES or not totals[z]:
            break
        if all(abs(int(z) - other) >= APART for other in chosen):
            chosen.append(int(z))
    return chosen


def _window(weight, z, counts, block) -> Box:
    """What to show of the slice: around where most is, in its block that has most."""
    row, column = np.unravel_index(np.argmax(counts), counts.shape)
    start = (z, int(row) * block[1], int(column) * block[2])
    stop = (z + 1, *(min(a + b, n) for a, b, n in zip(start[1:], block[1:], weight.shape[1:], strict=True)))
    busy = busiest_window(weight.read(Box(start, stop))[0] != 0, WINDOW)
    corner, end = [z], [z + 1]
    for part, first, size in zip(busy, start[1:], weight.shape[1:], strict=True):
        side = min(WINDOW, size)
        at = min(max(first + (part.start + part.stop) // 2 - side // 2, 0), size - side)
        corner, end = [*corner, at], [*end, at + side]
    return Box(tuple(corner), tuple(end))


def _read(arrays, image, box) -> Slice:
    read = {role: array.read(box)[0] for role, array in arrays.items() if role != "was"}
    refined = labels_from_disk(read["refined"]) if "refined" in read else None
    image = None if image is None else image.read(box)[0].astype(np.float32)
    initial = labels_from_disk(read["initial"])
    return Slice(image, read["entropy"] / 255, read["hidden"] != 0, initial, refined, None)


def _lead(entries, done, refined, without_pictures, others) -> list[str]:
    voxels, hidden, changed = _sums(done)
    many = f"{len(done)} volume{'s' * (len(done) != 1)}"
    first = f"{many}, {voxels:,} voxels: {hidden / voxels:.2%} hidden as unreliable"
    first += f", {changed / voxels:.2%} relabelled; all other voxels are as they were." if refined else "."
    doubts = (
        "The truth is not known here: the pictures show what changed most, not whether it is right. Tell the hidden "
        "share beside every number that you measure in these volumes."
    )
    lead = [first, doubts] if refined else [first]
    if failed := [entry for entry in entries if entry.trouble]:
        lead.append(f"Not complete, see the table: {', '.join(entry.stem for entry in failed)}.")
    if without_pictures:
        lead.append(f"{without_pictures} of the volumes are in the tables only, without pictures.")
    if others:
        lead.append(f"Made with other models or settings, and not counted here: {', '.join(others)}.")
    return lead


def _sums(done):
    voxels = sum(entry.summary["voxels"] for entry in done)
    hidden = sum(entry.summary["voxels"] * entry.summary["hidden_share"] for entry in done)
    return voxels, hidden, sum(entry.summary["changed_voxels"] for entry in done)


def _volume_table(entries, refined, two_rules) -> Table:
    rated = any("repairs" in entry.summary for entry in entries if entry.summary)
    rules = ("by entropy", "by “ambiguous”", "by both") * two_rules
    columns = ["voxels", "hidden", *rules, *["relabelled"] * refined, *RATINGS * rated, "status"]
    rows = []
    for entry in entries:
        cells = ["-"] * (len(columns) - 1)
        if found := entry.summary:
            cells = [f"{found['voxels']:,}", f"{found['hidden_share']:.2%}"]
            cells += [f"{tokens:,}" for tokens in found["hidden_tokens"].values()] * two_rules
            cells += [f"{found['changed_voxels'] / found['voxels']:.2%}"] * refined
            blobs = found.get("repairs")
            cells += [f"{blobs[name]['blobs']:,}" if blobs else "-" for name in RATINGS] * rated
        rows.append((entry.stem, *cells, entry.trouble or "done"))
    note = f"Hidden{', relabelled' * refined}: share of the voxels."
    note += " By …: tokens that entropy alone, “ambiguous” alone, or both of them hide." * two_rules
    note += rated * (
        " Green, amber, red: pieces of hidden voxels by how far their repair can be trusted; the limits are choices, "
        "not calibrated, see STEM_repairs.csv."
    )
    return Table("Volumes", ("volume", *columns), tuple(rows), (), note)


def _class_table(done) -> Table:
    before, after, became = {}, {}, {}
    for entry in done:
        for name, counts in entry.summary["classes_changed"].items():
            before[name] = before.get(name, 0) + counts["voxels_initial"]
            after[name] = after.get(name, 0) + counts["voxels_refined"]
        for name, others in entry.summary["changed"].items():
            for other, voxels in others.items():
                became[name, other] = became.get((name, other), 0) + voxels
    rows = []
    for name in before:
        lost = sum(voxels for (was, _), voxels in became.items() if was == name)
        share = f"{lost / before[name]:.2%}" if before[name] else "-"
        change = f"{after[name] / before[name] - 1:+.2%}" if before[name] else "-"
        into = (f"{became[name, other]:,}" if (name, other) in became else "-" for other in before)
        rows.append((name, f"{before[name]:,}", f"{after[name]:,}", change, share, *into))
    header = ("class", "before", "after", "size", "relabelled", *(f"→ {name}" for name in before))
    note = (
        "Voxels of all volumes together. Size: how much larger or smaller the class is now. Relabelled: the share of "
        "its voxels before that are of another class now; behind it, of which."
    )
    return Table("What changed, by class", header, tuple(rows), (), note)


def _witness_tables(done) -> list[Table]:
    scored = [entry for entry in done if "witness" in entry.summary]
    if not scored:
        return []
    asked, rows = scored[0].summary["witness"], []
    for entry in scored:
        rows.append((entry.stem, *[""] * 5))
        for region, name in (("everywhere", "everywhere"), ("near_hidden", "near hidden tokens")):
            for role, found in entry.summary["witness"][region].items():
                cells = (
                    "-" if found[key] is None else f"{found[key]:.3f}" for key in ("contrast", "auroc", "coverage")
                )
                counts = (f"{found[key]:,}" for key in ("near_voxels", "elsewhere_voxels"))
                rows.append((f"  {name}, {role}", *cells, *counts))
    note = (
        f"Near: within {asked['distance_vx']:g} voxels, in the plane, of the outline of the foreground. Contrast: mean "
        "brightness of the stain near the outline over that elsewhere. AUROC: the chance that a voxel near the outline "
        "is brighter than one elsewhere; 0.5 is none. Coverage: the share of the brightest tenth of the voxels that is "
        "near the outline. Less outline, only where the stain is bright, raises the first two and lowers the last. "
        "Near hidden tokens: voxels within "
        f"{asked['reach_vx']:g} voxels of one. It judges outlines only where the stain marks them."
    )
    header = ("outlines against the stain", "contrast", "AUROC", "coverage", "voxels near", "elsewhere")
    return [Table("Agreement with an independent stain", header, tuple(rows), (), note)]


def _methods(directory, done, classes, scheme, models, versions) -> str:
    voxels, hidden, changed = _sums(done)
    made_by = done[0].summary["made_by"]
    settings, refiner, inputs = made_by["settings"], made_by["refiner"], _inputs(done[0].summary)
    sizes = {open_volume(results.path_of(Output(Path(directory), e.stem), "initial")).voxel_size_nm for e in done}
    members = models["members"] if made_by["segmenter"] else sum(name.startswith("probabilities") for name in inputs)
    if made_by["segmenter"]:
        origin, doubt = "an ensemble of U-Nets", settings["entropy_kind"]
    elif "labels" in inputs:
        origin, doubt = "a segmentation given beforehand", "given" if "entropy" in inputs else "painted"
    else:
        origin, doubt = "class probabilities given beforehand", settings["entropy_kind"]
    ambiguous = scheme["ambiguous"]
    return methods_paragraph(
        volumes=len(done),
        voxel_size_nm=next(iter(sizes)) if len(sizes) == 1 else None,
        segmented_by=origin,
        members=members or None,
        classes=[name for i, name in enumerate(classes["names"]) if i != ambiguous],
        doubt=doubt,
        threshold=settings["threshold"],
        ambiguous_threshold=settings["ambiguous_threshold"] if ambiguous >= 0 else None,
        token=settings["token"],
        refiner=refiner["method"] if refiner else "",
        parameters=models["parameters"],
        hidden_share=hidden / voxels,
        changed_share=changed / voxels if refiner else None,
        agreeing_slices=max(e.summary.get("agreeing_slices", 0) for e in done) if refiner else 0,
        versions={name: said for name, said in versions.items() if name in ("maeref_jax", "jax", "flax", "numpy")},
    )


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
    labels = open_volume(results.path_of(place, "initial"))
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
